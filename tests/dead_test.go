package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jsm.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/internal/natsd"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// graveyard is a ward whose streams' logs hold entries that are not alive.
type graveyard struct {
	ward
	src    *source
	repo   *repo.Repo
	logs   map[string]map[uint64][]byte // every entry that was ever stored of a stream
	groups map[string][]streamlog.Group
	dead   map[string]*streamlog.Dead
	newest blob.ID // root of the newest snapshot with dead entries; zero: there is none
}

// Groups of ORDERS, and what becomes of them. Where they end is given by large messages, whatever the repository's polynomial.
const (
	allDies   = 2 // every message of it is deleted
	spared    = 3 // none is, besides those that were gone when it was stored
	largeDies = 5 // it is one large message, which is deleted
)

// newGraveyard makes a repository with two snapshots whose streams have dead entries, and two of ordinary backups:
// ORDERS has dead ones in its first, middle and last group, within and among large messages, a group in which all are dead and one in which none
// is, runs of them at both ends, and a consumer that waits for acknowledgements; SHELVES has a part in which all are dead; KV_config had
// each of its keys overwritten; PURGED is empty; WHOLE has none that is dead.
func newGraveyard(t *testing.T) *graveyard {
	t.Helper()
	rp, dir := newRepo(t, repo.Options{PackSize: 1 << 20})
	g := &graveyard{ward: ward{dir: dir, images: map[string]image{}, bounds: true}, src: startServer(t, natsd.Options{}), repo: rp,
		logs: map[string]map[uint64][]byte{}, groups: map[string][]streamlog.Group{}, dead: map[string]*streamlog.Dead{}}
	r := rand.New(rand.NewPCG(31, 31))
	orders := g.src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	publish := func(small, large int) {
		g.src.publish(t, "orders.new", small, func(int) []byte { return letters(r, 1000) })
		g.src.publish(t, "orders.scan", large, func(int) []byte { return letters(r, 300<<10) })
	}
	for range 5 {
		publish(400, 1) // less than the least blob, so that each is one group
	}
	publish(0, 2)
	publish(400, 1) // 2008 to 2408
	publish(2400, 1)
	publish(191, 0) // 4810 to 5000
	shelves := g.src.create(t, jetstream.StreamConfig{Name: "SHELVES", Subjects: []string{"shelves"}, Storage: jetstream.MemoryStorage})
	g.src.publish(t, "shelves", 270, func(i int) []byte {
		if i/128 == 1 {
			return numbered(endsShelf)
		}
		return numbered(endsPart)
	})
	kv, err := g.src.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "config", History: 1})
	must(t, err)
	put := func() {
		for i := range 100 {
			_, err := kv.Put(t.Context(), fmt.Sprintf("key.%d", i), fmt.Append(nil, r.Uint64()))
			must(t, err)
		}
	}
	put()
	purged := g.src.create(t, jetstream.StreamConfig{Name: "PURGED", Subjects: []string{"purged"}})
	g.src.publish(t, "purged", 100, text)
	g.src.create(t, jetstream.StreamConfig{Name: "WHOLE", Subjects: []string{"whole"}})
	g.src.publish(t, "whole", 1000, text)
	remove(t, orders, 1, 100, 101, 900, 1300, 5000)
	fillPending(t, orders, 4994)
	g.bury(t)
	if n := len(g.groups["ORDERS"]); n < 10 || g.newest != (blob.ID{}) {
		t.Fatalf("ORDERS has %d groups", n)
	}

	put()
	doomed := g.groups["ORDERS"][allDies]
	for seq := doomed.First; seq <= doomed.Last; seq++ {
		if _, stored := g.logs["ORDERS"][seq]; stored {
			remove(t, orders, seq)
		}
	}
	for seq := uint64(2); seq < 40; seq++ {
		remove(t, orders, seq)
	}
	must(t, shelves.Purge(t.Context(), jetstream.WithPurgeSequence(140)))
	g.bury(t)
	if g.newest == (blob.ID{}) {
		t.Fatal("nothing is dead")
	}

	put()
	remove(t, orders, 40, 42, 44, 45, 46, 2006, 2408, 3000, 3001, 4900, 4997, 4998, 4999)
	must(t, purged.Purge(t.Context()))
	g.src.publish(t, "whole", 10, text)
	g.bury(t)
	if g.dead["ORDERS"].Count(g.groups["ORDERS"][spared].First, g.groups["ORDERS"][spared].Last) != 0 {
		t.Fatalf("a message of group %d of ORDERS is dead", spared)
	}
	for name := range g.logs {
		g.images[name] = lookAt(t, g.src, name)
	}
	return g
}

// bury makes an ordinary backup, and of that a snapshot whose streams have all entries that were ever stored, and the dead beside them.
func (g *graveyard) bury(t *testing.T) {
	t.Helper()
	backUp(t, g.src, g.repo, backup.Options{Selection: allStreams})
	rd, err := g.repo.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := g.repo.Snapshot(t.Context(), "latest", snapshot.Filter{})
	must(t, err)
	held, err := streamlog.Open(t.Context(), rd, sn.Tree)
	must(t, err)
	parents := map[string]*streamlog.Stream{}
	if g.newest != (blob.ID{}) {
		before, err := streamlog.Open(t.Context(), rd, g.newest)
		must(t, err)
		for _, s := range before.Streams {
			parents[s.Name] = s
		}
	}
	w, err := g.repo.NewWriter(t.Context(), nil)
	must(t, err)
	defer w.Abort()
	var nodes []*snapshot.Node
	some := false
	for _, s := range held.Streams {
		must(t, s.Err)
		m := g.writeLog(t, w, s.Name)
		if g.dead[s.Name].Len() > 0 {
			some = true
			m.Dead, err = streamlog.SaveDead(t.Context(), w, parents[s.Name], g.dead[s.Name])
			must(t, err)
		}
		head, err := s.Head(t.Context())
		must(t, err)
		node, _, err := streamlog.SaveStream(t.Context(), w, s.Name, s.Document, head, m)
		must(t, err)
		nodes = append(nodes, node)
	}
	if !some {
		return
	}
	at := sn.Time.Add(time.Millisecond)
	root, _, err := streamlog.SaveAccount(t.Context(), w, held.Account, nodes, at)
	must(t, err)
	_, err = w.Commit(t.Context(), &snapshot.Snapshot{Time: at, Tree: root, Paths: []string{"/$G"}, Hostname: "graveyard"})
	must(t, err)
	g.newest = root
}

// writeLog stores what a stream has and ever had, and finds out what of that is dead.
func (g *graveyard) writeLog(t *testing.T, w *repo.Writer, name string) *streamlog.Messages {
	t.Helper()
	alive := entriesOf(t, g.src, name)
	if g.logs[name] == nil {
		g.logs[name] = map[uint64][]byte{}
	}
	log := g.logs[name]
	maps.Copy(log, alive)
	seqs := slices.Sorted(maps.Keys(log))
	cut, err := chunker.New(g.repo.Polynomial())
	must(t, err)
	lists := &groupTap{Saver: w}
	m, err := streamlog.WriteMessages(t.Context(), lists, cut, func() (*archive.Message, error) {
		if len(seqs) == 0 {
			return nil, io.EOF
		}
		raw := log[seqs[0]]
		seqs = seqs[1:]
		return archive.NewMessageReader(bytes.NewReader(raw), archive.Limits{}).Next()
	})
	must(t, err)
	g.groups[name] = lists.groups
	g.dead[name] = streamlog.NewDead(func(yield func(streamlog.Run) bool) {
		for _, group := range lists.groups {
			var n, died uint64
			for seq := group.First; seq <= group.Last; seq++ {
				if _, stored := log[seq]; stored {
					n++
					if _, lives := alive[seq]; !lives {
						died++
					}
				}
			}
			if n != group.Messages {
				t.Errorf("%s: a group of %d messages, %d to %d, has %d", name, group.Messages, group.First, group.Last, n)
			}
			for seq := group.First; died > 0 && seq <= group.Last; seq++ {
				if _, lives := alive[seq]; !lives {
					yield(streamlog.Run{First: seq, Last: seq})
				}
			}
		}
	})
	return m
}

// entriesOf are the entries of a stream on a server, as other people's code takes them from there.
func entriesOf(t *testing.T, s *source, stream string) map[uint64][]byte {
	t.Helper()
	dir := t.TempDir()
	dump(t, s, stream, dir)
	f, err := os.Open(filepath.Join(dir, "stream.arc.s2"))
	must(t, err)
	defer f.Close()
	in := archive.NewReader(archive.Decompress(f, -1), archive.Limits{})
	out := map[uint64][]byte{}
	for {
		m, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		out[m.Seq] = bytes.Clone(m.Raw)
	}
}

// groupTap remembers the groups that are stored.
type groupTap struct {
	streamlog.Saver
	mu     sync.Mutex
	groups []streamlog.Group
}

func (g *groupTap) Save(ctx context.Context, kind blob.Kind, plain []byte) (blob.ID, repo.Saved, error) {
	var list struct{ Groups []streamlog.Group }
	if bytes.HasPrefix(plain, []byte(`{"format":`)) {
		if err := json.Unmarshal(plain, &list); err != nil {
			return blob.ID{}, repo.Saved{}, err
		}
		g.mu.Lock()
		g.groups = append(g.groups, list.Groups...)
		g.mu.Unlock()
	}
	return g.Saver.Save(ctx, kind, plain)
}

// span is what a loss of those groups of a stream would be: of their live messages.
func (g *graveyard) span(stream string, groups ...int) span {
	var s span
	for _, i := range groups {
		group := g.groups[stream][i]
		alive := group.Alive(g.dead[stream])
		if alive == 0 {
			continue
		}
		r := streamlog.Run{First: group.First, Last: group.Last}
		if alive != group.Messages {
			r, _ = g.dead[stream].Living(r.First, r.Last)
		}
		if s.First == 0 {
			s.First = r.First
		}
		s.Last, s.Messages = r.Last, s.Messages+alive
	}
	return s
}

// TestDead restores streams whose logs hold entries that are not alive, and looks at them in every other way.
func TestDead(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	g.src.Shutdown()
	c := command{repo: g.dir}
	for name, im := range g.images {
		if n, log := len(im.Messages), len(g.logs[name]); (n == log) != (name == "WHOLE") || n > log {
			t.Fatalf("%s has %d messages, its log %d", name, n, log)
		}
	}
	t.Run("check", func(t *testing.T) {
		c.run(t, 0, "check")
		c.run(t, 0, "check", "--read-data")
		restic(t, g.dir, "check", "--read-data")
	})
	t.Run("ls", func(t *testing.T) {
		seen := 0
		for line := range strings.Lines(c.run(t, 0, "ls", "latest", "--json")) {
			var s struct {
				Name     string
				Messages int
				First    json.Number `json:"first_seq"`
				Last     json.Number `json:"last_seq"`
			}
			must(t, json.Unmarshal([]byte(line), &s))
			if want, ok := g.images[s.Name]; ok {
				seen++
				if s.Messages != len(want.Messages) || any(s.First) != want.State["first_seq"] || any(s.Last) != want.State["last_seq"] {
					t.Errorf("%s; the server had %d messages and the state %v", line, len(want.Messages), want.State)
				}
			}
		}
		if seen != len(g.images) {
			t.Errorf("%d streams are listed, want %d", seen, len(g.images))
		}
	})
	t.Run("restore", func(t *testing.T) {
		dst := startServer(t, natsd.Options{})
		res := restoreInto(t, dst, g.repo, restore.Options{Selection: allStreams, Verify: true})
		for _, s := range res.Streams {
			want := g.images[s.Name]
			if s.Messages != uint64(len(want.Messages)) || !s.Verified {
				t.Errorf("%s: %d messages, verified %v", s.Name, s.Messages, s.Verified)
			}
			sameImage(t, want, lookAt(t, dst, s.Name))
		}
	})
	t.Run("command", func(t *testing.T) {
		dst := startServer(t, natsd.Options{})
		c.run(t, 0, "restore", "latest", "--verify", "--server", dst.URL())
		for name, want := range g.images {
			sameImage(t, want, lookAt(t, dst, name))
		}
	})
	t.Run("way out", func(t *testing.T) { g.leave(t) })
	t.Run("salvage", func(t *testing.T) { g.salvage(t) })
	t.Run("repair", func(t *testing.T) { g.repairs(t, g.injuries()) })
}

// leave recovers every stream without jetsam. What is dead comes back with the rest, as docs/without-jetsam.md says.
func (g *graveyard) leave(t *testing.T) {
	out := t.TempDir()
	restic(t, g.dir, "restore", "latest", "--target", out)
	dst := startServer(t, natsd.Options{})
	mgr, err := jsm.New(dst.nc)
	must(t, err)
	for name, want := range g.images {
		dir := filepath.Join(out, "$G", streamlog.EscapeName(name))
		joinArchive(t, dir)
		if _, _, err := mgr.RestoreSnapshotFromDirectory(t.Context(), name, dir); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "KV_config" {
			sameImage(t, want, lookAt(t, dst, name)) // its own history removes them again
			continue
		}
		got := entriesOf(t, dst, name)
		if !maps.EqualFunc(g.logs[name], got, bytes.Equal) {
			t.Errorf("%s: %d messages came back, the log has %d", name, len(got), len(g.logs[name]))
		}
		if last := lookAt(t, dst, name).State["last_seq"]; last != want.State["last_seq"] {
			t.Errorf("%s ends at %v, want %v", name, last, want.State["last_seq"])
		}
	}
}

// injuries are damages to streams with dead entries: what is lost is what was alive, and nothing dead is restored.
func (g *graveyard) injuries() []injury {
	rot := func(stream string, groups ...int) func(*testing.T, *patient) []span {
		return func(t *testing.T, p *patient) []span {
			_, b := p.groups(t, stream)
			for _, i := range groups {
				p.rot(t, data(b[i][len(b[i])-1]))
			}
			if s := g.span(stream, groups...); s.Messages > 0 {
				return []span{s}
			}
			return nil
		}
	}
	orders := g.images["ORDERS"]
	tail := len(g.groups["ORDERS"]) - 1
	return []injury{
		{name: "first group", stream: "ORDERS", when: inSending, hurt: rot("ORDERS", 0), quick: true},
		{name: "neighbours with a dead one between", stream: "ORDERS", when: inSending, hurt: rot("ORDERS", allDies-1, allDies, allDies+1), quick: true},
		{name: "group without life", stream: "ORDERS", when: harmless, hurt: rot("ORDERS", allDies), quick: true},
		{name: "dead large message", stream: "ORDERS", when: harmless, hurt: rot("ORDERS", largeDies)},
		{name: "group of a dead large message and others", stream: "ORDERS", when: inSending, hurt: rot("ORDERS", largeDies+2)},
		{name: "tail", stream: "ORDERS", when: inSending, hurt: rot("ORDERS", tail)},
		{name: "chunks.json", stream: "ORDERS", when: harmless, hurt: func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "ORDERS", "messages", "#0", "#0", "chunks.json").Content[0]))
			return nil
		}, quick: true},
		{name: "chunks.json of a part without life", stream: "SHELVES", when: harmless, hurt: func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "SHELVES", "messages", "#0", "#0", "chunks.json").Content[0]))
			p.rot(t, data(p.node(t, "SHELVES", "messages", "#0", "#1", "chunks.json").Content[0]))
			return nil
		}, quick: true},
		{name: "tree of a part without life", stream: "SHELVES", when: harmless, hurt: func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "SHELVES", "messages", "#0", "#0").Subtree))
			return nil
		}, quick: true},
		{name: "tree of a shelf", stream: "SHELVES", when: inPlan, hurt: func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "SHELVES", "messages", "#0").Subtree))
			return []span{{140, 256, 117}}
		}},
		{name: "tree of messages", stream: "ORDERS", when: inPlan, hurt: func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "ORDERS", "messages").Subtree))
			return []span{{41, 5000, uint64(len(orders.Messages))}}
		}},
		{name: "head and a blob", stream: "ORDERS", when: inPlan, hurt: func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "ORDERS", "head.arc.s2").Content[0]))
			return rot("ORDERS", 0)(t, p)
		}, head: true, texts: []string{"billing"}},
		{name: "dead", stream: "ORDERS", when: hopeless, hurt: func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "ORDERS", "dead").Content[0]))
			return nil
		}, texts: []string{"dead: ", "an earlier snapshot may hold it"}, quick: true},
	}
}

// salvage hurts streams with dead entries, and restores what is left.
func (g *graveyard) salvage(t *testing.T) {
	w := &g.ward
	for _, in := range g.injuries() {
		if !in.quick && !proof() {
			continue
		}
		t.Run(strings.ReplaceAll(in.name, " ", "-"), func(t *testing.T) {
			p := w.admit(t)
			lost := in.hurt(t, p)
			p.reopen(t)
			w.refuses(t, p, in, lost)
			if in.when != hopeless {
				w.salvages(t, p, in, lost)
				return
			}
			dst := startServer(t, natsd.Options{})
			out := command{repo: p.dir}.run(t, 3, "restore", "latest", "--skip-damaged", "--server", dst.URL(), in.stream, "WHOLE")
			if !strings.Contains(out, in.texts[1]) {
				t.Errorf("with --skip-damaged it does not say %q:\n%s", in.texts[1], out)
			}
			if _, err := dst.js.Stream(t.Context(), in.stream); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("stream %s is on the server: %v", in.stream, err)
			}
			sameImage(t, w.images["WHOLE"], lookAt(t, dst, "WHOLE"))
			if out := (command{repo: p.dir}).run(t, 1, "check", "--read-data"); !strings.Contains(out, "/$G/ORDERS/dead") {
				t.Errorf("check does not name the file:\n%s", out)
			}
		})
	}
}

// TestForgedDead restores streams whose dead do not agree with the rest.
func TestForgedDead(t *testing.T) {
	t.Parallel()
	runs := func(bounds ...uint64) (out []streamlog.Run) {
		for i := 0; i < len(bounds); i += 2 {
			out = append(out, streamlog.Run{First: bounds[i], Last: bounds[i+1]})
		}
		return out
	}
	for _, c := range []struct {
		name   string
		change func(*forgedStream)
		exit   int
		says   string
	}{
		{"honest", func(*forgedStream) {}, 0, ""},
		{"a message more is dead", func(f *forgedStream) { f.dead = runs(1, 4, 6, 8) }, 1, "its parts hold 2 messages, its document says 3"},
		{"more would be alive than is stored", func(f *forgedStream) {
			f.seqs, f.dead, f.messages = []uint64{5, 9}, runs(1, 4, 6, 6), 2
		}, 1, "of a group of 2 messages, 5 to 9, 4 would be alive"},
		{"a gap that is not dead", func(f *forgedStream) {
			f.state, f.dead, f.messages = setField(t, f.state, "messages", "4"), runs(1, 4, 8, 8), 4
			f.head = f.state
		}, 23, "gave 3 messages, the snapshot says 4"},
		{"a live message before the first sequence", func(f *forgedStream) { f.state = setField(t, f.state, "first_seq", "6"); f.head = f.state }, 1, "message 5 is not among those of its state"},
		{"a segment that is none", func(f *forgedStream) {
			f.change = func(p []byte) []byte { return bytes.Replace(p, []byte("JSDEAD01"), []byte("JSDEAD02"), 1) }
		}, 1, "they would come back"},
		{"a segment of another stream", func(f *forgedStream) {
			f.change = func(p []byte) []byte {
				if bytes.HasPrefix(p, []byte("JSDEAD01")) {
					return streamlog.EncodeSegment(streamlog.NewDead(slices.Values(runs(6, 6))))
				}
				return p
			}
		}, 1, "it holds 1 sequences, backup.json says 6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := honest()
			f.seqs, f.dead = []uint64{5, 7, 8, 9}, runs(1, 4, 6, 6, 8, 8)
			c.change(&f)
			dst := startServer(t, natsd.Options{})
			dir := forge(t, f)
			out := (command{repo: dir}).run(t, c.exit, "restore", "--server", dst.URL())
			if !strings.Contains(out, c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, out)
			}
			if c.exit != 0 {
				if _, err := dst.js.Stream(t.Context(), "S"); !errors.Is(err, jetstream.ErrStreamNotFound) {
					t.Errorf("the stream is on the server: %v", err)
				}
				return
			}
			if got := slices.Sorted(maps.Keys(entriesOf(t, dst, "S"))); !slices.Equal(got, []uint64{5, 7, 9}) {
				t.Errorf("messages %d were restored", got)
			}
		})
	}
}
