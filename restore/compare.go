package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// compare holds the server's report against what was sent: the configuration, the counts of the messages, where each consumer stands. A
// stream is live as soon as it is restored: what came since is a note.
func (t *transfer) compare(ctx context.Context) error {
	info, err := t.plan.conn.Stream(ctx, t.s.Name)
	if err != nil {
		return fmt.Errorf("its messages are all there, but the server does not tell of it: %w", err)
	}
	got, err := archive.ParseState(info.State)
	if err != nil {
		return err
	}
	consumers, err := t.consumers(ctx, info)
	if err != nil {
		return fmt.Errorf("its messages were all sent, but its consumers cannot be listed: %w", err)
	}
	if err := t.compareState(got, !t.plan.Options.Target.Alone && t.s.mayBeTaken(consumers)); err != nil {
		if err := t.explain(ctx, got, err); err != nil {
			return err
		}
	}
	diff := &DifferenceError{}
	t.s.compareConfig(info.Config, diff)
	t.compareCounts(info, diff)
	t.comparePositions(consumers, t.lastOf(ctx, info, consumers), diff)
	if diff.Count > 0 {
		return diff
	}
	return nil
}

// consumersPatience is how long the consumers of a restored stream are waited for in a cluster.
const consumersPatience = 15 * time.Second

// consumers are those of the restored stream. A cluster makes them one by one after the stream, and elects a leader for each: until then they are
// not listed, or nobody says more of them.
func (t *transfer) consumers(ctx context.Context, info *jetstream.StreamInfo) ([]*jetstream.ConsumerInfo, error) {
	for deadline := time.Now().Add(consumersPatience); ; {
		found, err := t.plan.conn.Consumers(ctx, t.s.Name)
		var missing *jetstream.MissingError
		there := err == nil && t.s.hasConsumers(found) || err != nil && !errors.As(err, &missing) && !errors.Is(err, jetstream.ErrUnreachable)
		if there || info.Cluster == nil || time.Now().After(deadline) || pause(ctx, reuseTime) != nil {
			return found, err
		}
	}
}

// lastOf is the last sequence of the stream that info tells of. The stream is live: where a consumer is ahead of that, it is asked for again.
func (t *transfer) lastOf(ctx context.Context, info *jetstream.StreamInfo, consumers []*jetstream.ConsumerInfo) uint64 {
	if !slices.ContainsFunc(consumers, func(c *jetstream.ConsumerInfo) bool { return c.Delivered.Stream > info.LastSeq }) {
		return info.LastSeq
	}
	if again, err := t.plan.conn.Stream(ctx, t.s.Name); err == nil {
		return again.LastSeq
	}
	return info.LastSeq
}

// mayBeTaken says whether consumers may have taken messages out of the stream already: it keeps what they have not acknowledged, and some are
// in use.
func (s *StreamPlan) mayBeTaken(found []*jetstream.ConsumerInfo) bool {
	if !s.keepsUntilAcknowledged() {
		return false
	}
	sent := make(map[string]archive.Consumer, len(s.head.Consumers))
	for _, c := range s.head.Consumers {
		sent[c.Name] = c
	}
	for _, got := range found {
		c, ours := sent[got.Name]
		if !ours && got.Delivered.Stream > 0 {
			return true
		}
		want, err := archive.ParseConsumer(c.JSON)
		if err != nil {
			continue
		}
		if behind, moved := comparePosition(want, got); behind == "" && moved {
			return true
		}
	}
	return false
}

// keepsUntilAcknowledged says whether the stream lets go of a message when its consumers have acknowledged it.
func (s *StreamPlan) keepsUntilAcknowledged() bool {
	return s.config.Retention == "workqueue" || s.config.Retention == "interest"
}

// compareState compares the counts of messages; taken is whether consumers may have taken some.
func (t *transfer) compareState(got archive.State, taken bool) error {
	first, last := t.s.state.FirstSeq, t.s.state.LastSeq
	if t.tally.Messages > 0 {
		first = t.tally.FirstSeq
	}
	var came uint64
	if got.LastSeq > last {
		came = got.LastSeq - last
	}
	whole := got.Messages == t.tally.Messages+came && got.LastSeq >= last
	if whole && t.tally.Messages > 0 {
		whole = got.FirstSeq == first
	}
	if sent := t.tally.Messages + came; !whole && taken && got.LastSeq >= last && got.Messages <= sent {
		t.note("its consumers are in use, and have taken %s messages already", digits.Grouped(sent-got.Messages))
		whole = true
	}
	if sent := t.tally.Messages + came; !whole && t.past > 0 && got.LastSeq >= last && got.Messages <= sent && got.Messages+t.past >= sent {
		t.gone = sent - got.Messages
		whole = true
	}
	if !whole {
		return fmt.Errorf("the server reports %s messages, sequences %d to %d; sent were %s, %d to %d%s",
			digits.Grouped(got.Messages), got.FirstSeq, got.LastSeq, digits.Grouped(t.tally.Messages), first, last, t.likelyCause(got, came))
	}
	if t.past > 0 {
		t.note("%s messages have expired, or soon will: the server removes them, %s are gone already", digits.Grouped(t.past), digits.Grouped(t.gone))
	}
	if came > 0 {
		t.tellCame(came)
	}
	return nil
}

// explain reads the stream back where its counts differ and messages that came may be why: what these have taken the place of is a note. Only what they
// do not explain is an error.
func (t *transfer) explain(ctx context.Context, got archive.State, why error) error {
	if got.LastSeq <= t.s.state.LastSeq || t.plan.Options.Target.Alone || successionIn(t.s) == nil {
		return why
	}
	notes, err := t.plan.verify(ctx, t.s)
	var incomplete *IncompleteError
	if errors.As(err, &incomplete) {
		return incomplete.Cause
	}
	t.notes = append(t.notes, notes...)
	t.tellCame(got.LastSeq - t.s.state.LastSeq)
	return nil
}

func (t *transfer) tellCame(n uint64) {
	t.note("it is live already: %s came after it was restored", count(n, "message"))
}

// likelyCause tells of what removes or adds messages at once.
func (t *transfer) likelyCause(got archive.State, came uint64) string {
	switch {
	case t.past > 0:
		return fmt.Sprintf(" (%s of them have expired, or soon will)", digits.Grouped(t.past))
	case came > 0:
		return fmt.Sprintf(" (%s messages came meanwhile: the stream is live)", digits.Grouped(came))
	case got.Messages < t.tally.Messages:
		return t.s.limitsToLift()
	}
	return ""
}

// limitsToLift tells which limits a server may have enforced. One that counted wrongly lets a stream have more than those (nats-server 2.9.10, of
// a subject of which messages had been deleted), and the one that it is restored to removes what is too much.
func (s *StreamPlan) limitsToLift() string {
	var limits []string
	for _, l := range []struct {
		field string
		value int64
	}{{"max_msgs", s.config.MaxMessages}, {"max_bytes", s.config.MaxBytes}, {"max_msgs_per_subject", s.config.MaxMessagesOfSubject}} {
		if l.value > 0 {
			limits = append(limits, fmt.Sprintf("%s %d", l.field, l.value))
		}
	}
	if len(limits) == 0 {
		return ""
	}
	return fmt.Sprintf(" (where a stream has more than its limits allow, a server removes the oldest; this one's: %s; with --config and wider ones all of it is kept)", strings.Join(limits, ", "))
}
