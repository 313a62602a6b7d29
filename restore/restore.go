// Package restore carries streams from a repository to a server: it plans, executes, and compares.
//
// A plan refuses everything that can be refused before the first byte is sent. Execution checks each message before the server gets it,
// compares the server's own report with what was sent, and removes a stream that it created and could not finish.
// A stream that was there before is never touched, unless it carries the mark of a restore that ended in its middle, and nothing came into
// it since.
package restore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"jetsam/streamlog"
)

// Options says what to restore, and how. The zero value of each field works, but for Selection, which then selects nothing.
type Options struct {
	Selection   streamlog.Selection
	Cut         Cut      // which messages of each stream
	Target      Target   // how the streams shall be on the server
	KeepSources bool     // keep mirror and sources of a stream that is cut: it then fills up with what they have beyond the cut
	NoConsumers bool     // restore streams without their consumers
	Parts       Parts    // what of each stream
	Form        Form     // of an export
	Existing    Existing // what becomes of streams whose name is taken on the server
	SkipDamaged bool     // restore what is whole of a stream of which something is lost, instead of leaving it out; never one whose dead are lost
	Verify      bool     // read every restored message and consumer back and compare
	// Save backs the server's stream of that name up before it is replaced, and returns the ID of the snapshot. A stream that it cannot
	// save whole is an error.
	Save func(ctx context.Context, stream string) (snapshot string, err error)

	Concurrency int            // streams restored at a time; 0: as many as there are processors, at most four
	Progress    func(Progress) // called from several goroutines, often; must be quick
}

// Stages of a stream's restore.
const (
	Probing   = "checking" // reading what will be sent, where damage is to be skipped, or to find what a filter matches
	Sending   = "sending"
	Verifying = "verifying"
)

// Progress tells how far a stream is.
type Progress struct {
	Stream     string
	Stage      string // Probing, Sending or Verifying
	Messages   uint64 // sent or compared so far
	Total      uint64 // of messages
	Bytes      uint64 // archive bytes sent or compared so far
	TotalBytes uint64
	Done       bool
	Err        error // why it failed
}

// Conflict says why a stream cannot be restored into this server.
type Conflict struct {
	Stream string
	Reason string
	Advice string // what to do about it
}

// ConflictError says that the server's state stands against the plan. Nothing was changed.
type ConflictError struct{ Conflicts []Conflict }

func (e *ConflictError) Error() string {
	lines := make([]string, len(e.Conflicts))
	for i, c := range e.Conflicts {
		lines[i] = fmt.Sprintf("stream %s: %s; %s", c.Stream, c.Reason, c.Advice)
	}
	return strings.Join(lines, "\n")
}

// IncompleteError says that a stream was not restored, or not as the snapshot has it.
type IncompleteError struct {
	Stream  string
	Cause   error
	Remains string // what exists on the server now, and what to do about it
}

func (e *IncompleteError) Error() string {
	cause := strings.TrimPrefix(e.Cause.Error(), "restore of stream "+e.Stream+": ")
	return fmt.Sprintf("stream %s: %s; %s", e.Stream, strings.TrimPrefix(cause, "stream "+e.Stream+": "), e.Remains)
}

func (e *IncompleteError) Unwrap() error { return e.Cause }

// Result is what a run did.
type Result struct {
	Streams []StreamResult // in the order of their names
	Took    time.Duration
}

// StreamResult is what became of one stream.
type StreamResult struct {
	Name      string // on the server
	Source    string // in the snapshot
	Dir       string // that it was exported to
	Messages  uint64
	Bytes     uint64 // of subjects, headers and payloads
	FirstSeq  uint64
	LastSeq   uint64
	Consumers int
	Action    Action        // what was done with it
	Saved     string        // the beginning of the ID of the snapshot that was taken of what it replaces
	Nothing   string        // why the cut leaves nothing of it; such a stream is left out
	Compared  bool          // everything that was sent was read back and is equal
	Verified  bool          // and that was everything: every message and consumer of the snapshot
	Digest    string        // SHA-256, in hex, of the entries that were read back and are equal
	Comparing time.Duration // how long that took
	Lost      *DamageError  // what the repository does not give of it; where Err is nil, all else was restored
	Notes     []string      // what is different on the server, though nothing is lost
	Took      time.Duration
	Err       error // *IncompleteError, or why nothing was begun

	sent uint64 // archive bytes
}

// Salvaged are the streams of which everything was restored that is whole.
func (r *Result) Salvaged() []StreamResult {
	var out []StreamResult
	for _, s := range r.Streams {
		if s.Err == nil && s.Lost != nil && s.Action != Skip {
			out = append(out, s)
		}
	}
	return out
}

// Failed are the streams that were not restored as the snapshot has them.
func (r *Result) Failed() []StreamResult {
	var out []StreamResult
	for _, s := range r.Streams {
		if s.Err != nil {
			out = append(out, s)
		}
	}
	return out
}
