package tests

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/storage/s3/s3test"
)

// retaining stands before a server of objects and keeps what it is asked to delete of packs, and the first snapshot: each an hour longer than
// the one before.
type retaining struct {
	mu    sync.Mutex
	first time.Time
	kept  map[string]time.Time // by the path of the object
	over  bool
}

// until is how long an object is kept; zero: it may be deleted.
func (k *retaining) until(r *http.Request) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	until, known := k.kept[r.URL.Path]
	isFirst := strings.Contains(r.URL.Path, "/snapshots/") && len(k.kept) == 0
	if !known && r.Method == http.MethodDelete && !k.over && (isFirst || strings.Contains(r.URL.Path, "/data/")) {
		until = k.first.Add(time.Duration(len(k.kept)) * time.Hour)
		k.kept[r.URL.Path] = until
	}
	if k.over {
		return time.Time{}
	}
	return until
}

func (k *retaining) before(inner http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		until := k.until(r)
		switch {
		case until.IsZero():
			inner.ServeHTTP(w, r)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>Object is WORM protected</Message></Error>")
		case r.URL.Query().Has("retention"):
			fmt.Fprintf(w, "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>%s</RetainUntilDate></Retention>", until.Format(time.RFC3339))
		default:
			inner.ServeHTTP(w, r)
		}
	}
}

// TestRetained: what a storage keeps is named, and until when; the rest is done, and what was kept can be deleted later.
func TestRetained(t *testing.T) {
	s3test.Environment.Set(t)
	inner, err := url.Parse(s3test.Fake(t))
	must(t, err)
	k := &retaining{first: time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second), kept: map[string]time.Time{}}
	srv := httptest.NewServer(k.before(httputil.NewSingleHostReverseProxy(inner)))
	defer srv.Close()
	e := elsewhere{location: "s3:" + srv.URL + "/bucket", flags: []string{"-o", "s3.region=us-east-1"}}
	e.makeRepo(t)
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	jetsam := command{repo: e.location, env: []string{"AWS_REGION=us-east-1"}}
	for range 4 {
		src.publish(t, "orders", 3, text)
		jetsam.run(t, 0, "backup", "--all", "--mode", "full", "--server", src.address())
	}
	out := jetsam.run(t, 3, "forget", "--keep-last", "1", "--prune", "--grace", "0", "--max-unused", "0")
	asJSON := jetsam.run(t, 3, "prune", "--json", "--grace", "0", "--max-unused", "0")
	k.mu.Lock()
	packs, last := len(k.kept)-1, k.first
	for path, until := range k.kept {
		if says := fmt.Sprintf("retained until %s (COMPLIANCE)", until.Format(time.RFC3339)); !strings.Contains(out, says) {
			t.Errorf("%s is kept, and forget does not say that it is %s", path, says)
		}
		if until.After(last) {
			last = until
		}
	}
	k.over = true
	k.mu.Unlock()
	shown := func(at time.Time) string { return at.Local().Format("2006-01-02 15:04:05") }
	for _, says := range []string{
		"2 snapshots forgotten", fmt.Sprintf("%d files could not be deleted", packs),
		fmt.Sprintf("the first of them until %s, the last until %s", shown(k.first.Add(time.Hour)), shown(last)),
	} {
		if packs < 2 || !strings.Contains(out, says) {
			t.Errorf("%d packs are kept, and forget does not say %q:\n%s", packs, says, out)
		}
	}
	if says := fmt.Sprintf(`"refused":%d,"retained_until_first":%q,"retained_until_last":%q`, packs, k.first.Add(time.Hour).Format(time.RFC3339), last.Format(time.RFC3339)); !strings.Contains(asJSON, says) {
		t.Errorf("prune --json does not say %s:\n%s", says, asJSON)
	}
	jetsam.run(t, 0, "check", "--read-data")
	jetsam.run(t, 0, "forget", "--keep-last", "1", "--prune", "--grace", "0", "--max-unused", "0")
	if out := jetsam.run(t, 0, "check", "--read-data"); strings.Contains(out, "note") {
		t.Errorf("what was kept is still there:\n%s", out)
	}
}
