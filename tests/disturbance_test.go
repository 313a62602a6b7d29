package tests

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/storage/s3/s3test"
)

// busyServer stands before a server of objects, and says as often as it is told that it is busy.
type busyServer struct {
	url  string
	busy atomic.Int64
}

func newBusyServer(t *testing.T) *busyServer {
	t.Helper()
	inner, err := url.Parse(s3test.Fake(t))
	must(t, err)
	b := new(busyServer)
	proxy := httputil.NewSingleHostReverseProxy(inner)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.busy.Add(-1) >= 0 {
			http.Error(w, "<Error><Code>SlowDown</Code></Error>", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	b.url = srv.URL
	return b
}

// TestRetriesAreCounted: whatever sums up a command says how many requests to storages were repeated, for people where there were some, and for programs always.
func TestRetriesAreCounted(t *testing.T) {
	s3test.Environment.Set(t)
	server, other := newBusyServer(t), elsewhere{location: "s3:" + s3test.Fake(t) + "/other"}
	e := elsewhere{location: "s3:" + server.url + "/bucket", flags: []string{"-o", "s3.region=us-east-1"}}
	e.makeRepo(t)
	other.makeRepo(t)
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	jetsam := command{repo: e.location, env: []string{"AWS_REGION=us-east-1", "JETSAM_FROM_PASSWORD=" + password}}
	metricsFile, jobs := filepath.Join(t.TempDir(), "metrics"), filepath.Join(t.TempDir(), "jobs")
	must(t, os.WriteFile(jobs, []byte(`{"jobs":[{"name":"one","server":"`+src.address()+`","streams":["ORDERS"]}]}`), 0o600))
	for i, tt := range []struct {
		long bool
		sums string // message types
		args []string
	}{
		{false, "summary", []string{"backup", "--all", "--server", src.address(), "--metrics-file", metricsFile}},
		{true, "copy", []string{"copy", "--from-repo", other.location}},
		{true, "summary", []string{"restore", "--server", dst.address()}},
		{true, "plan", []string{"restore", "--dry-run", "--server", dst.address(), "--rename", "ORDERS=AGAIN"}},
		{true, "summary", []string{"export", "latest", "--target", filepath.Join(t.TempDir(), "exported")}},
		{true, "replay_plan", []string{"replay", "latest", "ORDERS", "--dry-run", "--server", dst.address()}},
		{true, "drill", []string{"verify"}},
		{true, "diff", []string{"diff", "latest", "latest"}},
		{true, "find", []string{"find", "ORDERS", "--subject", "orders"}},
		{true, "stats", []string{"stats"}},
		{true, "survey", []string{"doctor", "--against", "latest", "--server", src.address()}},
		{true, "diagnosis", []string{"doctor", "--server", src.address()}},
		{true, "index_repaired", []string{"repair", "index"}},
		{true, "packs_repaired", []string{"repair", "packs", "--read-data", "--dry-run"}},
		{true, "snapshots_repaired", []string{"repair", "snapshots"}},
		{true, "rewrite", []string{"rewrite", "latest", "--stream", "ORDERS", "--subject", "orders", "--dry-run"}},
		{true, "run", []string{"backup", "--jobs", jobs}},
		{true, "prune_plan", []string{"prune", "--dry-run"}},
		{false, "forgotten prune_plan pruned", []string{"forget", "--keep-last", "1", "--prune"}},
	} {
		if tt.long && !proof() {
			continue
		}
		src.publish(t, "orders", 1, text)
		busy := int64(2 - min(i, 1))
		server.busy.Store(busy)
		cmd := jetsam.prepare(t, append(tt.args, "--json")...)
		var notes strings.Builder
		cmd.Stderr = &notes
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%v: %v\n%s", tt.args, err, notes.String())
			continue
		}
		var sums []string
		for line := range strings.Lines(string(out)) {
			var r struct {
				Type    string `json:"message_type"`
				Retries *int64 `json:"storage_retries"`
			}
			must(t, json.Unmarshal([]byte(line), &r))
			if r.Retries == nil {
				continue
			}
			sums = append(sums, r.Type)
			if *r.Retries != busy {
				t.Errorf("%v: %s counts %d retries, want %d", tt.args, r.Type, *r.Retries, busy)
			}
		}
		if strings.Join(sums, " ") != tt.sums {
			t.Errorf("%v: retries are counted in %q, want %q\n%s", tt.args, sums, tt.sums, out)
		}
	}
	if text, err := os.ReadFile(metricsFile); err != nil || !strings.Contains(string(text), `jetsam_last_run_storage_retries{command="backup"} 2`) {
		t.Errorf("metrics: %v\n%s", err, text)
	}
	for busy, says := range map[int64]string{0: "", 1: "1 request to the storage was repeated\n"} {
		server.busy.Store(busy)
		if out := jetsam.run(t, 0, "check"); strings.Count(out, "repeated") != int(busy) || !strings.Contains(out, says) {
			t.Errorf("%d requests were repeated, and check says\n%s", busy, out)
		}
	}
	server.busy.Store(1) // snapshots sums up nothing
	if out := jetsam.run(t, 0, "snapshots"); strings.Count(out, "1 request to the storage was repeated\n") != 1 {
		t.Errorf("snapshots says\n%s", out)
	}
}
