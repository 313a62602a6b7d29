package restore

import (
	"context"
	"fmt"

	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/streamlog"
)

// openDead reads which entries of the stream's log are not alive, and gives the head, whose state is that of the log, the stream's own.
func (p *Plan) openDead(ctx context.Context, s *StreamPlan) error {
	dead, err := s.stream.Dead(ctx)
	if err != nil {
		dead, err = s.stream.Dead(ctx) // what a storage fails to give once is not lost yet
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w; that says which of its stored messages had been deleted, and they would come back, "+
			"so that nothing of it is restored: an earlier snapshot may hold it", err)
	}
	if s.stream.Document.Jetsam.Dead == nil {
		return nil
	}
	s.dead = dead
	if err := s.checkLog(); err != nil {
		return err
	}
	consumers := s.head.Consumers
	s.head = (&archive.Head{State: s.stream.Document.State, StateTime: s.head.StateTime}).WithConsumers(consumers)
	return nil
}

// checkLog holds the state of a log with dead entries, which the head has, against the stream's own.
func (s *StreamPlan) checkLog() error {
	if s.headErr != nil {
		return nil
	}
	log, err := archive.ParseState(s.head.State)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	own, err := archive.ParseState(s.stream.Document.State)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if entries := s.stream.Document.Jetsam.Entries(); log.LastSeq != own.LastSeq || log.FirstSeq > own.FirstSeq || log.Messages != entries {
		return fmt.Errorf("stream %s: its head says %d entries, %d to %d, its document %d, of a stream from %d to %d: %w",
			s.Name, log.Messages, log.FirstSeq, log.LastSeq, entries, own.FirstSeq, own.LastSeq, repo.ErrCorrupt)
	}
	return nil
}

// checkDead holds what of a group is alive against how many messages it has, and against where the stream begins.
func (s *StreamPlan) checkDead(g streamlog.Group) error {
	if n := g.Alive(s.dead); n > g.Messages {
		return fmt.Errorf("stream %s: of a group of %d messages, %d to %d, %d would be alive: %w", s.Name, g.Messages, g.First, g.Last, n, repo.ErrCorrupt)
	} else if n == 0 {
		return nil
	}
	first := g.First
	if r, some := s.dead.Living(g.First, g.Last); some {
		first = r.First
	}
	if first < s.state.FirstSeq {
		return fmt.Errorf("stream %s: message %d is not among those of its state, %d to %d: %w", s.Name, first, s.state.FirstSeq, s.state.LastSeq, repo.ErrCorrupt)
	}
	return nil
}

// living yields those of in's messages that are not dead.
func living(in *archive.MessageReader, dead *streamlog.Dead) func() (*archive.Message, error) {
	if dead.Len() == 0 {
		return in.Next
	}
	gone := dead.Ascending()
	return func() (*archive.Message, error) {
		for {
			if m, err := in.Next(); err != nil || !gone(m.Seq) {
				return m, err
			}
		}
	}
}

// stretchesOf are the stretches of a section. What has nothing alive in it is none.
func (s *StreamPlan) stretchesOf(x streamlog.Section) []stretch {
	if x.Part != nil && x.Err == nil {
		return s.groupsOf(x)
	}
	bounds, some := s.dead.Living(x.First, x.Last)
	if !some {
		return nil
	}
	whole := stretch{Loss: Loss{First: bounds.First, Last: bounds.Last, To: x.Latest, Reason: x.Err}}
	if x.Part != nil {
		whole.ids, whole.unread, whole.Reason = x.Part.Blobs, x.Err, nil
	}
	return []stretch{whole}
}

func (s *StreamPlan) groupsOf(x streamlog.Section) []stretch {
	out := make([]stretch, 0, len(x.Groups))
	ids := x.Part.Blobs
	for _, g := range x.Groups {
		n := len(g.Blobs)
		mine := ids[:n:n]
		ids = ids[n:]
		alive := g.Alive(s.dead)
		if alive == 0 {
			continue
		}
		loss, bytes := lossOf(g), g.Bytes
		if s.dead.Count(g.First, g.Last) > 0 {
			bounds, _ := s.dead.Living(g.First, g.Last)
			loss.First, loss.Last, loss.Messages = bounds.First, bounds.Last, alive
			bytes = uint64(float64(bytes) * float64(alive) / float64(g.Messages)) // how large each of them is nobody knows before they are read
		}
		out = append(out, stretch{Loss: loss, bytes: bytes, ids: mine})
	}
	return out
}

// room is how many messages a stretch can have.
func (s *StreamPlan) room(x *stretch) uint64 {
	return x.Last - x.First + 1 - s.dead.Count(x.First, x.Last)
}
