package tests

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

// forward passes on what a client sends, message by message where somebody wants to hear of them.
func (k *link) forward(w io.Writer, client net.Conn) {
	if k.pass == nil {
		io.Copy(w, client)
		return
	}
	in := bufio.NewReaderSize(client, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		args := strings.Fields(string(line))
		if len(args) > 2 && (args[0] == "PUB" || args[0] == "HPUB") {
			n, err := strconv.Atoi(args[len(args)-1])
			if err != nil {
				return
			}
			body := make([]byte, n+2)
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			if !k.pass(args[1], body[:n]) {
				continue
			}
			line = append(line, body...)
		}
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

// isChunk says whether a message is a piece of an archive for a server that restores; the end of one has no body.
func isChunk(subject string) bool { return strings.HasPrefix(subject, "$JS.SNAPSHOT.RESTORE.") }

// backedUpOrders makes a stream ORDERS of 500 messages and a consumer, and a repository that holds it.
func backedUpOrders(t *testing.T) (r *repo.Repo, dir string, as image) {
	t.Helper()
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	src.publish(t, "orders", 500, text)
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	r, dir = newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	return r, dir, lookAt(t, src, "ORDERS")
}

// TestRestoreKilledAtTheEnd kills restores of which the server has every byte, before the mark is off the stream: the next restore
// recognises the complete stream, ends it and says so. Killed right after that, it leaves the stream as the snapshot has it, and that is not touched.
func TestRestoreKilledAtTheEnd(t *testing.T) {
	t.Parallel()
	_, dir, want := backedUpOrders(t)
	const update = "$JS.API.STREAM.UPDATE.ORDERS"
	for _, c := range []struct {
		name   string
		at     func(subject string, body []byte) bool
		passes bool // the message reaches the server
		marked bool
		exit   int
		says   string
	}{
		{"when it says that this was all", func(subject string, body []byte) bool { return isChunk(subject) && len(body) == 0 }, true, true, 0, "brought all of it"},
		{"before the mark is taken off", func(subject string, body []byte) bool { return subject == update && len(body) > 2 }, false, true, 0, "brought all of it"},
		{"when the mark is taken off", func(subject string, body []byte) bool { return subject == update && len(body) > 2 }, true, false, 22, "a stream of that name exists"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dst := startServer(t, natsd.Options{})
			var cmd *exec.Cmd
			started, killed := make(chan struct{}), make(chan struct{})
			var once sync.Once
			way := (&link{pass: func(subject string, body []byte) bool {
				if !c.at(subject, body) {
					return true
				}
				<-started
				once.Do(func() {
					close(killed)
					_ = cmd.Process.Kill()
				})
				return c.passes
			}}).open(t, dst.URL())
			cmd, out, ended := startRestore(t, command{repo: dir, env: []string{"NATS_URL=" + way.url()}})
			close(started)
			<-ended
			select {
			case <-killed:
			default:
				t.Fatalf("the restore never came that far:\n%s", out)
			}
			if cmd.ProcessState.Success() {
				t.Fatal("the restore was not killed")
			}
			waitMarked(t, dst, c.marked)
			again := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
			planned := again.run(t, c.exit, "restore", "--dry-run")
			done := again.run(t, c.exit, "restore")
			t.Log(planned, done)
			if !strings.Contains(planned, c.says) || !strings.Contains(done, c.says) {
				t.Errorf("plan and restore do not both say %q", c.says)
			}
			sameImage(t, want, lookAt(t, dst, "ORDERS"))
		})
	}
}

// waitMarked waits until the stream has all its messages, and carries the mark of a restore, or not.
func waitMarked(t *testing.T, s *source, marked bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		st, err := s.js.Stream(t.Context(), "ORDERS")
		if err == nil && st.CachedInfo().State.Msgs == 500 && (st.CachedInfo().Config.Metadata[markerName] != "") == marked {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stream is not there with its mark %v: %v", marked, err)
		}
	}
}

// TestClusterServerKilled kills one of three servers in the middle of a restore of a replicated stream: a success is exact, and else it says
// what is there and what to do, and once the server is back the same command restores.
func TestClusterServerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("elections take seconds")
	}
	t.Parallel()
	servers, options := clusterOfProcesses(t)
	s := servers[0].client(t)
	ready := func() {
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
			_, err := s.js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: 3})
			if err == nil {
				_, err = s.js.Publish(t.Context(), "probe", nil)
			}
			if err == nil {
				err = s.js.DeleteStream(t.Context(), "PROBE")
			}
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	ready()
	s.create(t, jetstream.StreamConfig{Name: "BIG", Subjects: []string{"big"}, Replicas: 3})
	s.publish(t, "big", 2000, func(i int) []byte { return bytes.Repeat(text(i), 60) })
	want := lookAt(t, s, "BIG")
	_, dir := newRepo(t, repo.Options{})
	(command{repo: dir, env: []string{"NATS_URL=" + servers[0].url}}).run(t, 0, "backup", "BIG")
	must(t, s.js.DeleteStream(t.Context(), "BIG"))
	victims := 1 // the first is the one that it is connected to
	if proof() {
		victims = len(servers)
	}
	for victim := range victims {
		ready()
		time.Sleep(time.Second) // a cluster forgets a name a little later, which is nothing that is tested here
		var once sync.Once
		chunks := 0
		killed := make(chan struct{})
		way := (&link{pass: func(subject string, body []byte) bool {
			if isChunk(subject) && len(body) > 0 {
				if chunks++; chunks == 3 {
					once.Do(func() { close(killed); servers[victim].kill() })
				}
			}
			return true
		}}).open(t, servers[0].url)
		run, out, ended := startRestore(t, command{repo: dir, env: []string{"NATS_URL=" + way.url()}})
		<-ended
		select {
		case <-killed:
		default:
			t.Fatalf("victim %d: nothing was killed:\n%s", victim, out)
		}
		code := run.ProcessState.ExitCode()
		t.Logf("victim n%d: exit code %d\n%s", victim, code, out)
		servers[victim] = startProcess(t, options[victim], nil)
		s = servers[0].client(t)
		ready()
		switch {
		case code == 0:
			sameImage(t, restored(want), restored(lookAt(t, s, "BIG")))
			must(t, s.js.DeleteStream(t.Context(), "BIG"))
			time.Sleep(time.Second)
		case !slices.Contains([]int{20, 23}, code):
			t.Errorf("victim n%d: exit code %d", victim, code)
		case !strings.Contains(out.String(), "nothing") && !strings.Contains(out.String(), "again"):
			t.Errorf("victim n%d: it does not say what is left and what to do", victim)
		}
		if code != 0 {
			t.Log((command{repo: dir, env: []string{"NATS_URL=" + servers[0].url}}).run(t, 0, "restore", "latest", "--verify"))
			sameImage(t, restored(want), restored(lookAt(t, s, "BIG")))
			must(t, s.js.DeleteStream(t.Context(), "BIG"))
		}
		if _, err := s.js.Stream(t.Context(), "BIG"); !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatal(err)
		}
	}
}
