package restore

import (
	"context"
	"encoding/json"
	"fmt"

	"jetsam/blob"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// Plan is what a restore will do. It is made before anything is changed.
type Plan struct {
	Snapshot *snapshot.Snapshot
	Account  *streamlog.Account
	Warnings []string                 // about the snapshot as a whole
	Streams  []*StreamPlan            // in the order of their names
	Missing  []streamlog.FailedStream // chosen, and not in the snapshot: the backup could not read them
	Options  Options

	rd   *repo.Reader
	conn *jetstream.Conn

	run         string // the name of this run, which its markers carry
	unannounced error  // why others cannot ask whether this run is at work; then nothing is marked
}

// StreamPlan is what will become of one stream.
type StreamPlan struct {
	Name        string
	Messages    uint64
	Bytes       uint64 // of subjects, headers and payloads
	Consumers   int
	ArchiveSize uint64     // bytes that will be sent
	Skip        bool       // it exists, and is left as it is
	Warnings    []string   // what the server will do that the user may not expect
	Conflicts   []Conflict // why the server cannot take it
	Damage      error      // why the snapshot does not hold it whole; such a stream is left out
	Leftover    *Leftover  // what an unfinished restore left under its name; nil: nothing

	stream *streamlog.Stream
	head   *archive.Head
	state  archive.State
	config jetstream.StreamSettings // for reading only: what is sent is the raw JSON
	wanted json.RawMessage          // the raw JSON of the configuration, as it shall be in the end
	ids    []blob.ID                // of the messages
	ages   []age

	lastGroup uint64 // last sequence of the groups that were read so far
}

// age is the highest message time of a group, in Unix nanoseconds, and how many messages it has.
type age struct {
	to       int64
	messages uint64
}

func (s *StreamPlan) runs() bool { return !s.Skip && s.Damage == nil }

// NewPlan finds out what restoring the chosen streams of a snapshot into conn's account would do.
//
// It fails with *ConflictError where the server cannot take a stream, and returns the plan with it, so that it can be shown.
// What is selected and not in the snapshot is *streamlog.UnmatchedError, or *NotCapturedError where the backup could not read any of it. A stream that the repository does not hold whole is
// in the plan with Damage set; where no chosen stream is whole, that is the error.
func NewPlan(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, conn *jetstream.Conn, o Options) (*Plan, error) {
	held, err := streamlog.Open(ctx, rd, sn.Tree)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", sn.ID().Short(), err)
	}
	p := &Plan{Snapshot: sn, Account: held.Account, Options: o, rd: rd, conn: conn, run: newRun()}
	if held.AccountErr != nil {
		p.Warnings = append(p.Warnings, fmt.Sprintf("what the snapshot says of the whole account cannot be read, the streams can: %v", held.AccountErr))
	}
	if err := p.pick(held); len(p.Missing) > 0 && err != nil {
		return p, err
	} else if err != nil {
		return nil, err
	}
	for _, s := range p.Streams {
		if err := p.examine(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := p.preflight(ctx); err != nil {
		return p, err
	}
	return p, p.allDamaged()
}

// pick puts the chosen streams into the plan.
func (p *Plan) pick(held *streamlog.Contents) error {
	byName := make(map[string]*streamlog.Stream, len(held.Streams))
	names := make([]string, len(held.Streams))
	for i, s := range held.Streams {
		names[i], byName[s.Name] = s.Name, s
	}
	picked, err := p.Options.Selection.Pick(append(names, p.failedNames()...))
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", p.Snapshot.ID().Short(), err)
	}
	if picked, err = p.pickMissing(picked, byName); err != nil {
		return err
	}
	for _, name := range picked {
		p.Streams = append(p.Streams, &StreamPlan{Name: name, stream: byName[name]})
	}
	return nil
}

// examine reads what the plan must know of a stream, and looks for every blob in the index. What the repository lacks is s.Damage.
func (p *Plan) examine(ctx context.Context, s *StreamPlan) error {
	s.Damage = p.read(ctx, s)
	return ctx.Err()
}

func (p *Plan) read(ctx context.Context, s *StreamPlan) error {
	if s.stream.Err != nil {
		return s.stream.Err
	}
	doc := s.stream.Document
	s.Messages, s.Bytes = doc.Jetsam.Messages, doc.Jetsam.MessageBytes
	var err error
	if _, s.config, err = jetstream.ParseSettings(doc.Config); err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if err = s.readWanted(); err != nil {
		return err
	}
	if s.head, err = s.stream.Head(ctx); err != nil {
		return err
	}
	if p.Options.NoConsumers {
		s.head = s.head.WithoutConsumers()
	}
	s.Consumers = len(s.head.Consumers)
	if s.state, err = archive.ParseState(s.head.State); err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if err = s.checkClaims(); err != nil {
		return err
	}
	return p.readParts(ctx, s)
}

// readParts gathers the blobs of the messages.
func (p *Plan) readParts(ctx context.Context, s *StreamPlan) error {
	var messages, missing uint64
	for part, err := range s.stream.Parts(ctx) {
		if err != nil {
			return err
		}
		groups, err := part.Groups(ctx)
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
		for _, g := range groups {
			if err := s.checkGroup(g); err != nil {
				return err
			}
			messages += g.Messages
			s.ages = append(s.ages, age{g.To, g.Messages})
		}
		for _, id := range part.Blobs {
			if !p.rd.Has(blob.Handle{Kind: blob.Data, ID: id}) {
				missing++
			}
		}
		s.ids = append(s.ids, part.Blobs...)
		s.ArchiveSize += part.Size
	}
	switch {
	case missing > 0:
		return fmt.Errorf("stream %s: %d of %d blobs of its messages are not in the repository's index: %w", s.Name, missing, len(s.ids), repo.ErrCorrupt)
	case messages != s.Messages:
		return fmt.Errorf("stream %s: its parts hold %d messages, its document says %d: %w", s.Name, messages, s.Messages, repo.ErrCorrupt)
	}
	return nil
}

// allDamaged is the first damage where no chosen stream is whole or on the server.
func (p *Plan) allDamaged() error {
	if len(p.Streams) == 0 {
		return nil
	}
	for _, s := range p.Streams {
		if s.Damage == nil || s.Skip {
			return nil
		}
	}
	return p.Streams[0].Damage
}
