package restore

import (
	"fmt"

	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/streamlog"
)

// A snapshot is authenticated, and still somebody may have made it up: what it says of a stream in one place must agree with what it
// says in another before a server hears of it.

const (
	// maxBytes is more than any stream has.
	maxBytes = 1 << 62
	// maxSequence is the highest sequence that a server's file store keeps: it uses the two bits above for marks of its own
	// (nats-server 2.15, filestore.go).
	maxSequence = 1<<62 - 1
)

// checkClaims holds the stream's states against what a server takes, and against the number of its messages.
func (s *StreamPlan) checkClaims() error {
	sent, err := archive.ParseState(s.stream.Document.State)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	for _, state := range []archive.State{sent, s.state} {
		if err := state.Check(); err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	if s.state.Bytes > maxBytes {
		return fmt.Errorf("stream %s: its state says %d bytes: %w", s.Name, s.state.Bytes, repo.ErrCorrupt)
	}
	if s.Messages > s.state.Messages {
		return fmt.Errorf("stream %s: its document says %d messages, its state %d: %w", s.Name, s.Messages, s.state.Messages, repo.ErrCorrupt)
	}
	return nil
}

// checkGroup holds a group's sequences against the stream's state and the group before.
func (s *StreamPlan) checkGroup(g streamlog.Group) error {
	switch {
	case g.Messages == 0 || g.Last < g.First || g.Messages > g.Last-g.First+1:
		return fmt.Errorf("stream %s: a group of %d messages has sequences %d to %d: %w", s.Name, g.Messages, g.First, g.Last, repo.ErrCorrupt)
	case g.First <= s.lastGroup && s.lastGroup > 0:
		return fmt.Errorf("stream %s: sequence %d follows %d: %w", s.Name, g.First, s.lastGroup, repo.ErrCorrupt)
	case s.dead == nil && g.First < s.state.FirstSeq || g.Last > s.state.LastSeq:
		return fmt.Errorf("stream %s: messages %d to %d are not among those of its state, %d to %d: %w", s.Name, g.First, g.Last, s.state.FirstSeq, s.state.LastSeq, repo.ErrCorrupt)
	}
	s.lastGroup = g.Last
	return s.checkDead(g)
}
