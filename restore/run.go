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
	res := StreamResult{Name: s.Name}
	switch {
	case s.Skip:
		res.Skipped = true
		return res
	case s.Damage != nil:
		res.Err, res.Lost = s.Damage, s.Lost
		return res
	}
	if ctx.Err() != nil {
		res.Err = fmt.Errorf("stream %s: not begun: %w", s.Name, context.Cause(ctx))
		return res
	}
	began := time.Now()
	if res.Err = p.probe(ctx, s); res.Err != nil {
		return res
	}
	t := &transfer{plan: p, s: s, began: began}
	res.Err = t.run(ctx)
	res.Lost = s.lostOf(res.Err)
	res.Messages, res.FirstSeq, res.LastSeq = t.tally.Messages, t.tally.FirstSeq, t.tally.LastSeq
	res.Bytes, res.Consumers, res.Notes = t.sent, s.Consumers, t.notes
	if res.Err == nil && p.Options.Verify {
		res.Err = p.verify(ctx, s)
		res.Compared = res.Err == nil
		res.Verified = res.Compared && s.Lost == nil
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
	began time.Time
	dead  uint64 // messages sent whose Nats-TTL had passed by then
	notes []string
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
			return &IncompleteError{Stream: t.s.Name, Cause: err, Remains: "the stream is left on the server as it is"}
		}
		return nil
	}
	return &IncompleteError{Stream: t.s.Name, Cause: err, Remains: t.cleanUp(ctx, out.Abort())}
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
	next, stop := t.plan.blobs(ctx, t.s)
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
		framed, err := next()
		checked = framed
		return framed, err
	}), archive.Limits{})
	if err := t.readAll(in); err != nil {
		return err
	}
	return t.checkTally()
}

// blobs returns the framed blobs of a stream's messages one after the other, and then io.EOF. A blob is valid until the next call; stop frees what they need.
func (p *Plan) blobs(ctx context.Context, s *StreamPlan) (next func() ([]byte, error), stop func()) {
	pull, stop := iter.Pull2(p.rd.Blobs(ctx, s.ids, 2*runtime.GOMAXPROCS(0)))
	place := -1
	return func() ([]byte, error) {
		framed, err, ok := pull()
		if !ok {
			return nil, io.EOF
		}
		if place++; err != nil && ctx.Err() == nil {
			err = s.lostAt(place, err)
		}
		return framed, err
	}, stop
}

func (t *transfer) readAll(in *archive.MessageReader) error {
	for {
		m, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return plainDamage(err)
		}
		t.tally.Add(m)
		if expired(m, t.began) {
			t.dead++
		}
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

// cleanUp removes what an unfinished restore left, if it is certain to be this run's, and says what there is now.
func (t *transfer) cleanUp(ctx context.Context, left jetstream.Left) string {
	name := t.s.Name
	switch left {
	case jetstream.LeftNothing:
		return "nothing was created on the server"
	case jetstream.LeftForeign:
		return "somebody else created a stream of that name meanwhile; it was not touched"
	case jetstream.LeftComplete:
		return "the server has the whole stream, but it was not compared with the snapshot; it was not removed"
	case jetstream.LeftUnfinished:
		return t.remove(ctx)
	}
	return fmt.Sprintf("an unfinished stream may be left on the server, which does not say whose it is: look at it with `nats stream info %s`, and delete it before you restore it again", name)
}

// remove deletes the unfinished stream and makes sure that it is gone, also after the run was cancelled.
func (t *transfer) remove(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	err := t.plan.conn.DeleteStream(ctx, t.s.Name)
	if err == nil || errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = t.plan.conn.Stream(ctx, t.s.Name); errors.Is(err, jetstream.ErrStreamNotFound) {
			return "the unfinished stream was removed, nothing of it is left on the server"
		}
	}
	return fmt.Sprintf("an unfinished stream is left on the server and could not be removed (%v): delete stream %s by hand before you restore it again", err, t.s.Name)
}
