package streamlog

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
)

// Saver stores blobs and trees: a *repo.Writer.
type Saver interface {
	Save(ctx context.Context, k blob.Kind, plain []byte) (blob.ID, repo.Saved, error)
	SaveTree(ctx context.Context, t *snapshot.Tree) (blob.ID, repo.Saved, error)
}

// Messages is what WriteMessages stored.
type Messages struct {
	Tree     blob.ID   // of the directory "messages"
	Time     time.Time // highest message time; zero where there are no messages
	Count    uint64
	First    uint64 // sequences of the first and last message, 0 where there are none
	Last     uint64
	Content  uint64 // bytes of subjects, headers and payloads
	Largest  uint64 // headers and payload of the largest message, in bytes
	NewBytes uint64 // sealed bytes that the repository did not have

	Dead *DeadFile // which of the entries are not alive; nil: all of them are

	ranges []Run // of the groups
}

// readySteps is how many steps may wait for their turn. The blobs of their groups are stored already, so it bounds bookkeeping, not data.
const readySteps = 64

// WriteMessages stores the messages that next yields, in ascending order of their sequences, until it returns io.EOF.
// A message need be valid only until the following call of next. Any other error of next is returned as it is, and what was stored by then is unreferenced.
//
// Blobs are saved by as many goroutines as there are processors, so memory is bounded by that number of groups, each at most chunker.MaxSize and one message.
func WriteMessages(ctx context.Context, dst Saver, cut *chunker.Cutter, next func() (*archive.Message, error)) (*Messages, error) {
	return newMessageWriter(dst).run(ctx, cut, func(_ context.Context, g *grouper) error { return g.addAll(next) })
}

type messageWriter struct {
	dst   Saver
	bufs  *buffers
	lib   *library
	out   *Messages
	steps chan step // in the order of the stream
}

// step does the next thing with the library: place a group, most often.
type step func(ctx context.Context) error

func newMessageWriter(dst Saver) *messageWriter {
	return &messageWriter{dst: dst, bufs: &buffers{}, lib: &library{dst: dst}, out: &Messages{}, steps: make(chan step, readySteps)}
}

// run stores what feed gives the grouper, and does the steps that it gives the writer.
func (w *messageWriter) run(ctx context.Context, cut *chunker.Cutter, feed func(context.Context, *grouper) error) (*Messages, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(w.steps)
		return w.saveGroups(ctx, cut, feed)
	})
	g.Go(func() error { return w.follow(ctx) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return w.out, nil
}

// then has s done when its turn has come.
func (w *messageWriter) then(ctx context.Context, s step) error {
	select {
	case w.steps <- s:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// savedGroup is a group whose blobs are being stored. The fields besides done may be read once done is closed.
type savedGroup struct {
	*pieces
	done   chan struct{}
	ids    []blob.ID
	size   uint64 // of the framed blobs
	stored uint64
}

// saveGroups hands out each group that feed makes to a saving goroutine, and to the steps in order.
func (w *messageWriter) saveGroups(ctx context.Context, cut *chunker.Cutter, feed func(context.Context, *grouper) error) error {
	savers, sctx := errgroup.WithContext(ctx)
	savers.SetLimit(runtime.GOMAXPROCS(0))
	cut.Reset()
	g := &grouper{cut: cut, bufs: w.bufs, yield: func(p *pieces) error {
		s := &savedGroup{pieces: p, done: make(chan struct{})}
		if err := w.then(sctx, func(ctx context.Context) error { return w.place(ctx, s) }); err != nil {
			return err
		}
		savers.Go(func() error { return w.save(sctx, s) })
		return nil
	}}
	err := feed(sctx, g)
	if err == nil {
		err = g.end()
	}
	// A saver's failure cancels ctx, and with it the reading: it is the cause, so it goes first.
	if serr := savers.Wait(); serr != nil {
		return serr
	}
	return err
}

// save stores the blobs of one group.
func (w *messageWriter) save(ctx context.Context, s *savedGroup) error {
	for _, plain := range s.plain {
		framed := archive.AppendFrame(w.bufs.get(), plain)
		w.bufs.put(plain)
		id, saved, err := w.dst.Save(ctx, blob.Data, framed)
		size := len(framed)
		w.bufs.put(framed)
		if err != nil {
			return fmt.Errorf("store messages %d to %d: %w", s.First, s.Last, err)
		}
		s.ids = append(s.ids, id)
		s.Blobs = append(s.Blobs, shortID(id))
		s.size += uint64(size)
		s.stored += uint64(saved.Stored)
	}
	s.plain = nil
	close(s.done)
	return nil
}

// follow does the steps, in order.
func (w *messageWriter) follow(ctx context.Context) error {
	for s := range w.steps {
		if err := s(ctx); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var err error
	w.out.Tree, w.out.Time, err = w.lib.finish(ctx)
	w.out.NewBytes += w.lib.stored
	return err
}

// place puts a group that is being stored into its part, once that is done.
func (w *messageWriter) place(ctx context.Context, s *savedGroup) error {
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	w.out.note(s)
	return w.lib.place(ctx, s)
}

func (m *Messages) note(s *savedGroup) {
	if m.Count == 0 {
		m.First = s.First
	}
	m.Last = s.Last
	m.ranges = append(m.ranges, Run{s.First, s.Last})
	m.Count += s.Messages
	m.Content += s.content
	m.Largest = max(m.Largest, s.largest)
	m.NewBytes += s.stored
}
