package restore

import (
	"context"
	"errors"
	"io"
	"strings"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// A stream is its clients' as soon as it is restored. A message that comes may take the place of restored ones: a stream keeps only so many, of a
// subject too, and a rollup stands for all before it. What is missing when the stream is read back is held against the messages that came: these
// explain it where a server that does nothing else would have removed the very same (nats-server 2.9 to 2.15, enforceMsgLimit, enforceBytesLimit,
// enforceMsgPerSubjectLimit).

// mostGone bounds how many missing messages are remembered, and how many that came. What is missing beyond that is a difference.
const mostGone = 1 << 20

// succession finds out which missing messages newer ones have taken the place of.
type succession struct {
	perSubject, most, mostBytes int64 // that the stream keeps; 0: any number
	rollups                     bool  // a message may stand for those before it
	storage                     string
	last                        uint64 // sequence of the newest message that is restored

	messages, bytes uint64    // of all that was restored; then of the stream as messages come
	gone            []*goneBy // in the order of their sequences
	kin             map[string]*kin
	came            []arrival // ascending
}

// goneBy is a restored message that is missing.
type goneBy struct {
	seq, bytes uint64
	excess     bool // it would be missing also where nothing had come: the stream had more than it keeps
	replaced   bool // a newer message has taken its place
}

func (g *goneBy) settled() bool { return g.excess || g.replaced }

// kin are the messages of a subject of which some are missing.
type kin struct {
	gone  []*goneBy // those for which the subject has had room so far, ascending
	there int64     // that are there, from the first missing one on
}

// arrival is a message that came since.
type arrival struct {
	seq, bytes      uint64
	subject, rollup string
}

// successionIn is nil where no message that comes takes the place of another.
func successionIn(s *StreamPlan) *succession {
	c := s.config
	x := &succession{rollups: c.AllowRollup, storage: c.Storage, last: s.state.LastSeq, kin: map[string]*kin{}}
	if c.Discard != "new" {
		x.most, x.mostBytes = max(0, c.MaxMessages), max(0, c.MaxBytes)
	}
	if c.Discard != "new" || !c.DiscardNewOfSubject {
		x.perSubject = max(0, c.MaxMessagesOfSubject)
	}
	if !x.rollups && x.most == 0 && x.mostBytes == 0 && x.perSubject == 0 {
		return nil
	}
	return x
}

// restored notes a message that was restored, and is there.
func (x *succession) restored(m *archive.Message) {
	if x == nil {
		return
	}
	x.count(m)
	if k := x.kin[string(m.Subject)]; k != nil {
		k.there++
	}
}

func (x *succession) count(m *archive.Message) uint64 {
	bytes := m.StoredSize(x.storage)
	x.messages, x.bytes = x.messages+1, x.bytes+bytes
	return bytes
}

// missing notes a message that was restored, and is not there. Where no more can be remembered, it returns false.
func (x *succession) missing(m *archive.Message) bool {
	if x == nil || len(x.gone) >= mostGone {
		return false
	}
	g := &goneBy{seq: m.Seq, bytes: x.count(m)}
	x.gone = append(x.gone, g)
	subject := string(m.Subject)
	if x.kin[subject] == nil {
		x.kin[subject] = &kin{}
	}
	x.kin[subject].gone = append(x.kin[subject].gone, g)
	return true
}

// arrived notes a message that came since, where something is missing.
func (x *succession) arrived(m *archive.Message) {
	if x == nil || len(x.gone) == 0 || len(x.came) >= mostGone {
		return
	}
	a := arrival{seq: m.Seq, bytes: m.StoredSize(x.storage), subject: string(m.Subject)}
	if x.rollups {
		a.rollup = strings.ToLower(headerOf(m, "Nats-Rollup"))
	}
	x.came = append(x.came, a)
}

// unfold goes through what came, and says of each missing message whether one of those has taken its place, in a stream that has sequences from first
// to last by now.
func (x *succession) unfold(first, last uint64) {
	queue := x.gone // those that would be removed next to make room in the stream
	makeRoom := func(remove func(*goneBy)) {
		for x.overfull() {
			for len(queue) > 0 && queue[0].settled() {
				queue = queue[1:]
			}
			if len(queue) == 0 || queue[0].seq >= first {
				return
			}
			remove(queue[0])
		}
	}
	for _, k := range x.kin {
		x.crowd(k, func(g *goneBy) { x.remove(g, &g.excess) })
	}
	makeRoom(func(g *goneBy) { x.remove(g, &g.excess) })
	place := func(g *goneBy) { x.remove(g, &g.replaced) }
	before := x.last
	for _, a := range x.came {
		x.pass(a.seq - before - 1)
		makeRoom(place)
		before = a.seq
		x.messages, x.bytes = x.messages+1, x.bytes+a.bytes
		x.join(a, place)
		makeRoom(place)
		x.rollUp(a, place) // which a server does last
	}
	x.pass(last - min(last, before))
	makeRoom(place)
}

// pass counts messages that came, and whose place others have taken since: they needed room, though nobody knows how many bytes of it.
func (x *succession) pass(n uint64) {
	if x.rollups || x.perSubject > 0 {
		x.messages += n
	}
}

func (x *succession) overfull() bool {
	return x.most > 0 && x.messages > uint64(x.most) || x.mostBytes > 0 && x.bytes > uint64(x.mostBytes)
}

func (x *succession) remove(g *goneBy, why *bool) {
	if !g.settled() {
		*why = true
		x.messages, x.bytes = x.messages-1, x.bytes-g.bytes
	}
}

// join adds a message to its subject.
func (x *succession) join(a arrival, out func(*goneBy)) {
	if k := x.kin[a.subject]; k != nil {
		k.there++
		x.crowd(k, out)
	}
}

// rollUp removes those that a rollup stands for.
func (x *succession) rollUp(a arrival, out func(*goneBy)) {
	var gone []*goneBy
	switch k := x.kin[a.subject]; {
	case a.rollup == "all":
		gone = x.gone
		clear(x.kin)
	case a.rollup == "sub" && k != nil:
		gone = k.gone
		delete(x.kin, a.subject)
	}
	for _, g := range gone {
		out(g)
	}
}

// crowd takes the oldest missing messages out of a subject that has more than the stream keeps.
func (x *succession) crowd(k *kin, out func(*goneBy)) {
	for x.perSubject > 0 && len(k.gone) > 0 && k.there+int64(len(k.gone)) > x.perSubject {
		out(k.gone[0])
		k.gone = k.gone[1:]
	}
}

// succeed tells missing messages that newer ones have taken the place of from those that are missing.
func (v *verification) succeed(ctx context.Context) error {
	x := v.heirs
	if x == nil || len(x.gone) == 0 {
		return nil
	}
	info, err := v.p.conn.Stream(ctx, v.s.Name)
	if err != nil {
		return err
	}
	if err := v.catchUp(ctx, info); err != nil {
		return err
	}
	x.unfold(info.FirstSeq, info.LastSeq)
	for _, g := range x.gone {
		if g.replaced {
			v.replaced++
			continue
		}
		v.lacks(g.seq)
	}
	return nil
}

// catchUp gets the messages that came while the stream was read, which may be why others did not come. Who may not, does without.
func (v *verification) catchUp(ctx context.Context, info *jetstream.StreamInfo) error {
	from := v.s.state.LastSeq
	if n := len(v.heirs.came); n > 0 {
		from = v.heirs.came[n-1].seq
	}
	if info.LastSeq <= from {
		return nil
	}
	got, err := v.p.conn.Fetch(ctx, v.s.Name, from+1, info.LastSeq, jetstream.FetchOptions{Way: jetstream.ByGet})
	if err == nil {
		defer got.Close()
	}
	for err == nil && len(v.heirs.came) < mostGone {
		var m *archive.Message
		if m, err = got.Next(); err == nil {
			v.heirs.arrived(m)
		}
	}
	var refused *jetstream.PermissionError
	if errors.Is(err, io.EOF) || errors.As(err, &refused) {
		return nil
	}
	return err
}
