package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// A stream as it was at a time between two snapshots is what the one before has, and what the one after has of the messages that came since
// and by then. Which of the messages died in between, and when, nobody wrote down, but for those that a newer message replaced: these are
// found by what the server does (overtaken.go).

// between adds the messages that came between the stream's snapshot and the time of the plan, as the next snapshot has them.
func (p *Plan) between(ctx context.Context, s *StreamPlan) error {
	at := p.Options.Cut.At
	if s.next == nil {
		s.warning("it is restored as snapshot %s has it, of %s: no later snapshot has it, and what came by %s is not known", s.snapshot, when(s.capturedAt), when(at))
		return nil
	}
	later, err := p.openNext(ctx, s)
	if err != nil {
		return fmt.Errorf("stream %s: snapshot %s, which has what came by %s, cannot be used: %w; --at %s restores what snapshot %s has",
			s.Source, s.next.ID().Short(), when(at), err, s.capturedAt.UTC().Format("2006-01-02T15:04:05.999999999Z"), s.snapshot)
	}
	came, err := later.chart(ctx)
	if err != nil {
		return err
	}
	same, err := p.sameLife(ctx, s, later, came)
	if err != nil {
		return err
	}
	if !same {
		s.warning("it is restored as snapshot %s has it, of %s: what snapshot %s has under its name did not go on from that, and what came by %s is not known",
			s.snapshot, when(s.capturedAt), s.next.ID().Short(), when(at))
		return nil
	}
	return p.add(ctx, s, later, came)
}

// add puts those messages of the later log into the plan that came by the time, and counts what is not known.
func (p *Plan) add(ctx context.Context, s *StreamPlan, later *log, came []stretch) error {
	before, end := s.log.state.LastSeq, later.state.LastSeq
	last, err := p.lastAt(ctx, came, p.Options.Cut.At)
	if err != nil {
		return err
	}
	last = max(before, min(last, end))
	kept, err := p.within(ctx, came, 1, before)
	if err != nil {
		return err
	}
	s.died = s.log.held.Document.Jetsam.Messages - min(s.log.held.Document.Jetsam.Messages, kept.Messages)
	after, err := p.within(ctx, came, last+1, end)
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
	s.later, s.stretches = later, append(s.stretches, clip(came)...)
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
		part, err := p.aliveIn(ctx, stretches[i:i+1], first, last)
		if err != nil {
			return t, err
		}
		for seq := range part {
			if t.Messages == 0 || seq < t.FirstSeq {
				t.FirstSeq = seq
			}
			t.Messages++
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

// openNext opens the stream in the next snapshot.
func (p *Plan) openNext(ctx context.Context, s *StreamPlan) (*log, error) {
	held, err := streamlog.OpenStream(ctx, p.rd, s.next.Tree, s.Source)
	if err != nil {
		return nil, err
	}
	l := &log{name: s.Source, held: held, want: everything}
	if err := l.readDead(ctx); err != nil {
		return nil, err
	}
	if l.state, err = archive.ParseState(held.Document.State); err != nil {
		return nil, err
	}
	return l, l.checkClaims()
}

// mostCompared is how many stretches are read to find a message that two logs have in common.
const mostCompared = 16

// sameLife says whether the later log goes on from the stream's: the last message that is alive in both is the same, and above it the later
// one has none that the stream's had not.
func (p *Plan) sameLife(ctx context.Context, s *StreamPlan, later *log, came []stretch) (bool, error) {
	top := s.log.state.LastSeq
	if later.state.LastSeq < top {
		return false, nil
	}
	for i := len(s.stretches) - 1; i >= max(0, len(s.stretches)-mostCompared); i-- {
		x := &s.stretches[i]
		had, err := p.aliveIn(ctx, []stretch{*x}, x.First, top)
		if err != nil {
			return false, err
		}
		has, err := p.aliveIn(ctx, came, x.First, top)
		if err != nil {
			return false, err
		}
		common := false
		for seq, raw := range has {
			was, found := had[seq]
			if !found || !bytes.Equal(was, raw) {
				return false, nil
			}
			common = true
		}
		if common {
			return true, nil
		}
		top = x.First - 1
	}
	earlier, doc := s.log.held.Document.Jetsam, later.held.Document.Jetsam
	return doc.Recreated == "" && doc.Created.Equal(earlier.Created), nil
}

// aliveIn reads the messages of stretches that are alive, from first to last. What is lost is left out.
func (p *Plan) aliveIn(ctx context.Context, stretches []stretch, first, last uint64) (map[uint64][]byte, error) {
	out := map[uint64][]byte{}
	for i := range stretches {
		x := &stretches[i]
		if x.lost() || x.Last < first || x.First > last {
			continue
		}
		next := x.log.living(p.reader(ctx, x))
		for {
			m, err := next()
			if errors.Is(err, io.EOF) {
				break
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil {
				break // it will be seen when it is to be sent
			}
			if m.Seq >= first && m.Seq <= last {
				out[m.Seq] = bytes.Clone(m.Raw)
			}
		}
	}
	return out, nil
}

// tellGaps says what the stream is restored as, and what is not known about the time between the snapshots.
func (p *Plan) tellGaps(s *StreamPlan) {
	text := fmt.Sprintf("it is restored as snapshot %s has it, of %s", s.snapshot, when(s.capturedAt))
	if s.came > 0 {
		text += fmt.Sprintf(", with %s that came by %s, which snapshot %s has", count(s.came, "message"), when(p.Options.Cut.At), s.next.ID().Short())
	}
	if s.died > s.replaced {
		text += fmt.Sprintf("; %s of it had been deleted when snapshot %s was taken, nobody knows since when: restored", count(s.died-s.replaced, "message"), s.next.ID().Short())
	}
	if s.unknown > 0 {
		text += fmt.Sprintf("; up to %s had come by then and been deleted when snapshot %s was taken: no snapshot has any of that", count(s.unknown, "message more", "messages more"), s.next.ID().Short())
	}
	if s.came+s.died+s.unknown > 0 {
		s.warning("%s", text)
	}
}

// count is a number with its noun, whose plural ends in s where none is given.
func count(n uint64, noun string, plural ...string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case len(plural) > 0:
		return fmt.Sprintf("%d %s", n, plural[0])
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
