package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

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

	rd      *repo.Reader
	present *repo.Presence
	conn    *jetstream.Conn

	creating    sync.Mutex // held while a lone server makes a stream, or deletes one
	run         string     // the name of this run, which its markers carry
	unannounced error      // why others cannot ask whether this run is at work; then nothing is marked
}

// StreamPlan is what will become of one stream.
type StreamPlan struct {
	Name        string
	Messages    uint64
	Bytes       uint64 // of subjects, headers and payloads; where messages are lost, about
	Consumers   int
	ArchiveSize uint64       // bytes that will be read from the repository, about as many as will be sent
	Skip        bool         // it exists, and is left as it is
	Warnings    []string     // what the server will do that the user may not expect
	Conflicts   []Conflict   // why the server cannot take it
	Damage      error        // why the snapshot does not hold it whole; such a stream is left out
	Leftover    *Leftover    // what an unfinished restore left under its name; nil: nothing
	Lost        *DamageError // what the repository does not give of it, as far as is known; without Damage the rest is restored

	stream    *streamlog.Stream
	head      *archive.Head
	headErr   error                    // why the head is made up, and has no consumers
	state     archive.State            // of the stream when it was captured
	config    jetstream.StreamSettings // for reading only: what is sent is the raw JSON
	wanted    json.RawMessage          // the raw JSON of the configuration, as it shall be in the end
	dead      *streamlog.Dead          // entries of its log that are not alive
	stretches []stretch                // all of its messages
	probed    bool                     // they were read
	ids       []blob.ID                // of the messages that are sent
	ages      []age
	raised    int // consumers that stood below the first message

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
	if p.present, err = rd.Presence(ctx); err != nil {
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

// examine reads what the plan must know of a stream, and looks for every blob in the index and its packs in the storage.
// What the repository lacks is s.Lost, and s.Damage where the stream is left out for it.
func (p *Plan) examine(ctx context.Context, s *StreamPlan) error {
	s.Damage = p.read(ctx, s)
	return ctx.Err()
}

func (p *Plan) read(ctx context.Context, s *StreamPlan) error {
	if s.stream.Err != nil {
		return s.unconfigured()
	}
	doc := s.stream.Document
	s.Messages, s.Bytes = doc.Jetsam.Messages, doc.Jetsam.MessageBytes
	var err error
	if _, s.config, err = jetstream.ParseSettings(doc.Config); err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if err := s.readWanted(); err != nil {
		return err
	}
	if err := p.openHead(ctx, s); err != nil {
		return err
	}
	if err := p.openDead(ctx, s); err != nil {
		return err
	}
	if s.state, err = archive.ParseState(s.head.State); err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if err := s.checkClaims(); err != nil {
		return err
	}
	if err := s.raiseConsumers(); err != nil {
		return err
	}
	if err := p.chart(ctx, s); err != nil {
		return err
	}
	if s.Lost != nil && !p.Options.SkipDamaged {
		return fmt.Errorf("stream %s: %w", s.Name, s.Lost)
	}
	return nil
}

// unconfigured is why a stream whose directory or document cannot be read is not restored, not even in part.
func (s *StreamPlan) unconfigured() error {
	if errors.Is(s.stream.Err, streamlog.ErrUnsupported) {
		return s.stream.Err
	}
	return fmt.Errorf("%w; how the stream was configured is lost, so that nothing of it can be restored: an earlier snapshot may hold it", s.stream.Err)
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
