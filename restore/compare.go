package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	consumers, err := t.consumers(ctx)
	if err != nil {
		return fmt.Errorf("its messages were all sent, but its consumers cannot be listed: %w", err)
	}
	if err := t.compareState(got, !t.plan.Options.Target.Alone && t.s.mayBeTaken(consumers)); err != nil {
		return err
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

// consumersPatience is how long the consumers of a stream are waited for that a cluster has restored.
const consumersPatience = 10 * time.Second

// consumers lists the stream's consumers. A cluster of servers before 2.15 may report a stream before it has placed all of them.
func (t *transfer) consumers(ctx context.Context) ([]*jetstream.ConsumerInfo, error) {
	patience := time.Now().Add(consumersPatience)
	for {
		found, err := t.plan.conn.Consumers(ctx, t.s.Name)
		var missing *jetstream.MissingError
		placing := err == nil && !t.s.hasConsumers(found) || errors.As(err, &missing)
		if !placing || !t.plan.older || t.plan.conn.Server().Cluster == "" || time.Now().After(patience) || pause(ctx, time.Second/4) != nil {
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
		t.note("its consumers are in use, and have taken %d messages already", sent-got.Messages)
		whole = true
	}
	if sent := t.tally.Messages + came; !whole && t.past > 0 && got.LastSeq >= last && got.Messages <= sent && got.Messages+t.past >= sent {
		t.gone = sent - got.Messages
		whole = true
	}
	if !whole {
		return fmt.Errorf("the server reports %d messages, sequences %d to %d; sent were %d, %d to %d%s",
			got.Messages, got.FirstSeq, got.LastSeq, t.tally.Messages, first, last, t.likelyCause(came))
	}
	if t.past > 0 {
		t.note("%d messages have expired, or soon will: the server removes them, %d are gone already", t.past, t.gone)
	}
	if came > 0 {
		t.notes = append(t.notes, fmt.Sprintf("it is live already: %d messages came after it was restored", came))
	}
	return nil
}

// likelyCause tells of what removes or adds messages at once.
func (t *transfer) likelyCause(came uint64) string {
	switch {
	case t.past > 0:
		return fmt.Sprintf(" (%d of them have expired, or soon will)", t.past)
	case came > 0:
		return fmt.Sprintf(" (%d messages came meanwhile: the stream is live)", came)
	}
	return ""
}
