package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/blob"
	"jetsam/jetstream/archive"
	"jetsam/repo"
)

// Probe reads all messages of the streams that will be restored, where damage is to be skipped, so that the plan tells all that is lost.
func (p *Plan) Probe(ctx context.Context) error {
	for _, s := range p.Streams {
		if s.sends() {
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
	if err := p.readStretches(ctx, s, func(*stretch) bool { return true }); err != nil {
		return fmt.Errorf("stream %s: not begun: %w", s.Name, err)
	}
	s.probed = true
	return p.settle(s)
}

// readStretches reads those of the stream's stretches that which says, unless they are lost or were read before. What cannot be read is
// lost from then on, and what turns out to have nothing that is wanted is left out. The error is ctx's, or that of a storage which does not give something
// just now.
func (p *Plan) readStretches(ctx context.Context, s *StreamPlan, which func(*stretch) bool) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	f := &outflow{plan: p, s: s}
	var away atomic.Bool // a disk failed to read something: it may have gone as a whole
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.lost() || x.probed || !which(x) {
			continue
		}
		f.tally.Messages += x.Messages
		f.report(func(r *Progress) { r.Stage = Probing })
		g.Go(func() error {
			err := p.readStretch(gctx, s, x)
			switch {
			case gctx.Err() != nil:
				return context.Cause(gctx)
			case repo.IsUnread(err):
				return x.unreadable(err)
			case err != nil:
				x.lose(err)
				away.CompareAndSwap(false, !errors.Is(err, repo.ErrCorrupt))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if away.Load() {
		if _, err := p.rd.Presence(ctx); err != nil {
			return err // what a storage that is away does not give is not lost
		}
	}
	s.stretches = slices.DeleteFunc(s.stretches, func(x stretch) bool { return x.ids == nil && !x.lost() })
	return nil
}

// readStretch returns why a stretch cannot be read. Of one of which it is lost what it holds, and of one that is sent in part, it finds out
// what that is.
func (p *Plan) readStretch(ctx context.Context, s *StreamPlan, x *stretch) error {
	next := x.log.living(p.reader(ctx, x))
	var alive, wanted archive.Tally
	var bytes uint64
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		alive.Add(m)
		if x.log.wants(m) {
			wanted.Add(m)
			bytes += uint64(len(m.Raw))
			s.awaited.mark(m.Seq)
		}
	}
	if x.unread != nil && x.log.dead != nil { // those that are alive were only known to lie within
		if alive.Messages == 0 {
			x.ids = nil
			return nil
		}
		x.alive.First = max(x.alive.First, alive.FirstSeq)
	}
	if alive.Messages == 0 || alive.FirstSeq != x.alive.First || alive.LastSeq > x.alive.Last || x.unread == nil && alive.Messages != x.count {
		return fmt.Errorf("the repository gives %d messages, %d to %d: %w", alive.Messages, alive.FirstSeq, alive.LastSeq, repo.ErrCorrupt)
	}
	if x.unread != nil || x.narrow {
		x.become(wanted, bytes)
	}
	x.alive.Last, x.count, x.unread, x.probed = alive.LastSeq, alive.Messages, nil, true
	return nil
}

// become makes of a stretch what was found in it. Where that is nothing, it has no blobs any more.
func (x *stretch) become(found archive.Tally, bytes uint64) {
	if found.Messages == 0 {
		x.ids = nil
		return
	}
	x.First, x.Last, x.Messages, x.bytes = found.FirstSeq, found.LastSeq, found.Messages, bytes
	x.From, x.To = time.Unix(0, found.MinTime), time.Unix(0, found.MaxTime)
}

// cutThrough says that only some of a stretch's messages are sent.
func (x *stretch) cutThrough() {
	x.narrow, x.probed = true, false
	if x.lost() {
		x.lose(x.Reason)
	}
}

// unreadable is why a stretch cannot be read just now: nothing of it is known to be lost.
func (x *stretch) unreadable(err error) error {
	return fmt.Errorf("messages %d to %d cannot be read: %w", x.First, x.Last, err)
}

// each passes on what next gives of the stretch's messages. A stretch that is damaged is lost from then on. The error is ctx's, or that of take, or of a
// storage which does not give something just now.
func (x *stretch) each(ctx context.Context, next func() (*archive.Message, error), take func(*archive.Message) error) error {
	for {
		m, err := next()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return nil
		case repo.IsUnread(err):
			return x.unreadable(err)
		case err != nil:
			x.lose(err)
			return nil
		}
		if err := take(m); err != nil {
			return err
		}
	}
}

// messageReader reads a stretch's messages: all of them. What cannot be loaded says so itself, and everything else is damage.
type messageReader struct {
	in   *archive.MessageReader
	lost error
}

func (r *messageReader) next() (*archive.Message, error) {
	m, err := r.in.Next()
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return m, err
	case r.lost != nil:
		return nil, r.lost
	}
	return nil, fmt.Errorf("%w: %w", repo.ErrCorrupt, err)
}

// reader returns the messages of a stretch, those that are dead too.
func (p *Plan) reader(ctx context.Context, x *stretch) func() (*archive.Message, error) {
	rest, r := x.ids, &messageReader{}
	r.in = archive.NewMessageReader(archive.NewStoredReader(func() (framed []byte, err error) {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		framed, r.lost = p.loadTwice(ctx, rest[0])
		rest = rest[1:]
		return framed, r.lost
	}), archive.Limits{})
	return r.next
}

// loadTwice loads a blob of messages, and once more if that fails: what a storage fails to give once is not lost yet.
func (p *Plan) loadTwice(ctx context.Context, id blob.ID) ([]byte, error) {
	h := dataBlob(id)
	framed, err := p.rd.Load(ctx, h, nil)
	if err != nil && ctx.Err() == nil {
		framed, err = p.rd.Load(ctx, h, nil)
	}
	return framed, err
}
