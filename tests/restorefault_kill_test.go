package tests

import (
	"errors"
	"math/rand/v2"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

// bigStream backs up a stream that takes a while to restore, and returns its image and the repository's directory.
func bigStream(t *testing.T, n int) (image, string) {
	t.Helper()
	src := startServer(t, natsd.Options{})
	random := rand.New(rand.NewPCG(7, 7))
	st := src.create(t, jetstream.StreamConfig{Name: "BIG", Subjects: []string{"big"}})
	src.publish(t, "big", n, func(int) []byte { return noise(random, 4000) })
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	want := lookAt(t, src, "BIG")
	src.Shutdown()
	return want, dir
}

// killWhen calls kill when the restore under way has brought some of the stream and not all, and says whether it came to that before
// ended was closed.
func killWhen(t *testing.T, dst *source, least uint64, ended <-chan struct{}, kill func()) bool {
	t.Helper()
	for {
		select {
		case <-ended:
			return false
		default:
		}
		st, err := dst.js.Stream(t.Context(), "BIG")
		if err == nil && st.CachedInfo().Config.Metadata[markerName] != "" && st.CachedInfo().State.Msgs >= least {
			kill()
			return true
		}
	}
}

// startRestore starts a restore of the stream, whose end closes the channel.
func startRestore(t *testing.T, c command, args ...string) (cmd *exec.Cmd, out *strings.Builder, ended chan struct{}) {
	t.Helper()
	cmd, out, ended = c.prepare(t, append([]string{"restore", "latest"}, args...)...), &strings.Builder{}, make(chan struct{})
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return cmd, out, ended
}

// TestRestoreKilled kills restores at different moments. The next restore recognises what is left, says so, and succeeds.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	want, dir := bigStream(t, 4000)
	rounds, enough := 5, 1
	if proof() {
		rounds, enough = 20, 20
	}
	hits := 0
	for round := range rounds {
		if hits == enough {
			break
		}
		dst := startServer(t, natsd.Options{})
		c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
		cmd, _, ended := startRestore(t, c)
		hit := killWhen(t, dst, uint64(round*4000/rounds), ended, func() { _ = cmd.Process.Kill() })
		<-ended
		if hit && cmd.ProcessState.ExitCode() == 0 {
			hit = false // it was done before the signal came
		}
		if !hit {
			t.Logf("round %d: the restore was faster than its kill", round)
			dst.Shutdown()
			continue
		}
		hits++
		out := c.run(t, 0, "restore", "latest", "--dry-run")
		if !strings.Contains(out, "unfinished restore") && !strings.Contains(out, "brought all of it") {
			t.Errorf("round %d: the plan does not say what is left:\n%s", round, out)
		}
		t.Log(out, c.run(t, 0, "restore", "latest", "--verify"))
		sameImage(t, want, lookAt(t, dst, "BIG"))
		dst.Shutdown()
	}
	if hits == 0 {
		t.Fatal("no restore was killed in its middle")
	}
}

// TestServerKilled kills the server in the middle of a restore: the restore does not succeed and says what is left, and after the
// server has come back, at once or later, the stream can be restored.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	want, dir := bigStream(t, 4000)
	for _, c := range []struct {
		name string
		late bool // the server comes back when the restore has given up
		exit []int
		says []string
	}{
		{"back at once", false, []int{23}, []string{"removed", "nothing of it is left"}},
		{"back later", true, []int{23, 20}, []string{"the same restore again recognises it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store := t.TempDir()
			srv := startProcess(t, processOptions{StoreDir: store}, nil)
			u, err := url.Parse(srv.url)
			must(t, err)
			port, err := strconv.Atoi(u.Port())
			must(t, err)
			cmd := command{repo: dir, env: []string{"NATS_URL=" + srv.url}}
			run, out, ended := startRestore(t, cmd)
			if !killWhen(t, srv.client(t), 1, ended, srv.kill) {
				t.Fatalf("the restore ended before the server was killed: %s", out)
			}
			if c.late {
				<-ended
			}
			again := startProcess(t, processOptions{StoreDir: store, Port: port}, nil)
			<-ended
			t.Log(out)
			if code := run.ProcessState.ExitCode(); code != c.exit[0] && code != c.exit[len(c.exit)-1] {
				t.Errorf("exit code %d, want one of %v", code, c.exit)
			}
			if !strings.Contains(out.String(), c.says[0]) && !strings.Contains(out.String(), c.says[len(c.says)-1]) {
				t.Errorf("it does not say %q", c.says)
			}
			dst := again.client(t)
			if _, err := dst.js.Stream(t.Context(), "BIG"); !c.late && !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("the unfinished stream was left: %v", err)
			}
			t.Log(cmd.run(t, 0, "restore", "latest", "--verify"))
			sameImage(t, want, lookAt(t, dst, "BIG"))
		})
	}
}

// TestServerDiskFull restores into a server whose disk is too small: it fails, says why, and leaves nothing.
func TestServerDiskFull(t *testing.T) {
	t.Parallel()
	_, dir := bigStream(t, 4000)
	srv := startProcess(t, processOptions{StoreDir: t.TempDir(), TmpfsMiB: 8}, ownMounts)
	run, out, ended := startRestore(t, command{repo: dir, env: []string{"NATS_URL=" + srv.url}})
	<-ended
	t.Log(out)
	if code := run.ProcessState.ExitCode(); code != 23 || !strings.Contains(out.String(), "no space left") {
		t.Errorf("exit code %d, want 23 and the reason", code)
	}
	if _, err := srv.client(t).js.Stream(t.Context(), "BIG"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the unfinished stream was left: %v", err)
	}
}
