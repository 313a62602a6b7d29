package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"jetsam/blob"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

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
	c, err := b.tryCapture(ctx, info.Name)
	var fatal errStorage
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if errors.As(err, &fatal) {
		return nil, fatal.error
	}
	if err != nil {
		c = &capture{StreamResult: StreamResult{Name: info.Name, Err: fmt.Errorf("stream %s: %w", info.Name, err)}}
	}
	c.Took = time.Since(began)
	b.report(Progress{Stream: info.Name, Messages: c.Messages, TotalMessages: c.Messages, Bytes: c.Bytes, TotalBytes: c.Bytes, Done: true, Err: c.Err})
	return c, nil
}

// tryCapture captures a stream, and once more where that broke off or is torn.
func (b *run) tryCapture(ctx context.Context, name string) (*capture, error) {
	if b.outage.over(b.patience()) && !b.conn.Connected() {
		return nil, fmt.Errorf("not tried, the server has been away for more than %v: %w", b.patience(), jetstream.ErrConnectionLost)
	}
	first, err := b.attempt(ctx, name, true, false)
	if err == nil && first.Torn == "" || ctx.Err() != nil || final(err) {
		return first, err
	}
	if errors.Is(err, jetstream.ErrUnreachable) {
		b.awaitServer(ctx, name)
	}
	second, err2 := b.attempt(ctx, name, first == nil && errors.Is(err, jetstream.ErrUnreachable), true)
	switch {
	case err2 == nil:
		second.Retried = whyAgain(first, err)
		return second, nil
	case err == nil && !fatal(err2):
		// Part of the stream is better than nothing of it; that it is torn is marked, and said.
		first.Retried = "the second attempt failed: " + err2.Error()
		return first, nil
	case !final(err2) && !fatal(err2) && err != nil && err.Error() != err2.Error():
		return nil, fmt.Errorf("%w (the first attempt: %w)", err2, err)
	}
	return nil, err2
}

// attempt captures a stream. The first one, and another after one that broke off, may be an increment; a torn one is made good by reading the whole.
// again says that there will be no other.
func (b *run) attempt(ctx context.Context, name string, mayIncrement, again bool) (*capture, error) {
	if b.ancestors[name].snapshot == (storage.ID{}) {
		if b.o.Mode == ModeIncremental {
			return nil, errNoAncestor
		}
		return b.captureOnce(ctx, name, again)
	}
	if b.o.Mode == ModeFull || !mayIncrement && b.o.Mode != ModeIncremental {
		return b.captureOnce(ctx, name, again)
	}
	c, err := b.captureIncrement(ctx, name)
	var denied *jetstream.PermissionError // a full capture needs other permissions, as older versions did
	if err == nil || b.o.Mode == ModeIncremental || !needsFull(err) && !errors.As(err, &denied) {
		return c, err
	}
	why := err
	if c, err = b.captureOnce(ctx, name, again); err == nil {
		c.Whole, c.Damaged = why.Error(), errors.Is(why, repo.ErrCorrupt)
	}
	return c, err
}

// whyAgain says what was wrong with a first attempt.
func whyAgain(c *capture, err error) string {
	if err != nil {
		return err.Error()
	}
	return "torn: " + c.Torn
}

func fatal(err error) bool {
	var f errStorage
	return errors.As(err, &f)
}

// final says whether trying again cannot help.
func final(err error) bool {
	var denied *jetstream.PermissionError
	return fatal(err) || needsFull(err) || errors.Is(err, errNoAncestor) || errors.As(err, &denied) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrProtocol)
}

// errRecreated: which of the two streams was captured cannot be told.
var errRecreated = errors.New("deleted and created again while it was read")

// captureOnce captures a stream; again says that there will be no other attempt.
func (b *run) captureOnce(ctx context.Context, name string, again bool) (*capture, error) {
	began := time.Now()
	before, err := b.look(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at the stream before its capture: %w", err)
	}
	snap, err := b.openSnapshot(ctx, name, b.snapshotOptions())
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	state, head := snap.state, snap.head
	g := newGaps(state.FirstSeq)
	m, err := streamlog.WriteMessages(ctx, saver{b.w}, b.cut.Fresh(), b.messages(name, snap.in.Next, state, g))
	if err != nil {
		return nil, snap.source.why(err)
	}
	c := &capture{StreamResult: StreamResult{
		Name: name, Messages: m.Count, Bytes: m.Content, FirstSeq: m.First, LastSeq: m.Last, Consumers: len(head.Consumers), Captured: began,
		Created: before.Created, Recreated: recreated(b.ancestors[name], before.Created, state), Way: WaySnapshot, New: m.Count, Received: snap.source.n,
	}}
	v, err := b.judge(ctx, before, state, m, g)
	if err != nil {
		return nil, err
	}
	if again && v.usual {
		v.torn = "" // as every capture of such a stream would be
	}
	c.Removed, c.Torn = v.removed, v.torn
	return c, b.save(ctx, c, snap.Snapshot, head, m, before.Created)
}

// opened is a snapshot whose head was read.
type opened struct {
	*jetstream.Snapshot
	state  archive.State
	source *tap
	in     *archive.Reader
	head   *archive.Head // without consumers by which other backups read the stream
}

// openSnapshot asks for a snapshot of a stream and reads its head.
func (b *run) openSnapshot(ctx context.Context, name string, o jetstream.SnapshotOptions) (*opened, error) {
	snap, err := b.conn.Snapshot(ctx, name, o)
	if err != nil {
		return nil, err
	}
	s := &opened{Snapshot: snap, source: &tap{r: snap}}
	if err := s.readHead(); err != nil {
		snap.Close()
		return nil, err
	}
	return s, nil
}

func (s *opened) readHead() (err error) {
	if s.state, err = archive.ParseState(s.State); err != nil {
		return err
	}
	s.in = archive.NewReader(archive.Decompress(s.source, wireLimit(s.state)), archive.Limits{})
	head, err := s.in.Head()
	if err != nil {
		return s.source.why(err)
	}
	s.head = withoutFetches(head)
	return sameState(s.state, s.head)
}

// tap remembers why a snapshot ended. Where in the archive that was noticed says nothing: what was read by then waits in buffers.
type tap struct {
	r   io.Reader
	n   uint64 // bytes
	err error
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.n += uint64(n)
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}

// why is err, or the error of the snapshot that err comes from.
func (t *tap) why(err error) error {
	if t.err != nil && errors.Is(err, t.err) {
		return t.err
	}
	return err
}

func (b *run) snapshotOptions() jetstream.SnapshotOptions {
	return jetstream.SnapshotOptions{NoConsumers: b.o.NoConsumers, ChunkSize: b.o.ChunkSize, WindowSize: b.o.WindowSize, IdleTimeout: b.o.IdleTimeout}
}

// withoutFetches leaves out the consumers by which other backups read the stream right now.
func withoutFetches(head *archive.Head) *archive.Head {
	var kept []archive.Consumer
	for _, c := range head.Consumers {
		if !jetstream.IsFetchConsumer(c.Name) {
			kept = append(kept, c)
		}
	}
	if len(kept) == len(head.Consumers) {
		return head
	}
	return head.WithConsumers(kept)
}

// sameState wants the archive to be of the stream that the server answered for.
func sameState(state archive.State, head *archive.Head) error {
	h, err := archive.ParseState(head.State)
	if err != nil {
		return err
	}
	if h.Messages != state.Messages || h.FirstSeq != state.FirstSeq || h.LastSeq != state.LastSeq {
		return fmt.Errorf("the archive is of a stream with %d messages, sequences %d to %d, but the server answered for one with %d messages, sequences %d to %d",
			h.Messages, h.FirstSeq, h.LastSeq, state.Messages, state.FirstSeq, state.LastSeq)
	}
	return nil
}

// messages yields the messages that next does, and ends with an error at the first that the state does not allow: a server that never
// stops sending is not listened to any longer than that.
func (b *run) messages(name string, next func() (*archive.Message, error), state archive.State, g *gaps) func() (*archive.Message, error) {
	meter := b.meter(name, state)
	var sofar streamlog.Messages
	return func() (*archive.Message, error) {
		msg, err := next()
		if err != nil {
			return nil, err
		}
		sofar.Count, sofar.Last = sofar.Count+1, msg.Seq
		if err := possible(state, &sofar); err != nil {
			return nil, err
		}
		g.saw(msg.Seq)
		meter.add(msg)
		return msg, nil
	}
}

// view is a stream as it stands at one time.
type view struct {
	*jetstream.StreamInfo
	dead dead
	many bool // too many sequences are gone for dead to be known
}

// look asks how a stream stands.
func (b *run) look(ctx context.Context, name string) (v view, err error) {
	v.StreamInfo, err = b.conn.Stream(ctx, name)
	if err != nil {
		return view{}, err
	}
	if v.many = v.Deleted > maxDeleted; v.Deleted > 0 && !v.many {
		if v.StreamInfo, v.dead.deleted, err = b.conn.StreamDeleted(ctx, name); err != nil {
			return view{}, err
		}
	}
	v.dead.first = v.FirstSeq
	return v, nil
}

// judge compares what came with how the stream stood before and stands now.
func (b *run) judge(ctx context.Context, before view, state archive.State, m *streamlog.Messages, g *gaps) (verdict, error) {
	if err := possible(state, m); err != nil {
		return verdict{}, err
	}
	g.end(state.LastSeq)
	after, err := b.conn.Stream(ctx, before.Name)
	if err != nil {
		return verdict{}, fmt.Errorf("look at the stream again after its capture: %w", err)
	}
	if !after.Created.Equal(before.Created) {
		return verdict{}, errRecreated
	}
	if m.Count == state.Messages {
		return verdict{}, nil
	}
	now, err := b.look(ctx, before.Name)
	if err != nil {
		return verdict{}, fmt.Errorf("ask for the sequences that the stream lost: %w", err)
	}
	nowState, err := archive.ParseState(now.State)
	if err != nil {
		return verdict{}, err
	}
	if g.many || before.many || now.many {
		return reconcileCounts(state, m, nowState), nil
	}
	return reconcile(state, m, g, nowState, before.dead, now.dead, now.StreamSettings), nil
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
			Recreated:      c.Recreated,
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
