package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	defer p.announce()()
	return p.each(ctx, p.act)
}

// each does the same to all streams of the plan of which there is something to do.
func (p *Plan) each(ctx context.Context, do func(context.Context, *StreamPlan, *StreamResult) error) (*Result, error) {
	began := time.Now()
	res := &Result{Streams: make([]StreamResult, len(p.Streams))}
	p.atOnce(func(i int, s *StreamPlan) {
		began, r := time.Now(), &res.Streams[i]
		if !p.begin(ctx, s, r) {
			return
		}
		r.Err = do(ctx, s, r)
		r.Lost, r.Took = s.lostOf(r.Err), time.Since(began)
		p.ended(s, r, Sending)
	})
	res.Took = time.Since(began)
	return res, context.Cause(ctx)
}

// atOnce calls do for all streams of the plan, several at a time.
func (p *Plan) atOnce(do func(i int, s *StreamPlan)) {
	var g errgroup.Group
	g.SetLimit(p.concurrency())
	for i, s := range p.Streams {
		g.Go(func() error {
			do(i, s)
			return nil
		})
	}
	_ = g.Wait() // there are no errors
}

// ended reports that a stage of a stream is over.
func (p *Plan) ended(s *StreamPlan, res *StreamResult, stage string) {
	f := &outflow{plan: p, s: s, tally: archive.Tally{Messages: res.Messages}, sent: res.sent}
	f.report(func(x *Progress) { x.Stage, x.Done, x.Err = stage, true, res.Err })
}

// Compare reads the streams back that a run restored, as Options.Verify does in the run, and puts what it finds into the run's result.
// The error is ctx's, or nil.
func (p *Plan) Compare(ctx context.Context, res *Result) error {
	p.atOnce(func(i int, s *StreamPlan) {
		r := &res.Streams[i]
		if r.Err != nil || r.Compared || !s.sends() {
			return
		}
		r.Err = p.verifyInto(ctx, s, r)
		p.ended(s, r, Verifying)
	})
	return context.Cause(ctx)
}

func (p *Plan) concurrency() int {
	if p.Options.Concurrency > 0 {
		return p.Options.Concurrency
	}
	return min(4, runtime.GOMAXPROCS(0))
}

// begin finds out whether there is anything to do for a stream. Where there is not, the result says why.
func (p *Plan) begin(ctx context.Context, s *StreamPlan, res *StreamResult) bool {
	*res = StreamResult{Name: s.Name, Source: s.Source, Action: s.Action}
	switch {
	case s.Action == Skip:
	case s.Nothing != "":
		res.Nothing = s.Nothing
	case s.Damage != nil:
		res.Err, res.Lost = s.Damage, s.Lost
	case ctx.Err() != nil:
		res.Err = fmt.Errorf("stream %s: not begun: %w", s.Name, context.Cause(ctx))
	case s.sends():
		res.Err = p.probe(ctx, s)
		return res.Err == nil
	default:
		return true
	}
	return false
}

// act does what is to be done with a stream on the server, and verifies it where that was asked for.
func (p *Plan) act(ctx context.Context, s *StreamPlan, res *StreamResult) error {
	switch s.Action {
	case Update:
		return p.update(ctx, s)
	case Configure:
		return p.createEmpty(ctx, s)
	case AddConsumers:
		res.Consumers = s.Consumers
		return p.addConsumers(ctx, s)
	case Replace:
		return p.replace(ctx, s, res)
	}
	t := &transfer{outflow: outflow{plan: p, s: s}}
	err := t.run(ctx)
	t.into(res)
	if err == nil && (p.Options.Verify || s.Leftover.wantsVerifying()) {
		err = p.verifyInto(ctx, s, res)
	}
	return err
}

// verifyInto reads the stream back, and notes that in the result.
func (p *Plan) verifyInto(ctx context.Context, s *StreamPlan, res *StreamResult) error {
	began := time.Now()
	notes, err := p.verify(ctx, s)
	res.Comparing = time.Since(began)
	if err == nil {
		res.Digest = s.digest
	}
	res.Notes = append(res.Notes, notes...)
	res.Compared = err == nil
	res.Verified = res.Compared && s.Lost == nil
	return err
}

// into puts what was sent into the result.
func (t *transfer) into(res *StreamResult) {
	t.tell(res)
	res.Messages -= t.gone
	res.Notes = append(res.Notes, t.notes...)
}

// transfer sends one stream to the server.
type transfer struct {
	outflow
	gone  uint64 // messages that have expired, and are not there already
	notes []string

	isMarked bool            // whether the stream carries this run's marker until it is complete
	config   json.RawMessage // that the server is asked to restore it with
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
		t.tally, t.content, t.sent, t.past, t.gone, t.held = archive.Tally{}, 0, 0, 0, 0, 0
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
	if t.plan.older {
		t.plan.turn.Lock()
		defer t.plan.turn.Unlock()
	}
	out, err := t.begin(ctx)
	if err != nil {
		return false, t.notBegun(err)
	}
	defer out.Abort()
	send := t.send
	if t.plan.older {
		send = t.sendOlder
	}
	if err := send(ctx, out); err != nil {
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
func (t *transfer) send(ctx context.Context, to *jetstream.Restore) error {
	out := &framing{Restore: to}
	if err := t.sendHead(ctx, out); err != nil {
		return err
	}
	if err := t.sendRest(ctx, out); err != nil {
		return err
	}
	_, err := out.Finish(ctx)
	return err
}

// sendOlder is send for servers before 2.15. They are given one stream at a time: some crash where two are restored at once (nats-server 2.10, and
// up to 2.11.10 and 2.12.1).
func (t *transfer) sendOlder(ctx context.Context, to *jetstream.Restore) error {
	out := &framing{Restore: to}
	if err := t.sendFiles(ctx, out, t.config, time.Time{}, !t.plan.release.Before(2, 10)); err != nil {
		return err
	}
	_, err := out.Finish(ctx)
	return err
}

// framing is a restore that takes the plain bytes of an archive, and frames them.
type framing struct {
	*jetstream.Restore
	framed []byte
}

func (f *framing) Write(plain []byte) (written int, err error) {
	for piece := range slices.Chunk(plain, archive.MaxBlock) {
		f.framed = archive.AppendFrame(f.framed[:0], piece)
		if _, err := f.Restore.Write(f.framed); err != nil {
			return written, err
		}
		written += len(piece)
	}
	return written, nil
}

// headPiece is how much of a head a server is given at a time. It makes directories and files for each consumer, and takes no more before
// those of a piece are there: with 128 KiB, a busy nats-server 2.15 with 10^5 consumers gave up.
const headPiece = 8 << 10

// sendHead sends the state, of which the server makes the stream, and the consumers.
func (t *transfer) sendHead(ctx context.Context, out *framing) error {
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
func (t *transfer) push(out *framing, piece []byte) error {
	if err := t.write(out, piece); err != nil {
		return err
	}
	return out.Push()
}

// createPatience is how long a stream is waited for of which a server has the state.
const createPatience = 5 * time.Second

// create sends the state. On a lone server streams are made one after another: nats-server 2.15.2 goes through the account's streams without
// a lock when it makes one of a snapshot, and crashes where another is made in the same moment (RestoreStreamV2, tieredReservation).
func (t *transfer) create(ctx context.Context, out *framing, state []byte) error {
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
