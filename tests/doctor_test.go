package tests

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/doctor"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/location"
	"jetsam/storage/s3/s3test"

	conn "jetsam/jetstream"
)

// examined are the findings about something, by its beginning.
func examined(found []doctor.Finding, about string) (out []doctor.Finding) {
	for _, f := range found {
		if strings.HasPrefix(f.About, about) {
			out = append(out, f)
		}
	}
	return out
}

// worst is the worst of what was found about something.
func worst(found []doctor.Finding, about string) doctor.Level {
	level := doctor.OK
	for _, f := range examined(found, about) {
		if f.Level == doctor.Problem || level == doctor.OK {
			level = f.Level
		}
	}
	return level
}

// examineAs looks at a server as one of its users, whose password is x.
func examineAs(t *testing.T, url, user string, ways ...doctor.Way) doctor.ServerReport {
	t.Helper()
	c, err := conn.Connect(t.Context(), conn.Config{Servers: url, User: user, Password: secret.New("x"), InboxPrefix: "_INBOX_" + user})
	must(t, err)
	defer c.Close()
	r, err := doctor.Server(t.Context(), c, ways)
	must(t, err)
	return r
}

// TestDoctorPermissions takes each permission of each way from a user who has all others, and lets a server tell what such a user may do, or not: exactly
// what is lacking is named. Where a way cannot be gone without it that is a problem, and else a warning.
func TestDoctorPermissions(t *testing.T) {
	t.Parallel()
	type lack struct {
		user string
		way  doctor.Way
		need doctor.Need
	}
	const asking = "$SYS.REQ.USER.INFO"
	var users []natsd.User
	var lacks []lack
	for _, way := range doctor.Ways {
		for i := range doctor.Needs(way, "", "") {
			for _, silent := range []bool{false, true} {
				l := lack{user: fmt.Sprintf("%s%d%v", way, i, silent), way: way}
				u := natsd.User{Name: l.user, Password: "x", Publish: []string{"none"}, Subscribe: []string{"none"}}
				for k, n := range doctor.Needs(way, "$JS.API", "_INBOX_"+l.user) {
					switch {
					case k == i:
						l.need = n
					case silent && n.Subject == asking:
					case n.Operation == conn.OpSubscribe:
						u.Subscribe = append(u.Subscribe, n.Subject)
					default:
						u.Publish = append(u.Publish, n.Subject)
					}
				}
				if l.need.Operation == conn.OpSubscribe && !silent {
					continue // nobody hears what the server tells
				}
				users, lacks = append(users, u), append(lacks, l)
			}
		}
	}
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Users: users})
	must(t, err)
	t.Cleanup(s.Shutdown)
	for _, l := range lacks {
		r := examineAs(t, s.URL(), l.user, l.way)
		got := append(slices.Clone(r.Lacks.Publish), r.Lacks.Subscribe...)
		got = slices.DeleteFunc(got, func(s string) bool { return s == asking && l.need.Subject != asking })
		if !slices.Equal(got, []string{l.need.Subject}) {
			t.Errorf("%s without %s: it names %q", l.user, l.need.Subject, got)
		}
		want := doctor.Problem
		if l.need.Without != "" {
			want = doctor.Warning
		}
		if level := worst(r.Findings, "permissions"); level != want {
			t.Errorf("%s without %s: %s, want %s: %+v", l.user, l.need.Subject, level, want, r.Findings)
		}
	}
}

// TestDoctorPermissionsOfThePage: the users of the page on getting started may do what they are for. Asked for nothing else, it is no problem that they
// may do no more; asked for it, it is one.
func TestDoctorPermissionsOfThePage(t *testing.T) {
	t.Parallel()
	s := startGuarded(t)
	for user, ways := range map[string][]doctor.Way{"backup": {doctor.Backup}, "restore": {doctor.Restore, doctor.Verify}} {
		c := connectAs(t, s, user)
		r, err := doctor.Server(t.Context(), c, ways)
		must(t, err)
		if text := r.Lacks.Config(); worst(r.Findings, "") != doctor.OK || text != "" || r.Account != "$G" {
			t.Errorf("%s: %+v %s", user, r.Findings, text)
		}
		r, err = doctor.Server(t.Context(), c, nil)
		must(t, err)
		if worst(r.Findings, "") == doctor.Problem {
			t.Errorf("%s: %+v", user, r.Findings)
		}
		r, err = doctor.Server(t.Context(), c, doctor.Ways)
		must(t, err)
		if got := worst(r.Findings, "permissions"); (got == doctor.Problem) != (user == "backup") {
			t.Errorf("%s, for all ways: %s", user, got)
		}
	}
	c := connectAs(t, s, "replay")
	r, err := doctor.Server(t.Context(), c, nil)
	must(t, err)
	if got := worst(r.Findings, "permissions"); got != doctor.Problem {
		t.Errorf("who can neither back up nor restore: %s", got)
	}
}

// TestDoctorPermissionsToPaste: what is printed, put into a server's configuration, is enough.
func TestDoctorPermissionsToPaste(t *testing.T) {
	t.Parallel()
	one := `{ user: one, password: x, permissions: { publish: "none", subscribe: "none" } }`
	start := func(user string) *natsd.Server {
		s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Config: "authorization { users: [ " + user + " ] }"})
		must(t, err)
		t.Cleanup(s.Shutdown)
		return s
	}
	lacks := examineAs(t, start(one).URL(), "one", doctor.Ways...).Lacks
	t.Log(lacks.Config())
	r := examineAs(t, start("{ user: one, password: x, "+lacks.Config()+" }").URL(), "one", doctor.Ways...)
	if worst(r.Findings, "") != doctor.OK || r.Lacks.Config() != "" {
		t.Errorf("%+v", r.Findings)
	}
	some := strings.ReplaceAll(lacks.Config(), "STREAM.SNAPSHOT.*", "STREAM.SNAPSHOT.ORDERS")
	r = examineAs(t, start("{ user: one, password: x, "+some+" }").URL(), "one", doctor.Backup)
	if f := examined(r.Findings, "permissions for backup"); len(f) != 1 || f[0].Level != doctor.Warning || f[0].Text != "for some streams only: $JS.API.STREAM.SNAPSHOT.ORDERS" {
		t.Errorf("%+v", r.Findings)
	}
}

// TestDoctorServer: an account without JetStream is a problem, and one whose storage is nearly full a warning.
func TestDoctorServer(t *testing.T) {
	t.Parallel()
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Config: `accounts {
		NONE { users: [ {user: none, password: x} ] }
		SMALL { jetstream: { max_file: 100000 }, users: [ {user: small, password: x} ] }
	}`})
	must(t, err)
	t.Cleanup(s.Shutdown)
	if r := examineAs(t, s.URL(), "none"); worst(r.Findings, "JetStream") != doctor.Problem {
		t.Errorf("%+v", r.Findings)
	}
	if r := examineAs(t, s.URL(), "small"); worst(r.Findings, "") != doctor.OK || r.Account != "SMALL" {
		t.Errorf("%+v", r.Findings)
	}
	nc, err := nats.Connect(s.URL(), nats.UserInfo("small", "x"))
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	must(t, err)
	_, err = js.Publish(t.Context(), "s", make([]byte, 92_000))
	must(t, err)
	if r := examineAs(t, s.URL(), "small"); worst(r.Findings, "JetStream") != doctor.Warning {
		t.Errorf("%+v", r.Findings)
	}
}

// place is a storage that says no, or whose clock is wrong.
type place struct {
	storage.Backend
	ahead   time.Duration
	saving  error
	removal error
}

func (p *place) Clock() (time.Time, bool) { return time.Now().Add(p.ahead), true }

func (p *place) Save(ctx context.Context, f storage.File, data []byte) error {
	if p.saving != nil {
		return p.saving
	}
	return p.Backend.Save(ctx, f, data)
}

func (p *place) Remove(ctx context.Context, f storage.File) error {
	if p.removal != nil {
		return p.removal
	}
	return p.Backend.Remove(ctx, f)
}

// TestDoctorRepository looks at repositories in good and bad places.
func TestDoctorRepository(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Options{})
	s.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	first, _ := newRepo(t, repo.Options{})
	look := func(p *place, o doctor.RepositoryOptions) []doctor.Finding {
		t.Helper()
		p.Backend = first.Backend()
		r, err := repo.Open(t.Context(), p, secret.New(password), repo.Options{})
		must(t, err)
		found, err := doctor.Repository(t.Context(), r, o)
		must(t, err)
		for _, f := range found {
			t.Logf("%+v", f)
		}
		return found
	}
	right := func() *place { return &place{} }
	if f := look(right(), doctor.RepositoryOptions{}); worst(f, "snapshots") != doctor.Warning || worst(f, "clock") != doctor.OK || worst(f, "writing") != doctor.OK {
		t.Error("an empty repository")
	}
	if worst(look(right(), doctor.RepositoryOptions{MaxAge: time.Hour}), "snapshots") != doctor.Problem {
		t.Error("no snapshot, and one was asked for")
	}
	backUp(t, s, first, backup.Options{Selection: allStreams})
	if f := look(right(), doctor.RepositoryOptions{Account: "$G", MaxAge: time.Hour}); worst(f, "") != doctor.OK || len(examined(f, "clock")) != 1 {
		t.Error("all is well")
	}
	if worst(look(right(), doctor.RepositoryOptions{MaxAge: time.Nanosecond}), "snapshots") != doctor.Problem {
		t.Error("an old snapshot")
	}
	if worst(look(right(), doctor.RepositoryOptions{Account: "OTHER"}), "snapshots") != doctor.Warning {
		t.Error("another account")
	}
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		if worst(look(&place{ahead: by}, doctor.RepositoryOptions{}), "clock") != doctor.Warning {
			t.Errorf("a clock that is wrong by %v", by)
		}
	}
	for _, err := range []error{storage.ErrReadOnly, storage.ErrFull} {
		if worst(look(&place{saving: err}, doctor.RepositoryOptions{}), "writing") != doctor.Problem {
			t.Errorf("writing: %v", err)
		}
		if worst(look(&place{saving: err}, doctor.RepositoryOptions{NoLock: true}), "writing") != doctor.OK {
			t.Error("writing, and that is not wanted")
		}
	}
	if worst(look(&place{removal: storage.ErrReadOnly}, doctor.RepositoryOptions{}), "writing") != doctor.Problem {
		t.Error("what is written cannot be removed")
	}
	if f := look(right(), doctor.RepositoryOptions{}); len(examined(f, "locks")) != 1 || worst(f, "locks") != doctor.OK { // of this process
		t.Error("the lock that could not be removed")
	}
	_, err := first.Unlock(t.Context(), true)
	must(t, err)

	stale, err := repo.Open(t.Context(), first.Backend(), secret.New(password), repo.Options{Hostname: "elsewhere", Clock: func() time.Time { return time.Now().Add(-time.Hour) }})
	must(t, err)
	lock, err := stale.Lock(t.Context(), false)
	must(t, err)
	if f := look(right(), doctor.RepositoryOptions{}); worst(f, "locks") != doctor.Warning || !strings.Contains(examined(f, "locks")[0].Text, "on elsewhere") {
		t.Error("a stale lock")
	}
	must(t, lock.Release())
	lock, err = first.Lock(t.Context(), true)
	must(t, err)
	if f := look(right(), doctor.RepositoryOptions{}); worst(f, "locks") != doctor.Warning || worst(f, "writing") != doctor.Warning {
		t.Error("an exclusive lock")
	}
	must(t, lock.Release())
}

// TestDoctorClockOfAnswers: the clock of a server of objects is told by its answers.
func TestDoctorClockOfAnswers(t *testing.T) {
	s3test.Environment.Set(t)
	t.Setenv("AWS_REGION", "us-east-1")
	inner, err := url.Parse(s3test.Fake(t))
	must(t, err)
	var wrong atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(inner)
	proxy.ModifyResponse = func(r *http.Response) error {
		r.Header.Set("Date", time.Now().Add(time.Duration(wrong.Load())).UTC().Format(http.TimeFormat))
		return nil
	}
	srv := httptest.NewServer(proxy)
	defer srv.Close()
	e := elsewhere{location: "s3:" + srv.URL + "/bucket"}
	e.makeRepo(t)
	l, err := location.Parse(e.location)
	must(t, err)
	be, err := l.Open(t.Context(), nil)
	must(t, err)
	defer be.Close()
	r, err := repo.Open(t.Context(), be, secret.New(password), repo.Options{})
	must(t, err)
	for by, want := range map[time.Duration]doctor.Level{0: doctor.OK, -10 * time.Minute: doctor.Warning, 10 * time.Minute: doctor.Warning} {
		wrong.Store(int64(by))
		found, err := doctor.Repository(t.Context(), r, doctor.RepositoryOptions{})
		must(t, err)
		if len(examined(found, "clock")) != 1 || worst(found, "clock") != want {
			t.Errorf("a clock that is wrong by %v: %+v", by, found)
		}
	}
}
