package metrics_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jetsam/internal/testserver"
	"jetsam/metrics"
)

var began = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// success is a run that saved a snapshot of two streams, one of which failed.
func partial() metrics.Run {
	return metrics.Run{
		Command: "backup", Began: began, Took: 2500 * time.Millisecond, ExitCode: 3, StorageRetries: 4,
		Accounts: []metrics.Account{{
			Host: "nats-1", Name: `odd "name"`, Snapshot: began, Added: 4096,
			Streams: []metrics.Stream{{Name: "ORDERS", OK: true, Messages: 10, Bytes: 1000, New: 3, Added: 300, LastSeq: 12}, {Name: "BAD"}},
		}},
	}
}

const partialText = `jetsam_last_run_timestamp_seconds{command="backup"} 1.7723520025e+09
jetsam_last_run_duration_seconds{command="backup"} 2.5
jetsam_last_run_exit_code{command="backup"} 3
jetsam_last_run_storage_retries{command="backup"} 4
jetsam_snapshot_timestamp_seconds{command="backup",host="nats-1",account="odd \"name\""} 1.77235200e+09
jetsam_snapshot_added_bytes{command="backup",host="nats-1",account="odd \"name\""} 4096
jetsam_stream_ok{command="backup",host="nats-1",account="odd \"name\"",stream="ORDERS"} 1
jetsam_stream_ok{command="backup",host="nats-1",account="odd \"name\"",stream="BAD"} 0
jetsam_stream_messages{command="backup",host="nats-1",account="odd \"name\"",stream="ORDERS"} 10
jetsam_stream_bytes{command="backup",host="nats-1",account="odd \"name\"",stream="ORDERS"} 1000
jetsam_stream_new_messages{command="backup",host="nats-1",account="odd \"name\"",stream="ORDERS"} 3
jetsam_stream_added_bytes{command="backup",host="nats-1",account="odd \"name\"",stream="ORDERS"} 300
jetsam_stream_last_sequence{command="backup",host="nats-1",account="odd \"name\"",stream="ORDERS"} 12
`

// samples are the lines of a file that are no comments.
func samples(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return withoutComments(string(text))
}

func withoutComments(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func write(t *testing.T, path string, r metrics.Run) {
	t.Helper()
	if err := metrics.WriteFile(path, r); err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jetsam.prom")
	write(t, path, partial())
	want := strings.Replace(partialText, "1.77235200e+09", "1.772352e+09", 1)
	if got := samples(t, path); got != want {
		t.Errorf("file says\n%s\nwant\n%s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%d files are left beside it, %v", len(left)-1, err)
	}
}

// TestFileKeeps: what a run has nothing to say of stays as it was.
func TestFileKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jetsam.prom")
	if err := os.WriteFile(path, []byte("other_thing{a=\"b\"} 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := partial()
	good.ExitCode, good.Accounts[0].Streams = 0, good.Accounts[0].Streams[:1]
	write(t, path, good)
	forget := metrics.Run{Command: "forget", Began: began.Add(time.Minute), ExitCode: 0}
	write(t, path, forget)
	failed := metrics.Run{Command: "backup", Began: began.Add(time.Hour), ExitCode: 20}
	write(t, path, failed)

	got := samples(t, path)
	for _, want := range []string{
		`other_thing{a="b"} 7`,
		`jetsam_last_run_exit_code{command="backup"} 20`,
		`jetsam_last_run_timestamp_seconds{command="backup"} 1.7723556e+09`,
		`jetsam_last_success_timestamp_seconds{command="backup"} 1.7723520025e+09`,
		`jetsam_last_success_timestamp_seconds{command="forget"} 1.77235206e+09`,
		`jetsam_stream_ok{command="backup",host="nats-1",account="odd \"name\"",stream="ORDERS"} 1`,
	} {
		if strings.Count(got, want+"\n") != 1 {
			t.Errorf("%s is not there once", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	if n := strings.Count(got, "jetsam_last_run_exit_code{"); n != 2 {
		t.Errorf("%d exit codes of 2 commands", n)
	}

	// A stream that is not backed up any more is not told of any more.
	good.Accounts[0].Streams[0].Name = "NEW"
	write(t, path, good)
	if got := samples(t, path); strings.Contains(got, "ORDERS") || !strings.Contains(got, `stream="NEW"`) {
		t.Errorf("after a run with other streams:\n%s", got)
	}
}

// TestAccountTwice: of an account, and of a stream, of which a run saved several snapshots, the last counts. Prometheus takes no file that has a
// metric twice.
func TestAccountTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jetsam.prom")
	r := partial()
	r.Accounts = append(r.Accounts, metrics.Account{
		Host: r.Accounts[0].Host, Name: r.Accounts[0].Name, Snapshot: began.Add(time.Hour), Added: 5,
		Streams: []metrics.Stream{{Name: "BAD", OK: true, Messages: 7}, {Name: "MORE"}},
	}, metrics.Account{Host: "nats-2", Name: r.Accounts[0].Name, Snapshot: began})
	write(t, path, r)
	got := samples(t, path)
	for _, want := range []string{
		`jetsam_snapshot_added_bytes{command="backup",host="nats-1",account="odd \"name\""} 5`,
		`jetsam_snapshot_added_bytes{command="backup",host="nats-2",account="odd \"name\""} 0`,
		`jetsam_stream_ok{command="backup",host="nats-1",account="odd \"name\"",stream="ORDERS"} 1`,
		`jetsam_stream_messages{command="backup",host="nats-1",account="odd \"name\"",stream="BAD"} 7`,
		`jetsam_stream_ok{command="backup",host="nats-1",account="odd \"name\"",stream="MORE"} 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is not there", want)
		}
	}
	seen := map[string]bool{}
	for line := range strings.Lines(got) {
		series := line[:strings.LastIndexByte(line, ' ')]
		if seen[series] {
			t.Errorf("%s is there twice", series)
		}
		seen[series] = true
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "jetsam.prom")
	if err := os.WriteFile(path, []byte("this is { no metric\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, path, partial())
	if got := samples(t, path); !strings.HasPrefix(got, "jetsam_last_run_") {
		t.Errorf("in the place of garbage:\n%s", got)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "none", "x"), filepath.Join(path, "x"), os.DevNull} {
		if err := metrics.WriteFile(bad, partial()); err == nil || !strings.HasPrefix(err.Error(), "metrics file: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files are left beside it, %v", len(left)-1, err)
	}
}

// TestPromtool lets the real tool judge the file.
func TestPromtool(t *testing.T) {
	promtool := testserver.Program(t, "promtool", "prometheus")
	path := filepath.Join(t.TempDir(), "jetsam.prom")
	write(t, path, partial())
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = in
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestPushgateway pushes to the real one.
func TestPushgateway(t *testing.T) {
	address := startPushgateway(t)
	good := partial()
	good.ExitCode = 0
	for _, r := range []metrics.Run{good, {Command: "forget", Began: began}, {Command: "backup", Began: began.Add(time.Hour), ExitCode: 1}} {
		if err := metrics.Push(t.Context(), address, "nightly", r); err != nil {
			t.Fatal(err)
		}
	}
	got := get(t, address+"/metrics")
	for _, want := range []string{
		`jetsam_last_run_exit_code{command="backup",instance="",job="nightly"} 1`,
		`jetsam_last_run_exit_code{command="forget",instance="",job="nightly"} 0`,
		`jetsam_last_success_timestamp_seconds{command="backup",instance="",job="nightly"} 1.7723520025e+09`,
		`jetsam_stream_messages{account="odd \"name\"",command="backup",host="nats-1",instance="",job="nightly",stream="ORDERS"} 10`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is not there", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestPushFails(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "u" || password != "hunter2" {
			t.Errorf("user %q, password %q", user, password)
		}
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer refusing.Close()
	host := strings.TrimPrefix(refusing.URL, "http://")
	for name, address := range map[string]string{
		"refused":         "http://u:hunter2@" + host,
		"nobody there":    "http://u:hunter2@" + testserver.FreeAddress(t),
		"no URL":          "hunter2",
		"another scheme":  "ftp://u:hunter2@host/",
		"not even a host": "http://",
		"a query":         refusing.URL + "?token=hunter2",
		"control":         "http://u:hunter2@host\x7f/",
	} {
		err := metrics.Push(t.Context(), address, "jetsam", partial())
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := metrics.Push(ctx, refusing.URL, "jetsam", partial()); err == nil {
		t.Error("pushed after all")
	}
}

// TestPushIsNotSentOn: a server that answers with another address, as one does that wants TLS, has taken nothing, whatever a look at that address says.
func TestPushIsNotSentOn(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/elsewhere" {
			http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
		}
	}))
	defer srv.Close()
	if err := metrics.Push(t.Context(), srv.URL, "jetsam", partial()); err == nil || !strings.Contains(err.Error(), "301") {
		t.Errorf("%v", err)
	}
}

func get(t *testing.T, address string) string {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// startPushgateway runs the real one until the test ends.
func startPushgateway(t *testing.T) string {
	t.Helper()
	bin := testserver.Program(t, "prometheus-pushgateway", "prometheus-pushgateway")
	at := testserver.FreeAddress(t)
	cmd := exec.Command(bin, "--web.listen-address="+at)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 200 {
		if resp, err := http.Get(fmt.Sprintf("http://%s/-/ready", at)); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return "http://" + at
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the Pushgateway does not become ready")
	return ""
}
