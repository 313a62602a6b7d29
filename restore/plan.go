package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"jetsam/blob"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// Plan is what a restore will do. It is made before anything is changed.
type Plan struct {
	Snapshot *snapshot.Snapshot // of a plan for a time, the newest that it uses
	Account  *streamlog.Account
	Warnings []string                 // about the snapshot as a whole
	Streams  []*StreamPlan            // in the order of their names
	Missing  []streamlog.FailedStream // chosen, and not in the snapshot: the backup could not read them
	Options  Options

	moment  bool // it is for the time Options.Cut.At: each stream is of the newest snapshot by then
	rd      *repo.Reader
	present *repo.Presence
	conn    *jetstream.Conn
	release jetstream.Release // of the servers that it is restored to, the oldest
	older   bool              // streams go out as the files of a server's store, which is what servers before 2.15 take

	made        time.Time  // what has expired by then, and somewhat later, is held
	creating    sync.Mutex // held while a lone server makes a stream, or deletes one
	turn        sync.Mutex // held while a server before 2.15 restores a stream
	run         string     // the name of this run, which its markers carry
	unannounced error      // why others cannot ask whether this run is at work; then nothing is marked
}

// StreamPlan is what will become of one stream.
type StreamPlan struct {
	Name        string             // on the server
	Source      string             // in the snapshot
	From        *snapshot.Snapshot // that it is taken from
	Dir         string             // that an export puts it into
	Messages    uint64
	Bytes       uint64 // of subjects, headers and payloads; where messages are lost, about
	Consumers   int
	ArchiveSize uint64       // bytes that will be read from the repository, about as many as will be sent
	Action      Action       // what is done with it
	Warnings    []string     // what the server will do that the user may not expect
	Conflicts   []Conflict   // why the server cannot take it
	Damage      error        // why the snapshot does not hold it whole; such a stream is left out
	Leftover    *Leftover    // what an unfinished restore left under its name; nil: nothing
	Lost        *DamageError // what the repository does not give of it, as far as is known; without Damage the rest is restored
	LeftAlone   string       // with Skip: why the server's stream may not be whole, or why that is not known
	Nothing     string       // why the cut leaves nothing of it; such a stream is left out
	Changes     []string     // of the configuration of the server's stream, where that is updated

	snapshot string                // the beginning of its ID
	live     *jetstream.StreamInfo // the server's stream that is updated, replaced, or gets consumers
	meantime

	log         *log
	captured    *archive.Head            // with the stream's own state; not of the log where that is another
	headErr     error                    // why the head is made up, and has no consumers
	head        *archive.Head            // that is sent
	state       archive.State            // that is sent
	config      jetstream.StreamSettings // for reading only: what is sent is the raw JSON
	wanted      json.RawMessage          // the raw JSON of the configuration, as it shall be in the end
	keepLastSeq bool                     // the state goes on behind a cut

	additions []addition // consumers that the server's stream gets

	stretches []stretch // all that is restored of the messages, and what should be and is lost
	total     uint64    // messages that should be restored
	content   uint64    // bytes of their subjects, headers and payloads; about, where there is a cut
	awaited   *awaited  // messages of theirs that consumers wait for, where there are filters
	sampled   bool      // only a run of what is chosen is sent
	filtered  bool      // the filters have been applied
	probed    bool      // everything was read

	digest string // of what was read back and compared, in hex

	ids     []blob.ID // of the messages that are sent
	ages    []age
	raised  int // consumers that stood below the first message
	lowered int // consumers that stood beyond the cut, or waited for what it leaves out
}

// age is the lowest and the highest message time of a group, in Unix nanoseconds, and how many messages it has.
type age struct {
	from, to int64
	messages uint64
}

func (s *StreamPlan) runs() bool { return s.Action != Skip && s.Damage == nil && s.Nothing == "" }

// sends says whether messages of the stream are sent.
func (s *StreamPlan) sends() bool { return s.runs() && (s.Action == Create || s.Action == Replace) }

// NewPlan finds out what restoring the chosen streams of a snapshot into conn's account would do.
//
// It fails with *ConflictError where the server cannot take a stream, and returns the plan with it, so that it can be shown.
// What is selected and not in the snapshot is *streamlog.UnmatchedError, or *NotCapturedError where the backup could not read any of it. A stream that the repository does not hold whole is
// in the plan with Damage set; where no chosen stream is whole, that is the error. A cut that makes no sense, or leaves nothing of any
// stream, is *RequestError. Where the cut has filters, everything within its bounds is read to find what they match.
func NewPlan(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, conn *jetstream.Conn, o Options) (*Plan, error) {
	p, err := choose(ctx, rd, sn, o)
	if err != nil {
		return p, err
	}
	return p.into(ctx, conn)
}

// NewPlanAt finds out what restoring the chosen streams as they were at the time Options.Cut.At would do. Each is taken from the newest of
// the snapshots, all of one host and account, in which it was captured by then, and what came after that from the next one.
// It fails as NewPlan does, and with *RequestError where no snapshot tells what was there.
func NewPlanAt(ctx context.Context, rd *repo.Reader, snapshots []*snapshot.Snapshot, conn *jetstream.Conn, o Options) (*Plan, error) {
	p, err := chooseAt(ctx, rd, snapshots, o)
	if err != nil {
		return nil, err
	}
	return p.into(ctx, conn)
}

// AsOf says whether the plan is of NewPlanAt: its streams need not be of one snapshot.
func (p *Plan) AsOf() bool { return p.moment }

// choose begins the plan of streams of one snapshot.
func choose(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, o Options) (*Plan, error) {
	if err := o.check(false); err != nil {
		return nil, err
	}
	d, err := openDirectory(ctx, rd, sn)
	if err != nil {
		return nil, err
	}
	p := &Plan{Snapshot: sn, Account: d.Account, Options: o, rd: rd, run: newRun(), made: time.Now()}
	if d.AccountErr != nil {
		p.Warnings = append(p.Warnings, fmt.Sprintf("what the snapshot says of the whole account cannot be read, the streams can: %v", d.AccountErr))
	}
	if err := p.pick(ctx, d); len(p.Missing) > 0 && err != nil {
		return p, err
	} else if err != nil {
		return nil, err
	}
	return p, nil
}

// openDirectory reads which streams a snapshot holds. What a newer jetsam wrote is not for this one.
func openDirectory(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot) (*streamlog.Directory, error) {
	d, err := streamlog.OpenDirectory(ctx, rd, sn.Tree)
	if err == nil && errors.Is(d.AccountErr, streamlog.ErrUnsupported) {
		err = d.AccountErr
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", sn.ID().Short(), err)
	}
	return d, nil
}

// chooseAt begins the plan of streams as they were at a time.
func chooseAt(ctx context.Context, rd *repo.Reader, snapshots []*snapshot.Snapshot, o Options) (*Plan, error) {
	if err := o.check(true); err != nil {
		return nil, err
	}
	m, err := newMoment(ctx, rd, snapshots, o.Cut.At)
	if err != nil {
		return nil, err
	}
	chosen, err := m.pick(ctx, o.Selection)
	if err != nil {
		return nil, err
	}
	p := &Plan{Snapshot: newestOf(chosen, m.before[0]), Account: &streamlog.Account{}, Options: o, moment: true, rd: rd, run: newRun(), made: time.Now()}
	for _, c := range chosen {
		if c.base == nil {
			p.Missing = append(p.Missing, streamlog.FailedStream{Name: c.name, Error: c.why})
			continue
		}
		s, err := p.open(ctx, m, c)
		if err != nil {
			return nil, err
		}
		p.Streams = append(p.Streams, s)
	}
	if len(p.Streams) == 0 && len(p.Missing) > 0 {
		return nil, &RequestError{Stream: p.Missing[0].Name, Reason: p.Missing[0].Error}
	}
	for _, f := range p.Missing {
		p.Warnings = append(p.Warnings, fmt.Sprintf("stream %s is not restored: %s", f.Name, f.Error))
	}
	p.Warnings = append(p.Warnings, m.warnings...)
	return p, nil
}

// open begins the plan of a stream as it was at a time.
func (p *Plan) open(ctx context.Context, m *moment, c picked) (*StreamPlan, error) {
	s := &StreamPlan{Name: c.name, From: c.base, keepLastSeq: p.Options.Cut.KeepLastSeq, meantime: meantime{next: c.next, inNext: c.inNext}}
	a, err := m.account(ctx, c.base)
	if err != nil {
		return nil, err
	}
	held, err := c.inBase.open(ctx, p.rd)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case repo.IsUnread(err):
		return nil, fmt.Errorf("snapshot %s: %w", c.base.ID().Short(), err)
	}
	if held == nil {
		held = &streamlog.Stream{Name: c.name, Err: fmt.Errorf("snapshot %s: %w", c.base.ID().Short(), err)}
	}
	s.snapshot, s.capturedAt = c.base.ID().Short(), a.captured[c.name].Captured
	s.log = &log{name: c.name, held: held, want: everything}
	return s, nil
}

// into finds out about the streams of the plan, and about the server.
func (p *Plan) into(ctx context.Context, conn *jetstream.Conn) (*Plan, error) {
	p.conn = conn
	if err := p.examineAll(ctx); err != nil {
		return nil, err
	}
	if err := p.preflight(ctx); err != nil {
		return p, err
	}
	return p, p.allDamaged()
}

// examineAll finds out about the streams of the plan.
func (p *Plan) examineAll(ctx context.Context) (err error) {
	if err := p.aim(); err != nil {
		return err
	}
	if p.present, err = p.rd.Presence(ctx); err != nil {
		return err
	}
	if c := p.Options.Cut; len(p.Streams) > 1 && (c.FromSeq > 0 || c.UntilSeq > 0) {
		return &RequestError{Reason: fmt.Sprintf("%d streams are chosen, and each has its own sequences: cut them by time, or choose one", len(p.Streams))}
	}
	for _, s := range p.Streams {
		if err := p.examine(ctx, s, p.read); err != nil {
			return err
		}
	}
	return p.nothingLeft()
}

// nothingLeft is the error of a cut that leaves nothing of any stream that could be restored.
func (p *Plan) nothingLeft() error {
	var first *StreamPlan
	for _, s := range p.Streams {
		if s.Nothing == "" {
			return nil
		}
		if first == nil {
			first = s
		}
	}
	if first == nil {
		return nil
	}
	return first.uncuttable("%s", first.Nothing)
}

// pick puts the chosen streams into the plan. No other is read.
func (p *Plan) pick(ctx context.Context, d *streamlog.Directory) error {
	dirs := map[string]*snapshot.Node{}
	var names []string
	for name, dir := range d.Streams() {
		names, dirs[name] = append(names, name), dir
	}
	picked, err := p.Options.Selection.Pick(append(names, p.failedNames()...))
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", p.Snapshot.ID().Short(), err)
	}
	if picked, err = p.pickMissing(picked, dirs); err != nil {
		return err
	}
	for _, name := range picked {
		held := streamlog.OpenDir(ctx, p.rd, dirs[name])
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case repo.IsUnread(held.Err):
			return fmt.Errorf("snapshot %s: %w", p.Snapshot.ID().Short(), held.Err)
		}
		p.Streams = append(p.Streams, &StreamPlan{
			Name: name, From: p.Snapshot, snapshot: p.Snapshot.ID().Short(), log: &log{name: name, held: held, want: everything}, keepLastSeq: p.Options.Cut.KeepLastSeq,
		})
	}
	return nil
}

// examine reads what the plan must know of a stream, and looks for every blob in the index and its packs in the storage.
// What the repository lacks is s.Lost, and s.Damage where the stream is left out for it. What the storage does not give just now is the error: nothing
// is lost by it.
func (p *Plan) examine(ctx context.Context, s *StreamPlan, read func(context.Context, *StreamPlan) error) error {
	err := read(ctx, s)
	if err == nil && s.Lost != nil && !p.Options.SkipDamaged {
		err = fmt.Errorf("stream %s: %w", s.Name, s.Lost)
	}
	var cut *RequestError
	switch {
	case ctx.Err() != nil:
	case repo.IsUnread(err):
		return s.named(err)
	case errors.As(err, &cut):
		s.Nothing = cut.Reason
	case err != nil:
		s.Damage = err
	case p.Options.Parts == Everything:
		s.Nothing = s.nothing(p.Options.bounds(p.moment))
	}
	return ctx.Err()
}

// named is an error with the name of the stream that it is about.
func (s *StreamPlan) named(err error) error {
	if strings.HasPrefix(err.Error(), "stream "+s.Source+": ") {
		return err
	}
	return fmt.Errorf("stream %s: %w", s.Source, err)
}

func (p *Plan) read(ctx context.Context, s *StreamPlan) error {
	held := s.log.held
	if held.Err != nil {
		return s.unconfigured()
	}
	var err error
	if err := s.configure(p.Options); err != nil || p.Options.Parts == ConfigOnly {
		return err
	}
	if err := p.openHead(ctx, s); err != nil {
		return err
	}
	if err := s.log.readDead(ctx); err != nil {
		return err
	}
	if err := s.ownHead(); err != nil {
		return err
	}
	if s.log.state, err = archive.ParseState(s.captured.State); err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if err := s.log.checkClaims(); err != nil {
		return err
	}
	if s.stretches, err = s.log.chart(ctx); err != nil {
		return err
	}
	if p.Options.Parts == ConsumersOnly {
		return p.settle(s)
	}
	if p.moment {
		if err := p.between(ctx, s); err != nil {
			return err
		}
	}
	if err := p.applyCut(ctx, s); err != nil {
		return err
	}
	return p.settle(s)
}

// ownHead gives the head, whose state is that of the log where some of its entries are dead, the stream's own.
func (s *StreamPlan) ownHead() error {
	if s.log.dead == nil {
		return nil
	}
	if s.headErr == nil {
		if err := s.log.checkHead(s.captured); err != nil {
			return err
		}
	}
	own := &archive.Head{State: s.log.held.Document.State, StateTime: s.captured.StateTime}
	s.captured = own.WithConsumers(s.captured.Consumers)
	return nil
}

// unconfigured is why a stream whose directory or document cannot be read is not restored, not even in part.
func (s *StreamPlan) unconfigured() error {
	if errors.Is(s.log.held.Err, streamlog.ErrUnsupported) {
		return s.log.held.Err
	}
	return fmt.Errorf("%w; how the stream was configured is lost, so that nothing of it can be restored: an earlier snapshot may hold it", s.log.held.Err)
}

// allDamaged is the first damage where no chosen stream is whole or on the server.
func (p *Plan) allDamaged() error {
	if len(p.Streams) == 0 {
		return nil
	}
	for _, s := range p.Streams {
		if s.Damage == nil || s.Action == Skip {
			return nil
		}
	}
	return p.Streams[0].Damage
}
