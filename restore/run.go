package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// Run executes the plan. The result tells of each stream; a stream that fails does not stop the others.
// The error is ctx's, or nil.
func (p *Plan) Run(ctx context.Context) (*Result, error) {
	began := time.Now()
	res := &Result{Streams: make([]StreamResult, len(p.Streams))}
	defer p.announce()()
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
	res := StreamResult{Name: s.Name, Source: s.Source}
	switch {
	case s.Skip:
		res.Skipped = true
		return res
	case s.Nothing != "":
		res.Nothing = s.Nothing
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
	res.Bytes, res.Consumers, res.Notes = t.content, s.Consumers, t.notes
	if res.Err == nil && (p.Options.Verify || s.Leftover.wantsVerifying()) {
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
	past  uint64 // messages sent whose Nats-TTL had passed by then
	notes []string

	content uint64 // bytes of the subjects, headers and payloads of tally

	isMarked bool // whether the stream carries this run's marker until it is complete
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

// run brings the stream to the server and compares what that reports. Where that fails after the server may have created a stream, the
// stream is removed again. A server that lost it by its own fault is given it once more.
func (t *transfer) run(ctx context.Context) error {
	if left := t.s.Leftover; left != nil && left.Whole {
		return t.finish(ctx)
	} else if left != nil {
		if err := t.clear(ctx); err != nil {
			return t.named(err)
		}
	}
	gone, err := t.attempt(ctx)
	if gone && passes(err) && pause(ctx, reuseTime) == nil {
		t.note("sent a second time, because of the server: %s", oneLine(err))
		t.tally, t.content, t.sent, t.past = archive.Tally{}, 0, 0, 0
		_, err = t.attempt(ctx)
	}
	if err != nil {
		return err
	}
	return t.conclude(ctx)
}

// passes says whether a server that could not restore a stream may well be able to when it is asked again: it was too busy to go on in time,
// or removed a directory while it made the stream's (nats-server does so after the last stream was deleted).
func passes(err error) bool {
	return errors.Is(err, jetstream.ErrRestoreDropped) || errors.Is(err, jetstream.ErrStoreFailed)
}

// attempt sends the stream. Where that fails, gone says that the server certainly has nothing of it.
func (t *transfer) attempt(ctx context.Context) (gone bool, err error) {
	out, err := t.begin(ctx)
	if err != nil {
		return false, t.notBegun(err)
	}
	defer out.Abort()
	if err := t.send(ctx, out); err != nil {
		return t.failed(ctx, err, out.Abort())
	}
	return false, nil
}

// conclude makes of the stream that the server has what it shall be, and compares.
func (t *transfer) conclude(ctx context.Context) error {
	if t.isMarked || t.s.Leftover != nil && t.s.Leftover.Whole {
		if err := t.unmark(ctx); err != nil {
			return &IncompleteError{Stream: t.s.Name, Cause: fmt.Errorf("metadata %s cannot be removed: %w", markerName, err),
				Remains: "the whole stream is on the server, but for that; the same restore again ends it, or remove the entry with `nats stream edit`"}
		}
	}
	if err := t.compare(ctx); err != nil {
		return &IncompleteError{Stream: t.s.Name, Cause: err, Remains: "the stream is left on the server as it is"}
	}
	return nil
}

// send passes the whole archive to the server.
func (t *transfer) send(ctx context.Context, out *jetstream.Restore) error {
	if err := t.sendHead(ctx, out); err != nil {
		return err
	}
	if err := t.sendMessages(ctx, out); err != nil {
		return err
	}
	end := archive.AppendEnd(nil)
	if err := t.write(out, archive.AppendFrame(nil, end)); err != nil {
		return err
	}
	_, err := out.Finish(ctx)
	return err
}

// headPiece is how much of a head a server is given at a time. It makes directories and files for each consumer, and takes no more before
// those of a piece are there: with 128 KiB, a busy nats-server 2.15 with 10^5 consumers gave up.
const headPiece = 8 << 10

// sendHead sends the state, of which the server makes the stream, and the consumers.
func (t *transfer) sendHead(ctx context.Context, out *jetstream.Restore) error {
	head := t.s.head.Append(nil)
	state := len((&archive.Head{State: t.s.head.State, StateTime: t.s.head.StateTime}).Append(nil))
	if err := t.create(ctx, out, head[:state]); err != nil {
		return err
	}
	for piece := range slices.Chunk(head[state:], headPiece) {
		if err := t.push(out, piece); err != nil {
			return err
		}
	}
	return nil
}

// push sends a piece of the head at once.
func (t *transfer) push(out *jetstream.Restore, piece []byte) error {
	if err := t.write(out, archive.AppendFrame(nil, piece)); err != nil {
		return err
	}
	return out.Push()
}

// createPatience is how long a stream is waited for of which a server has the state.
const createPatience = 5 * time.Second

// create sends the state. On a lone server streams are made one after another: nats-server 2.15.2 goes through the account's streams without
// a lock when it makes one of a snapshot, and crashes where another is made in the same moment (RestoreStreamV2, tieredReservation).
func (t *transfer) create(ctx context.Context, out *jetstream.Restore, state []byte) error {
	if t.plan.conn.Server().Cluster != "" {
		return t.push(out, state)
	}
	t.plan.creating.Lock()
	defer t.plan.creating.Unlock()
	if err := t.push(out, state); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	for wait := time.Millisecond; out.Err() == nil; wait *= 2 {
		if _, err := t.plan.conn.Stream(ctx, t.s.Name); !errors.Is(err, jetstream.ErrStreamNotFound) || pause(ctx, wait) != nil {
			break // it is there, or the restore will say what is wrong
		}
	}
	return nil
}

// deleteStream deletes the stream, while none is made.
func (t *transfer) deleteStream(ctx context.Context) error {
	t.plan.creating.Lock()
	defer t.plan.creating.Unlock()
	return t.plan.conn.DeleteStream(ctx, t.s.Name)
}

func (t *transfer) write(out io.Writer, framed []byte) error {
	n, err := out.Write(framed)
	t.sent += uint64(n)
	t.report(nil)
	return err
}

// batchSize is how many bytes of messages are sent in one piece: servers read blocks of 1 MiB two or three times faster than of 1 KiB.
const batchSize = 1 << 20

// sendMessages sends the messages that are alive, each when it was read whole and found in order.
func (t *transfer) sendMessages(ctx context.Context, out io.Writer) error {
	next, stop := t.plan.messages(ctx, t.s)
	defer stop()
	b := &batch{t: t, out: out}
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return plainDamage(err)
		}
		t.count(m)
		if err := b.add(m.Raw); err != nil {
			return err
		}
	}
	if err := b.flush(); err != nil {
		return err
	}
	return t.checkTally()
}

// batch gathers entries and sends them, framed.
type batch struct {
	t      *transfer
	out    io.Writer
	plain  []byte
	framed []byte
}

// add takes an entry. A large one is sent alone.
func (b *batch) add(entry []byte) error {
	if len(b.plain)+len(entry) > batchSize {
		if err := b.flush(); err != nil {
			return err
		}
	}
	if len(entry) > batchSize {
		return b.send(entry)
	}
	b.plain = append(b.plain, entry...)
	return nil
}

func (b *batch) flush() error {
	if len(b.plain) == 0 {
		return nil
	}
	err := b.send(b.plain)
	b.plain = b.plain[:0]
	return err
}

func (b *batch) send(plain []byte) error {
	for piece := range slices.Chunk(plain, archive.MaxBlock) {
		b.framed = archive.AppendFrame(b.framed[:0], piece)
		if err := b.t.write(b.out, b.framed); err != nil {
			return err
		}
	}
	return nil
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

// count adds a message that is sent.
func (t *transfer) count(m *archive.Message) {
	t.tally.Add(m)
	t.content += uint64(len(m.Subject) + len(m.Header) + len(m.Payload))
	if expired(m, t.began) {
		t.past++
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
