package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

const (
	// settleTime is how long a server at most goes on with a restore of which it hears nothing more: 5 s (nats-server 2.15,
	// processStreamRestore), and a little.
	settleTime = 6 * time.Second

	// reuseTime is how long after its removal a stream's name is left alone: a server may give a stream that is created sooner some
	// messages of the removed one.
	reuseTime = 500 * time.Millisecond

	// clockSkew is how far a server's clock may be from that of the machine that began a restore.
	clockSkew = time.Hour
)

// Leftover is what an earlier run of jetsam left under a stream's name: it ended before its restore did.
type Leftover struct {
	Run      string
	Snapshot string // the beginning of the ID of the snapshot it restored
	Began    time.Time
	Messages uint64
	Whole    bool // it has everything: only its mark is to be taken off. Else it is removed, and the stream restored anew.

	info *jetstream.StreamInfo
}

// wantsVerifying says whether the stream must be read back whole: nobody saw all of it arrive, and nothing has come since.
func (l *Leftover) wantsVerifying() bool { return l != nil && l.Whole && !usedSince(l.info) }

// findLeftovers recognises streams that are there because an earlier restore did not end. What must not be touched becomes a conflict.
func (p *Plan) findLeftovers(ctx context.Context, there map[string]*jetstream.StreamInfo) error {
	for _, s := range p.Streams {
		info := there[s.Name]
		m, ok := unfinishedRestore(info)
		if !ok || !s.sends() {
			continue
		}
		if err := p.judge(ctx, s, info, m); err != nil {
			return err
		}
	}
	return nil
}

// judge decides what becomes of a marked stream.
func (p *Plan) judge(ctx context.Context, s *StreamPlan, info *jetstream.StreamInfo, m marker) error {
	since := m.began.Format(time.DateTime)
	present, err := p.conn.Present(ctx, m.run)
	var refused *jetstream.PermissionError
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	if present {
		s.conflict("wait until that has ended, and look at what it says", "another run of jetsam, since %s, is restoring it right now", since)
		return nil
	}
	consumers, err := p.conn.Consumers(ctx, s.Name)
	if err != nil {
		return err
	}
	snapshot, _, _ := strings.Cut(m.snapshot, "-")
	left := &Leftover{Run: m.run, Snapshot: snapshot, Began: m.began, Messages: info.Messages, info: info}
	left.Whole = m.snapshot == p.mark(s) && s.isWhole(info, consumers)
	switch strangers := s.strangers(consumers); {
	case left.Whole:
		s.warning("a restore of this snapshot that began on %s brought all of it, but did not end: it will be compared and ended", since)
		if len(strangers) > 0 {
			s.warning("it has consumers that this restore does not bring, and they stay: %s", strings.Join(strangers, ", "))
		}
	case usedSince(info):
		s.conflict("save what came if it matters, then delete the stream and restore again",
			"an unfinished restore of %s left it incomplete, with %d messages, and messages came into it since", since, info.Messages)
		return nil
	case len(strangers) > 0:
		s.conflict("delete the stream if nobody needs that consumer, and restore again",
			"an unfinished restore of %s left it incomplete, with %d messages, and consumer %s was added to it since", since, info.Messages, strangers[0])
		return nil
	default:
		s.warning("an unfinished restore of %s, of snapshot %s, left %s messages under this name: that stream will be removed and restored anew", since, snapshot, digits.Grouped(info.Messages))
	}
	s.Leftover = left
	return nil
}

// isWhole says whether the server's stream is, by all that it reports, what the snapshot holds, and whatever came since.
func (s *StreamPlan) isWhole(info *jetstream.StreamInfo, consumers []*jetstream.ConsumerInfo) bool {
	diff := &DifferenceError{}
	config, err := jetstream.WithoutMetadata(info.Config, markerName)
	if err != nil {
		return false
	}
	s.compareConfig(config, diff)
	return diff.Count == 0 && s.hasConsumers(consumers) && s.allThere(info)
}

// allThere says whether a stream has as many messages as the snapshot, besides those that came after its last.
func (s *StreamPlan) allThere(info *jetstream.StreamInfo) bool {
	if info.LastSeq < s.state.LastSeq || info.LastSeq > s.state.LastSeq && !usedSince(info) || info.Messages != s.Messages+info.LastSeq-s.state.LastSeq {
		return false
	}
	return s.Messages == 0 || info.FirstSeq >= s.state.FirstSeq && info.FirstSeq <= s.state.LastSeq
}

// hasConsumers says whether all consumers of the snapshot are among those.
func (s *StreamPlan) hasConsumers(found []*jetstream.ConsumerInfo) bool {
	have := make(map[string]bool, len(found))
	for _, c := range found {
		have[c.Name] = true
	}
	for _, c := range s.head.Consumers {
		if !have[c.Name] {
			return false
		}
	}
	return true
}

// strangers are consumers that are not restored.
func (s *StreamPlan) strangers(consumers []*jetstream.ConsumerInfo) (names []string) {
	ours := make(map[string]bool, len(s.head.Consumers))
	for _, c := range s.head.Consumers {
		ours[c.Name] = true
	}
	for _, c := range consumers {
		if !ours[c.Name] {
			names = append(names, c.Name)
		}
	}
	return names
}

// settleRounds is how often a stream may still change before it counts as in use. A cluster goes on to apply, or to lose, messages of a
// failed restore for a while (seen with nats-server 2.15).
const settleRounds = 5

// settle waits until the server has certainly ended an earlier run's restore, and fails if somebody uses the stream.
func (t *transfer) settle(ctx context.Context) error {
	left := t.s.Leftover
	for range settleRounds {
		if err := pause(ctx, settleTime); err != nil {
			return err
		}
		now, err := t.plan.conn.Stream(ctx, t.s.Name)
		if err != nil {
			return err
		}
		if !isOf(now, left.Run) || !left.Whole && usedSince(now) {
			break
		}
		quiet := now.Messages == left.info.Messages && now.LastSeq == left.info.LastSeq
		left.info = now
		if quiet || left.Whole {
			return nil
		}
	}
	return t.s.refused("the unfinished stream on the server changed while it was looked at: another run may be restoring it, or somebody uses it", "see what changes it, then restore again")
}

// clear removes what an earlier run left, if nothing has happened to it since the plan was made.
func (t *transfer) clear(ctx context.Context) error {
	if err := t.settle(ctx); err != nil {
		return err
	}
	if err := t.deleteStream(ctx); err != nil {
		return fmt.Errorf("remove what an unfinished restore left: %w", err)
	}
	t.note("what an unfinished restore of %s had left was removed", t.s.Leftover.Began.Format(time.DateTime))
	return pause(ctx, reuseTime)
}

// finish ends what an earlier run did not: it has brought everything.
func (t *transfer) finish(ctx context.Context) error {
	if err := t.settle(ctx); err != nil {
		return err
	}
	s := t.s
	t.tally = archive.Tally{Messages: s.Messages, FirstSeq: s.Leftover.info.FirstSeq, LastSeq: s.Leftover.info.LastSeq}
	if s.Messages > 0 {
		t.tally.LastSeq = min(t.tally.LastSeq, s.state.LastSeq)
	}
	t.content = s.Bytes
	t.note("an earlier restore had brought all of it; it was compared and ended")
	return t.conclude(ctx)
}

// refused is the error of a stream that the server did not take, and of which nothing was created.
func (s *StreamPlan) refused(reason, advice string) error {
	return &ConflictError{Conflicts: []Conflict{{Stream: s.Name, Reason: reason, Advice: advice}}}
}
