package backup

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"strings"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// A capture that breaks off goes on: in the same log, above the last message that came, by the way of an increment. So the log is cut where that
// of a capture without a break is, and nothing is read or stored twice.
//
// It has to be the same stream, which the last message that came and is there still says: what lies below it is common, as for an increment.
// From then on the stream is captured as it stands now. What came and has died since is dead in the log.

const (
	// maxBreaks is how often the capture of a stream is gone on with, maxBarren how often in a row although nothing came in between.
	maxBreaks = 20
	maxBarren = 3
	// firstPause is how long the first of several breaks in a row is waited for besides what an absent server takes; each other one twice as
	// long as the one before.
	firstPause = 100 * time.Millisecond
	// remembered is how many of the last messages are known, to find one that is there still.
	remembered = 1024
	// maxAsked is how many of those a server is asked for that may have died meanwhile.
	maxAsked = 8
)

// Resumption is a break in a capture, and that it was gone on with.
type Resumption struct {
	After uint64 // the last sequence that had come
	Why   string // it broke off
}

// breaks counts how often the capture of a stream broke off, in all of its attempts, and keeps what one of them found for those that follow.
type breaks struct {
	n, barren int
	after     uint64 // the last sequence that had come at the last one
	other     bool   // the stream has another message where the earlier snapshot has one
}

// another says whether it is worth while to go on after one more break, and after what pause.
func (k *breaks) another(after uint64) (pause time.Duration, ok bool) {
	if k.barren++; after != k.after {
		k.barren = 0
	}
	k.n, k.after = k.n+1, after
	return firstPause << k.barren, k.n <= maxBreaks && k.barren < maxBarren
}

var errManyGaps = errors.New("too many sequences are gone between its first and its last")

// broke says whether err is of a way that messages came by, and another may bring the rest.
func broke(err error) bool {
	var status *jetstream.StatusError
	if errors.Is(err, jetstream.ErrProtocol) { // no connection to such a server is made again
		return false
	}
	return errors.Is(err, jetstream.ErrUnreachable) || errors.Is(err, jetstream.ErrNoJetStream) || errors.Is(err, jetstream.ErrConsumerNotFound) ||
		errors.Is(err, jetstream.ErrSlowReader) || errors.As(err, &status) && status.Code == jetstream.StatusTimeout
}

// standing is how a stream stands that is captured.
type standing struct {
	view
	state    archive.State // of the messages that are to come, and those that came and live
	head     *archive.Head // the consumers, which do not stand beyond the messages
	fidelity []streamlog.ConsumerFidelity
	failed   []streamlog.FailedConsumer // consumers that are not in head
}

// way is one of those by which messages come.
type way struct {
	next     func() (*archive.Message, error)
	received func() uint64 // bytes so far
	close    func()        // nil: there is nothing to close
}

// reading is the messages of a stream on their way into a log.
type reading struct {
	b     *run
	name  string
	from  uint64 // the first sequence that may come
	as    standing
	way   way
	how   string // the first way, as users see it
	gaps  *gaps  // what did not come, or has died since
	meter *meter

	count, last uint64 // of what came
	died        uint64 // of what came, until it was last gone on with
	received    uint64 // by ways that broke off
	known       memory
	breaks      *breaks
	resumed     []Resumption

	instead string // why a stream is read whole without the snapshot API; empty: it is not
	lone    bool   // there is no other way, however many messages there are
	files   *files // that the messages come from; nil: they come otherwise
	exact   bool   // what is alive of them is the stream as it was at one time
}

func (b *run) newReading(as standing, w way, k *breaks) *reading {
	k.after = 0
	return &reading{
		b: b, name: as.Name, from: max(as.state.FirstSeq, 1), as: as, way: w, gaps: newGaps(as.state.FirstSeq), meter: b.meter(as.Name, as.state),
		known: memory{seed: maphash.MakeSeed()}, breaks: k,
	}
}

// messages yields the messages, and ends with an error at the first that the state does not allow: a server that never stops sending is not
// listened to any longer than that.
func (r *reading) messages(ctx context.Context) func() (*archive.Message, error) {
	return func() (*archive.Message, error) {
		for {
			msg, err := r.way.next()
			if err == nil {
				return msg, r.take(msg)
			}
			if err == io.EOF {
				return nil, err
			}
			if err := r.resume(ctx, err); err != nil {
				return nil, err
			}
		}
	}
}

func (r *reading) take(msg *archive.Message) error {
	r.count, r.last = r.count+1, msg.Seq
	if err := possible(r.allowed(), &streamlog.Messages{Count: r.count - r.died, Last: r.last}); err != nil {
		return err
	}
	r.gaps.saw(msg.Seq)
	r.known.add(msg)
	r.meter.add(msg)
	return nil
}

// allowed is the state that what comes is held against. In the files of a server before 2.15 there are deleted messages as well, and such a server may
// count wrong: there may be one of each sequence.
func (r *reading) allowed() archive.State {
	state := r.as.state
	if (r.files != nil || r.lone) && state.LastSeq >= state.FirstSeq {
		state.Messages = max(state.Messages, state.LastSeq-max(state.FirstSeq, 1)+1)
	}
	return state
}

func (r *reading) close() {
	if r.way.close != nil {
		r.received += r.way.received()
		r.way.close()
	}
	r.way = way{}
}

// resume goes on above the last message that came. Its error is why it broke off, and why it was not gone on with.
func (r *reading) resume(ctx context.Context, why error) error {
	r.close()
	r.b.outage.end() // the server was there a moment ago
	for err := why; ; {
		pause, ok := r.breaks.another(r.last)
		if !ok || r.count == 0 || !broke(err) {
			return why
		}
		if !r.b.awaitServer(ctx, r.name) || !sleep(ctx, pause) {
			return why
		}
		if err = r.goOn(ctx); err == nil {
			r.resumed = append(r.resumed, Resumption{r.last, r.reason(why)})
			return nil
		}
		if !broke(err) {
			return fmt.Errorf("%w (after message %d, above which it could not be gone on with: %v)", why, r.last, err)
		}
	}
}

// reason is an error of a way, without the words that say whose it is.
func (r *reading) reason(err error) string {
	text := strings.TrimPrefix(err.Error(), "snapshot of stream "+r.name+": ")
	return strings.TrimPrefix(text, "fetch from stream "+r.name+": ")
}

// goOn looks how the stream stands, and begins to fetch what is above the last message that came.
func (r *reading) goOn(ctx context.Context) error {
	now, err := r.b.stand(ctx, r.name)
	if err != nil {
		return err
	}
	if err := r.continues(ctx, now); err != nil {
		return err
	}
	gone := deadOf(now.StreamInfo, now.dead.deleted)
	if r.died += r.gaps.bury(r.from, gone); r.gaps.many {
		return errManyGaps
	}
	if want := now.dead.alive(span{r.last + 1, now.LastSeq}); want > 0 {
		if r.lone {
			want = 0
		}
		if r.way, _, err = r.b.fetch(ctx, now.StreamInfo, r.last+1, want, gone.Has); err != nil {
			return err
		}
	} else {
		r.way.next = nothing
	}
	now.state.FirstSeq = max(r.from, now.FirstSeq)
	now.state.Messages = now.dead.alive(span{r.from, now.LastSeq})
	r.as = now
	return nil
}

// stand asks how a stream stands: for its consumers first, so that none of them is beyond its messages.
func (b *run) stand(ctx context.Context, name string) (s standing, err error) {
	c, err := b.readConsumers(ctx, name, nil)
	if err != nil {
		return s, err
	}
	s.fidelity, s.failed = c.fidelity, c.failed
	if s.view, err = b.look(ctx, name); err != nil {
		return s, err
	}
	if s.Config, err = storedConfig(s.Config); err != nil {
		return s, err
	}
	if s.State, err = without(s.State, "deleted"); err != nil {
		return s, err
	}
	if s.state, err = archive.ParseState(s.State); err != nil {
		return s, err
	}
	s.head, err = headOf(s.StreamInfo, c.all)
	return s, err
}

// continues returns an error where the stream is not, or is not known to be, the one that was read, with more behind it.
func (r *reading) continues(ctx context.Context, now standing) error {
	switch {
	case !r.as.IsSame(now.StreamInfo):
		return errRecreated
	case now.LastSeq < r.as.state.LastSeq:
		return fmt.Errorf("its last sequence went back from %d to %d", r.as.state.LastSeq, now.LastSeq)
	case now.FirstSeq < r.as.FirstSeq:
		return fmt.Errorf("its first sequence went back from %d to %d", r.as.FirstSeq, now.FirstSeq)
	case now.many || r.gaps.many:
		return errManyGaps
	case now.dead.alive(span{1, now.LastSeq}) != now.Messages:
		return fmt.Errorf("it has %s, and by the sequences that it lacks %d", messages(now.Messages), now.dead.alive(span{1, now.LastSeq}))
	}
	asked := 0
	for seq, sum := range r.known.newest {
		if now.dead.alive(span{seq, seq}) == 0 {
			continue
		}
		if asked++; asked > maxAsked {
			break
		}
		m, err := r.b.conn.Message(ctx, r.name, seq)
		if errors.Is(err, jetstream.ErrMessageNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("compare message %d: %w", seq, err)
		}
		if r.known.sum(m) != sum {
			return fmt.Errorf("it has another message %d", seq)
		}
		return nil
	}
	return errors.New("none of the last messages that came is there any more")
}

// living is what came and has not died by the time that the stream is captured at.
func (r *reading) living(m *streamlog.Messages) *streamlog.Messages {
	out := *m
	if out.Count -= min(m.Count, r.died); r.died > 0 {
		run, _ := r.gaps.dead().Living(m.First, m.Last)
		out.First, out.Last = run.First, run.Last
	}
	return &out
}

func nothing() (*archive.Message, error) { return nil, io.EOF }

// memory knows the last messages that came.
type memory struct {
	seed maphash.Seed
	n    int // messages so far
	last [remembered]struct{ seq, sum uint64 }
}

func (k *memory) sum(m *archive.Message) uint64 { return maphash.Bytes(k.seed, m.Raw) }

func (k *memory) add(m *archive.Message) {
	x := &k.last[k.n%remembered]
	x.seq, x.sum = m.Seq, k.sum(m)
	k.n++
}

// newest yields sequence and sum of the messages that are known, the last that came first.
func (k *memory) newest(yield func(seq, sum uint64) bool) {
	for i := k.n - 1; i >= max(0, k.n-remembered); i-- {
		if x := k.last[i%remembered]; !yield(x.seq, x.sum) {
			return
		}
	}
}
