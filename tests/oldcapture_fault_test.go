package tests

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/chance"
	"jetsam/internal/doctest"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/storage"
)

// unlike are the versions whose ways to send snapshots differ; with JETSAM_PROOF, all there are.
func unlike(servers map[string]string) []string {
	all := sortedKeys(servers)
	if proof() {
		return all
	}
	return slices.DeleteFunc(all, func(v string) bool { return v == "2.11.17" || v == "2.12.15" })
}

// byAge are the versions, the oldest first.
func byAge(servers map[string]string) []string {
	age := func(version string) (v [3]int) {
		_, _ = fmt.Sscanf(version, "%d.%d.%d", &v[0], &v[1], &v[2]) // which is how they were found
		return v
	}
	return slices.SortedFunc(maps.Keys(servers), func(a, b string) int { x, y := age(a), age(b); return slices.Compare(x[:], y[:]) })
}

// TestUpgradeOfOldServers: increments go on when a newer server is started on the store of an older one, with JETSAM_PROOF one release after the other.
func TestUpgradeOfOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	seed := chance.Seed(t)
	versions := byAge(servers)
	for i, version := range versions {
		if !proof() && version != "2.10.29" && version != "2.14.9" {
			continue
		}
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 0))
			dir := t.TempDir()
			r, _ := newRepo(t, repo.Options{})
			step := func(s *source, first bool) {
				t.Helper()
				stir(t, s, rnd)
				want := saidBy(t, s, names(oldStreams())...)
				for name, x := range backUpOld(t, s, r, backUpOptions) {
					whole := x.Parent == (storage.ID{}) && want.messages[name] != "" && !(strings.HasPrefix(version, "2.9") && miscounts.MatchString(x.Whole))
					if !first && whole || x.Recreated != "" {
						t.Errorf("stream %s: recreated %q, read whole %q", name, x.Recreated, x.Whole)
					}
				}
				sameAsSaid(t, r, want)
			}
			s, stop := runOld(t, servers[version], dir)
			for _, f := range oldStreams() {
				f.fill(t, s)
			}
			step(s, true)
			stop()
			for _, next := range versions[i+1:] {
				if !proof() {
					break
				}
				s, stop = runOld(t, servers[next], dir)
				step(s, false)
				stop()
			}
			step(startServer(t, natsd.Options{StoreDir: dir, Name: "old"}), false)
		})
	}
}

// TestBusyOldServers backs up a stream that is written to, and trimmed, all the time. Each snapshot is the stream as it was: nothing in it that was not
// published, and nothing missing that is there still.
func TestBusyOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	for _, version := range sortedKeys(servers) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s, _ := runOld(t, servers[version], t.TempDir())
			s.create(t, jetstream.StreamConfig{Name: "BUSY", Subjects: []string{"busy.*"}, MaxMsgs: 600, MaxMsgsPerSubject: 25})
			ctx, cancel := context.WithCancel(t.Context())
			var publishing sync.WaitGroup
			var mu sync.Mutex
			published := map[uint64]string{}
			publishing.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					p := strings.Repeat(string(text(i)), 1+i%120)
					if ack, err := s.js.Publish(ctx, fmt.Sprintf("busy.%d", i*7%31), []byte(p)); err == nil {
						mu.Lock()
						published[ack.Sequence] = p
						mu.Unlock()
					}
				}
			})
			defer publishing.Wait()
			defer cancel()
			for s.messages(t, "BUSY") < 500 {
				time.Sleep(time.Millisecond)
			}
			r, _ := newRepo(t, repo.Options{})
			for round := range sized(3, 20) {
				o := backUpOptions
				if round%3 < 2 {
					o.Mode = backup.ModeFull
				}
				got := backUpOld(t, s, r, o)["BUSY"]
				if got.Torn != "" || got.Instead != "" || got.Messages < 400 {
					t.Errorf("%d messages by %s (%s), torn: %s", got.Messages, got.Way, got.Instead, got.Torn)
				}
				still := asked(t, s, "BUSY")
				lines := strings.Join(restoredCopy(t, r, natsd.Options{}, "BUSY")["BUSY"].Messages, "\n") + "\n"
				mu.Lock()
				for line := range strings.Lines(lines) {
					var seq uint64
					fmt.Sscan(line, &seq)
					if want, known := published[seq]; known && !strings.HasSuffix(line, fmt.Sprintf(" %q\n", want)) {
						t.Fatalf("message %d is %.200s", seq, line)
					}
				}
				mu.Unlock()
				for line := range strings.Lines(still) {
					var seq uint64
					fmt.Sscan(line, &seq)
					if seq <= got.LastSeq && !strings.Contains(lines, line) {
						t.Fatalf("message %d is missing in a snapshot up to %d", seq, got.LastSeq)
					}
				}
			}
		})
	}
}

// changed stands between a client and an older server: it answers as that does, sends the snapshots that change makes of its own, and has no room for
// consumers.
func changed(t testing.TB, old *source, change func(dir string)) string {
	t.Helper()
	h := newHostile(t)
	_, err := h.nc.Subscribe("$JS.API.>", func(m *nats.Msg) {
		stream, snapshot := strings.CutPrefix(m.Subject, "$JS.API.STREAM.SNAPSHOT.")
		switch {
		case snapshot:
			var request struct {
				Deliver string `json:"deliver_subject"`
			}
			if err := json.Unmarshal(m.Data, &request); err != nil {
				t.Error(err)
			}
			dir := t.TempDir()
			dump(t, old, stream, dir)
			change(dir)
			doc, err := os.ReadFile(filepath.Join(dir, "backup.json"))
			must(t, err)
			data, err := os.ReadFile(filepath.Join(dir, "stream.tar.s2"))
			must(t, err)
			_ = m.Respond(doc)
			h.chunk(request.Deliver, 1, data)
			h.end(request.Deliver, "204", "")
		case strings.HasPrefix(m.Subject, "$JS.API.CONSUMER.CREATE."):
			_ = m.Respond([]byte(`{"error":{"code":400,"err_code":10026,"description":"maximum consumers limit reached"}}`))
		default:
			if answer, err := old.nc.Request(m.Subject, m.Data, 5*time.Second); err == nil {
				_ = m.Respond(answer.Data)
			}
		}
	})
	must(t, err)
	must(t, h.nc.Flush())
	return h.url
}

// TestBadSnapshotsOfOldServers: a snapshot that an older server could not make, or that was changed or cut on the way, is no part of a backup. The messages
// are read one by one.
func TestBadSnapshotsOfOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	s, _ := runOld(t, servers["2.14.9"], t.TempDir())
	for _, f := range oldStreams() {
		if f.stream == "DELETES" {
			f.fill(t, s)
		}
	}
	want := saidBy(t, s, "DELETES")
	file := func(name string, change func([]byte) []byte) func(string) {
		return func(dir string) {
			editTar(t, dir, func(h *tar.Header, data []byte) []byte {
				if h.Name == name {
					return change(bytes.Clone(data))
				}
				return data
			})
		}
	}
	for name, c := range map[string]struct {
		change func(dir string)
		says   string // why it is not taken; empty: it is
	}{
		"as it is": {func(string) {}, ""},
		"the server failed": {func(dir string) {
			editTar(t, dir, func(h *tar.Header, data []byte) []byte {
				if h.Name == "msgs/index.db" {
					h.Name = "errors.txt"
					return []byte("could not decompress a block")
				}
				return data
			})
		}, "could not decompress a block"},
		"cut short": {func(dir string) {
			path := filepath.Join(dir, "stream.tar.s2")
			p, err := os.ReadFile(path)
			must(t, err)
			plain, err := io.ReadAll(s2.NewReader(bytes.NewReader(p)))
			must(t, err)
			must(t, os.WriteFile(path, plainly(t, plain[:len(plain)-600]), 0o600))
		}, "cut short"},
		"a payload was changed":  {file("msgs/1.blk", func(p []byte) []byte { p[40] ^= 1; return p }), "the checksum of message 1 does not match"},
		"the index was changed":  {file("msgs/index.db", func(p []byte) []byte { p[9] ^= 1; return p }), "checksum does not match"},
		"messages are not there": {file("msgs/1.blk", func(p []byte) []byte { return p[:0] }), "0 messages came of the 189 that should have"},
		"without index":          {file("msgs/index.db", func([]byte) []byte { return nil }), ""},
		"neither index nor messages": {func(dir string) {
			file("msgs/index.db", func([]byte) []byte { return nil })(dir)
			file("msgs/1.blk", func([]byte) []byte { return nil })(dir)
		}, "did not come"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRepo(t, repo.Options{})
			res, err := backup.Run(t.Context(), connectTo(t, changed(t, s, c.change)), r, backUpOptions)
			must(t, err)
			got := res.Streams[0]
			way := backup.WaySnapshot
			if c.says != "" {
				way = backup.WayGet
			}
			if got.Err != nil || got.Torn != "" || got.Way != way || !strings.Contains(got.Instead, c.says) || (c.says == "") != (got.Instead == "") {
				t.Errorf("%v, torn %q, by %s: %s", got.Err, got.Torn, got.Way, got.Instead)
			}
			sameAsSaid(t, r, want)
		})
	}
}

// TestSnapshotsOfOthersOnOldServers: while somebody else's snapshot of a stream is being taken, a backup waits, and in the end reads the messages.
func TestSnapshotsOfOthersOnOldServers(t *testing.T) {
	t.Parallel()
	s, _ := runOld(t, oldServers(t)["2.12.15"], t.TempDir())
	s.create(t, jetstream.StreamConfig{Name: "LARGE", Subjects: []string{"large"}})
	rnd := rand.New(rand.NewPCG(1, 2))
	s.publish(t, "large", 24, func(int) []byte { return noise(rnd, 1<<19) }) // more than a window
	begin := func() {
		t.Helper()
		m, err := s.nc.Request("$JS.API.STREAM.SNAPSHOT.LARGE", fmt.Appendf(nil, `{"deliver_subject":%q}`, "others"), 5*time.Second)
		if err != nil || !bytes.Contains(m.Data, []byte(`"state"`)) {
			t.Fatalf("%s, %v", m.Data, err)
		}
	}
	_, err := s.nc.SubscribeSync("others") // nobody answers
	must(t, err)
	begin()
	r, _ := newRepo(t, repo.Options{})
	hasty := backUpOptions
	hasty.Patience = time.Millisecond
	if got := backUpOld(t, s, r, hasty)["LARGE"]; got.Way != backup.WayConsumer || !strings.Contains(got.Instead, "somebody else has a snapshot of it taken") {
		t.Errorf("by %s: %s", got.Way, got.Instead)
	}
	full := backUpOptions
	full.Mode = backup.ModeFull
	if got := backUpOld(t, s, r, full)["LARGE"]; got.Way != backup.WaySnapshot {
		t.Errorf("by %s: %s", got.Way, got.Instead)
	}
	sameAsSaid(t, r, saidBy(t, s, "LARGE"))
}

// TestBrokenLinesToOldServers: a snapshot that breaks off goes on, message by message, above what had come.
func TestBrokenLinesToOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	for _, version := range unlike(servers) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s, _ := runOld(t, servers[version], t.TempDir())
			st := s.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
			s.fillNoise(t, "s", 1500)
			for seq := uint64(5); seq < 1500; seq += 97 {
				must(t, st.DeleteMsg(t.Context(), seq))
			}
			k := &link{reset: 4 << 20}
			r, _ := newRepo(t, repo.Options{})
			res, err := backup.Run(t.Context(), through(t, k.open(t, s.nc.ConnectedUrl())), r, small)
			must(t, err)
			if got := res.Streams[0]; got.Err != nil || got.Torn != "" || got.Way != backup.WaySnapshot || len(got.Resumed) == 0 || got.Resumed[0].After == 0 {
				t.Errorf("%v, torn %q, resumed %v", got.Err, got.Torn, got.Resumed)
			}
			sameAsSaid(t, r, saidBy(t, s, "S"))
		})
	}
}

// TestPermissionsOnOldServers: what the page on getting started lets the user for backups do is what older servers need.
func TestPermissionsOnOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	for _, version := range sortedKeys(servers) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s, _ := runOld(t, servers[version], t.TempDir(), "", doctest.Example(t, "docs/getting-started.md", "permissions"), "app:app-secret@")
			for _, f := range oldKinds()[1:] {
				f.fill(t, s)
			}
			c, err := conn.Connect(t.Context(), conn.Config{Servers: s.nc.ConnectedUrl(), User: "backup", Password: secret.New("backup-secret"), InboxPrefix: "_INBOX_backup"})
			must(t, err)
			t.Cleanup(c.Close)
			r, _ := newRepo(t, repo.Options{})
			for range 2 {
				o := backUpOptions
				o.Host = "old"
				res, err := backup.Run(t.Context(), c, r, o)
				must(t, err)
				if failed := res.Failed(); len(failed) > 0 || slices.ContainsFunc(res.Streams, func(x backup.StreamResult) bool { return x.Way == "" }) {
					t.Errorf("%+v", failed)
				}
				s.publish(t, "rm", 3, text)
				s.publish(t, "mq", 3, text)
			}
			sameAsSaid(t, r, saidBy(t, s, "INTEREST"))
		})
	}
}

// TestStalledReadersOfOldServers: a reader that takes nothing for longer than an older server has patience gets the whole snapshot.
func TestStalledReadersOfOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	for _, version := range unlike(servers) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s, _ := runOld(t, servers[version], t.TempDir())
			s.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
			s.fillNoise(t, "s", 4000) // twice a window
			snap, err := connectTo(t, s.nc.ConnectedUrl()).Snapshot(t.Context(), "S", conn.SnapshotOptions{})
			must(t, err)
			t.Cleanup(func() { snap.Close() })
			_, err = io.CopyN(io.Discard, snap, 1<<20)
			must(t, err)
			time.Sleep(5 * time.Second)
			n, err := io.Copy(io.Discard, snap)
			if err != nil || n < 14<<20 {
				t.Errorf("%d bytes more, %v", n, err)
			}
		})
	}
}

// startOldCluster starts three older servers that are one, and waits until they can have a stream. Servers of 2.10.29 now and then know each other and
// have a leader, and yet have no peers for a stream, for as long as one waits: then others are started.
func startOldCluster(t testing.TB, program string) []*source {
	t.Helper()
	var err error
	for range 4 {
		servers, processes := newOldCluster(t, program)
		for range 300 { // elections take their time, and so do servers to know each other
			_, err = servers[0].js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: 3})
			if err == nil {
				must(t, servers[0].js.DeleteStream(t.Context(), "PROBE"))
				return servers
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("a cluster that comes to nothing: %v", err)
		for _, p := range processes {
			p.kill()
		}
	}
	t.Fatal(err)
	return nil
}

func newOldCluster(t testing.TB, program string) (servers []*source, processes []*serverProcess) {
	t.Helper()
	var client, route []string
	for _, port := range testserver.FreePorts(t, 6) {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		client, route = append(client, address), append(route, "nats://"+address)
	}
	client, route = client[:3], route[3:]
	for i, address := range client {
		dir := t.TempDir()
		file := filepath.Join(dir, "nats.conf")
		must(t, os.WriteFile(file, fmt.Appendf(nil, "listen: %q\nserver_name: n%d\njetstream { store_dir: %q, max_file: 1GB, max_mem: 64MB }\ncluster { name: OLD, listen: %q, routes: [%s] }\n",
			address, i, dir, strings.TrimPrefix(route[i], "nats://"), strings.Join(route, ", ")), 0o600))
		cmd := exec.Command(program, "-c", file)
		must(t, cmd.Start())
		p := &serverProcess{cmd: cmd, url: "nats://" + address}
		t.Cleanup(p.kill)
		servers, processes = append(servers, p.client(t)), append(processes, p)
	}
	return servers, processes
}

// TestClustersOfOldServers backs up streams with replicas. Where a snapshot would harm them, their messages are read, unless that is insisted on.
func TestClustersOfOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	for version, frozen := range map[string]bool{"2.10.29": true, "2.12.15": false} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := startOldCluster(t, servers[version])
			st := s[0].create(t, jetstream.StreamConfig{Name: "R3", Subjects: []string{"r3"}, Replicas: 3})
			s[0].create(t, jetstream.StreamConfig{Name: "R1", Subjects: []string{"r1"}})
			s[0].publish(t, "r3", 200, text)
			s[0].publish(t, "r1", 30, text)
			remove(t, st, 7, 8, 90)
			for name, config := range map[string]jetstream.ConsumerConfig{"all": {}, "one": {Replicas: 1}, "light": {MemoryStorage: true}} {
				config.Durable, config.AckPolicy, config.AckWait = name, jetstream.AckExplicitPolicy, time.Hour
				var c jetstream.Consumer
				eventually(t, func(ctx context.Context) (err error) { // a leader may just have gone
					c, err = st.CreateOrUpdateConsumer(ctx, config)
					return err
				})
				for i, m := range fetch(t, c, 20) {
					if i < 5 || i == 9 {
						must(t, m.DoubleAck(t.Context()))
					}
				}
			}
			want := saidBy(t, s[0], "R1", "R3")
			for i, unsafe := range []bool{false, false, true} { // over each of the servers
				r, _ := newRepo(t, repo.Options{})
				o := backUpOptions
				o.Unsafe = unsafe
				got := backUpOld(t, s[i], r, o)
				byMessages := frozen && !unsafe
				if x := got["R3"]; (x.Way == backup.WayConsumer) != byMessages || strings.Contains(x.Instead, "replicas different from each other") != byMessages {
					t.Errorf("by %s: %s", x.Way, x.Instead)
				}
				if x := got["R1"]; x.Way != backup.WaySnapshot {
					t.Errorf("by %s: %s", x.Way, x.Instead)
				}
				t.Log(fidelities(t, r))
				sameAsSaidAt(t, r, restore.Target{Replicas: 1}, want)
			}
		})
	}
}
