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
}

// readyGroups is how many groups may wait for their turn in a part. Their blobs are stored already, so it bounds bookkeeping, not data.
const readyGroups = 64

// WriteMessages stores the messages that next yields, in ascending order of their sequences, until it returns io.EOF.
// A message need be valid only until the following call of next. Any other error of next is returned as it is, and what was stored by then is unreferenced.
//
// Blobs are saved by as many goroutines as there are processors, so memory is bounded by that number of groups, each at most chunker.MaxSize and one message.
func WriteMessages(ctx context.Context, dst Saver, cut *chunker.Cutter, next func() (*archive.Message, error)) (*Messages, error) {
	w := &messageWriter{dst: dst, bufs: &buffers{}, ready: make(chan *savedGroup, readyGroups)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(w.ready)
		return w.saveGroups(ctx, cut, next)
	})
	var out *Messages
	g.Go(func() (err error) {
		out, err = w.placeGroups(ctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

type messageWriter struct {
	dst   Saver
	bufs  *buffers
	ready chan *savedGroup // in the order of the stream
}

// savedGroup is a group whose blobs are being stored. The fields besides done may be read once done is closed.
type savedGroup struct {
	*pieces
	done   chan struct{}
	ids    []blob.ID
	size   uint64 // of the framed blobs
	stored uint64
}

// saveGroups reads all messages and hands out each group to a saving goroutine, and to placeGroups in order.
func (w *messageWriter) saveGroups(ctx context.Context, cut *chunker.Cutter, next func() (*archive.Message, error)) error {
	savers, sctx := errgroup.WithContext(ctx)
	savers.SetLimit(runtime.GOMAXPROCS(0))
	g := &grouper{cut: cut, bufs: w.bufs, yield: func(p *pieces) error {
		s := &savedGroup{pieces: p, done: make(chan struct{})}
		select {
		case w.ready <- s:
		case <-sctx.Done():
			return sctx.Err()
		}
		savers.Go(func() error { return w.save(sctx, s) })
		return nil
	}}
	err := g.addAll(next)
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

// placeGroups puts the groups into parts and shelves, in order.
func (w *messageWriter) placeGroups(ctx context.Context) (*Messages, error) {
	lib := &library{dst: w.dst}
	out := &Messages{}
	for s := range w.ready {
		select {
		case <-s.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		out.note(s)
		if err := lib.place(ctx, s); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	tree, at, err := lib.finish(ctx)
	if err != nil {
		return nil, err
	}
	out.Tree, out.Time = tree, at
	out.NewBytes += lib.stored
	return out, nil
}

func (m *Messages) note(s *savedGroup) {
	if m.Count == 0 {
		m.First = s.First
	}
	m.Last = s.Last
	m.Count += s.Messages
	m.Content += s.content
	m.Largest = max(m.Largest, s.largest)
	m.NewBytes += s.stored
}
