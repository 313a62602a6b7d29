package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/blob"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/streamlog"
)

// stretch is a run of messages that is sent as a whole or not at all: a group, or a part of which it is lost what its groups are.
type stretch struct {
	Loss             // what would be lost with it; Reason is nil as long as nothing says that it is
	bytes  uint64    // of its encoded entries; 0 where that is lost
	ids    []blob.ID // nil where they are lost
	unread error     // why it is not known what the blobs hold; they may be whole
}

func (x *stretch) lost() bool { return x.Reason != nil }

// chart finds out what the stream's log holds, and what of it can be seen to be lost without reading messages.
func (p *Plan) chart(ctx context.Context, s *StreamPlan) error {
	sections, err := s.stream.Sections(ctx, s.state.FirstSeq, s.state.LastSeq)
	if err != nil {
		return err
	}
	if s.stream.Document.Jetsam.Messages > 0 { // an empty directory that is lost is no loss
		for _, x := range sections {
			for _, g := range x.Groups {
				if err := s.checkGroup(g); err != nil {
					return err
				}
			}
			s.stretches = append(s.stretches, s.stretchesOf(x)...)
		}
	}
	for i := range s.stretches {
		x := &s.stretches[i]
		for _, id := range x.ids {
			if err := p.present.Check(blob.Handle{Kind: blob.Data, ID: id}); err != nil && !x.lost() {
				x.Reason = err
			}
		}
	}
	return p.settle(s)
}

// lossOf is what is lost with a group, without a reason.
func lossOf(g streamlog.Group) Loss {
	return Loss{First: g.First, Last: g.Last, Messages: g.Messages, From: time.Unix(0, g.From), To: time.Unix(0, g.To)}
}

// settle computes from the stretches what will be sent and what is lost.
func (p *Plan) settle(s *StreamPlan) error {
	if err := s.countRest(); err != nil {
		return err
	}
	s.ids, s.ages, s.ArchiveSize = nil, nil, 0
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.lost() {
			continue
		}
		if x.Messages > 0 {
			s.ages = append(s.ages, age{x.To.UnixNano(), x.Messages})
		}
		s.ids = append(s.ids, x.ids...)
		for _, id := range x.ids {
			n, _ := p.rd.Size(blob.Handle{Kind: blob.Data, ID: id})
			s.ArchiveSize += uint64(n)
		}
	}
	return s.tellLosses()
}

// countRest holds the messages of the stretches against the document's. A single stretch whose number is lost has the rest of them.
func (s *StreamPlan) countRest() error {
	total, known := s.stream.Document.Jetsam.Messages, uint64(0)
	var unknown []*stretch
	for i := range s.stretches {
		x := &s.stretches[i]
		known += x.Messages
		if x.Messages == 0 {
			unknown = append(unknown, x)
		}
	}
	var least, most uint64 // that the unknown ones have
	for _, x := range unknown {
		most += s.room(x)
		if s.dead == nil {
			least++
		}
	}
	if known+least > total || known+most < total {
		return fmt.Errorf("stream %s: its parts hold %d messages, its document says %d: %w", s.Name, known, total, repo.ErrCorrupt)
	}
	switch {
	case known == total: // so nothing is alive in what is unknown
		s.stretches = slices.DeleteFunc(s.stretches, func(x stretch) bool { return x.Messages == 0 })
	case len(unknown) == 1:
		unknown[0].Messages = total - known
	}
	return nil
}

// tellLosses puts what is lost into s.Lost, and makes the head say what is left.
func (s *StreamPlan) tellLosses() error {
	total := s.stream.Document.Jetsam.Messages
	d := &DamageError{Total: total, Head: s.headErr}
	if s.headErr != nil {
		for _, c := range s.stream.Document.Jetsam.Consumers {
			d.Consumers = append(d.Consumers, c.Name)
		}
	}
	var whole, lost, bytes uint64
	var doubt, lostDoubt bool
	for i := range s.stretches {
		switch x := &s.stretches[i]; {
		case !x.lost():
			whole, doubt = whole+x.Messages, doubt || x.Messages == 0
		case i > 0 && s.stretches[i-1].lost():
			d.Lost[len(d.Lost)-1] = d.Lost[len(d.Lost)-1].join(x.Loss)
			lost, bytes, lostDoubt = lost+x.Messages, bytes+x.bytes, lostDoubt || x.Messages == 0
		default:
			d.Lost = append(d.Lost, x.Loss)
			lost, bytes, lostDoubt = lost+x.Messages, bytes+x.bytes, lostDoubt || x.Messages == 0
		}
	}
	s.Messages, s.Lost = whole, nil
	content := s.stream.Document.Jetsam.MessageBytes
	s.Bytes = content - min(content, bytes)
	if doubt {
		s.Messages = total - lost // nobody knows better before they are read
	}
	if !doubt || !lostDoubt {
		d.Messages = total - s.Messages
	}
	if len(d.Lost) == 0 {
		if d.Head != nil {
			s.Lost = d
		}
		return nil
	}
	s.Lost = d
	left := s.state
	left.Messages, left.Bytes = s.Messages, left.Bytes-min(left.Bytes, bytes) // an entry is never longer than what a server stores of it
	head, err := s.head.WithState(left)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	s.head = head
	return nil
}

// openHead reads the stream's head. One that is lost is made from the document, which has all of it but the consumers.
func (p *Plan) openHead(ctx context.Context, s *StreamPlan) error {
	head, err := s.stream.Head(ctx)
	if err != nil {
		head, err = s.stream.Head(ctx) // what a storage fails to give once is not lost yet
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		head = (&archive.Head{State: s.stream.Document.State}).WithoutConsumers()
		if !p.Options.NoConsumers {
			s.headErr = err
			if why := errors.Unwrap(err); why != nil {
				s.headErr = why // without the stream's and the file's name
			}
		}
	}
	if p.Options.NoConsumers {
		head = head.WithoutConsumers()
	}
	s.head, s.Consumers = head, len(head.Consumers)
	return nil
}

// Probe reads all messages of the streams that will be restored, where damage is to be skipped, so that the plan tells all that is lost.
func (p *Plan) Probe(ctx context.Context) error {
	for _, s := range p.Streams {
		if s.runs() {
			if err := p.probe(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// probe reads every blob of the stream's messages, once. After it, what will be sent was whole a moment ago.
func (p *Plan) probe(ctx context.Context, s *StreamPlan) error {
	if !p.Options.SkipDamaged || s.probed {
		return nil
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	t := &transfer{plan: p, s: s}
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.lost() {
			continue
		}
		t.tally.Messages += x.Messages
		t.report(func(r *Progress) { r.Stage = Probing })
		g.Go(func() error {
			err := p.probeStretch(gctx, x, s.dead)
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			x.Reason = err
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("stream %s: not begun: %w", s.Name, err)
	}
	s.stretches = slices.DeleteFunc(s.stretches, func(x stretch) bool { return x.ids == nil && !x.lost() }) // nothing in it is alive
	s.probed = true
	return p.settle(s)
}

// probeStretch returns why a stretch cannot be read. Of one of which it is lost what it holds, it finds that out.
func (p *Plan) probeStretch(ctx context.Context, x *stretch, dead *streamlog.Dead) error {
	var i int
	var lost error
	in := archive.NewMessageReader(archive.NewStoredReader(func() (framed []byte, err error) {
		if i == len(x.ids) {
			return nil, io.EOF
		}
		framed, lost = p.loadTwice(ctx, x.ids[i])
		i++
		return framed, lost
	}), archive.Limits{})
	next := living(in, dead)
	var seen archive.Tally
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if lost != nil {
			return lost
		}
		if err != nil {
			return fmt.Errorf("%w: %w", repo.ErrCorrupt, err)
		}
		seen.Add(m)
	}
	if x.unread != nil && dead != nil { // those that are alive were only known to lie within
		if seen.Messages == 0 {
			x.ids = nil
			return nil
		}
		x.First = max(x.First, seen.FirstSeq)
	}
	if seen.Messages == 0 || seen.FirstSeq != x.First || seen.LastSeq > x.Last || x.unread == nil && seen.Messages != x.Messages {
		return fmt.Errorf("the repository gives %d messages, %d to %d: %w", seen.Messages, seen.FirstSeq, seen.LastSeq, repo.ErrCorrupt)
	}
	if x.unread != nil {
		x.Last, x.Messages, x.unread = seen.LastSeq, seen.Messages, nil
		x.From, x.To = time.Unix(0, seen.MinTime), time.Unix(0, seen.MaxTime)
	}
	return nil
}

// loadTwice loads a blob of messages, and once more if that fails: what a storage fails to give once is not lost yet.
func (p *Plan) loadTwice(ctx context.Context, id blob.ID) ([]byte, error) {
	h := blob.Handle{Kind: blob.Data, ID: id}
	framed, err := p.rd.Load(ctx, h, nil)
	if err != nil && ctx.Err() == nil {
		framed, err = p.rd.Load(ctx, h, nil)
	}
	return framed, err
}

// lostAt is why the blob at that place of what is sent cannot be read: it names the messages that are lost with it.
func (s *StreamPlan) lostAt(place int, err error) error {
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.lost() {
			continue
		}
		if place < len(x.ids) {
			l := x.Loss
			l.Reason = err
			return &DamageError{Lost: []Loss{l}, Total: s.stream.Document.Jetsam.Messages} // what else is lost is not known
		}
		place -= len(x.ids)
	}
	return err
}

// plainDamage is the damage in err, without the words of those who came upon it.
func plainDamage(err error) error {
	var found *DamageError
	if errors.As(err, &found) {
		return found
	}
	return err
}

// lostOf is what a run that ended so found lost.
func (s *StreamPlan) lostOf(err error) *DamageError {
	var found *DamageError
	if errors.As(err, &found) {
		return found
	}
	return s.Lost
}
