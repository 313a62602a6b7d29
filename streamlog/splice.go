package streamlog

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/jetstream/archive"
	"jetsam/snapshot"
)

// Next is what a log goes on with.
type Next struct {
	Through  uint64                           // the last sequence that both logs hold
	Dead     *Dead                            // all sequences, up to the stream's last, that it does not have any more
	Full     bool                             // up to Through, all that is not in Dead lived in the earlier log: it need not be read to know that
	Cut      *chunker.Cutter                  // a fresh one
	Messages func() (*archive.Message, error) // those above Through, as for WriteMessages
}

// Continued is what Continue stored.
type Continued struct {
	Came     Messages // about the messages that came: Count, First, Last, Content and Largest
	Tree     blob.ID  // of the directory "messages"
	Time     time.Time
	NewBytes uint64 // sealed bytes that the repository did not have
	Stored   uint64 // entries of the whole log
	First    uint64 // sequence of its first entry; 0 where it has none
	Dead     *Dead  // of its entries, and of what lies between them

	cleared *Dead // where groups were stored: nothing is dead there, whatever the earlier log says
}

// Continue stores the log that goes on from l: of l's entries up to next.Through those that are alive, then next.Messages.
//
// What did not change is not stored again, and not even read. Groups without a living entry leave the log when they are much of their part. Where
// less than half of the others lives, what lives of the part is stored anew. What is dead elsewhere stays in the log, and is named in Dead.
//
// ErrUnfit says that l cannot be gone on with; Stored and the rest are unknown then.
func (l *Log) Continue(ctx context.Context, dst Saver, next Next) (*Continued, error) {
	w := newMessageWriter(dst)
	s := &splice{log: l, next: next, w: w, out: &Continued{Stored: l.Stream.Document.Jetsam.Entries()}}
	done, err := w.run(ctx, next.Cut, s.feed)
	if err != nil {
		return nil, err
	}
	if s.tail != nil {
		s.left += s.tail.left
	}
	s.out.Stored += done.Count - s.left
	s.out.Tree, s.out.Time, s.out.NewBytes = done.Tree, done.Time, done.NewBytes
	s.out.First, s.out.cleared = s.w.lib.first(), NewDead(slices.Values(done.ranges))
	s.out.Dead = NewDead(func(yield func(Run) bool) {
		for _, r := range s.touched {
			for d := range next.Dead.Within(r.First, r.Last).Runs() {
				if !yield(d) {
					return
				}
			}
		}
	})
	return s.out, nil
}

// splice puts an earlier log and new messages together.
type splice struct {
	log  *Log
	next Next
	w    *messageWriter
	out  *Continued

	alive   uint64 // of the earlier log, and alive still
	left    uint64 // entries of the earlier log that are not where they were
	tail    *tail  // of the earlier log
	touched []Run  // groups that stay, and hold dead entries
}

func (s *splice) feed(ctx context.Context, g *grouper) error {
	for i, p := range s.log.parts {
		if p.First > s.next.Through {
			if err := s.drop(ctx, i); err != nil {
				return err
			}
			continue
		}
		if err := s.part(ctx, g, i); err != nil {
			return err
		}
	}
	if have := s.next.Through - s.next.Dead.Count(1, s.next.Through); have != s.alive {
		return fmt.Errorf("%w: the stream has %d messages up to %d, of which it holds %d", ErrUnfit, have, s.next.Through, s.alive)
	}
	s.tail = g.tail
	return g.addAll(s.count(s.next.Messages))
}

// count notes the messages that pass.
func (s *splice) count(next func() (*archive.Message, error)) func() (*archive.Message, error) {
	return func() (*archive.Message, error) {
		m, err := next()
		if err != nil {
			return nil, err
		}
		out := &s.out.Came
		if out.Count++; out.Count == 1 {
			out.First = m.Seq
		}
		e := entryOf(m, 0)
		out.Last, out.Content, out.Largest = e.seq, out.Content+e.content, max(out.Largest, e.size)
		return m, nil
	}
}

// drop leaves out a part that lies behind what both logs hold.
func (s *splice) drop(ctx context.Context, i int) error {
	groups, err := s.log.groupsOf(ctx, i)
	for _, g := range groups {
		s.left += g.Messages
	}
	return err
}

// isLast says whether the log ends with part i, as far as it is kept.
func (s *splice) isLast(i int) bool {
	return i+1 == len(s.log.parts) || s.log.parts[i+1].First > s.next.Through
}

// part goes on with part i: as it is, without some of its groups, or with its living entries stored anew.
func (s *splice) part(ctx context.Context, g *grouper, i int) error {
	p, last := s.log.parts[i], s.isLast(i)
	if end := s.log.end(i, s.next.Through); !last && s.next.Full {
		s.alive += end - p.First + 1 - s.next.Dead.Count(p.First, end)
		s.touched = append(s.touched, Run{p.First, end})
		return s.keepPart(ctx, p)
	}
	groups, err := s.log.groupsOf(ctx, i)
	if err != nil {
		return err
	}
	p.groups = nil               // a log has very many of them
	var all, whole, alive uint64 // bytes: of the groups, of those with life, and of what lives
	changed := false
	for j := range groups {
		x := &groups[j]
		if x.fate, err = s.judge(ctx, *x); err != nil {
			return err
		}
		s.alive += x.alive
		if all += x.Bytes; x.alive > 0 {
			whole += x.Bytes
			alive += x.Bytes / x.Messages * x.alive
		}
		changed = changed || !x.stays && !x.spent
	}
	switch {
	case 2*alive < whole:
		for _, x := range groups {
			if err := s.refeed(ctx, g, x); err != nil {
				return err
			}
		}
	case !changed && !last && muchSpent*(all-whole) < all:
		for _, x := range groups {
			s.touch(x)
		}
		return s.keepPart(ctx, p)
	default:
		err = s.keepGroups(ctx, g, groups, last)
	}
	if err != nil || last {
		return err
	}
	if err := g.cutHere(); err != nil {
		return err
	}
	return s.w.then(ctx, s.w.lib.cutPart)
}

// muchSpent is how large a share of a part's bytes, as one in so many, groups without life may be at the most. To leave them out is to write the list of
// the others anew, which is not worth it for each.
const muchSpent = 8

// fate is what becomes of a group.
type fate struct {
	alive   uint64 // entries that live
	stays   bool   // it stays where it is
	spent   bool   // nothing of it lives, and it may stay for a while
	touched bool   // it holds dead entries
}

// judge says what becomes of a group. What the stream has of its sequences must be among what lived in it: a message that was dead and is back,
// as after the restore of an older snapshot, makes the log ErrUnfit.
func (s *splice) judge(ctx context.Context, x logGroup) (fate, error) {
	if x.First > s.next.Through {
		return fate{}, nil
	}
	before := s.log.Dead.Count(x.First, x.Last)
	last := min(x.Last, s.next.Through)
	alive := last - x.First + 1 - s.next.Dead.Count(x.First, last)
	whole := last == x.Last
	f := fate{alive: alive, stays: alive > 0 && whole, spent: alive == 0 && whole, touched: before > 0 || alive < x.Messages}
	switch {
	case before > 0 && s.log.Dead.Within(x.First, last).Minus(s.next.Dead).Len() > 0:
		return fate{}, fmt.Errorf("%w: of messages %d to %d some are back that were gone", ErrUnfit, x.First, last)
	case before == 0 && f.stays && x.Last-x.First+1 > x.Messages:
		// Which sequences it lacks only its entries say. From now on the file of the dead does.
		f.touched = true
		return f, s.readLiving(ctx, x)
	}
	return f, nil
}

// readLiving reads what lives of a group, and wants it to be all that the stream has there.
func (s *splice) readLiving(ctx context.Context, x logGroup) error {
	for next := s.living(ctx, x); ; {
		if _, err := next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// touch notes a group that stays and holds dead entries.
func (s *splice) touch(x logGroup) {
	if x.touched {
		s.touched = append(s.touched, Run{x.First, x.Last})
	}
}

func (s *splice) keepPart(ctx context.Context, p *logPart) error {
	return s.w.then(ctx, func(ctx context.Context) error { return s.w.lib.keep(ctx, p) })
}

// refeed gives the grouper what lives of a group.
func (s *splice) refeed(ctx context.Context, g *grouper, x logGroup) error {
	s.left += x.Messages
	if x.alive == 0 {
		return nil
	}
	return g.addAll(s.living(ctx, x))
}

// living yields the living entries of a group, up to the last common one, and wants them to be all that the stream has there.
func (s *splice) living(ctx context.Context, x logGroup) func() (*archive.Message, error) {
	next, isDead := s.log.entries(ctx, x), s.next.Dead.Ascending()
	last := min(x.Last, s.next.Through)
	want := last - x.First + 1 - s.next.Dead.Count(x.First, last)
	var n uint64
	return func() (*archive.Message, error) {
		for {
			m, err := next()
			if err == io.EOF && n != want {
				return nil, fmt.Errorf("%w: the stream has %d messages from %d to %d, of which it holds %d", ErrUnfit, want, x.First, last, n)
			}
			if err != nil {
				return nil, err
			}
			if m.Seq <= s.next.Through && !isDead(m.Seq) {
				n++
				return m, nil
			}
		}
	}
}

// keepGroups leaves the groups that stay as they are. Those of the tail wait for what comes behind them.
func (s *splice) keepGroups(ctx context.Context, g *grouper, groups []logGroup, last bool) error {
	for j, x := range groups {
		var err error
		switch {
		case !x.stays:
			err = s.refeed(ctx, g, x)
		case last && inTail(groups[j:]):
			s.addToTail(ctx, g, x)
		default:
			err = s.keepGroup(ctx, x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inTail says whether the first of the groups belongs to the tail.
func inTail(groups []logGroup) bool {
	for _, x := range groups {
		if !x.Tail || len(x.ids) != 1 {
			return false
		}
	}
	return true
}

func (s *splice) addToTail(ctx context.Context, g *grouper, x logGroup) {
	if g.tail == nil {
		g.tail = &tail{
			read: func(x logGroup) (*pieces, error) { return s.readTail(ctx, x) },
			keep: func(x logGroup) error { return s.keepGroup(ctx, x) },
		}
	}
	g.tail.groups = append(g.tail.groups, x)
}

// readTail reads what lives of a group of the tail.
func (s *splice) readTail(ctx context.Context, x logGroup) (*pieces, error) {
	var p pieces
	var plain []byte
	next := s.living(ctx, x)
	for {
		m, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		plain = append(plain, m.Raw...)
		p.note(entryOf(m, len(plain)))
	}
	p.plain = [][]byte{plain}
	return &p, nil
}

// keepGroup puts a group where it was.
func (s *splice) keepGroup(ctx context.Context, x logGroup) error {
	s.touch(x)
	size, err := s.log.sizeOf(x)
	if err != nil {
		return err
	}
	kept := &savedGroup{pieces: &pieces{Group: x.Group}, ids: x.ids, size: size}
	return s.w.then(ctx, func(ctx context.Context) error { return s.w.lib.place(ctx, kept) })
}

// Save stores the stream's directory with the log that m continued, as SaveStream does. doc and head say how the stream is.
func (l *Log) Save(ctx context.Context, dst Saver, name string, doc *Document, head *archive.Head, m *Continued) (*snapshot.Node, uint64, error) {
	// Where no group lies any more, it does not matter what is said to be dead, and leaving it saves storing it anew.
	dead := m.Dead.Union(l.Dead.Minus(m.cleared))
	if dead.Len()/2 > m.Dead.Len() {
		dead = m.Dead
	}
	file, err := SaveDead(ctx, dst, l.Stream, dead)
	if err != nil {
		return nil, 0, err
	}
	return SaveStream(ctx, dst, name, doc, head, &Messages{Tree: m.Tree, Time: m.Time, Count: m.Stored, First: m.First, NewBytes: m.NewBytes, Dead: file})
}
