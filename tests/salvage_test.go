package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/index"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/streamlog"
)

// Numbers of payloads whose blobs' IDs begin with ten zero bits, which ends a part, and with sixteen, which ends a shelf too.
const (
	endsPart  = 398
	endsShelf = 4743
)

// endsGroup is the length of a payload that has a blob of its own, whatever the repository's polynomial: the blob before it ends where it begins.
const endsGroup = 128 << 10

// numbered is a payload long enough for a blob of its own.
func numbered(n int) []byte {
	return append(fmt.Appendf(nil, "%d ", n), bytes.Repeat([]byte("x"), 128<<10)...)
}

// letters are printable bytes that hardly compress.
func letters(r *rand.Rand, n int) []byte {
	p := noise(r, n)
	for i := range p {
		p[i] = 48 + p[i]&63
	}
	return p
}

// ward is a repository that tests hurt: copies of it are damaged, and the streams of its newest snapshot are known from their server.
type ward struct {
	dir    string // never damaged
	images map[string]image
	bounds bool // there are dead messages among others, so that times of what is lost are no more than bounds
}

// newWard backs up three streams: ORDERS of several groups, with gaps and consumers that wait for acknowledgements all over it;
// SHELVES of several shelves and parts; WHOLE, which nobody hurts.
func newWard(t *testing.T) *ward {
	t.Helper()
	src := startServer(t, natsd.Options{})
	r := rand.New(rand.NewPCG(11, 11))
	orders := src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	src.publish(t, "orders.new", 2500, func(int) []byte { return letters(r, 1000) })
	src.publish(t, "orders.scan", 3, func(int) []byte { return letters(r, 300<<10) })
	src.publish(t, "orders.new", 2500, func(int) []byte { return letters(r, 1000) })
	remove(t, orders, 1, 2, 1000, 1001, 2400, 5003)
	fillPending(t, orders, 4997)
	src.create(t, jetstream.StreamConfig{Name: "SHELVES", Subjects: []string{"shelves"}, Storage: jetstream.MemoryStorage})
	src.publish(t, "shelves", 400, func(i int) []byte {
		if i/128 == 1 {
			return numbered(endsShelf)
		}
		return numbered(endsPart)
	})
	src.create(t, jetstream.StreamConfig{Name: "WHOLE", Subjects: []string{"whole"}})
	src.publish(t, "whole", 1000, text)

	rp, dir := newRepo(t, repo.Options{PackSize: 1 << 20})
	backUp(t, src, rp, backup.Options{Selection: allStreams})
	w := &ward{dir: dir, images: map[string]image{}}
	for _, name := range []string{"ORDERS", "SHELVES", "WHOLE"} {
		w.images[name] = lookAt(t, src, name)
	}
	src.Shutdown()
	return w
}

// fillPending leaves a consumer with every third message up to the last acknowledged, and the others waiting.
func fillPending(t *testing.T, st jetstream.Stream, n int) {
	t.Helper()
	c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, MaxAckPending: -1, FilterSubject: "orders.>"})
	must(t, err)
	for got := 0; got < n; {
		msgs, err := c.FetchNoWait(2000)
		must(t, err)
		for m := range msgs.Messages() {
			if got++; got%3 == 0 {
				must(t, m.Ack())
			}
		}
		must(t, msgs.Error())
	}
	info, err := c.Info(t.Context())
	must(t, err)
	for deadline := time.Now().Add(time.Minute); info.NumAckPending > n-n/3 && time.Now().Before(deadline); {
		info, err = c.Info(t.Context())
		must(t, err)
	}
}

// patient is a copy of the ward's repository.
type patient struct {
	dir  string
	repo *repo.Repo
	rd   *repo.Reader // loaded before it was hurt
	root blob.ID
}

func (w *ward) admit(t *testing.T) *patient {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	must(t, os.CopyFS(dir, os.DirFS(w.dir)))
	return admitted(t, dir, "latest")
}

// admitted is the repository in dir, of which one snapshot is looked after: an ID or latest.
func admitted(t *testing.T, dir, name string) *patient {
	t.Helper()
	p := &patient{dir: dir}
	p.reopen(t)
	var err error
	p.rd, err = p.repo.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := p.repo.Snapshot(t.Context(), name, snapshot.Filter{})
	must(t, err)
	p.root = sn.Tree
	return p
}

func (p *patient) reopen(t *testing.T) {
	t.Helper()
	be, err := local.Open(p.dir)
	must(t, err)
	t.Cleanup(func() { be.Close() })
	p.repo, err = repo.Open(t.Context(), be, secret.New(password), repo.Options{PackSize: 1 << 20, KDF: cheapKDF})
	must(t, err)
}

// node is the node at the end of a path below the root. A name of digits may be written as the number of the node in its directory: "#0".
func (p *patient) node(t *testing.T, path ...string) *snapshot.Node {
	t.Helper()
	n := &snapshot.Node{Subtree: p.root}
	for _, name := range append([]string{"$G"}, path...) {
		tree, err := p.rd.LoadTree(t.Context(), n.Subtree)
		must(t, err)
		var at int
		if _, err := fmt.Sscanf(name, "#%d", &at); err == nil {
			n = tree.Nodes[at]
		} else if n = tree.Find(name); n == nil {
			t.Fatalf("no %s in %q", name, path)
		}
	}
	return n
}

// copies are where the copies of a blob lie.
func (p *patient) copies(t *testing.T, h blob.Handle) []index.Location {
	t.Helper()
	var out []index.Location
	for other, at := range p.rd.All() {
		if other == h {
			out = append(out, at)
		}
	}
	if len(out) == 0 {
		t.Fatalf("no index lists %v", h)
	}
	return out
}

// rot flips a bit of every copy of a blob.
func (p *patient) rot(t *testing.T, h blob.Handle) {
	t.Helper()
	for _, at := range p.copies(t, h) {
		flip(t, p.dir, storage.File{Kind: storage.Pack, ID: at.Pack}, int64(at.Offset)+int64(at.Length)/2)
	}
}

func data(id blob.ID) blob.Handle { return blob.Handle{Kind: blob.Data, ID: id} }
func tree(id blob.ID) blob.Handle { return blob.Handle{Kind: blob.Tree, ID: id} }

func (p *patient) pack(id storage.ID) string {
	return filepath.Join(p.dir, filepath.FromSlash(storage.File{Kind: storage.Pack, ID: id}.Path()))
}

// groups are the groups of a stream with the blobs of each, from the first to the last.
func (p *patient) groups(t *testing.T, stream string) (groups []streamlog.Group, blobs [][]blob.ID) {
	t.Helper()
	held, err := streamlog.Open(t.Context(), p.rd, p.root)
	must(t, err)
	for _, s := range held.Streams {
		if s.Name != stream {
			continue
		}
		for part, err := range s.Parts(t.Context()) {
			must(t, err)
			list, err := part.Groups(t.Context())
			must(t, err)
			ids := part.Blobs
			for _, g := range list {
				blobs, ids = append(blobs, ids[:len(g.Blobs)]), ids[len(g.Blobs):]
			}
			groups = append(groups, list...)
		}
	}
	return groups, blobs
}

// span is a run of lost messages: 0 messages where their number is lost too.
type span struct{ First, Last, Messages uint64 }

func spansOf(d *restore.DamageError) []span {
	var out []span
	if d != nil {
		for _, l := range d.Lost {
			out = append(out, span{l.First, l.Last, l.Messages})
		}
	}
	return out
}

// spanOf is the loss of those groups, which stand one behind the other.
func spanOf(groups ...streamlog.Group) span {
	s := span{groups[0].First, groups[len(groups)-1].Last, 0}
	for _, g := range groups {
		s.Messages += g.Messages
	}
	return s
}

// When damage is found without skip-damaged.
const (
	inPlan    = "in the plan"
	inSending = "while sending"
	harmless  = "never, nothing is lost"
	hopeless  = "in the plan, and nothing can be restored"
)

// injury is a damage, when a restore finds it, and what it costs.
type injury struct {
	name   string
	stream string
	when   string
	hurt   func(t *testing.T, p *patient) []span // what is lost
	head   bool                                  // the consumers are lost
	texts  []string                              // what the error says besides the sequences
	early  []span                                // what the plan says, where reading tells more
	quick  bool                                  // also where time is short
}

func injuries() []injury {
	return []injury{
		{"flipped bit in a blob", "ORDERS", inSending, func(t *testing.T, p *patient) []span {
			g, b := p.groups(t, "ORDERS")
			p.rot(t, data(b[2][0]))
			return []span{spanOf(g[2])}
		}, false, []string{"pack/", "data/"}, nil, false},
		{"flipped bits in the first and the last group", "ORDERS", inSending, func(t *testing.T, p *patient) []span {
			g, b := p.groups(t, "ORDERS")
			n := len(g) - 1
			p.rot(t, data(b[0][0]))
			p.rot(t, data(b[n][0]))
			return []span{spanOf(g[0]), spanOf(g[n])}
		}, false, nil, nil, true},
		{"flipped bits in neighbours", "ORDERS", inSending, func(t *testing.T, p *patient) []span {
			g, b := p.groups(t, "ORDERS")
			p.rot(t, data(b[1][0]))
			p.rot(t, data(b[2][0]))
			return []span{spanOf(g[1], g[2])}
		}, false, nil, nil, false},
		{"every group", "ORDERS", inSending, func(t *testing.T, p *patient) []span {
			g, b := p.groups(t, "ORDERS")
			for _, ids := range b {
				p.rot(t, data(ids[0]))
			}
			return []span{spanOf(g...)}
		}, false, nil, nil, false},
		{"payload of a large message", "ORDERS", inSending, func(t *testing.T, p *patient) []span {
			g, b := p.groups(t, "ORDERS")
			for i, ids := range b {
				if len(ids) > 1 {
					p.rot(t, data(ids[1]))
					return []span{spanOf(g[i])}
				}
			}
			t.Fatal("no large message")
			return nil
		}, false, nil, nil, false},
		{"deleted pack", "ORDERS", inPlan, func(t *testing.T, p *patient) []span {
			return p.losePack(t, p.messagePack(t).Pack, 0)
		}, false, []string{"the pack is gone"}, nil, true},
		{"pack cut short", "ORDERS", inPlan, func(t *testing.T, p *patient) []span {
			at := p.messagePack(t)
			return p.losePack(t, at.Pack, int64(at.Offset+at.Length)-1)
		}, false, []string{"the blob ends at byte"}, nil, false},
		{"chunks.json", "ORDERS", harmless, func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "ORDERS", "messages", "#0", "#0", "chunks.json").Content[0]))
			return nil
		}, false, nil, nil, true},
		{"chunks.json of two parts", "SHELVES", harmless, func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "SHELVES", "messages", "#0", "#1", "chunks.json").Content[0]))
			p.rot(t, data(p.node(t, "SHELVES", "messages", "#1", "#0", "chunks.json").Content[0]))
			return nil
		}, false, nil, nil, false},
		{"chunks.json and a blob", "ORDERS", inSending, func(t *testing.T, p *patient) []span {
			_, b := p.groups(t, "ORDERS")
			p.rot(t, data(p.node(t, "ORDERS", "messages", "#0", "#0", "chunks.json").Content[0]))
			p.rot(t, data(b[2][0]))
			return []span{{3, 5003, 4997}} // where its last message is, is lost
		}, false, nil, nil, false},
		{"tree of a part", "SHELVES", inPlan, func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "SHELVES", "messages", "#0", "#0").Subtree))
			return []span{{1, 128, 128}}
		}, false, []string{"part 00000000000000000001", "tree/"}, nil, true},
		{"tree of the last part", "SHELVES", inPlan, func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "SHELVES", "messages", "#1", "#1").Subtree))
			return []span{{385, 400, 16}}
		}, false, nil, nil, false},
		{"trees of two parts", "SHELVES", inPlan, func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "SHELVES", "messages", "#0", "#0").Subtree))
			p.rot(t, tree(p.node(t, "SHELVES", "messages", "#1", "#0").Subtree))
			return []span{{1, 128, 0}, {257, 384, 0}}
		}, false, nil, nil, false},
		{"chunks.json of one part and tree of another", "SHELVES", inPlan, func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "SHELVES", "messages", "#0", "#0", "chunks.json").Content[0]))
			p.rot(t, tree(p.node(t, "SHELVES", "messages", "#1", "#0").Subtree))
			return []span{{257, 384, 128}}
		}, false, nil, []span{{257, 384, 0}}, false},
		{"tree of a shelf", "SHELVES", inPlan, func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "SHELVES", "messages", "#0").Subtree))
			return []span{{1, 256, 256}}
		}, false, []string{"tree/"}, nil, false},
		{"payload that many messages share", "SHELVES", inSending, func(t *testing.T, p *patient) []span {
			_, b := p.groups(t, "SHELVES")
			p.rot(t, data(b[200][1]))
			return []span{{129, 256, 128}}
		}, false, nil, nil, false},
		{"tree of messages", "ORDERS", inPlan, func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "ORDERS", "messages").Subtree))
			return []span{{3, 5003, 4997}}
		}, false, nil, nil, false},
		{"head", "ORDERS", inPlan, func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "ORDERS", "head.arc.s2").Content[0]))
			return nil
		}, true, []string{"billing", "the head: load data/"}, nil, false},
		{"head and a blob", "ORDERS", inPlan, func(t *testing.T, p *patient) []span {
			g, b := p.groups(t, "ORDERS")
			p.rot(t, data(p.node(t, "ORDERS", "head.arc.s2").Content[0]))
			p.rot(t, data(b[2][0]))
			return []span{spanOf(g[2])}
		}, true, []string{"billing"}, nil, true},
		{"document", "ORDERS", hopeless, func(t *testing.T, p *patient) []span {
			p.rot(t, data(p.node(t, "ORDERS", "backup.json").Content[0]))
			return nil
		}, false, []string{"backup.json", "an earlier snapshot may hold it"}, nil, true},
		{"tree of the stream", "ORDERS", hopeless, func(t *testing.T, p *patient) []span {
			p.rot(t, tree(p.node(t, "ORDERS").Subtree))
			return nil
		}, false, []string{"an earlier snapshot may hold it"}, nil, false},
	}
}

// TestSalvageLostIndex loses the index of a first backup, so that the second's snapshot lacks what it shares with it, and then finds the
// same blobs in another pack: what has a copy is not lost.
func TestSalvageLostIndex(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "GROWS", Subjects: []string{"grows"}})
	r := rand.New(rand.NewPCG(12, 12))
	src.publish(t, "grows", 3000, func(i int) []byte {
		if i == 2000 {
			return letters(r, endsGroup)
		}
		return letters(r, 1000)
	})
	rp, dir := newRepo(t, repo.Options{PackSize: 1 << 20})
	backUp(t, src, rp, backup.Options{Selection: allStreams})
	first, err := filepath.Glob(filepath.Join(dir, "index", "*"))
	must(t, err)
	src.publish(t, "grows", 4000, func(int) []byte { return letters(r, 1000) })
	backUp(t, src, rp, backup.Options{Selection: allStreams})
	want := lookAt(t, src, "GROWS")
	aside := t.TempDir()
	for _, name := range first {
		must(t, os.Rename(name, filepath.Join(aside, filepath.Base(name))))
	}

	o := restore.Options{Selection: allStreams, SkipDamaged: true, Verify: true}
	dst := startServer(t, natsd.Options{})
	pl, err := plan(t, dst, rp, o)
	must(t, err)
	res, err := pl.Run(t.Context())
	must(t, err)
	s := res.Streams[0]
	if s.Err != nil || s.Verified || !s.Compared || s.Lost == nil || len(s.Lost.Lost) != 1 || s.Lost.Lost[0].First != 1 || s.Messages == 0 {
		t.Fatalf("%+v", s)
	}
	if !strings.Contains(s.Lost.Error(), "no index lists it") {
		t.Errorf("%v", s.Lost)
	}
	sameButLost(t, want, lookAt(t, dst, "GROWS"), s.Lost, false)

	// The next backup stores again what no index lists. Where that has another copy, a damaged one costs nothing.
	backUp(t, src, rp, backup.Options{Selection: allStreams})
	for _, name := range first {
		must(t, os.Rename(filepath.Join(aside, filepath.Base(name)), name))
	}
	p := admitted(t, dir, "latest")
	_, blobs := p.groups(t, "GROWS")
	at := p.copies(t, data(blobs[0][0]))
	if len(at) != 2 {
		t.Fatalf("%d copies, want two", len(at))
	}
	for i := range at {
		f := storage.File{Kind: storage.Pack, ID: at[i].Pack}
		flip(t, dir, f, int64(at[i].Offset)+50)
		again := startServer(t, natsd.Options{})
		if res := restoreInto(t, again, p.repo, restore.Options{Selection: allStreams, Verify: true}); !res.Streams[0].Verified {
			t.Errorf("copy %d damaged: %+v", i, res.Streams[0])
		}
		sameImage(t, want, lookAt(t, again, "GROWS"))
		flip(t, dir, f, int64(at[i].Offset)+50) // heals it
	}
}

// TestSalvagedConsumer wants a consumer that waited for acknowledgements of lost messages to deliver all that are there and be done.
func TestSalvagedConsumer(t *testing.T) {
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	r := rand.New(rand.NewPCG(13, 13))
	src.publish(t, "orders.new", 5000, func(i int) []byte {
		if i%1000 == 999 {
			return letters(r, endsGroup)
		}
		return letters(r, 1000)
	})
	fillPending(t, st, 5000)
	rp, dir := newRepo(t, repo.Options{PackSize: 1 << 20})
	backUp(t, src, rp, backup.Options{Selection: allStreams})
	before := lookAt(t, src, "ORDERS")
	src.Shutdown()
	p := &patient{dir: dir, repo: rp}
	var err error
	p.rd, err = rp.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := rp.Snapshot(t.Context(), "latest", snapshot.Filter{})
	must(t, err)
	p.root = sn.Tree
	groups, blobs := p.groups(t, "ORDERS")
	p.rot(t, data(blobs[0][0]))
	p.rot(t, data(blobs[2][0]))

	want := map[uint64]bool{}
	for key := range before.Consumers["billing"].(map[string]any)["state"].(map[string]any)["pending"].(map[string]any) {
		seq, err := strconv.ParseUint(key, 10, 64)
		must(t, err)
		if seq > groups[0].Last && (seq < groups[2].First || seq > groups[2].Last) {
			want[seq] = true
		}
	}
	if len(want) == 0 {
		t.Fatal("no message that is whole waits for its acknowledgement")
	}
	dst := startServer(t, natsd.Options{})
	pl, err := plan(t, dst, rp, restore.Options{Selection: allStreams, SkipDamaged: true, Verify: true})
	must(t, err)
	res, err := pl.Run(t.Context())
	must(t, err)
	if s := res.Streams[0]; s.Err != nil || !s.Compared {
		t.Fatalf("%+v", s)
	}
	restored, err := dst.js.Stream(t.Context(), "ORDERS")
	must(t, err)
	c, err := restored.UpdateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 500 * time.Millisecond, MaxAckPending: -1, FilterSubject: "orders.>"})
	must(t, err)
	seen := map[uint64]bool{}
	for deadline := time.Now().Add(time.Minute); ; {
		msgs, err := c.Fetch(1000, jetstream.FetchMaxWait(time.Second))
		must(t, err)
		for m := range msgs.Messages() {
			meta, err := m.Metadata()
			must(t, err)
			if !want[meta.Sequence.Stream] {
				t.Fatalf("message %d was delivered, which did not wait", meta.Sequence.Stream)
			}
			seen[meta.Sequence.Stream] = true
			must(t, m.DoubleAck(t.Context()))
		}
		info, err := c.Info(t.Context())
		must(t, err)
		if len(seen) == len(want) && info.NumAckPending == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d messages were delivered, %d wait", len(seen), len(want), info.NumAckPending)
		}
	}
}

// TestConsumersOfALostHead asks for nothing but consumers where it is lost how they stood: that is no success.
func TestConsumersOfALostHead(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	src.publish(t, "orders", 10, text)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	must(t, st.DeleteConsumer(t.Context(), "billing"))
	p := admitted(t, dir, "latest")
	p.rot(t, data(p.node(t, "ORDERS", "head.arc.s2").Content[0]))
	c := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	for _, args := range [][]string{{"--skip-damaged"}, {"--skip-damaged", "--dry-run"}, {}} {
		out := c.run(t, 1, append([]string{"restore", "--consumers-only"}, args...)...)
		t.Log(out)
		if !strings.Contains(out, "the head: ") || strings.Contains(out, "no consumers in the snapshot") {
			t.Errorf("%q: it does not say that they are lost", args)
		}
	}
}

// waning is storage that gives no more after so many reads of packs, or never gives one of them.
type waning struct {
	storage.Backend
	left   atomic.Int64
	broken storage.ID
	why    error
}

var errAway = fmt.Errorf("%w: the cable is out", storage.ErrUnreachable)

func (w *waning) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	if f.Kind == storage.Pack && (w.left.Add(-1) < 0 || f.ID == w.broken) {
		return nil, w.why
	}
	return w.Backend.Load(ctx, f, off, n)
}

func (w *waning) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	if w.left.Load() < 0 {
		return func(yield func(storage.Info, error) bool) { yield(storage.Info{}, errAway) }
	}
	return w.Backend.List(ctx, k)
}

// TestAwayIsNotLost restores from storage that goes away in the middle: what it does not give then is not lost, and nothing is restored without it.
// Where it is only one pack that a disk never gives, that is a loss like another; where that cannot be reached, it is none.
func TestAwayIsNotLost(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "HURT", Subjects: []string{"hurt"}})
	random := rand.New(rand.NewPCG(3, 3))
	src.publish(t, "hurt", 8000, func(int) []byte { return noise(random, 1000) })
	made, dir := newRepo(t, repo.Options{PackSize: 1 << 20})
	backUp(t, src, made, backup.Options{Selection: allStreams})
	local, err := local.Open(dir)
	must(t, err)
	t.Cleanup(func() { local.Close() })
	dst := startServer(t, natsd.Options{})
	for _, tt := range []struct {
		name        string
		skipDamaged bool
		left        int64
		broken      storage.ID
		why         error
	}{
		{"while it is looked through", true, 3, storage.ID{}, errAway},
		{"a disk that goes while it is looked through", true, 3, storage.ID{}, syscall.EIO},
		{"while it is sent", false, 3, storage.ID{}, errAway},
		{"one pack", true, 1 << 30, locate(t, made, "HURT").Pack, errAway},
		{"one pack of a disk", true, 1 << 30, locate(t, made, "HURT").Pack, syscall.EIO},
	} {
		t.Run(tt.name, func(t *testing.T) {
			be := &waning{Backend: local, why: tt.why}
			be.left.Store(1 << 30)
			r, err := repo.Open(t.Context(), be, secret.New(password), repo.Options{})
			must(t, err)
			p, err := plan(t, dst, r, restore.Options{Selection: allStreams, SkipDamaged: tt.skipDamaged})
			must(t, err)
			be.left.Store(tt.left)
			be.broken = tt.broken
			res, err := p.Run(t.Context())
			must(t, err)
			s := res.Streams[0]
			t.Log(s.Err, s.Lost)
			if tt.broken != (storage.ID{}) && tt.why == syscall.EIO {
				if s.Err != nil || s.Lost == nil {
					t.Errorf("error %v, lost %v", s.Err, s.Lost)
				}
				return
			}
			if !errors.Is(s.Err, storage.ErrUnreachable) || s.Lost != nil || strings.Contains(s.Err.Error(), "lost") {
				t.Errorf("error %v, lost %v", s.Err, s.Lost)
			}
			if names := streamsOf(t, dst); len(names) > 0 {
				t.Errorf("streams %v", names)
			}
		})
	}
}

// messagePack is where a blob of ORDERS lies, in a pack that holds nothing but its messages.
func (p *patient) messagePack(t *testing.T) index.Location {
	t.Helper()
	mine, others := map[blob.Handle]bool{}, map[storage.ID]bool{}
	_, blobs := p.groups(t, "ORDERS")
	for _, id := range slices.Concat(blobs...) {
		mine[data(id)] = true
	}
	for h, at := range p.rd.All() {
		if !mine[h] {
			others[at.Pack] = true
		}
	}
	for _, ids := range blobs {
		if at := p.copies(t, data(ids[0]))[0]; !others[at.Pack] {
			return at
		}
	}
	t.Fatal("no pack holds nothing but messages of ORDERS")
	return index.Location{}
}

// losePack cuts a pack after so many bytes, or takes it away, and returns what ORDERS loses with it: the groups of which a blob lies behind.
func (p *patient) losePack(t *testing.T, id storage.ID, keep int64) []span {
	t.Helper()
	groups, blobs := p.groups(t, "ORDERS")
	if keep == 0 {
		must(t, os.Remove(p.pack(id)))
	} else {
		must(t, os.Chmod(p.pack(id), 0o600))
		must(t, os.Truncate(p.pack(id), keep))
	}
	gone := map[blob.Handle]bool{}
	for h, at := range p.rd.All() {
		if at.Pack == id && int64(at.Offset)+int64(at.Length) > keep {
			gone[h] = true
		}
	}
	var out []span
	last := -2
	for i, ids := range blobs {
		if !slices.ContainsFunc(ids, func(id blob.ID) bool { return gone[data(id)] }) {
			continue
		}
		if last == i-1 {
			s := &out[len(out)-1]
			s.Last, s.Messages = groups[i].Last, s.Messages+groups[i].Messages
		} else {
			out = append(out, spanOf(groups[i]))
		}
		last = i
	}
	return out
}

// TestSalvage hurts a repository in every way that costs a stream something. A restore says exactly what is lost, and leaves nothing half
// done; with SkipDamaged everything else comes back, as other people's code sees it, and no message more is missing than was named.
func TestSalvage(t *testing.T) {
	w := newWard(t)
	for _, in := range injuries() {
		if !in.quick && !proof() {
			continue
		}
		t.Run(strings.ReplaceAll(in.name, " ", "-"), func(t *testing.T) {
			p := w.admit(t)
			lost := in.hurt(t, p)
			p.reopen(t)
			w.refuses(t, p, in, lost)
			if in.when == hopeless {
				return
			}
			w.salvages(t, p, in, lost)
		})
	}
	t.Run("repair", func(t *testing.T) { w.repairs(t, injuries()) })
	t.Run("killed-repairs", w.killRepairs)
}

// refuses restores without SkipDamaged: the injured one is left out, named, and nothing of it is on the server.
func (w *ward) refuses(t *testing.T, p *patient, in injury, lost []span) {
	t.Helper()
	dst := startServer(t, natsd.Options{})
	pl, err := plan(t, dst, p.repo, restore.Options{Selection: streamlog.Selection{Names: []string{in.stream, "WHOLE"}}, Verify: true})
	must(t, err)
	planned := find(t, pl, in.stream)
	if early := planned.Damage != nil; early != (in.when == inPlan || in.when == hopeless) {
		t.Errorf("damage in the plan: %v", planned.Damage)
	}
	res, err := pl.Run(t.Context())
	must(t, err)
	for _, s := range res.Streams {
		whole := s.Name != in.stream || in.when == harmless
		if whole != (s.Err == nil) || whole != s.Verified {
			t.Errorf("stream %s: verified %v, %v", s.Name, s.Verified, s.Err)
		}
		if whole {
			sameImage(t, w.images[s.Name], lookAt(t, dst, s.Name))
			continue
		}
		w.named(t, in, s, lost)
		if _, err := dst.js.Stream(t.Context(), in.stream); !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Errorf("stream %s is on the server: %v", in.stream, err)
		}
	}
}

// named wants everything that is lost in the error. While sending only the first of it is found.
func (w *ward) named(t *testing.T, in injury, s restore.StreamResult, lost []span) {
	t.Helper()
	t.Logf("%v", s.Err)
	texts := append([]string{"stream " + in.stream}, in.texts...)
	if in.when != hopeless {
		texts = append(texts, "--skip-damaged")
	}
	got := spansOf(s.Lost)
	if in.early != nil {
		lost = in.early
	}
	if in.when == inSending {
		lost, got = lost[:1], got[:min(1, len(got))]
	}
	for _, l := range got {
		text := fmt.Sprintf("messages %d to ", l.First)
		if l.Messages == 1 {
			text = fmt.Sprintf("message %d ", l.First)
		}
		texts = append(texts, text)
	}
	for _, text := range texts {
		if !strings.Contains(s.Err.Error(), text) {
			t.Errorf("the error does not say %q: %v", text, s.Err)
		}
	}
	if in.when == inPlan && in.head { // what only reading finds comes later
		lost = got
	}
	if in.when == inSending && len(got) == 1 && got[0].First == lost[0].First && got[0].Last < lost[0].Last {
		got[0] = lost[0] // its neighbours were not come to
	}
	if in.when != hopeless {
		if d := cmp.Diff(lost, got); d != "" {
			t.Errorf("lost (-want +got):\n%s", d)
		}
		if !errors.Is(s.Err, repo.ErrCorrupt) {
			t.Errorf("not ErrCorrupt: %v", s.Err)
		}
	}
}

// salvages restores the injured stream with SkipDamaged, and holds what the server has then against what is said to be lost.
func (w *ward) salvages(t *testing.T, p *patient, in injury, lost []span) {
	t.Helper()
	dst := startServer(t, natsd.Options{})
	pl, err := plan(t, dst, p.repo, restore.Options{Selection: streamlog.Selection{Names: []string{in.stream, "WHOLE"}}, SkipDamaged: true, Verify: true})
	must(t, err)
	must(t, pl.Probe(t.Context()))
	if d := cmp.Diff(lost, spansOf(find(t, pl, in.stream).Lost)); d != "" {
		t.Errorf("planned to be lost (-want +got):\n%s", d)
	}
	res, err := pl.Run(t.Context())
	must(t, err)
	for _, s := range res.Streams {
		injured := s.Name == in.stream && in.when != harmless
		if s.Err != nil || !s.Compared || s.Verified == injured || (s.Lost != nil) != injured {
			t.Fatalf("stream %s: compared %v, verified %v, lost %v, %v", s.Name, s.Compared, s.Verified, s.Lost, s.Err)
		}
		if !injured {
			sameImage(t, w.images[s.Name], lookAt(t, dst, s.Name))
			continue
		}
		if d := cmp.Diff(lost, spansOf(s.Lost)); d != "" {
			t.Errorf("lost (-want +got):\n%s", d)
		}
		sameButLost(t, w.images[s.Name], lookAt(t, dst, s.Name), s.Lost, w.bounds)
	}
}

// sameButLost compares two images of a stream. What is lost must be missing, and nothing else.
func sameButLost(t *testing.T, want, got image, d *restore.DamageError, bounds bool) {
	t.Helper()
	var gone uint64
	want.State, got.State = maps.Clone(want.State), maps.Clone(got.State)
	for _, l := range d.Lost {
		before := len(want.Messages)
		from, to := time.Time{}, time.Time{}
		want.Messages = slices.DeleteFunc(slices.Clone(want.Messages), func(line string) bool {
			var seq uint64
			var at int64
			fmt.Sscanf(line, "%d %d", &seq, &at)
			in := l.First <= seq && seq <= l.Last
			if when := time.Unix(0, at); in {
				if from.IsZero() || when.Before(from) {
					from = when
				}
				if when.After(to) {
					to = when
				}
			}
			return in
		})
		n := uint64(before - len(want.Messages))
		gone += n
		if l.Messages != 0 && l.Messages != n {
			t.Errorf("%v: it had %d messages", l, n)
		}
		exact := (l.From.IsZero() || l.From.Equal(from)) && (l.To.IsZero() || l.To.Equal(to))
		if !exact && !bounds || l.From.After(from) || !l.To.IsZero() && l.To.Before(to) {
			t.Errorf("%v: they were of %v to %v", l, from, to)
		}
	}
	if gone != d.Messages {
		t.Errorf("%d messages are missing, %d are said to be", gone, d.Messages)
	}
	want.Consumers, got.Consumers = withoutLost(t, want.Consumers, d), withoutLost(t, got.Consumers, d)
	if d.Head != nil {
		want.Consumers = map[string]any{}
		want.State["consumer_count"] = got.State["consumer_count"]
	}
	for _, field := range []string{"messages", "bytes", "first_seq", "first_ts", "last_ts", "num_deleted", "num_subjects"} {
		delete(want.State, field)
		delete(got.State, field)
	}
	sameImage(t, want, got)
}

// withoutLost takes out of consumers what a server forgets with messages that are not there: that they wait for their acknowledgement, and
// with that where the floor of acknowledgements is. It must lie below everything that waits.
func withoutLost(t *testing.T, consumers map[string]any, d *restore.DamageError) map[string]any {
	t.Helper()
	text, err := json.Marshal(consumers)
	must(t, err)
	var out map[string]any
	unmarshal(t, text, &out)
	for name, c := range out {
		state := c.(map[string]any)["state"].(map[string]any)
		pending, _ := state["pending"].(map[string]any)
		floor, err := state["ack_floor"].(map[string]any)["stream_seq"].(json.Number).Int64()
		must(t, err)
		delete(state, "ack_floor")
		for key := range pending {
			seq, err := strconv.ParseInt(key, 10, 64)
			must(t, err)
			if slices.ContainsFunc(d.Lost, func(l restore.Loss) bool { return int64(l.First) <= seq && seq <= int64(l.Last) }) {
				delete(pending, key)
			} else if seq <= floor {
				t.Errorf("consumer %s: message %d waits below the floor %d", name, seq, floor)
			}
		}
		if len(pending) == 0 {
			delete(state, "pending")
		}
	}
	return out
}

func find(t *testing.T, p *restore.Plan, stream string) *restore.StreamPlan {
	t.Helper()
	for _, s := range p.Streams {
		if s.Name == stream {
			return s
		}
	}
	t.Fatalf("stream %s is not in the plan", stream)
	return nil
}
