package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage/local"
)

// The files of a directory that `nats stream backup` writes and `nats stream restore` takes (jsm.go, snapshots.go).
const (
	archiveFile  = "stream.arc.s2"
	filesFile    = "stream.tar.s2" // of servers before 2.15
	documentFile = "backup.json"
)

// Form is what the streams of an export are written as.
type Form int

const (
	Archives Form = iota // archives of messages, which servers of 2.15 and newer take
	Files                // files of a server's store, which servers before 2.15 take, and those after as well
)

// Export is a plan whose streams go into directories instead of a server: such as `nats stream restore` takes, and all of them below one
// that `nats account restore` takes. What is in them is not encrypted.
type Export struct {
	*Plan
	Dir string
}

// NewExport finds out what exporting the chosen streams of a snapshot to dir would do. No server is asked. It fails as NewPlan does, and
// with an error that wraps storage.ErrExist where dir is there and not empty.
func NewExport(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, dir string, o Options) (*Export, error) {
	if err := local.Vacant(dir); err != nil {
		return nil, err
	}
	p, err := choose(ctx, rd, sn, o)
	if p == nil {
		return nil, err
	}
	if err != nil {
		return &Export{p, dir}, err
	}
	return p.intoDirectory(ctx, dir)
}

// NewExportAt finds out what exporting the chosen streams as they were at the time Options.Cut.At would do. It fails as NewPlanAt and
// NewExport do.
func NewExportAt(ctx context.Context, rd *repo.Reader, snapshots []*snapshot.Snapshot, dir string, o Options) (*Export, error) {
	if err := local.Vacant(dir); err != nil {
		return nil, err
	}
	p, err := chooseAt(ctx, rd, snapshots, o)
	if err != nil {
		return nil, err
	}
	return p.intoDirectory(ctx, dir)
}

// intoDirectory finds out about the streams of the plan, and what a server will make of their directories.
func (p *Plan) intoDirectory(ctx context.Context, dir string) (*Export, error) {
	p.older = p.Options.Form == Files
	if err := p.examineAll(ctx); err != nil {
		return nil, err
	}
	x := &Export{p, dir}
	if err := p.filterAll(ctx); err != nil {
		return x, err
	}
	now := time.Now()
	names := directoryNames{}
	for _, s := range p.Streams {
		if !s.runs() {
			continue
		}
		if p.older {
			if err := p.simplifyExport(s); err != nil {
				return nil, err
			}
		}
		if err := s.hold(p.Options, now); err != nil {
			return nil, err
		}
		s.Dir = names.path(dir, s.Name)
		p.warn(s, now)
		if err := s.warnOfServers(); err != nil {
			return nil, err
		}
		p.tellGaps(s)
	}
	x.warnOfOverlaps()
	return x, p.allDamaged()
}

// usualPayload is the largest message that servers take unless they are told otherwise, in bytes (nats-server, MAX_PAYLOAD_SIZE).
const usualPayload = 1 << 20

// warnOfServers adds what a server that is given the directory may refuse, or do, and what a restore would have asked it about.
func (s *StreamPlan) warnOfServers() error {
	largest := s.largest()
	if largest > usualPayload {
		s.warning("it has, or had, a message of %s bytes: a server takes it only if its max_payload allows for as much", digits.Grouped(largest))
	}
	if most := s.config.MaxMessageSize; most > 0 && largest > most {
		s.warning("it has, or had, a message of %s bytes, and its own max_msg_size is %d: a server refuses what is larger; another one can be given with --config", digits.Grouped(largest), most)
	}
	if most := s.config.MaxConsumers; most > 0 && s.Consumers > most {
		s.warning("it has %s consumers, and its own max_consumers is %d: a server refuses that; --no-consumers leaves them out", digits.Grouped(s.Consumers), most)
	}
	if s.state.LastSeq > maxSequence {
		s.warning("its last sequence is %d, and servers lose messages above %d", s.state.LastSeq, uint64(maxSequence))
	}
	if s.config.MaxAge > 0 && s.Messages > 0 {
		s.warning("its max_age is %v: what is older by the time that the directory is restored, the server removes at once", s.config.MaxAge)
	}
	if !s.renamed() {
		return nil
	}
	_, push, err := s.splitPush()
	if len(push) > 0 {
		s.warning("it has push consumers, which deliver to the same subjects as those of stream %s: where that is on the server too, export with --no-consumers", s.Source)
	}
	return err
}

// warnOfOverlaps says which streams cannot be restored into one account.
func (x *Export) warnOfOverlaps() {
	taken := &claims{}
	for _, s := range x.Streams {
		if !s.runs() {
			continue
		}
		mine := subjectsOf(s.Name, s.config)
		for _, c := range taken.overlapping(mine) {
			if own, other, ok := firstOverlap(mine, c.subjects); ok {
				s.warning("its subject %q overlaps %q of stream %s: one account takes only one of them", own, other, c.name)
			}
		}
		taken.add(claim{name: s.Name, subjects: mine})
	}
}

// Run writes the directories, and reads each back before it gets its name: what is there under it is whole. The result tells of each stream;
// a stream that fails does not stop the others. Where none succeeded, nothing is left of what was made. The error is ctx's, or why the
// directory above them cannot be made, without a result.
func (x *Export) Run(ctx context.Context) (*Result, error) {
	if err := local.Vacant(x.Dir); err != nil {
		return nil, err
	}
	undo, err := local.MakeFolder(x.Dir)
	if err != nil {
		return nil, err
	}
	res, err := x.each(ctx, x.export)
	for _, s := range res.Streams {
		if s.Dir != "" {
			return res, err
		}
	}
	undo()
	return res, err
}

// export writes the directory of one stream.
func (x *Export) export(ctx context.Context, s *StreamPlan, res *StreamResult) error {
	f := &outflow{plan: x.Plan, s: s}
	err := f.stage(ctx)
	f.tell(res)
	if f.past > 0 {
		res.Notes = append(res.Notes, fmt.Sprintf("%s of its messages have expired, or soon will: a server removes them, or does not take them", digits.Grouped(f.past)))
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	res.Dir, res.Compared, res.Verified = s.Dir, true, s.Lost == nil
	return nil
}

// stage makes the directory, which appears under its name when it was read back.
func (f *outflow) stage(ctx context.Context) error {
	out, err := local.Stage(f.s.Dir)
	if err != nil {
		return err
	}
	err = f.fill(ctx, out)
	if err == nil {
		err = out.Commit()
	}
	if left := out.Abort(); left != nil {
		return fmt.Errorf("%w; %w", err, left)
	}
	return err
}

// fill writes the files of the directory, each of which is read back. Without the last one no program takes the directory for a backup.
func (f *outflow) fill(ctx context.Context, out *local.Staging) error {
	name, send, readBack := archiveFile, f.sendAll, f.readBack
	if f.plan.older {
		name, send, readBack = filesFile, f.exportFiles, f.readBackFiles
	}
	sum := sha256.New()
	err := out.Add(name, func(w io.Writer) error {
		packed := archive.Compress(w)
		if err := send(ctx, io.MultiWriter(packed, sum)); err != nil {
			return err
		}
		return packed.Close()
	})
	if err != nil {
		return err
	}
	again := func(read func(io.Reader) error) error { return out.Read(name, read) }
	if err := readBack(ctx, again, [sha256.Size]byte(sum.Sum(nil))); err != nil {
		return err
	}
	document, err := f.document()
	if err != nil {
		return err
	}
	if err := out.Add(documentFile, func(w io.Writer) error { _, err := w.Write(document); return err }); err != nil {
		return err
	}
	return out.Read(documentFile, func(r io.Reader) error {
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, document) {
			err = fmt.Errorf("read back: %s is not what was written", documentFile)
		}
		return err
	})
}

// document is what says of the archive which stream it is of.
func (f *outflow) document() ([]byte, error) {
	text, err := json.MarshalIndent(struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}{f.s.wanted, f.s.head.State}, "", "  ")
	return append(text, '\n'), err
}

// readBack reads the archive as a server would, and compares it with what was sent.
func (f *outflow) readBack(ctx context.Context, again func(func(io.Reader) error) error, want [sha256.Size]byte) error {
	return again(func(r io.Reader) error {
		sum := sha256.New()
		in := archive.NewReader(io.TeeReader(archive.Decompress(r, -1), sum), archive.Limits{})
		return f.compareBack(ctx, archiveFile, in.Next, sum, want)
	})
}

// compareBack reads what was written to its end, and compares it with what was sent.
func (f *outflow) compareBack(ctx context.Context, name string, next func() (*archive.Message, error), sum hash.Hash, want [sha256.Size]byte) error {
	back := outflow{plan: f.plan, s: f.s}
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read back %s: %w", name, err)
		}
		back.tally.Add(m)
		back.sent += uint64(len(m.Raw))
		if back.tally.Messages%4096 == 1 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			back.report(func(p *Progress) { p.Stage = Verifying })
		}
	}
	if back.tally != f.tally || [sha256.Size]byte(sum.Sum(nil)) != want {
		return fmt.Errorf("read back: %s holds %d messages, %d to %d, and is not what was written: %d messages, %d to %d",
			name, back.tally.Messages, back.tally.FirstSeq, back.tally.LastSeq, f.tally.Messages, f.tally.FirstSeq, f.tally.LastSeq)
	}
	return nil
}
