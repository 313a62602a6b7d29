package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jetsam/blob"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// attempts is how often a capture is tried that breaks off or is torn.
const attempts = 2

// capture is one stream's capture: its result, and the directory that was stored.
type capture struct {
	StreamResult
	node *snapshot.Node
}

// errStorage marks failures of the repository: they end the run, a stream's own failure does not.
type errStorage struct{ error }

func (e errStorage) Unwrap() error { return e.error }

// capture stores one stream. A failure of the stream's own is in the capture; the error is one that ends the run.
func (b *run) capture(ctx context.Context, info *jetstream.StreamInfo) (*capture, error) {
	began := time.Now()
	var c, torn *capture
	var err error
	for try := 1; try <= attempts; try++ {
		c, err = b.captureOnce(ctx, info.Name)
		var fatal errStorage
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.As(err, &fatal) {
			return nil, fatal.error
		}
		if err == nil && c.Torn == "" || final(err) {
			break
		}
		if err == nil {
			torn = c
		}
	}
	if err != nil && torn != nil {
		// Part of the stream is better than nothing of it; that it is torn is marked, and said.
		c, err = torn, nil
	}
	if err != nil {
		c = &capture{StreamResult: StreamResult{Name: info.Name, Err: fmt.Errorf("stream %s: %w", info.Name, err)}}
	}
	c.Took = time.Since(began)
	b.report(Progress{Stream: info.Name, Messages: c.Messages, TotalMessages: c.Messages, Bytes: c.Bytes, TotalBytes: c.Bytes, Done: true, Err: c.Err})
	return c, nil
}

// final says whether trying again cannot help.
func final(err error) bool {
	var denied *jetstream.PermissionError
	return errors.As(err, &denied) || errors.Is(err, jetstream.ErrStreamNotFound)
}

func (b *run) captureOnce(ctx context.Context, name string) (*capture, error) {
	began := time.Now()
	snap, err := b.conn.Snapshot(ctx, name, jetstream.SnapshotOptions{NoConsumers: b.o.NoConsumers, IdleTimeout: b.o.IdleTimeout})
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	state, err := archive.ParseState(snap.State)
	if err != nil {
		return nil, err
	}
	in := archive.NewReader(archive.Decompress(snap, wireLimit(state)), archive.Limits{})
	head, err := in.Head()
	if err != nil {
		return nil, err
	}
	meter := b.meter(name, state)
	m, err := streamlog.WriteMessages(ctx, saver{b.w}, b.cut.Fresh(), func() (*archive.Message, error) {
		msg, err := in.Next()
		if err == nil {
			meter.add(msg)
		}
		return msg, err
	})
	if err != nil {
		return nil, err
	}
	c := &capture{StreamResult: StreamResult{
		Name: name, Messages: m.Count, Bytes: m.Content, FirstSeq: m.First, LastSeq: m.Last, Consumers: len(head.Consumers), Captured: began,
	}}
	after, err := b.conn.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at the stream again after its capture: %w", err)
	}
	if c.Removed, c.Torn, err = reconcile(state, m, after); err != nil {
		return nil, err
	}
	return c, b.save(ctx, c, snap, head, m, after.Created)
}

// save stores the stream's directory.
func (b *run) save(ctx context.Context, c *capture, snap *jetstream.Snapshot, head *archive.Head, m *streamlog.Messages, created time.Time) error {
	doc := &streamlog.Document{
		Config: snap.Config,
		State:  snap.State,
		Jetsam: streamlog.Capture{
			Format:         streamlog.FormatVersion,
			Created:        created,
			Messages:       m.Count,
			MessageBytes:   m.Content,
			LargestMessage: m.Largest,
			Removed:        c.Removed,
			Torn:           c.Torn,
			Consumers:      b.fidelity(head),
		},
	}
	var err error
	c.node, c.NewBytes, err = streamlog.SaveStream(ctx, saver{b.w}, c.Name, doc, head, m)
	return err
}

// fidelity says how true the consumers' states are. A lone server's snapshot holds them as they stand;
// a cluster's sets one with pending messages back to its ack floor (nats-server 2.15, stream_backup.go).
func (b *run) fidelity(head *archive.Head) []streamlog.ConsumerFidelity {
	f := streamlog.FidelityExact
	if b.conn.Server().Cluster != "" {
		f = streamlog.FidelityAckFloor
	}
	var out []streamlog.ConsumerFidelity
	for _, c := range head.Consumers {
		out = append(out, streamlog.ConsumerFidelity{Name: c.Name, Fidelity: f})
	}
	return out
}

// wireLimit bounds what a server may send for a stream of that state: twice its bytes, and room for many small messages.
func wireLimit(s archive.State) int64 {
	const room, perMessage = 64 << 20, 64 << 10
	limit := float64(s.Bytes)*2 + room + float64(s.Messages)*perMessage
	return int64(min(limit, 1<<62))
}

// saver marks the errors of the repository, so that they are told from the stream's own.
type saver struct{ w *repo.Writer }

func (s saver) Save(ctx context.Context, k blob.Kind, plain []byte) (blob.ID, repo.Saved, error) {
	id, saved, err := s.w.Save(ctx, k, plain)
	return id, saved, storageError(err)
}

func (s saver) SaveTree(ctx context.Context, t *snapshot.Tree) (blob.ID, repo.Saved, error) {
	id, saved, err := s.w.SaveTree(ctx, t)
	return id, saved, storageError(err)
}

func storageError(err error) error {
	if err == nil {
		return nil
	}
	return errStorage{err}
}
