package restore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// addition is a consumer that a stream on the server gets.
type addition struct {
	name   string
	config json.RawMessage
	start  uint64 // the first sequence that it delivers, if there is such a message; 0: as its deliver policy says
}

// checkConsumersOnly finds out which consumers the server's stream can get, and where each begins.
func (p *Plan) checkConsumersOnly(ctx context.Context, s *StreamPlan) error {
	if s.headErr != nil {
		s.Damage = fmt.Errorf("stream %s: nothing is whole of its consumers, an earlier snapshot may have them: the head: %w", s.Source, s.headErr)
		return nil
	}
	if len(s.head.Consumers) == 0 {
		s.Nothing = "it has no consumers in the snapshot"
		if failed := s.log.held.Document.Jetsam.Failed; len(failed) > 0 {
			s.Nothing = fmt.Sprintf("its consumer %s is not in the snapshot, because no server said how it stood: %s", failed[0].Name, failed[0].Error)
		}
		return nil
	}
	s.tellUncaptured()
	if err := p.checkSameStream(ctx, s); err != nil {
		return err
	}
	found, err := p.conn.Consumers(ctx, s.Name)
	if err != nil {
		return err
	}
	taken := make(map[string]bool, len(found))
	for _, c := range found {
		taken[c.Name] = true
	}
	var exist, passing []string
	for _, c := range s.head.Consumers {
		state, err := archive.ParseConsumer(c.JSON)
		switch {
		case err != nil:
			return fmt.Errorf("stream %s: consumer %s: %w", s.Name, c.Name, err)
		case taken[c.Name]:
			exist = append(exist, c.Name)
			continue
		case state.Durable == "":
			passing = append(passing, c.Name)
			continue
		}
		a, err := s.addition(c, state)
		if err != nil {
			return err
		}
		s.additions = append(s.additions, a)
	}
	s.Messages, s.Bytes, s.ArchiveSize, s.Consumers = 0, 0, 0, len(s.additions)
	if len(passing) > 0 {
		s.warning("ephemeral consumers are left out, their clients make them anew: %s", strings.Join(passing, ", "))
	}
	switch {
	case len(exist) == 0:
	case p.Options.Existing == SkipExisting:
		s.warning("consumers that exist stay as they are: %s", strings.Join(exist, ", "))
	default:
		s.conflict("delete them, or leave them as they are with --skip-existing", "consumers of these names exist: %s", strings.Join(exist, ", "))
	}
	return nil
}

// addition is how a consumer is made so that it goes on where it stood: what it had not seen acknowledged is delivered again, and nothing is
// passed over. One whose place the stream has not reached yet begins with what comes next.
func (s *StreamPlan) addition(c archive.Consumer, state archive.ConsumerState) (addition, error) {
	config, err := c.Config()
	if err != nil {
		return addition{}, fmt.Errorf("stream %s: consumer %s: %w", s.Name, c.Name, err)
	}
	a := addition{name: c.Name, config: config}
	if s.live.Retention == "workqueue" {
		return a, nil // it has what nobody has acknowledged, and such a consumer can begin nowhere else
	}
	floor := state.AckFloor.Stream
	if state.AckPolicy == "none" {
		floor = state.Delivered.Stream
	}
	if floor == 0 {
		return a, nil // it has not begun
	}
	a.start = min(floor, s.live.LastSeq) + 1
	a.config, err = jetstream.WithChanges(config, map[string]any{"deliver_policy": "by_start_sequence", "opt_start_seq": a.start, "opt_start_time": nil})
	if err != nil {
		return addition{}, fmt.Errorf("stream %s: consumer %s: %w", s.Name, c.Name, err)
	}
	return a, nil
}

// addConsumers makes the consumers.
func (p *Plan) addConsumers(ctx context.Context, s *StreamPlan) error {
	for i, a := range s.additions {
		err := p.conn.CreateConsumer(ctx, s.Name, a.name, a.config)
		if err == nil {
			err = p.checkAdded(ctx, s, a)
		}
		if err != nil {
			return &IncompleteError{Stream: s.Name, Cause: fmt.Errorf("consumer %s: %w", a.name, err),
				Remains: fmt.Sprintf("%d of %d consumers were made before; --skip-existing goes on from there", i, len(s.additions))}
		}
	}
	return nil
}

// checkAdded looks at a consumer that was made.
func (p *Plan) checkAdded(ctx context.Context, s *StreamPlan, a addition) error {
	info, err := p.conn.Consumer(ctx, s.Name, a.name)
	if err != nil {
		return err
	}
	if a.start > 0 && info.Delivered.Stream >= a.start && info.Delivered.Consumer == 0 {
		return fmt.Errorf("it stands at message %d, and should begin at %d", info.Delivered.Stream, a.start)
	}
	return nil
}

// witness is a message of the snapshot.
type witness struct {
	seq uint64
	sum [sha256.Size]byte
}

// compared is how many of the last messages are tried to tell whether the server's stream is the snapshot's.
const compared = 64

// checkSameStream compares a message that the snapshot and the server's stream both have: a consumer's place means nothing in another stream.
func (p *Plan) checkSameStream(ctx context.Context, s *StreamPlan) error {
	seq, equal, err := p.common(ctx, s, s.live.LastSeq)
	switch {
	case err != nil:
		return err
	case seq == 0:
		s.warning("the snapshot and the server's stream have no message in common that tells whether they are the same stream: if they are not, the consumers stand at the wrong messages")
	case !equal:
		s.conflict("restore the whole stream, under another name or with --replace",
			"message %d is another one on the server: the stream is not the snapshot's, and its consumers would stand at the wrong messages", seq)
	}
	return nil
}

// common compares a message that the snapshot and the server's stream, which ends at last, both have: the last one that is found, among a few. Its
// sequence is 0 where none is.
func (p *Plan) common(ctx context.Context, s *StreamPlan, last uint64) (seq uint64, equal bool, err error) {
	witnesses, err := p.witnesses(ctx, s, last)
	if err != nil {
		return 0, false, err
	}
	for _, w := range slices.Backward(witnesses) {
		live, err := p.conn.Message(ctx, s.Name, w.seq)
		switch {
		case errors.Is(err, jetstream.ErrMessageNotFound), errors.Is(err, jetstream.ErrNotVerbatim):
			continue
		case err != nil:
			return 0, false, err
		}
		return w.seq, sha256.Sum256(live.Raw) == w.sum, nil
	}
	return 0, false, nil
}

// witnesses are the last messages of the snapshot up to a sequence, of those that lie together.
func (p *Plan) witnesses(ctx context.Context, s *StreamPlan, end uint64) (last []witness, err error) {
	for i := len(s.stretches) - 1; i >= 0 && last == nil; i-- {
		x := &s.stretches[i]
		if x.lost() || x.First > end {
			continue
		}
		next := x.log.wanted(p.reader(ctx, x))
		for {
			m, err := next()
			if errors.Is(err, io.EOF) || err == nil && m.Seq > end {
				break
			}
			if err != nil {
				return nil, s.lossAt(x, err)
			}
			if last = append(last, witness{m.Seq, sha256.Sum256(m.Raw)}); len(last) > compared {
				last = last[1:]
			}
		}
	}
	return last, nil
}
