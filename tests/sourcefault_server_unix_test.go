//go:build unix

package tests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"

	conn "jetsam/jetstream"
)

// serveVariable makes this test binary a nats-server: PORT,DIRECTORY.
const serveVariable = "JETSAM_TEST_SERVE"

// TestServe is the nats-server that other tests start as a process of its own, to kill it.
func TestServe(t *testing.T) {
	port, dir, ok := strings.Cut(os.Getenv(serveVariable), ",")
	if !ok {
		t.Skip("is run by other tests")
	}
	n, err := strconv.Atoi(port)
	must(t, err)
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: n, JetStream: true, StoreDir: dir, DisableJetStreamBanner: true,
		LameDuckDuration: time.Second, LameDuckGracePeriod: 10 * time.Millisecond,
	})
	must(t, err)
	srv.Start() // its signals are a nats-server's: SIGTERM ends it, SIGUSR2 makes it a lame duck
	srv.WaitForShutdown()
}

// child is a nats-server in a process of its own.
type child struct {
	port int
	dir  string
	cmd  *exec.Cmd
}

func startChild(t testing.TB) *child {
	t.Helper()
	c := &child{port: testserver.FreePorts(t, 1)[0], dir: t.TempDir()}
	t.Cleanup(func() { c.signal(syscall.SIGKILL) })
	c.start(t)
	return c
}

func (c *child) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", c.port) }

func (c *child) start(t testing.TB) {
	c.cmd = exec.Command(os.Args[0], "-test.run=^TestServe$")
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%s", serveVariable, c.port, c.dir))
	must(t, c.cmd.Start())
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		nc, err := nats.Connect(c.url())
		if err == nil {
			nc.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the server does not start: %v", err)
			return
		}
	}
}

// signal sends the server a signal, and waits until it has ended.
func (c *child) signal(s syscall.Signal) {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(s)
	_ = c.cmd.Wait()
	c.cmd = nil
}

// client is a client of the server at that address.
func client(t testing.TB, address string) *source {
	t.Helper()
	nc, err := nats.Connect(address, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	return &source{nil, nc, js}
}

// TestServerEndsInMidCapture ends a server in the middle of a snapshot. It comes back: the stream is read on from there, or again where nothing had
// come, and is whole.
func TestServerEndsInMidCapture(t *testing.T) {
	type end struct {
		how syscall.Signal
		at  int
	}
	ends := []end{{syscall.SIGKILL, 60}, {syscall.SIGTERM, 1}}
	if proof() {
		ends = nil
		for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGUSR2} {
			for _, at := range []int{1, 10, 60, 0} {
				ends = append(ends, end{how, at})
			}
		}
	}
	for _, end := range ends {
		t.Run(fmt.Sprintf("%v at chunk %d", end.how, end.at), func(t *testing.T) {
			srv := startChild(t)
			src := client(t, srv.url())
			src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
			src.fillNoise(t, "s", 1500)
			want := lookAt(t, src, "S")
			k := &link{chunk: atChunk(end.at, func(attempt int) {
				if attempt == 1 {
					srv.signal(end.how)
					srv.start(t)
				}
			})}
			r, _ := newRepo(t, repo.Options{})
			res, err := backup.Run(t.Context(), through(t, k.open(t, srv.url())), r, small)
			must(t, err)
			got := res.Streams[0]
			t.Logf("resumed %+v, retried %q", got.Resumed, got.Retried)
			if got.Err != nil || got.Torn != "" || end.at == 60 && (len(got.Resumed) != 1 || got.Retried != "") {
				t.Fatalf("%+v", got)
			}
			if snap := stored(t, r, "S"); !slices.Equal(snap.Messages, want.Messages) {
				t.Errorf("%d messages in the snapshot, %d in the stream", len(snap.Messages), len(want.Messages))
			}
		})
	}
}

// TestRolledBackInMidCapture kills a server in the middle of a snapshot, and has it come back as it had been before, as where it had not yet written
// all to disk; it then gives the sequences that it lost to other messages. What is captured is never of both.
func TestRolledBackInMidCapture(t *testing.T) {
	const n = 1500
	for _, c := range []struct {
		name    string
		at      int // how many messages it has still
		others  int // that come
		resumes bool
		why     string
	}{
		{"behind what came", n / 4, 2 * n, false, "it has another message"},
		{"behind what came, and empty there", n / 4, 0, false, "went back from"},
		{"before what is to come", n * 5 / 6, n, true, ""},
		{"before what is to come, and short", n * 5 / 6, 1, false, "went back from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := startChild(t)
			src := client(t, srv.url())
			src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
			src.fillNoise(t, "s", c.at)
			srv.signal(syscall.SIGTERM)
			saved := filepath.Join(t.TempDir(), "saved")
			must(t, os.CopyFS(saved, os.DirFS(srv.dir)))
			srv.start(t)
			src.waitMessages(t, "S", uint64(c.at))
			src.fillNoise(t, "s", n-c.at)
			k := &link{chunk: atChunk(50, func(attempt int) {
				if attempt > 1 {
					return
				}
				srv.signal(syscall.SIGKILL)
				must(t, os.RemoveAll(srv.dir))
				must(t, os.CopyFS(srv.dir, os.DirFS(saved)))
				srv.start(t)
				src.waitMessages(t, "S", uint64(c.at))
				src.publish(t, "s.1", c.others, text)
			})}
			r, _ := newRepo(t, repo.Options{})
			res, err := backup.Run(t.Context(), through(t, k.open(t, srv.url())), r, small)
			must(t, err)
			got := res.Streams[0]
			t.Logf("%d messages, resumed %+v, retried %q", got.Messages, got.Resumed, got.Retried)
			if got.Err != nil || got.Torn != "" || c.resumes != (len(got.Resumed) == 1) || !strings.Contains(got.Retried, c.why) || c.resumes != (got.Retried == "") {
				t.Errorf("%+v", got)
			}
			if want := lookAt(t, src, "S"); !slices.Equal(stored(t, r, "S").Messages, want.Messages) {
				t.Error("the snapshot is not the stream")
			}
		})
	}
}

// TestServerStaysAway ends a server for good: what was captured by then is saved and the rest is named; where that is nothing, nothing is saved.
func TestServerStaysAway(t *testing.T) {
	for _, before := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d streams captured", before), func(t *testing.T) {
			srv := startChild(t)
			src := client(t, srv.url())
			if before > 0 {
				src.create(t, jetstream.StreamConfig{Name: "A", Subjects: []string{"a.*"}})
				src.publish(t, "a.1", 10, text)
			}
			for _, name := range []string{"B", "C", "D"} {
				src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}})
				src.fillNoise(t, name, 500)
			}
			k := &link{chunk: atChunk(5, func(int) { srv.signal(syscall.SIGKILL) })}
			r, _ := newRepo(t, repo.Options{})
			o := small
			o.Patience = time.Second
			res, err := backup.Run(t.Context(), through(t, k.open(t, srv.url())), r, o)
			if before == 0 {
				t.Log(err)
				if !errors.Is(err, conn.ErrUnreachable) {
					t.Errorf("error %v", err)
				}
				noSnapshot(t, r)
				return
			}
			must(t, err)
			failed := res.Failed()
			if len(failed) != 3 {
				t.Fatalf("failed: %+v", failed)
			}
			for _, f := range failed {
				t.Log(f.Err)
				if !errors.Is(f.Err, conn.ErrUnreachable) {
					t.Errorf("stream %s: %v", f.Name, f.Err)
				}
			}
			if n := len(stored(t, r, "A").Messages); n != 10 {
				t.Errorf("%d messages of A in the snapshot", n)
			}
		})
	}
}

// rots are ways in which a server's files go bad.
var rots = map[string]func(t testing.TB, blocks []string){
	"a bit flipped": func(t testing.TB, blocks []string) { flipIn(t, blocks[0], 2_000_000) },
	"a bit flipped in the last block": func(t testing.TB, blocks []string) {
		flipIn(t, blocks[len(blocks)-1], 100_000)
	},
	"a block gone":   func(t testing.TB, blocks []string) { must(t, os.Remove(blocks[0])) },
	"the last short": func(t testing.TB, blocks []string) { must(t, os.Truncate(blocks[len(blocks)-1], 50_000)) },
}

func flipIn(t testing.TB, path string, off int) {
	t.Helper()
	p, err := os.ReadFile(path)
	must(t, err)
	p[off] ^= 4
	must(t, os.WriteFile(path, p, 0o600))
}

// TestSourceRots damages a server's files while it is stopped. Where the run ends well, the snapshot holds every message that the server gives out
// one by one, and as many as it counts; else it says which stream is hurt, and the other is saved.
func TestSourceRots(t *testing.T) {
	for _, how := range sortedKeys(rots) {
		for _, index := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, index %v", how, index), func(t *testing.T) {
				dir := t.TempDir()
				src := startServer(t, natsd.Options{StoreDir: dir})
				src.create(t, jetstream.StreamConfig{Name: "HURT", Subjects: []string{"hurt.*"}})
				src.create(t, jetstream.StreamConfig{Name: "WHOLE", Subjects: []string{"whole.*"}})
				src.fillNoise(t, "hurt", 3000)
				src.fillNoise(t, "whole", 20)
				src.nc.Close()
				src.Shutdown()
				blocks := blocksOf(t, dir, "HURT")
				rots[how](t, blocks)
				if !index {
					must(t, os.Remove(filepath.Join(filepath.Dir(blocks[0]), "index.db")))
				}
				src = startServer(t, natsd.Options{StoreDir: dir})
				notSilent(t, src)
			})
		}
	}
}

// TestOldServersRot is the same of older servers.
func TestOldServersRot(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	for _, version := range unlike(servers) {
		if version == "2.10.29" && !proof() {
			continue
		}
		for _, how := range sortedKeys(rots) {
			t.Run(version+", "+how, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				src, stop := runOld(t, servers[version], dir)
				src.create(t, jetstream.StreamConfig{Name: "HURT", Subjects: []string{"hurt.*"}})
				src.create(t, jetstream.StreamConfig{Name: "WHOLE", Subjects: []string{"whole.*"}})
				src.fillNoise(t, "hurt", 2200) // more than a block
				src.fillNoise(t, "whole", 20)
				stop()
				rots[how](t, blocksOf(t, dir, "HURT"))
				src, _ = runOld(t, servers[version], dir)
				notSilent(t, src)
			})
		}
	}
}

// blocksOf are the files of a stream's messages, the oldest first; there are several.
func blocksOf(t testing.TB, dir, stream string) []string {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", stream, "msgs", "*.blk"))
	must(t, err)
	slices.SortFunc(blocks, func(a, b string) int { return len(a) - len(b) })
	if len(blocks) < 2 {
		t.Fatalf("blocks %q", blocks)
	}
	return blocks
}

// notSilent backs up a server of whose streams HURT is damaged: that ends well only with all that can be read, and is counted; else the stream is named, with
// sequences where the server still counts them.
func notSilent(t *testing.T, src *source) {
	t.Helper()
	r, _ := newRepo(t, repo.Options{})
	o := small
	o.ChunkSize, o.WindowSize = 0, 0
	res, err := backup.Run(t.Context(), connectTo(t, src.address()), r, o)
	must(t, err)
	hurt, whole := res.Streams[0], res.Streams[1]
	alive, counted := oneByOne(t, src, "HURT")
	t.Logf("%d messages captured by %s (%s), %d can be read, %d are counted; torn %q, error %v", hurt.Messages, hurt.Way, hurt.Instead, alive, counted, hurt.Torn, hurt.Err)
	if whole.Err != nil || whole.Messages != 20 {
		t.Errorf("the other stream: %+v", whole)
	}
	if hurt.Err == nil && hurt.Torn == "" && (hurt.Messages != alive || alive != counted) {
		t.Errorf("the run ended well with %d messages; %d can be read, %d are counted", hurt.Messages, alive, counted)
	}
	if hurt.Err == nil && hurt.Messages < alive {
		t.Errorf("%d messages were kept of %d that can be read", hurt.Messages, alive)
	}
	if hurt.Err == nil && alive < counted && !strings.Contains(hurt.Torn, "at sequence ") {
		t.Errorf("it is not said which messages are lost: %q", hurt.Torn)
	}
}

// oneByOne asks a server for every message of a stream by its sequence. It returns how many came, and how many the server counts.
func oneByOne(t testing.TB, s *source, stream string) (alive, counted uint64) {
	t.Helper()
	st, err := s.js.Stream(t.Context(), stream)
	must(t, err)
	state := st.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && seq > 0; seq++ {
		if _, err := st.GetMsg(t.Context(), seq); err == nil {
			alive++
		}
	}
	return alive, state.Msgs
}

// TestSlowAndBrokenLinks reads a stream over links that delay, stall and break.
func TestSlowAndBrokenLinks(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	src.fillNoise(t, "s", 1000)
	want := lookAt(t, src, "S")
	stall := func(chunk int, d time.Duration, times int) *link {
		return &link{chunk: atChunk(chunk, func(attempt int) {
			if attempt <= times {
				time.Sleep(d)
			}
		})}
	}
	for _, c := range []struct {
		name  string
		link  *link
		says  string // of why it was tried again, or went on, or of the error
		fails bool
		long  bool
	}{
		{"300 ms late", &link{delay: 300 * time.Millisecond}, "", false, true},
		{"stalls for 4 s", stall(10, 4*time.Second, 1), "", false, true},
		{"stalls for 6 s", stall(10, 6*time.Second, 1), "408", false, true},
		{"stalls for 6 s in the middle", stall(30, 6*time.Second, 1), "408", false, true},
		{"stalls for 6 s each time", stall(10, 6*time.Second, 9), "408", true, true},
		{"reset every 100 KiB", &link{reset: 100 << 10}, "connection to NATS lost", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && !proof() {
				t.Skip("takes seconds of waiting")
			}
			o := small
			if c.link.delay > 0 {
				o.ChunkSize, o.WindowSize = 0, 0
			}
			o.Patience = 5 * time.Second
			r, _ := newRepo(t, repo.Options{})
			res, err := backup.Run(t.Context(), through(t, c.link.open(t, src.URL())), r, o)
			if c.fails {
				t.Log(err)
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v does not say %q", err, c.says)
				}
				noSnapshot(t, r)
				return
			}
			must(t, err)
			got := res.Streams[0]
			t.Logf("resumed %+v, retried %q", got.Resumed, got.Retried)
			if got.Err != nil || got.Torn != "" || !strings.Contains(got.Retried+fmt.Sprint(got.Resumed), c.says) {
				t.Fatalf("%+v", got)
			}
			if !slices.Equal(stored(t, r, "S").Messages, want.Messages) {
				t.Error("the snapshot is not the stream")
			}
		})
	}
}

// TestKilledBackupLeavesNothingOnTheServer kills the command in the middle of a capture: no consumer and no subscription of it stay.
func TestKilledBackupLeavesNothingOnTheServer(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	r := rand.New(rand.NewPCG(1, 1))
	for range 30 {
		src.publish(t, "s.1", 100, func(int) []byte { return noise(r, 8192) })
	}
	before := everything(t, src)
	clients, subscriptions := src.Clients(), src.Subscriptions()
	reached := make(chan struct{})
	hold := make(chan struct{})
	k := (&link{chunk: atChunk(3, func(attempt int) {
		if attempt == 1 {
			close(reached)
			<-hold
		}
	})}).open(t, src.URL())
	c := command{repo: filepath.Join(t.TempDir(), "repo"), env: []string{"NATS_URL=" + k.url()}}
	c.run(t, 0, "init")
	cmd := c.prepare(t, "backup", "--all")
	must(t, cmd.Start())
	<-reached
	must(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait()
	close(hold)
	for deadline := time.Now().Add(time.Minute); src.Clients() > clients || src.Subscriptions() > subscriptions; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d clients with %d subscriptions, %d and %d before", src.Clients(), src.Subscriptions(), clients, subscriptions)
		}
	}
	after := everything(t, src)
	if len(after) != len(before) {
		t.Errorf("%d streams and consumers, %d before", len(after), len(before))
	}
	k.cut()
	c.env = []string{"NATS_URL=" + src.URL()}
	c.run(t, 0, "backup", "--all")
}
