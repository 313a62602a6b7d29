package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// A stream as it was at a time between two snapshots is what the one before has, and what the one after has of the messages that came since
// and by then. Which of the messages died in between, and when, nobody wrote down, but for those that a newer message replaced: these are
// found by what the server does (overtaken.go).

// meantime is what is known of a stream between its snapshot and the next one, where the plan is for a time between them.
type meantime struct {
	capturedAt time.Time          // for its own snapshot
	next       *snapshot.Snapshot // the next one that has the stream; nil: none
	inNext     entry              // its directory there
	later      *log               // of next, where something came by the time; nil: nothing
	reached    uint64             // the last sequence that next has of it

	// Messages: those that came by the time and next has; the stream's own that next has no more, and of these the ones that certainly were
	// gone by the time; and those that may have come by then and no snapshot has.
	came, died, replaced, unknown uint64
}

// between adds the messages that came between the stream's snapshot and the time of the plan, as the next snapshot has them.
func (p *Plan) between(ctx context.Context, s *StreamPlan) error {
	at := p.Options.Cut.At
	if trimmed, err := p.trim(ctx, s); trimmed || err != nil {
		return err
	}
	if s.next == nil {
		s.warning("it is restored as snapshot %s has it, of %s: no later snapshot has it, and what came by %s is not known", s.snapshot, when(s.capturedAt), when(at))
		return nil
	}
	later, err := p.openNext(ctx, s)
	var all []stretch
	if err == nil {
		all, err = later.open(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case repo.IsUnread(err):
		return fmt.Errorf("snapshot %s: %w", s.next.ID().Short(), err)
	case err != nil:
		return fmt.Errorf("stream %s: snapshot %s, which has what came by %s, cannot be used: %w; naming snapshot %s restores what that one has",
			s.Source, s.next.ID().Short(), when(at), err, s.snapshot)
	}
	same, err := p.sameLife(ctx, s, later, all)
	if err != nil {
		return err
	}
	if !same {
		s.warning("it is restored as snapshot %s has it, of %s: what snapshot %s has under its name did not go on from that, and what came by %s is not known",
			s.snapshot, when(s.capturedAt), s.next.ID().Short(), when(at))
		return nil
	}
	if err := p.add(ctx, s, later, all); err != nil {
		return err
	}
	if s.came > 0 && p.Options.Target.Config == nil {
		if err := s.widen(later); err != nil {
			return fmt.Errorf("stream %s: snapshot %s: %w", s.Source, s.next.ID().Short(), err)
		}
	}
	return p.overtake(ctx, s, later, all)
}

// trim leaves out what the stream's own snapshot has of messages that came after the time: a capture takes a moment, and is dated at its
// beginning. Then nothing can be added.
func (p *Plan) trim(ctx context.Context, s *StreamPlan) (trimmed bool, err error) {
	last, err := p.lastAt(ctx, s.stretches, p.Options.Cut.At)
	if err != nil || last >= s.log.state.LastSeq {
		return false, err
	}
	if last == 0 {
		return false, nil // all of it is younger: its times are not those of when it came
	}
	s.log.want.Last = last
	s.stretches = clip(s.stretches)
	return true, p.readStretches(ctx, s, isNarrow)
}

// openNext opens the stream in the next snapshot.
func (p *Plan) openNext(ctx context.Context, s *StreamPlan) (*log, error) {
	held, err := s.inNext.open(ctx, p.rd)
	if err != nil {
		return nil, err
	}
	return &log{name: s.Source, held: held, want: everything}, nil
}

// mostCompared is how many stretches are read to find a message that two logs have in common.
const mostCompared = 16

// sameLife says whether the later log goes on from the stream's: the last message that is alive in both is the same, and above it the later
// one has none that the stream's had not. Of a stream that was made anew in between, it must be the last one that the stream had.
func (p *Plan) sameLife(ctx context.Context, s *StreamPlan, later *log, all []stretch) (bool, error) {
	earlier, doc := s.log.held.Document.Jetsam, later.held.Document.Jetsam
	undisturbed := doc.Recreated == "" && !doc.Created.IsZero() && doc.Created.Equal(earlier.Created)
	top := s.log.state.LastSeq
	if later.state.LastSeq < top {
		return false, nil
	}
	for i := len(s.stretches) - 1; i >= max(0, len(s.stretches)-mostCompared); i-- {
		x := &s.stretches[i]
		c, err := p.compareLives(ctx, s.stretches[i:i+1], all, x.First, top)
		switch {
		case err != nil:
			return false, err
		case c.differs:
			return false, nil
		case c.common > 0:
			return undisturbed || i == len(s.stretches)-1 && c.common == c.last, nil
		}
		top = x.First - 1
	}
	return undisturbed, nil
}

// likeness is what two logs have in common.
type likeness struct {
	differs bool   // the later one has a message that the earlier had not, or had otherwise
	common  uint64 // sequence of the last message of both; 0: there is none
	last    uint64 // of the last message of the earlier one
}

// compareLives compares the living messages of two logs from first to last, side by side. Where something of them cannot be read, nothing is
// found.
func (p *Plan) compareLives(ctx context.Context, earlier, later []stretch, first, last uint64) (c likeness, err error) {
	had := &lifeline{p: p, ctx: ctx, rest: earlier, first: first, last: last}
	has := &lifeline{p: p, ctx: ctx, rest: later, first: first, last: last}
	h, g := had.next(), has.next()
	for h != nil || g != nil {
		switch {
		case g == nil || h != nil && h.Seq < g.Seq: // it died
			c.last = h.Seq
			h = had.next()
		case h == nil || g.Seq < h.Seq || !bytes.Equal(h.Raw, g.Raw):
			c.differs = true
			h, g = nil, nil
		default:
			c.common, c.last = h.Seq, h.Seq
			h, g = had.next(), has.next()
		}
	}
	if err := had.stopped(); err != nil {
		return likeness{}, err
	}
	if err := has.stopped(); err != nil {
		return likeness{}, err
	}
	if had.broken || has.broken {
		return likeness{}, nil
	}
	return c, nil
}

// add puts those messages of the later log into the plan that came by the time, and counts what is not known.
func (p *Plan) add(ctx context.Context, s *StreamPlan, later *log, all []stretch) error {
	before, end := s.log.state.LastSeq, later.state.LastSeq
	s.reached = end
	last, err := p.lastAt(ctx, all, p.Options.Cut.At)
	if err != nil {
		return err
	}
	last = max(before, min(last, end))
	if len(all) == 0 {
		last = before
	}
	kept, err := p.within(ctx, all, 1, before)
	if err != nil {
		return err
	}
	had := s.log.held.Document.Jetsam.Messages
	s.died = had - min(had, kept.Messages)
	after, err := p.within(ctx, all, last+1, end)
	if err != nil {
		return err
	}
	next := end + 1 // the first message that came after the time and was still there
	if after.Messages > 0 {
		next = after.FirstSeq
	}
	s.unknown = next - 1 - before
	if last == before {
		return nil
	}
	later.want = streamlog.Run{First: before + 1, Last: last}
	s.later, s.stretches = later, append(s.stretches, clip(all)...)
	if err := p.readStretches(ctx, s, isNarrow); err != nil {
		return err
	}
	s.came = s.countOf(later)
	s.unknown -= min(s.unknown, s.came)
	return nil
}

// within counts the living messages of stretches from first to last. Only stretches that lie across a bound are read; what is lost of them is
// left out.
func (p *Plan) within(ctx context.Context, stretches []stretch, first, last uint64) (t archive.Tally, err error) {
	for i := range stretches {
		x := &stretches[i]
		if x.Last < first || x.First > last {
			continue
		}
		if x.First >= first && x.Last <= last {
			if t.Messages == 0 {
				t.FirstSeq = x.First
			}
			t.Messages += x.Messages
			continue
		}
		part := &lifeline{p: p, ctx: ctx, rest: stretches[i : i+1], first: first, last: last}
		for m := part.next(); m != nil; m = part.next() {
			if t.Messages == 0 {
				t.FirstSeq = m.Seq
			}
			t.Messages++
		}
		if err := part.stopped(); err != nil {
			return t, err
		}
	}
	return t, nil
}

// countOf is how many messages of a log are restored.
func (s *StreamPlan) countOf(l *log) (n uint64) {
	for i := range s.stretches {
		if x := &s.stretches[i]; x.log == l {
			n += x.Messages
		}
	}
	return n
}

// lifeline goes through the living messages of stretches, from first to last.
type lifeline struct {
	p           *Plan
	ctx         context.Context
	rest        []stretch
	first, last uint64
	broken      bool  // something is damaged, and was passed over
	unread      error // why it ended early: the storage does not give something just now

	at   *stretch
	from func() (*archive.Message, error)
}

// stopped is why it ended early, or nil.
func (w *lifeline) stopped() error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	return w.unread
}

// next is the next message, which is valid until the one after that, or nil.
func (w *lifeline) next() *archive.Message {
	for w.stopped() == nil {
		if w.from == nil && len(w.rest) == 0 {
			return nil
		}
		if w.from == nil {
			x := &w.rest[0]
			w.rest = w.rest[1:]
			switch {
			case x.First > w.last:
				w.rest = nil
			case x.Last < w.first:
			case x.lost():
				w.broken = true
			default:
				w.at, w.from = x, x.log.living(w.p.reader(w.ctx, x))
			}
			continue
		}
		m, err := w.from()
		switch {
		case err == nil && m.Seq >= w.first && m.Seq <= w.last:
			return m
		case repo.IsUnread(err):
			w.unread = w.at.unreadable(err)
		case err != nil:
			w.broken = w.broken || !errors.Is(err, io.EOF)
			w.from = nil
		}
	}
	return nil
}

// tellGaps says what the stream is restored as, and what is not known about the time between the snapshots.
func (p *Plan) tellGaps(s *StreamPlan) {
	if s.came+s.died+s.unknown == 0 {
		return
	}
	text := fmt.Sprintf("it is restored as snapshot %s has it, of %s", s.snapshot, when(s.capturedAt))
	if c := p.Options.Cut; c.FromSeq > 0 || c.UntilSeq > 0 || !c.Since.IsZero() || len(c.Subjects) > 0 {
		text += ", within the bounds that were given; of the whole stream"
	}
	if s.came > 0 {
		text += fmt.Sprintf(", with %s that came by %s, which snapshot %s has", count(s.came, "message"), when(p.Options.Cut.At), s.next.ID().Short())
	}
	if s.died > s.replaced {
		text += fmt.Sprintf("; %s of it had been deleted when snapshot %s was taken, nobody knows since when: restored", count(s.died-s.replaced, "message"), s.next.ID().Short())
	}
	if s.unknown > 0 {
		text += fmt.Sprintf("; up to %s had come by then and been deleted when snapshot %s was taken: no snapshot has any of that", count(s.unknown, "message more", "messages more"), s.next.ID().Short())
	}
	s.warning("%s", text)
}

// count is a number with its noun, whose plural ends in s where none is given.
func count(n uint64, noun string, plural ...string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case len(plural) > 0:
		return digits.Grouped(n) + " " + plural[0]
	}
	return digits.Grouped(n) + " " + noun + "s"
}
