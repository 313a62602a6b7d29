package streamlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/internal/chance"
	"jetsam/jetstream/archive"
)

// life is a stream as it lives, and its snapshots.
type life struct {
	t      *testing.T
	rnd    *rand.Rand
	mem    *memory
	alive  map[uint64][]byte // encoded messages by their sequences
	first  uint64
	last   uint64
	at     int64
	log    *Stream // the newest snapshot; nil before there is one
	before map[uint64][]byte
	began  uint64 // first sequence in the newest snapshot
	past   []life // of which only alive, first and last count
	fell   int    // how often an earlier log could not be gone on with
	sizes  func() int
	worst  float64 // stored bytes for each that lives
}

func newLife(t *testing.T, rnd *rand.Rand, sizes func() int) *life {
	return &life{t: t, rnd: rnd, mem: newMemory(), alive: map[uint64][]byte{}, first: 1, at: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).UnixNano(), sizes: sizes}
}

func (l *life) publish(n int) {
	for range n {
		l.last++
		l.at += l.rnd.Int64N(1e9)
		payload := make([]byte, l.sizes())
		for i := range payload {
			payload[i] = byte(l.rnd.Uint32())
		}
		l.alive[l.last] = archive.AppendMessage(nil, fmt.Sprintf("subject.%d", l.rnd.IntN(9)), l.at, l.last, nil, payload)
	}
}

// kill removes about one message in n.
func (l *life) kill(n int) {
	for _, seq := range slices.Sorted(maps.Keys(l.alive)) {
		if l.rnd.IntN(n) == 0 {
			delete(l.alive, seq)
		}
	}
	l.trimmed()
}

// trim removes the messages below seq.
func (l *life) trim(seq uint64) {
	maps.DeleteFunc(l.alive, func(s uint64, _ []byte) bool { return s < seq })
	l.first = max(l.first, seq)
	l.trimmed()
}

// trimmed moves the first sequence to the first message, as servers do.
func (l *life) trimmed() {
	l.first = l.last + 1
	for seq := range l.alive {
		l.first = min(l.first, seq)
	}
}

// rollBack forgets the messages above seq, as a server does that crashed before it synced.
func (l *life) rollBack(seq uint64) {
	maps.DeleteFunc(l.alive, func(s uint64, _ []byte) bool { return s > seq })
	l.last = seq
	l.trimmed()
}

// messages yields what lives above through.
func (l *life) messages(through uint64) func() (*archive.Message, error) {
	var all []byte
	for _, seq := range slices.Sorted(maps.Keys(l.alive)) {
		if seq > through {
			all = append(all, l.alive[seq]...)
		}
	}
	return entries(all)
}

// dead is what the stream does not have.
func (l *life) dead() *Dead {
	return NewDead(func(yield func(Run) bool) {
		for seq := uint64(1); seq <= l.last; seq++ {
			if l.alive[seq] == nil && !yield(Run{seq, seq}) {
				return
			}
		}
	})
}

func (l *life) state() json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"messages":%d,"bytes":1000000000,"first_seq":%d,"first_ts":"2026-01-01T00:00:00Z","last_seq":%d,"last_ts":"2026-01-01T00:00:00Z","consumer_count":0}`,
		len(l.alive), l.first, l.last))
}

func (l *life) document() *Document {
	return &Document{Config: json.RawMessage(`{"name":"S"}`), State: l.state(), Jetsam: Capture{Format: FormatVersion, Messages: uint64(len(l.alive))}}
}

// backUp takes a snapshot: of everything, or as the continuation of the one before.
func (l *life) backUp(full bool) {
	l.t.Helper()
	head := &archive.Head{State: l.state()}
	if full || l.log == nil {
		m, err := WriteMessages(l.t.Context(), l.mem, newCutter(l.t), l.messages(0))
		wantNone(l.t, err)
		node, _, err := SaveStream(l.t.Context(), l.mem, "S", l.document(), head, m)
		wantNone(l.t, err)
		l.log = OpenDir(l.t.Context(), l.mem, node)
	} else {
		earlier, err := OpenLog(l.t.Context(), l.mem, l.log)
		wantNone(l.t, err)
		through := l.common()
		next := Next{Through: through, Dead: l.dead(), Cut: newCutter(l.t), Messages: l.messages(through)}
		if n := uint64(len(l.alive)); n == l.last-l.first+1 && l.first == l.began && n == uint64(len(l.before))+l.last-through {
			next.Full = true
		}
		m, err := earlier.Continue(l.t.Context(), l.mem, next)
		if l.revived() && errors.Is(err, ErrUnfit) {
			l.fell++
			l.backUp(true)
			return
		}
		wantNone(l.t, err)
		node, _, err := earlier.Save(l.t.Context(), l.mem, "S", l.document(), head, m)
		wantNone(l.t, err)
		l.log = OpenDir(l.t.Context(), l.mem, node)
	}
	wantNone(l.t, l.log.Err)
	l.before, l.began = maps.Clone(l.alive), l.first
}

// scatter takes a snapshot of tiny groups, so that there are many parts.
func (l *life) scatter() {
	l.t.Helper()
	lib := &library{dst: l.mem}
	seqs := slices.Sorted(maps.Keys(l.alive))
	for chunk := range slices.Chunk(seqs, 2) {
		p := &pieces{}
		var plain []byte
		for _, seq := range chunk {
			plain = append(plain, l.alive[seq]...)
			m, err := entries(l.alive[seq])()
			wantNone(l.t, err)
			p.note(entryOf(m, len(plain)))
		}
		framed := archive.AppendFrame(nil, plain)
		id, _, err := l.mem.Save(l.t.Context(), blob.Data, framed)
		wantNone(l.t, err)
		p.Blobs = []string{shortID(id)}
		wantNone(l.t, lib.place(l.t.Context(), &savedGroup{pieces: p, ids: []blob.ID{id}, size: uint64(len(framed))}))
	}
	tree, at, err := lib.finish(l.t.Context())
	wantNone(l.t, err)
	m := &Messages{Tree: tree, Time: at, Count: uint64(len(seqs)), First: seqs[0], Last: l.last}
	node, _, err := SaveStream(l.t.Context(), l.mem, "S", l.document(), &archive.Head{State: l.state()}, m)
	wantNone(l.t, err)
	l.log = OpenDir(l.t.Context(), l.mem, node)
	l.before, l.began = maps.Clone(l.alive), l.first
}

// common is the last message that the newest snapshot and the stream both hold.
func (l *life) common() (through uint64) {
	for seq, raw := range l.before {
		if string(l.alive[seq]) == string(raw) {
			through = max(through, seq)
		}
	}
	return through
}

// revived says whether a message up to the common one is alive that the newest snapshot does not have.
func (l *life) revived() bool {
	through := l.common()
	for seq := range l.alive {
		if seq <= through && l.before[seq] == nil {
			return true
		}
	}
	return false
}

// setBack makes the stream what it was some time ago, as the restore of an older snapshot does.
func (l *life) setBack() {
	if len(l.past) == 0 {
		return
	}
	was := l.past[len(l.past)-1-l.rnd.IntN(min(len(l.past), 5))]
	l.alive, l.first, l.last = maps.Clone(was.alive), was.first, was.last
}

// check reads the newest snapshot back. Of each part little is of groups without life.
func (l *life) check() {
	l.t.Helper()
	for _, p := range l.readBack() {
		if p.spent*muchSpent >= p.all {
			l.t.Fatalf("part %d: %d of %d bytes are of groups without life", p.first, p.spent, p.all)
		}
	}
}

// weight is how many bytes the groups of a part have.
type weight struct {
	first      uint64 // sequence
	all, spent uint64 // spent: of groups without life
}

// readBack reads the newest snapshot, and says what its parts weigh.
func (l *life) readBack() (parts []weight) {
	l.t.Helper()
	dead, err := l.log.Dead(l.t.Context())
	wantNone(l.t, err)
	var stored, lives uint64
	got := map[uint64][]byte{}
	tails, inTail := 0, false
	for part, err := range l.log.Parts(l.t.Context()) {
		wantNone(l.t, err)
		groups, err := part.Groups(l.t.Context())
		wantNone(l.t, err)
		ids := part.Blobs
		w := weight{first: part.First}
		for _, g := range groups {
			plain := plainBytes(l.t, l.mem, ids[:len(g.Blobs)])
			ids = ids[len(g.Blobs):]
			checkGroup(l.t, g, plain)
			if stored += g.Messages; inTail && !g.Tail {
				tails = 0
			}
			if inTail = g.Tail; g.Tail {
				tails++
			}
			var alive uint64
			for next := entries(plain); ; {
				m, err := next()
				if err == io.EOF {
					break
				}
				wantNone(l.t, err)
				if !dead.Has(m.Seq) {
					alive++
					got[m.Seq] = slices.Clone(m.Raw)
				}
			}
			if lives += alive; alive != g.Alive(dead) {
				l.t.Fatalf("group %d to %d: %d messages live, %d by its counts", g.First, g.Last, alive, g.Alive(dead))
			}
			if w.all += g.Bytes; alive == 0 {
				w.spent += g.Bytes
			}
		}
		parts = append(parts, w)
	}
	doc := l.log.Document.Jetsam
	if stored != doc.Entries() || lives != uint64(len(l.alive)) {
		l.t.Fatalf("%d entries stored, %d said; %d live, want %d", stored, doc.Entries(), lives, len(l.alive))
	}
	for seq, raw := range l.alive {
		if string(got[seq]) != string(raw) {
			l.t.Fatalf("message %d is not as it was", seq)
		}
	}
	if tails > 100 {
		l.t.Fatalf("the tail is in %d groups", tails)
	}
	if len(l.alive) > 0 {
		l.worst = max(l.worst, float64(stored)/float64(lives))
	}
	return parts
}

// TestContinue lets a stream live, grow, lose messages anywhere and fall back, and continues its log from snapshot to snapshot.
func TestContinue(t *testing.T) {
	seed := chance.Seed(t)
	for name, c := range map[string]struct {
		rounds int
		grow   int
		size   func(*rand.Rand) int
		tiny   int // messages in tiny groups at first
	}{
		"small":    {300, 40, func(r *rand.Rand) int { return r.IntN(300) }, 0},
		"mixed":    {60, 60, func(r *rand.Rand) int { return r.IntN(1 << (5 + r.IntN(14))) }, 0},
		"large":    {25, 6, func(r *rand.Rand) int { return r.IntN(4) * chunker.LargePayload / 2 }, 0},
		"enormous": {6, 2, func(r *rand.Rand) int { return r.IntN(2 * chunker.MaxSize) }, 0},
		"parts":    {30, 40, func(r *rand.Rand) int { return r.IntN(100) }, 5000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 7))
			l := newLife(t, rnd, func() int { return c.size(rnd) })
			l.publish(c.grow + c.tiny)
			if c.tiny > 0 {
				l.kill(1000)
				l.scatter()
			}
			for range c.rounds {
				l.past = append(l.past, life{alive: maps.Clone(l.alive), first: l.first, last: l.last})
				switch rnd.IntN(13) {
				case 12:
					l.setBack()
					if rnd.IntN(2) == 0 {
						l.kill(10 + rnd.IntN(100))
					}
				case 0:
					l.kill(2 + rnd.IntN(50))
				case 1:
					l.trim(l.first + uint64(rnd.IntN(int(l.last-l.first)+2)))
				case 2:
					l.rollBack(l.last - uint64(rnd.IntN(int(min(l.last, 2*uint64(c.grow)))+1)))
				case 3, 4:
					l.kill(200)
				case 5: // nothing
				case 6:
					delete(l.alive, l.last)
					l.trimmed()
				default:
					l.publish(rnd.IntN(c.grow))
				}
				l.backUp(l.common() == 0 || rnd.IntN(30) == 0)
				l.check()
			}
			t.Logf("at most %.2f entries stored for each that lives; %d times what had died was back", l.worst, l.fell)
			if l.worst > 3 {
				t.Errorf("%.2f entries stored for each that lives", l.worst)
			}
		})
	}
}

// TestGroupsWithoutLife trims a stream of several parts: the list of a part is not written anew for a few groups that hold nothing alive, but they do not
// stay when they have become an eighth of it.
func TestGroupsWithoutLife(t *testing.T) {
	l := newLife(t, rand.New(rand.NewPCG(3, 11)), func() int { return 20 })
	l.publish(8000)
	l.scatter()
	parts := func() (first []uint64, lists []blob.ID) {
		for part, err := range l.log.Parts(t.Context()) {
			wantNone(t, err)
			first, lists = append(first, part.First), append(lists, part.chunks...)
		}
		return first, lists
	}
	first, lists := parts()
	if len(first) < 2 {
		t.Fatalf("%d parts", len(first))
	}
	length := first[1] - first[0]
	for _, c := range []struct {
		trim  uint64
		stays bool
	}{{length / 100, true}, {length / 10, true}, {length/7 + 4, false}, {length / 5, true}} {
		l.trim(1 + c.trim)
		l.backUp(false)
		l.check()
		is, now := parts()
		if stays := now[0] == lists[0]; stays != c.stays || !slices.Equal(now[1:], lists[1:]) {
			t.Errorf("%d of %d messages of the first part are gone, its list is as it was: %v, want %v", c.trim, length, stays, c.stays)
		}
		if !c.stays && is[0] < c.trim {
			t.Errorf("%d messages are gone, the log begins with %d", c.trim, is[0])
		}
		lists = now
	}
}

// TestGrowingIsLikeAFullCapture appends to a stream, again and again: before the tail its blobs and parts are those of a full capture.
func TestGrowingIsLikeAFullCapture(t *testing.T) {
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 8))
	l := newLife(t, rnd, func() int {
		if rnd.IntN(100) == 0 {
			return rnd.IntN(3 * chunker.LargePayload)
		}
		return rnd.IntN(3000)
	})
	for range 40 {
		l.publish(1 + rnd.IntN(300))
		l.backUp(false)
	}
	l.check()
	grown := l.blobs()
	l.backUp(true)
	full := l.blobs()
	n := 0
	for n < len(full) && n < len(grown) && full[n] == grown[n] {
		n++
	}
	if n < len(full)-1 || len(full) < 5 {
		t.Errorf("of %d blobs of a full capture the first %d are those of %d increments' %d", len(full), n, 40, len(grown))
	}
}

// blobs are the blobs of the newest snapshot's messages.
func (l *life) blobs() (ids []blob.ID) {
	for part, err := range l.log.Parts(l.t.Context()) {
		wantNone(l.t, err)
		ids = append(ids, part.Blobs...)
	}
	return ids
}

// TestTailJoins says how many groups at the end of the tail a new one is joined with.
func TestTailJoins(t *testing.T) {
	const KiB = 1 << 10
	for _, c := range []struct {
		name  string
		tail  [][2]int // so many groups of that size, in KiB
		size  int
		joins int
	}{
		{"few", [][2]int{{14, 10}}, 10, 0},
		{"many of a size", [][2]int{{15, 10}}, 10, 15},
		{"many behind a larger one", [][2]int{{1, 100}, {15, 10}}, 10, 15},
		{"many of a size, and with them as many that are larger", [][2]int{{15, 100}, {15, 6}}, 6, 30},
		{"many of which the cut will store each anew", [][2]int{{40, 160}}, 160, 0},
		{"many before which there are such ones", [][2]int{{30, 160}, {15, 10}}, 10, 15},
	} {
		var x tail
		for _, g := range c.tail {
			for range g[0] {
				x.groups = append(x.groups, logGroup{Group: Group{Bytes: uint64(g[1] * KiB)}})
			}
		}
		if n := x.joins(uint64(c.size * KiB)); n != c.joins {
			t.Errorf("%s: joined with %d groups, want %d", c.name, n, c.joins)
		}
	}
}

// TestSmallIncrements appends 10 KiB hundreds of times: messages are stored less than three times over, and a little else for each snapshot.
func TestSmallIncrements(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 9))
	l := newLife(t, rnd, func() int { return 1000 })
	const rounds = 300
	for range rounds {
		l.publish(10)
		l.backUp(false)
	}
	l.check()
	var data, stored, rest uint64
	for _, raw := range l.alive {
		data += uint64(len(raw))
	}
	for _, p := range l.mem.blobs {
		if holdsMessages(p) {
			stored += uint64(len(p))
		} else {
			rest += uint64(len(p))
		}
	}
	t.Logf("%d bytes of messages: %d bytes of them and %d of all else stored, before compression", data, stored, rest)
	if limit := data * 29 / 10; stored > limit {
		t.Errorf("%d bytes of messages stored, more than %d", stored, limit)
	}
	if limit := uint64(rounds * 8 << 10); rest > limit {
		t.Errorf("%d other bytes stored, more than %d", rest, limit)
	}
}

func wantNone(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
