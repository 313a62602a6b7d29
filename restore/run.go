package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// cleanupTime is how long the removal of an unfinished stream may take, also after the run was cancelled.
const cleanupTime = 30 * time.Second

// Run executes the plan. The result tells of each stream; a stream that fails does not stop the others.
// The error is ctx's, or nil.
func (p *Plan) Run(ctx context.Context) (*Result, error) {
	began := time.Now()
	res := &Result{Streams: make([]StreamResult, len(p.Streams))}
	var g errgroup.Group
	g.SetLimit(p.concurrency())
	for i, s := range p.Streams {
		g.Go(func() error {
			res.Streams[i] = p.restore(ctx, s)
			return nil
		})
	}
	_ = g.Wait() // the goroutines return no errors, they put them into the result
	res.Took = time.Since(began)
	return res, context.Cause(ctx)
}

func (p *Plan) concurrency() int {
	if p.Options.Concurrency > 0 {
		return p.Options.Concurrency
	}
	return min(4, runtime.GOMAXPROCS(0))
}

// restore brings one stream to the server, and verifies it where that was asked for.
func (p *Plan) restore(ctx context.Context, s *StreamPlan) StreamResult {
	res := StreamResult{Name: s.Name, Skipped: s.Skip, Err: s.Damage}
	if !s.runs() {
		return res
	}
	if ctx.Err() != nil {
		res.Err = fmt.Errorf("stream %s: not begun: %w", s.Name, context.Cause(ctx))
		return res
	}
	began := time.Now()
	t := &transfer{plan: p, s: s}
	res.Err = t.run(ctx)
	res.Messages, res.FirstSeq, res.LastSeq = t.tally.Messages, t.tally.FirstSeq, t.tally.LastSeq
	res.Bytes, res.Consumers = t.sent, s.Consumers
	if res.Err == nil && p.Options.Verify {
		res.Err = p.verify(ctx, s)
		res.Verified = res.Err == nil
	}
	res.Took = time.Since(began)
	t.report(func(x *Progress) { x.Done, x.Err = true, res.Err })
	return res
}

// transfer sends one stream.
type transfer struct {
	plan  *Plan
	s     *StreamPlan
	tally archive.Tally
	sent  uint64 // archive bytes
}

func (t *transfer) report(change func(*Progress)) {
	if t.plan.Options.Progress == nil {
		return
	}
	p := Progress{Stream: t.s.Name, Stage: Sending, Messages: t.tally.Messages, Total: t.s.Messages, Bytes: t.sent, TotalBytes: t.s.ArchiveSize}
	if change != nil {
		change(&p)
	}
	t.plan.Options.Progress(p)
}

// run sends the stream and compares the server's report. Where that fails after the server may have created a stream, the stream is removed again.
func (t *transfer) run(ctx context.Context) error {
	doc := t.s.stream.Document
	out, err := t.plan.conn.Restore(ctx, t.s.Name, doc.Config, doc.State)
	if err != nil {
		return &IncompleteError{Stream: t.s.Name, Cause: err, Remains: "the server refused the restore and nothing was created"}
	}
	defer out.Abort()
	info, err := t.send(ctx, out)
	if err == nil {
		err = t.compare(ctx, info)
		if err != nil {
			return &IncompleteError{Stream: t.s.Name, Cause: err, Remains: "the stream is left on the server as it is: look at it, delete it, and restore again"}
		}
		return nil
	}
	out.Abort()
	return &IncompleteError{Stream: t.s.Name, Cause: err, Remains: t.cleanUp(ctx, err)}
}

// send passes the whole archive to the server and returns what it says of the restored stream.
func (t *transfer) send(ctx context.Context, out *jetstream.Restore) (*jetstream.StreamInfo, error) {
	head := t.s.head.Append(nil)
	if err := t.write(out, archive.AppendFrame(make([]byte, 0, archive.FramedSize(len(head))), head)); err != nil {
		return nil, err
	}
	if err := t.sendMessages(ctx, out); err != nil {
		return nil, err
	}
	end := archive.AppendEnd(nil)
	if err := t.write(out, archive.AppendFrame(nil, end)); err != nil {
		return nil, err
	}
	return out.Finish(ctx)
}

func (t *transfer) write(out io.Writer, framed []byte) error {
	n, err := out.Write(framed)
	t.sent += uint64(n)
	t.report(nil)
	return err
}

// sendMessages sends the blobs of the messages. A blob goes out when its entries were read and found in order.
func (t *transfer) sendMessages(ctx context.Context, out io.Writer) error {
	next, stop := iter.Pull2(t.plan.rd.Blobs(ctx, t.s.ids, prefetch()))
	defer stop()
	var checked []byte // the blob that the reader has gone through
	flush := func() error {
		if checked == nil {
			return nil
		}
		err := t.write(out, checked)
		checked = nil
		return err
	}
	in := archive.NewMessageReader(archive.NewStoredReader(func() ([]byte, error) {
		if err := flush(); err != nil {
			return nil, err
		}
		framed, err, ok := next()
		if !ok {
			return nil, io.EOF
		}
		checked = framed
		return framed, err
	}), archive.Limits{})
	if err := t.readAll(in); err != nil {
		return err
	}
	return t.checkTally()
}

func prefetch() int { return 2 * runtime.GOMAXPROCS(0) }

func (t *transfer) readAll(in *archive.MessageReader) error {
	for {
		m, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		t.tally.Add(m)
	}
}

// checkTally compares what was sent with what the snapshot says, before the end mark makes it a stream.
func (t *transfer) checkTally() error {
	if want := t.s.Messages; t.tally.Messages != want {
		return fmt.Errorf("the repository gave %d messages, the snapshot says %d", t.tally.Messages, want)
	}
	if t.tally.Messages > 0 && (t.tally.FirstSeq < t.s.state.FirstSeq || t.tally.LastSeq > t.s.state.LastSeq) {
		return fmt.Errorf("the repository gave messages %d to %d, the stream's state says %d to %d",
			t.tally.FirstSeq, t.tally.LastSeq, t.s.state.FirstSeq, t.s.state.LastSeq)
	}
	return nil
}

// compare holds the server's report against what was sent.
func (t *transfer) compare(ctx context.Context, info *jetstream.StreamInfo) error {
	got, err := archive.ParseState(info.State)
	if err != nil {
		return err
	}
	first := t.s.state.FirstSeq
	if t.tally.Messages > 0 {
		first = t.tally.FirstSeq
	}
	if got.Messages != t.tally.Messages || got.LastSeq != t.s.state.LastSeq || t.tally.Messages > 0 && got.FirstSeq != first {
		return fmt.Errorf("the server reports %d messages, sequences %d to %d; sent were %d, %d to %d%s",
			got.Messages, got.FirstSeq, got.LastSeq, t.tally.Messages, first, t.s.state.LastSeq, t.likelyCause())
	}
	consumers, err := t.plan.conn.Consumers(ctx, t.s.Name)
	if err != nil {
		return fmt.Errorf("list the restored consumers: %w", err)
	}
	return missingConsumers(t.s.head.Consumers, consumers)
}

// likelyCause tells of the stream's limits, which are what usually removes messages at once.
func (t *transfer) likelyCause() string {
	if t.s.config.MaxAge > 0 {
		return fmt.Sprintf(" (the stream's max_age is %v)", t.s.config.MaxAge)
	}
	return ""
}

func missingConsumers(sent []archive.Consumer, found []*jetstream.ConsumerInfo) error {
	have := make(map[string]bool, len(found))
	for _, c := range found {
		have[c.Name] = true
	}
	for _, c := range sent {
		if !have[c.Name] {
			return fmt.Errorf("consumer %s was sent and is not there; %d of %d consumers are", c.Name, len(found), len(sent))
		}
	}
	return nil
}

// cleanUp removes what an unfinished restore left, and says what there is now.
// A stream of that name that this run did not create is not touched: the name was free when the plan was made, so only a server's word
// that it exists tells of another's.
func (t *transfer) cleanUp(ctx context.Context, cause error) string {
	name := t.s.Name
	if errors.Is(cause, jetstream.ErrStreamExists) {
		return "somebody else created a stream of that name meanwhile; it was not touched"
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	err := t.plan.conn.DeleteStream(ctx, name)
	if err == nil || errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = t.plan.conn.Stream(ctx, name); errors.Is(err, jetstream.ErrStreamNotFound) {
			return "the unfinished stream was removed, nothing of it is left on the server"
		}
	}
	return fmt.Sprintf("an unfinished stream may be left on the server and could not be removed (%v): delete stream %s by hand before you restore it again", err, name)
}
