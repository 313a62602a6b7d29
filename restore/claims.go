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

// checkClaims holds the stream's states, that of its document and that of its head, against what a server takes, and against the number of
// its messages.
func (l *log) checkClaims() error {
	own, err := archive.ParseState(l.held.Document.State)
	if err != nil {
		return fmt.Errorf("stream %s: %w", l.name, err)
	}
	for _, state := range []archive.State{own, l.state} {
		if err := state.Check(); err != nil {
			return fmt.Errorf("stream %s: %w", l.name, err)
		}
	}
	if l.state.Bytes > maxBytes {
		return fmt.Errorf("stream %s: its state says %d bytes: %w", l.name, l.state.Bytes, repo.ErrCorrupt)
	}
	if n := l.held.Document.Jetsam.Messages; n > l.state.Messages {
		return fmt.Errorf("stream %s: its document says %d messages, its state %d: %w", l.name, n, l.state.Messages, repo.ErrCorrupt)
	}
	return nil
}

// checkGroup holds a group's sequences against the stream's state and the group before.
func (l *log) checkGroup(g streamlog.Group) error {
	switch {
	case g.Messages == 0 || g.Last < g.First || g.Messages > g.Last-g.First+1:
		return fmt.Errorf("stream %s: a group of %d messages has sequences %d to %d: %w", l.name, g.Messages, g.First, g.Last, repo.ErrCorrupt)
	case g.First <= l.lastGroup && l.lastGroup > 0:
		return fmt.Errorf("stream %s: sequence %d follows %d: %w", l.name, g.First, l.lastGroup, repo.ErrCorrupt)
	case l.dead == nil && g.First < l.state.FirstSeq || g.Last > l.state.LastSeq:
		return fmt.Errorf("stream %s: messages %d to %d are not among those of its state, %d to %d: %w", l.name, g.First, g.Last, l.state.FirstSeq, l.state.LastSeq, repo.ErrCorrupt)
	}
	l.lastGroup = g.Last
	return l.checkDead(g)
}

// checkDead holds what of a group is alive against how many messages it has, and against where the stream begins.
func (l *log) checkDead(g streamlog.Group) error {
	if n := g.Alive(l.dead); n > g.Messages {
		return fmt.Errorf("stream %s: of a group of %d messages, %d to %d, %d would be alive: %w", l.name, g.Messages, g.First, g.Last, n, repo.ErrCorrupt)
	} else if n == 0 {
		return nil
	}
	first := g.First
	if r, some := l.dead.Living(g.First, g.Last); some {
		first = r.First
	}
	if first < l.state.FirstSeq {
		return fmt.Errorf("stream %s: message %d is not among those of its state, %d to %d: %w", l.name, first, l.state.FirstSeq, l.state.LastSeq, repo.ErrCorrupt)
	}
	return nil
}
