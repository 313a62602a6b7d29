package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"jetsam/blob"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/jetstream/legacy"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

// capture is one stream's capture: its result, and the directory that was stored.
type capture struct {
	StreamResult
	node    *snapshot.Node
	files   bool // it comes from files of a server before 2.15
	lasting bool // it is torn, and another one would be as well
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
	if c.Err == nil {
		b.outage.end() // where other streams were waited for: their leaders are away, and not the server
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
	k := &breaks{}
	first, err := b.attempt(ctx, name, k, true, false)
	if err == nil && (first.Torn == "" || first.lasting) || ctx.Err() != nil || final(err) {
		return first, err
	}
	if errors.Is(err, jetstream.ErrUnreachable) {
		b.awaitServer(ctx, name)
	}
	second, err2 := b.attempt(ctx, name, k, first == nil && errors.Is(err, jetstream.ErrUnreachable), true)
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
func (b *run) attempt(ctx context.Context, name string, k *breaks, mayIncrement, again bool) (*capture, error) {
	if b.ancestors[name].snapshot == (storage.ID{}) {
		if b.o.Mode == ModeIncremental {
			return nil, errNoAncestor
		}
		return b.captureOnce(ctx, name, k, again)
	}
	if b.o.Mode == ModeFull || !mayIncrement && b.o.Mode != ModeIncremental {
		return b.captureOnce(ctx, name, k, again)
	}
	c, err := b.captureIncrement(ctx, name, k)
	var denied *jetstream.PermissionError // a full capture needs other permissions, as older versions did
	if err == nil || b.o.Mode == ModeIncremental || !needsFull(err) && !errors.As(err, &denied) {
		return c, err
	}
	why := err
	if c, err = b.captureOnce(ctx, name, k, again); err == nil {
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

// captureOnce captures a stream whole; again says that there will be no other attempt. Where the files of a server before 2.15 are not what they should
// be, its messages are read.
func (b *run) captureOnce(ctx context.Context, name string, k *breaks, again bool) (*capture, error) {
	c, err := b.captureWhole(ctx, name, k, again, "")
	why := ""
	var bad *filesError
	switch {
	case err == nil && c.files && c.Torn != "" && !c.lasting:
		why = c.Torn
	case errors.As(err, &bad) && ctx.Err() == nil && !final(err) && !broke(err):
		why = bad.Error()
	default:
		return c, err
	}
	return b.captureWhole(ctx, name, k, again, "the server's snapshot of it was no good: "+why)
}

// captureWhole captures a stream whole: by the snapshot API, unless instead says why not.
func (b *run) captureWhole(ctx context.Context, name string, k *breaks, again bool, instead string) (*capture, error) {
	began := time.Now()
	r, err := b.beginWhole(ctx, name, k, instead)
	if err != nil {
		return nil, err
	}
	defer r.close()
	m, err := streamlog.WriteMessages(ctx, saver{b.w}, b.cut.Fresh(), r.messages(ctx))
	if err == nil {
		err = r.settle()
	}
	if err != nil {
		return nil, r.filesError(err)
	}
	v, err := b.judge(ctx, r, m)
	if err != nil {
		return nil, r.filesError(err)
	}
	if again && v.usual {
		v.torn = "" // as every capture of such a stream would be
	}
	r.close()
	live := r.living(m)
	c := &capture{files: r.files != nil, lasting: v.lasting, StreamResult: StreamResult{
		Name: name, Messages: live.Count, Bytes: m.Content, FirstSeq: live.First, LastSeq: live.Last, Consumers: len(r.as.head.Consumers), Captured: began,
		Created: r.as.Created, Recreated: recreated(b.ancestors[name], r.as.Created, r.as.state), Way: r.how, Instead: r.instead, New: m.Count, Received: r.received,
		Removed: v.removed, Torn: v.torn, Resumed: r.resumed, FailedConsumers: r.as.failed,
	}}
	if r.died > 0 {
		c.Bytes = contentOf(r.as.StreamInfo, live.Count)
	}
	c.note(b.ancestors[name], r.as.state.LastSeq, k.other)
	return c, b.save(ctx, c, r, m)
}

// beginWhole begins to read a stream whole.
func (b *run) beginWhole(ctx context.Context, name string, k *breaks, instead string) (*reading, error) {
	before, err := b.look(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at the stream before its capture: %w", err)
	}
	if instead == "" {
		instead = b.spared(before.StreamInfo)
	}
	if instead == "" {
		if err := b.listBefore(ctx, &before); err != nil {
			return nil, err
		}
		snap, err := b.openPatiently(ctx, before, b.snapshotOptions())
		var failed []streamlog.FailedConsumer
		if err != nil {
			var c *consumers
			if snap, c, err = b.openWithout(ctx, before, err); err == nil {
				failed = c.failed
			}
		}
		if err == nil {
			before.Config, before.State = snap.Config, snap.State
			r := b.newReading(standing{before, snap.state, snap.head, b.fidelity(before.Cluster, snap.head), failed}, snap.way(), k)
			r.how, r.files = WaySnapshot, snap.files
			return r, nil
		}
		if instead = b.withoutSnapshot(err); instead == "" {
			return nil, err
		}
	}
	return b.beginMessages(ctx, name, k, instead)
}

// beginMessages begins to read all messages of a stream without the snapshot API.
func (b *run) beginMessages(ctx context.Context, name string, k *breaks, instead string) (*reading, error) {
	as, err := b.stand(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at the stream before its capture: %w", err)
	}
	w, how, err := b.fetch(ctx, as.StreamInfo, max(as.FirstSeq, 1), 0, as.gone())
	if err != nil {
		return nil, err
	}
	r := b.newReading(as, w, k)
	r.how, r.instead, r.lone = how, instead, true
	return r, nil
}

// opened is a snapshot whose head was read.
type opened struct {
	*jetstream.Snapshot
	state  archive.State
	source *tap
	next   func() (*archive.Message, error)
	head   *archive.Head // without consumers by which other backups read the stream
	files  *files        // nil: it is an archive
}

// openSnapshot asks for a snapshot of a stream and reads its head.
func (b *run) openSnapshot(ctx context.Context, before view, o jetstream.SnapshotOptions) (*opened, error) {
	snap, err := b.conn.Snapshot(ctx, before.Name, o)
	if err != nil {
		return nil, err
	}
	s := &opened{Snapshot: snap, source: &tap{r: snap}}
	if err := b.openHead(ctx, s, before); err != nil {
		snap.Close()
		return nil, s.source.why(err)
	}
	return s, nil
}

// openHead finds out what the snapshot is, whatever its server is, and reads its head.
func (b *run) openHead(ctx context.Context, s *opened, before view) (err error) {
	if s.state, err = archive.ParseState(s.State); err != nil {
		return err
	}
	plain := bufio.NewReader(archive.Decompress(s.source, wireLimit(s.state)))
	begin, err := plain.Peek(legacy.BeginSize) // or less, if that is all
	switch {
	case archive.HasMagic(begin):
	case legacy.IsBegin(begin):
		return b.openFiles(ctx, s, before, plain)
	case err == io.EOF && len(begin) < archive.MagicSize:
		return fmt.Errorf("%w: the snapshot ends at once", archive.ErrTruncated)
	case err != nil && err != io.EOF:
		return err
	default:
		return fmt.Errorf("%w: it is neither an archive, which begins with NATSARC1, nor the files of an older server", archive.ErrFormat)
	}
	in := archive.NewReader(plain, archive.Limits{})
	head, err := in.Head()
	if err != nil {
		return err
	}
	s.head, s.next = withoutFetches(head), in.Next
	return sameState(s.state, s.head)
}

func (s *opened) way() way {
	return way{
		next: func() (*archive.Message, error) {
			m, err := s.next()
			if err != nil && err != io.EOF {
				err = s.source.why(err)
			}
			return m, err
		},
		received: func() uint64 { return s.source.n },
		close:    func() { s.Close() },
	}
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

// view is a stream as it stands at one time.
type view struct {
	*jetstream.StreamInfo
	dead dead
	many bool // too many sequences are gone for dead to be known

	consumers []*jetstream.ConsumerInfo
	failed    []streamlog.FailedConsumer // of which no server says more
	listed    bool                       // whether they were asked for
}

// gone says which sequences the stream does not have, as far as that is known.
func (v view) gone() func(seq uint64) bool {
	if v.many {
		return func(uint64) bool { return false }
	}
	return deadOf(v.StreamInfo, v.dead.deleted).Has
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

// lookAgain asks how a stream stands from which something did not come.
func (b *run) lookAgain(ctx context.Context, name string) (v view, err error) {
	err = b.patiently(ctx, name, func() error {
		v, err = b.look(ctx, name)
		return err
	})
	if err != nil {
		return view{}, fmt.Errorf("ask for the sequences that the stream lost: %w", err)
	}
	return v, nil
}

// judge compares what came with how the stream stood before and stands now.
func (b *run) judge(ctx context.Context, r *reading, all *streamlog.Messages) (verdict, error) {
	before, state, g, m := r.as, r.as.state, r.gaps, r.living(all)
	if err := possible(r.allowed(), m); err != nil {
		return verdict{}, err
	}
	g.end(state.LastSeq)
	var after *jetstream.StreamInfo
	err := b.patiently(ctx, before.Name, func() (err error) {
		after, err = b.conn.Stream(ctx, before.Name)
		return err
	})
	if err != nil {
		return verdict{}, fmt.Errorf("look at the stream again after its capture: %w", err)
	}
	if !before.IsSame(after) {
		return verdict{}, errRecreated
	}
	switch {
	case m.Count == state.Messages:
		return verdict{}, nil
	case m.Count > state.Messages:
		return miscounted(state, m), nil
	case r.exact:
		return verdict{removed: state.Messages - m.Count}, nil
	}
	now, err := b.lookAgain(ctx, before.Name)
	if err != nil {
		return verdict{}, err
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
func (b *run) save(ctx context.Context, c *capture, r *reading, m *streamlog.Messages) (err error) {
	if r.died > 0 {
		if m.Dead, err = streamlog.SaveDead(ctx, saver{b.w}, nil, r.gaps.dead().Within(m.First, m.Last)); err != nil {
			return err
		}
	}
	head, err := counting(r.as.head, c.Messages)
	if err != nil {
		return err
	}
	state := r.as.State
	if head != r.as.head {
		state = head.State
	}
	doc := &streamlog.Document{
		Config: r.as.Config,
		State:  state,
		Jetsam: streamlog.Capture{
			Format:         streamlog.FormatVersion,
			Created:        c.Created,
			Messages:       c.Messages,
			MessageBytes:   c.Bytes,
			Estimated:      r.died > 0,
			LargestMessage: m.Largest,
			Removed:        c.Removed,
			Torn:           c.Torn,
			Recreated:      c.Recreated,
			Consumers:      r.as.fidelity,
			Failed:         c.FailedConsumers,
		},
	}
	c.node, c.NewBytes, err = streamlog.SaveStream(ctx, saver{b.w}, c.Name, doc, head, m)
	return err
}

// wireLimit bounds what a server may send for a stream of that state: twice its bytes, and room for many small messages. Before 2.15 one message may
// stand alone in a block of which all others are deleted.
func wireLimit(s archive.State) int64 {
	const room, perMessage = 64 << 20, 8 << 20
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
