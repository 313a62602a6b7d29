package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/internal/natsd"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"

	conn "jetsam/jetstream"
)

// sized is a size for every day, or the full one.
func sized(short, full int) int {
	if proof() {
		return full
	}
	return short
}

// small are backups whose captures stand still in the middle of a stream, when the link holds a chunk: the server reads only a few MiB ahead.
var small = backup.Options{Selection: allStreams, ChunkSize: 64 << 10, WindowSize: 64 << 10, IdleTimeout: time.Minute, Concurrency: 1}

// fillNoise publishes n messages of noise, 4 KiB each, to the subjects prefix.0 to prefix.9.
func (s *source) fillNoise(t testing.TB, prefix string, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), 5))
	for i := range n {
		_, err := s.js.PublishAsync(prefix+"."+strconv.Itoa(i%10), noise(r, 4096))
		must(t, err)
		if i%500 == 499 {
			s.flush(t)
		}
	}
	s.flush(t)
}

// connectTo connects to the server at an address.
func connectTo(t testing.TB, address string) *conn.Conn {
	t.Helper()
	c, err := conn.Connect(t.Context(), conn.Config{Servers: address})
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// through connects to a server over a link.
func through(t testing.TB, k *link) *conn.Conn {
	t.Helper()
	return connectTo(t, k.url())
}

// atChunk calls act when chunk k of a snapshot passes, with how often that happened.
func atChunk(k int, act func(attempt int)) func(string, int) {
	attempt := 0
	return func(_ string, index int) {
		if index == k {
			attempt++
			act(attempt)
		}
	}
}

// sequences are the sequences of an image's messages.
func (im image) sequences(t testing.TB) []uint64 {
	t.Helper()
	var out []uint64
	for _, m := range im.Messages {
		first, _, _ := strings.Cut(m, " ")
		seq, err := strconv.ParseUint(first, 10, 64)
		must(t, err)
		out = append(out, seq)
	}
	return out
}

// restoredCopy restores the newest snapshot into a server of its own and returns the images of its streams, as other people's code sees them.
func restoredCopy(t testing.TB, r *repo.Repo, o natsd.Options, streams ...string) map[string]image {
	t.Helper()
	dst := startServer(t, o)
	defer dst.Shutdown()
	restoreInto(t, dst, r, restore.Options{Selection: streamlog.Selection{Names: streams}, Verify: true})
	out := map[string]image{}
	for _, name := range streams {
		out[name] = lookAt(t, dst, name)
	}
	return out
}

// agrees wants a snapshot to be true to a stream that was read while messages were taken away: it holds nothing that had not been there
// before, and everything that is there still, up to where the capture ended.
func agrees(t testing.TB, before, after, snap image) {
	t.Helper()
	was := map[string]bool{}
	for _, m := range before.Messages {
		was[m] = true
	}
	has := map[string]bool{}
	for _, m := range snap.Messages {
		has[m] = true
		if !was[m] {
			t.Fatalf("the snapshot holds a message that the stream had not: %.80s", m)
		}
	}
	for _, m := range after.Messages {
		if was[m] && !has[m] {
			t.Fatalf("the stream has a message that the snapshot lacks: %.80s", m)
		}
	}
}

// document is backup.json of a stream in the newest snapshot.
func document(t testing.TB, r *repo.Repo, stream string) *streamlog.Document {
	t.Helper()
	_, streams := newestStreams(t, r)
	for _, s := range streams {
		if s.Name == stream {
			return s.Document
		}
	}
	t.Fatalf("stream %s is not in the newest snapshot", stream)
	return nil
}

// noSnapshot wants a repository without snapshots.
func noSnapshot(t testing.TB, r *repo.Repo) {
	t.Helper()
	for sn, err := range r.Snapshots(t.Context()) {
		t.Errorf("a snapshot was saved: %v, %v", sn, err)
	}
}

// purges are ways to take messages out of the middle of what is being read.
var purges = map[string]func(t testing.TB, st jetstream.Stream){
	"all": func(t testing.TB, st jetstream.Stream) { must(t, st.Purge(t.Context())) },
	"subject": func(t testing.TB, st jetstream.Stream) {
		must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("s.3")))
	},
	"keep": func(t testing.TB, st jetstream.Stream) { must(t, st.Purge(t.Context(), jetstream.WithPurgeKeep(100))) },
}

// TestPurgeInMidCapture purges a stream when part of it has come. Once: the stream is read again, and the snapshot is what is left of it.
// In each attempt: what came is kept and marked, in the snapshot too, and the run does not end well.
func TestPurgeInMidCapture(t *testing.T) {
	n := sized(2000, 20_000)
	for _, how := range sortedKeys(purges) {
		for times := 1; times <= 2; times++ {
			t.Run(fmt.Sprintf("%s %d", how, times), func(t *testing.T) {
				src := startServer(t, natsd.Options{})
				st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
				src.fillNoise(t, "s", n)
				before := lookAt(t, src, "S")
				attempt, at := 0, 20
				k := &link{}
				k.chunk = func(_ string, index int) {
					switch {
					case index == at:
						if attempt++; attempt <= times {
							purges[how](t, st)
						}
					case index == 0 && attempt == 1 && times == 2: // so that the second attempt finds as much to read, and is purged in the middle of that
						at += int(src.messages(t, "S")) * 4300 / small.ChunkSize
						src.fillNoise(t, "s", n)
						before.Messages = append(before.Messages, lookAt(t, src, "S").Messages...)
					}
				}
				r, dir := newRepo(t, repo.Options{})
				res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, small)
				must(t, err)
				got := res.Streams[0]
				snap := restoredCopy(t, r, natsd.Options{}, "S")["S"]
				after := lookAt(t, src, "S")
				agrees(t, before, after, snap)
				doc := document(t, r, "S").Jetsam
				c := command{repo: dir}
				listed := c.run(t, 0, "ls", "latest") + c.run(t, 0, "ls", "latest", "--json")
				t.Logf("%d messages in the snapshot, %d in the stream: torn %q, retried %q", len(snap.Messages), len(after.Messages), got.Torn, got.Retried)
				if !strings.Contains(got.Retried, "purged") {
					t.Errorf("it is not said why the stream was read twice: %q", got.Retried)
				}
				if times == 1 {
					if got.Torn != "" || len(snap.Messages) != len(after.Messages) || doc.Torn != "" {
						t.Errorf("after one purge: %d messages in the snapshot, %d in the stream, torn %q", len(snap.Messages), len(after.Messages), got.Torn)
					}
					return
				}
				if got.Torn == "" || doc.Torn != got.Torn || doc.Removed == 0 || doc.Messages != uint64(len(snap.Messages)) {
					t.Errorf("after a purge in each attempt: %+v, in the snapshot %+v", got, doc)
				}
				if len(res.Failed()) != 1 || strings.Count(listed, "torn") < 2 {
					t.Errorf("torn, and not said: %d failed, ls says\n%s", len(res.Failed()), listed)
				}
			})
		}
	}
}

// stored is a stream's archive in the newest snapshot, put together as a server would send it and read by the server's own package.
func stored(t testing.TB, r *repo.Repo, stream string) image {
	t.Helper()
	rd, streams := newestStreams(t, r)
	for _, s := range streams {
		if s.Name == stream {
			return read(t, rd, s)
		}
	}
	t.Fatalf("stream %s is not in the newest snapshot", stream)
	return image{}
}

func read(t testing.TB, rd *repo.Reader, s *streamlog.Stream) image {
	t.Helper()
	head, err := s.Head(t.Context())
	must(t, err)
	all := head.Append(nil)
	var im image
	for part, err := range s.Parts(t.Context()) {
		must(t, err)
		for _, id := range part.Blobs {
			framed, err := rd.Load(t.Context(), blob.Handle{Kind: blob.Data, ID: id}, nil)
			must(t, err)
			plain, err := io.ReadAll(s2.NewReader(bytes.NewReader(framed)))
			must(t, err)
			all = append(all, plain...)
		}
	}
	im.readArchive(t, io.MultiReader(bytes.NewReader(all), bytes.NewReader(make([]byte, 5))))
	return im
}

// stateOf reads a stream's state.
func stateOf(t testing.TB, raw json.RawMessage) archive.State {
	t.Helper()
	s, err := archive.ParseState(raw)
	must(t, err)
	return s
}
