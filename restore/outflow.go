package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"

	"jetsam/internal/digits"
	"jetsam/jetstream/archive"
)

// outflow is the archive of one stream on its way out of the repository, wherever that goes. It counts what it passes on, and holds it
// against what the snapshot says.
type outflow struct {
	plan  *Plan
	s     *StreamPlan
	tally archive.Tally
	sent  uint64 // archive bytes
	past  uint64 // messages sent that a server may have removed at once, or not have taken, because they have expired
	held  uint64 // messages sent under another name of that, so that they do not expire

	content uint64 // bytes of the subjects, headers and payloads of tally
}

func (f *outflow) report(change func(*Progress)) {
	if f.plan.Options.Progress == nil {
		return
	}
	p := Progress{Stream: f.s.Name, Stage: Sending, Messages: f.tally.Messages, Total: f.s.Messages, Bytes: f.sent, TotalBytes: f.s.ArchiveSize}
	if change != nil {
		change(&p)
	}
	f.plan.Options.Progress(p)
}

// tell puts into a result what was sent.
func (f *outflow) tell(res *StreamResult) {
	res.sent = f.sent
	res.Messages, res.FirstSeq, res.LastSeq = f.tally.Messages, f.tally.FirstSeq, f.tally.LastSeq
	res.Bytes, res.Consumers = f.content, f.s.Consumers
	if f.held > 0 && !f.plan.Options.Target.Alone {
		res.Notes = append(res.Notes, fmt.Sprintf("%s messages whose %s has passed, or soon will have, have that field called %s, so that they stay", digits.Grouped(f.held), ttlHeader, heldHeader))
	}
}

// write passes on plain bytes of the archive.
func (f *outflow) write(out io.Writer, plain []byte) error {
	n, err := out.Write(plain)
	f.sent += uint64(n)
	f.report(nil)
	return err
}

// sendAll passes on the whole archive.
func (f *outflow) sendAll(ctx context.Context, out io.Writer) error {
	if err := f.write(out, f.s.head.Append(nil)); err != nil {
		return err
	}
	return f.sendRest(ctx, out)
}

// sendRest passes on what stands behind the head: the messages, and the end mark where they are what the snapshot says.
func (f *outflow) sendRest(ctx context.Context, out io.Writer) error {
	if err := f.sendMessages(ctx, out); err != nil {
		return err
	}
	return f.write(out, archive.AppendEnd(nil))
}

// batchSize is how many bytes of messages are sent in one piece: servers read blocks of 1 MiB two or three times faster than of 1 KiB.
const batchSize = 1 << 20

// sendMessages sends the messages that are alive, each when it was read whole and found in order.
func (f *outflow) sendMessages(ctx context.Context, out io.Writer) error {
	b := &batch{f: f, out: out}
	if err := f.eachMessage(ctx, func(m *archive.Message) error { return b.add(m.Raw) }); err != nil {
		return err
	}
	return b.flush()
}

// eachMessage calls send with each message that is alive, and fails where they are not what the snapshot says.
func (f *outflow) eachMessage(ctx context.Context, send func(*archive.Message) error) error {
	next, stop := f.plan.messages(ctx, f.s)
	defer stop()
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			return f.checkTally()
		}
		if err != nil {
			return plainDamage(err)
		}
		f.count(m)
		if err := send(m); err != nil {
			return err
		}
	}
}

// batch gathers entries and sends them.
type batch struct {
	f     *outflow
	out   io.Writer
	plain []byte
}

// add takes an entry. A large one is sent alone.
func (b *batch) add(entry []byte) error {
	if len(b.plain)+len(entry) > batchSize {
		if err := b.flush(); err != nil {
			return err
		}
	}
	if len(entry) > batchSize {
		return b.f.write(b.out, entry)
	}
	b.plain = append(b.plain, entry...)
	return nil
}

func (b *batch) flush() error {
	if len(b.plain) == 0 {
		return nil
	}
	err := b.f.write(b.out, b.plain)
	b.plain = b.plain[:0]
	return err
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
func (f *outflow) count(m *archive.Message) {
	f.tally.Add(m)
	f.content += uint64(len(m.Subject) + len(m.Header) + len(m.Payload))
	if f.plan.expires(f.s, m) {
		f.past++
	}
	if f.plan.holdsTTL(f.s) && wasHeld(m) {
		f.held++
	}
}

// checkTally compares what was sent with what the snapshot says, before the end mark makes it a stream.
func (f *outflow) checkTally() error {
	if want := f.s.Messages; f.tally.Messages != want {
		return fmt.Errorf("the repository gave %s messages, the snapshot says %s", digits.Grouped(f.tally.Messages), digits.Grouped(want))
	}
	if f.tally.Messages > 0 && (f.tally.FirstSeq < f.s.state.FirstSeq || f.tally.LastSeq > f.s.state.LastSeq) {
		return fmt.Errorf("the repository gave messages %d to %d, the stream's state says %d to %d",
			f.tally.FirstSeq, f.tally.LastSeq, f.s.state.FirstSeq, f.s.state.LastSeq)
	}
	return nil
}
