package streamlog

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/internal/chance"
	"jetsam/jetstream/archive"
	"jetsam/snapshot"
	"jetsam/storage"
)

// album is the snapshots of a life, oldest first.
type album struct {
	*life
	taken []page
}

// page is a snapshot, and the stream as it was then.
type page struct {
	life
	sn *snapshot.Snapshot
}

// keep puts the newest snapshot into the album.
func (a *album) keep() {
	a.t.Helper()
	account := &Account{Format: FormatVersion, Account: "A", Captured: []CapturedStream{{Name: "S", LastSeq: a.last}}}
	root, _, err := SaveAccount(a.t.Context(), a.mem, account, []*snapshot.Node{a.log.Node()}, time.Unix(int64(len(a.taken)), 0))
	wantNone(a.t, err)
	p := page{life: *a.life, sn: snapshotOf(a.t, byte(len(a.taken)+1), root)}
	p.alive = maps.Clone(a.alive)
	a.taken = append(a.taken, p)
}

func snapshotOf(t testing.TB, id byte, root blob.ID) *snapshot.Snapshot {
	t.Helper()
	s, err := snapshot.Decode(storage.ID{id}, fmt.Appendf(nil, `{"time":"2026-05-01T00:00:00Z","paths":["/A"],"tree":"%s"}`, root))
	wantNone(t, err)
	return s
}

// randomUnwanted chooses messages in one of several ways.
func (a *album) randomUnwanted() Unwanted {
	u := Unwanted{Stream: "S"}
	switch kind := a.rnd.IntN(6); kind {
	case 0:
		first := 1 + a.rnd.Uint64N(a.last)
		u.Seqs = NewDead(slices.Values([]Run{{first, first + a.rnd.Uint64N(20)}, {a.last, a.last}}))
	case 1:
		u.Seqs = NewDead(slices.Values([]Run{{1, a.last}}))
	case 2, 3, 4:
		subject := []byte(fmt.Sprintf("subject.%d", a.rnd.IntN(9)))
		u.Subject = func(s []byte) bool { return bytes.Equal(s, subject) }
		if kind == 3 {
			begin := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).UnixNano()
			u.Since, u.Until = unixNano(begin+(a.at-begin)/4), unixNano(begin+(a.at-begin)/2)
		}
		if kind == 4 {
			u.Seqs = NewDead(slices.Values([]Run{{a.last / 2, a.last}}))
		}
	default:
		u.Seqs = NewDead(slices.Values([]Run{{1 + a.rnd.Uint64N(a.last), a.last}}))
	}
	return u
}

// TestRewrite takes messages out of the snapshots of a stream that lived, grew and lost messages anywhere. What is left is the stream as if they had
// been deleted, in groups that are as they were where they held none of them; and both a stream that lost them too and one that has them still can go on from it.
func TestRewrite(t *testing.T) {
	seed := chance.Seed(t)
	for name, c := range map[string]struct {
		rounds, grow, tiny int
		size               func(*rand.Rand) int
	}{
		"small": {12, 40, 0, func(r *rand.Rand) int { return r.IntN(300) }},
		"mixed": {8, 60, 0, func(r *rand.Rand) int { return r.IntN(1 << (5 + r.IntN(14))) }},
		"large": {4, 4, 0, func(r *rand.Rand) int { return r.IntN(4) * chunker.LargePayload / 2 }},
		"parts": {6, 40, 1200, func(r *rand.Rand) int { return r.IntN(100) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 9))
			a := &album{life: newLife(t, rnd, func() int { return c.size(rnd) })}
			a.publish(c.grow + c.tiny)
			if c.tiny > 0 {
				a.scatter()
				a.keep()
			}
			for range c.rounds {
				switch rnd.IntN(5) {
				case 0:
					a.kill(2 + rnd.IntN(50))
				case 1:
					a.trim(a.first + uint64(rnd.IntN(c.grow)))
				default:
					a.publish(1 + rnd.IntN(c.grow))
				}
				if len(a.alive) == 0 {
					a.publish(3)
				}
				a.backUp(a.common() == 0)
				a.keep()
			}
			for range howOften(1, 10) {
				a.rewriteAll(a.randomUnwanted())
			}
		})
	}
}

// howOften is how often something is done, where time is short and where it is not.
func howOften(short, long int) int {
	if os.Getenv("JETSAM_PROOF") != "" {
		return long
	}
	return short
}

// rewriteAll takes messages out of all snapshots.
func (a *album) rewriteAll(u Unwanted) {
	a.t.Helper()
	r := NewRewriter(u, newCutter(a.t))
	roots := map[int]blob.ID{}
	for i, p := range a.taken {
		root, err := r.rewrite(a.t.Context(), a.mem, a.mem, p.sn)
		wantNone(a.t, err)
		roots[i] = root
	}
	checker := NewChecker()
	for h, p := range a.mem.blobs {
		if h.Kind == blob.Data {
			checker.Blob(h.ID, p)
		}
	}
	for i, p := range a.taken {
		wantNone(a.t, r.readBack(a.t.Context(), a.mem, p.sn.ID()))
		found, err := checker.snapshot(a.t.Context(), damagedMemory{a.mem, nil}, roots[i])
		if err != nil || found.text() != "" {
			a.t.Fatalf("check: %v %s", err, found.text())
		}
		p.compare(r, roots[i])
	}
	again := NewRewriter(u, newCutter(a.t))
	for i, p := range a.taken {
		root, err := again.rewrite(a.t.Context(), a.mem, a.mem, snapshotOf(a.t, 99, roots[i]))
		if err != nil || root != roots[i] {
			a.t.Fatalf("snapshot %d, of %d messages, changes when it is rewritten again: %v", i, len(p.alive), err)
		}
	}
}

// stored are the entries in each group of a stream, by the IDs of its blobs.
func (l *life) stored() map[string][]*archive.Message {
	l.t.Helper()
	out := map[string][]*archive.Message{}
	for part, err := range l.log.Parts(l.t.Context()) {
		wantNone(l.t, err)
		groups, err := part.Groups(l.t.Context())
		wantNone(l.t, err)
		ids := part.Blobs
		for _, g := range groups {
			key := fmt.Sprint(ids[:len(g.Blobs)], g)
			for next := entries(plainBytes(l.t, l.mem, ids[:len(g.Blobs)])); ; {
				m, err := next()
				if err == io.EOF {
					break
				}
				wantNone(l.t, err)
				out[key] = append(out[key], archive.NewMessage(string(m.Subject), m.Time, m.Seq, m.Header, m.Payload))
			}
			ids = ids[len(g.Blobs):]
		}
	}
	return out
}

// compare holds what a snapshot was made against what it was.
func (p *page) compare(r *Rewriter, root blob.ID) {
	p.t.Helper()
	is := p.life
	is.alive = maps.Clone(p.alive)
	var gone, bytesGone, sizeGone uint64
	for seq, raw := range p.alive {
		m, err := entries(raw)()
		wantNone(p.t, err)
		if r.unwanted.is(m) {
			delete(is.alive, seq)
			gone++
			bytesGone += uint64(len(m.Subject) + len(m.Payload))
			sizeGone += m.StoredSize("")
		}
	}
	var err error
	is.log, err = OpenStream(p.t.Context(), p.mem, root, "S")
	wantNone(p.t, err)
	is.readBack() // groups that hold none of them stay, also those without life, whose share grows as others shrink
	done := r.Done(p.sn.ID())
	if done.Messages != gone || done.Bytes != bytesGone || done.Left != uint64(len(is.alive)) {
		p.t.Fatalf("%+v of %d messages, %d of which are left, and %d bytes", done, gone, len(is.alive), bytesGone)
	}
	have := is.stored()
	for _, messages := range have {
		for _, m := range messages {
			if r.unwanted.is(m) {
				p.t.Fatalf("message %d is there still", m.Seq)
			}
		}
	}
	touched := false
	for key, messages := range p.stored() {
		if slices.ContainsFunc(messages, r.unwanted.is) {
			touched = true
		} else if _, ok := have[key]; !ok {
			p.t.Fatalf("a group that holds none of them is not there any more: %s", key)
		}
	}
	if touched != (root != p.sn.Tree) || touched != done.Changed() {
		p.t.Fatalf("it holds some of them: %v, and changed: %v", touched, root != p.sn.Tree)
	}
	if gone > 0 {
		is.trimmed()
		p.compareState(&is, gone, sizeGone)
	}
	if p.rnd.IntN(howOften(4, 1)) == 0 {
		p.goOn(is)
	}
}

// compareState holds the states against how the stream is.
func (p *page) compareState(is *life, gone, size uint64) {
	p.t.Helper()
	doc := is.log.Document
	state, err := archive.ParseState(doc.State)
	wantNone(p.t, err)
	wantNone(p.t, state.Check())
	if state.Messages != uint64(len(is.alive)) || state.FirstSeq != is.first || state.LastSeq != is.last {
		p.t.Fatalf("the state says %d messages, %d to %d; there are %d, %d to %d", state.Messages, state.FirstSeq, state.LastSeq, len(is.alive), is.first, is.last)
	}
	if is.first != p.first && len(is.alive) > 0 {
		m, err := entries(is.alive[is.first])()
		wantNone(p.t, err)
		if !state.FirstTime.Equal(unixNano(m.Time)) {
			p.t.Fatalf("the state begins at %v, its first message is of %v", state.FirstTime, unixNano(m.Time))
		}
	}
	if want := fmt.Sprintf(`"num_deleted":%d`, is.last+1-is.first-uint64(len(is.alive))); !strings.Contains(string(doc.State), want) && !strings.HasSuffix(want, ":0") {
		p.t.Fatalf("the state lacks %s: %s", want, doc.State)
	}
	was, err := archive.ParseState(p.log.Document.State)
	wantNone(p.t, err)
	if state.Bytes != was.Bytes-min(was.Bytes, size) {
		p.t.Fatalf("%d bytes of %d are left when %d are gone", state.Bytes, was.Bytes, size)
	}
	if head, err := is.log.Head(p.t.Context()); err != nil || doc.Jetsam.Dead == nil && string(head.State) != string(doc.State) {
		p.t.Fatalf("%v: the head says otherwise than the document", err)
	}
}

// goOn takes the next snapshots, of a stream that lost the messages and of one that did not, with some that came.
func (p *page) goOn(is life) {
	p.t.Helper()
	if len(is.alive) == 0 {
		return
	}
	lost := is
	lost.alive, lost.before = maps.Clone(is.alive), is.alive
	lost.publish(2)
	lost.trimmed()
	lost.backUp(false)
	lost.check()
	still := is
	still.alive, still.before, still.first, still.began = maps.Clone(p.alive), is.alive, p.first, is.first
	still.publish(2)
	still.backUp(false)
	still.check()
}

// TestRewriteReadsBack wants a group that was stored with what should not be in it found.
func TestRewriteReadsBack(t *testing.T) {
	a := &album{life: newLife(t, rand.New(rand.NewPCG(1, 1)), func() int { return 10 })}
	a.publish(20)
	a.backUp(true)
	a.keep()
	r := NewRewriter(Unwanted{Stream: "S", Seqs: NewDead(slices.Values([]Run{{7, 7}}))}, newCutter(t))
	_, err := r.rewrite(t.Context(), a.mem, a.mem, a.taken[0].sn)
	wantNone(t, err)
	r.unwanted.Seqs = NewDead(slices.Values([]Run{{8, 8}}))
	if err := r.readBack(t.Context(), a.mem, a.taken[0].sn.ID()); err == nil {
		t.Error("nothing is amiss")
	}
	maps.DeleteFunc(a.mem.blobs, func(h blob.Handle, _ []byte) bool { _, fresh := r.fresh[h.ID]; return fresh })
	r.unwanted.Seqs = nil
	if err := r.readBack(t.Context(), a.mem, a.taken[0].sn.ID()); err == nil {
		t.Error("nothing is missing")
	}
}

// TestUnwantedBounds: of a group is asked whether it may hold what is unwanted, and it may where its bounds meet those.
func TestUnwantedBounds(t *testing.T) {
	g := &Group{First: 10, Last: 20, From: 1000, To: 2000}
	for _, c := range []struct {
		name string
		u    Unwanted
		may  bool
	}{
		{"any", Unwanted{}, true},
		{"its last sequence", Unwanted{Seqs: NewDead(slices.Values([]Run{{20, 30}}))}, true},
		{"sequences behind it", Unwanted{Seqs: NewDead(slices.Values([]Run{{1, 9}, {21, 30}}))}, false},
		{"since its end", Unwanted{Since: unixNano(2000)}, true},
		{"since behind it", Unwanted{Since: unixNano(2001)}, false},
		{"until its beginning", Unwanted{Until: unixNano(1000)}, true},
		{"until before it", Unwanted{Until: unixNano(999)}, false},
	} {
		if c.u.mayBeIn(g) != c.may {
			t.Errorf("%s: %v", c.name, !c.may)
		}
	}
	for at, is := range map[int64]bool{999: false, 1000: true, 1500: true, 2000: true, 2001: false} {
		u := Unwanted{Since: unixNano(1000), Until: unixNano(2000)}
		if u.is(archive.NewMessage("s", at, 1, nil, nil)) != is {
			t.Errorf("a message of %d: %v", at, !is)
		}
	}
}

// TestRewriteOfDead takes messages out of snapshots that have the same parts, and not the same dead entries in them: some of the dead are unwanted, and
// some lie between messages that are left, in groups of two that become one. And it takes out the first messages.
func TestRewriteOfDead(t *testing.T) {
	a := &album{life: newLife(t, rand.New(rand.NewPCG(2, 2)), func() int { return 1000 })}
	a.publish(600)
	a.scatter()
	a.keep()
	for _, seq := range []uint64{10, 8, 200} {
		delete(a.alive, seq)
		a.backUp(false)
		a.keep()
	}
	a.rewriteAll(Unwanted{Stream: "S", Seqs: NewDead(slices.Values([]Run{{6, 6}, {8, 9}, {11, 11}}))})
	a.rewriteAll(Unwanted{Stream: "S", Seqs: NewDead(slices.Values([]Run{{1, 3}}))})
}
