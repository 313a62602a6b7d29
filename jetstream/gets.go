package jetstream

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/jetstream/archive"
)

// Questions on their way at a time: as many as the largest messages that the server takes fill getWindow with, in base64, but no
// fewer than minGets and no more than maxGets. More are no faster.
const (
	getWindow = 64 << 20
	minGets   = 4
	maxGets   = 64
)

// asker asks for messages by STREAM.MSG.GET, several at a time, and takes the answers in the order of its questions.
type asker struct {
	*branch
	in    *intake // nil until something is asked
	batch []arrival
	room  int
	asked []question
	count int // questions asked so far
}

// question is one that was asked and whose answer was not taken.
type question struct {
	seq       uint64
	following bool // for the first message from seq on
	answer    *nats.Msg
}

func newAsker(b *branch) *asker {
	largest := int(min(max(b.conn.nc.MaxPayload(), 1), maxWirePayload))
	return &asker{branch: b, room: min(max(getWindow/(largest/3*4+1), minGets), maxGets)}
}

// ask asks. There has to be room.
func (a *asker) ask(seq uint64, following bool) error {
	subject := a.conn.getSubject(a.stream)
	if a.in == nil {
		in, err := a.listen(a.conn.nc.NewInbox()+".*", getWindow+minGets*maxWirePayload,
			func(m *nats.Msg) arrival { return arrival{Msg: m} },
			func(refused string) bool { return refused == subject })
		if err != nil {
			return err
		}
		a.in = in
	}
	reply := strings.TrimSuffix(a.in.inbox, "*") + strconv.Itoa(a.count)
	if err := a.conn.nc.PublishRequest(subject, reply, getRequest(seq, following)); err != nil {
		return a.conn.redact.translate(err)
	}
	a.asked = append(a.asked, question{seq: seq, following: following})
	a.count++
	return nil
}

// answer waits for the answer to the first question, and sets m to the message. That there is none is ErrMessageNotFound.
func (a *asker) answer(m *archive.Message) error {
	for deadline := time.Now().Add(a.idle); a.asked[0].answer == nil; {
		var err error
		if a.batch, err = a.in.take(a.batch, time.Until(deadline)); errors.Is(err, ErrTimeout) {
			return a.whySilent()
		} else if err != nil {
			return err
		}
		for _, one := range a.batch {
			a.sort(one.Msg)
		}
	}
	q := a.asked[0]
	a.asked[0].answer = nil
	a.asked = a.asked[1:]
	if isNoResponders(q.answer) {
		return ErrNoJetStream
	}
	if err := parseMessage(q.answer.Data, m); err != nil {
		return err
	}
	if m.Seq != q.seq && !q.following || m.Seq < q.seq {
		return fmt.Errorf("the server answered with message %d where %d was asked for", m.Seq, q.seq)
	}
	return nil
}

// sort puts an answer to its question. What answers none, or one that has its answer, means nothing.
func (a *asker) sort(m *nats.Msg) {
	_, token, _ := cutLast(m.Subject)
	n, err := strconv.Atoi(token)
	first := a.count - len(a.asked)
	if err == nil && n >= first && n < a.count && a.asked[n-first].answer == nil {
		a.asked[n-first].answer = m
	}
}

func (a *asker) stop() {
	if a.in != nil {
		a.in.stop()
	}
	a.asked, a.batch = nil, nil
}

// Of sequences that follow each other, gets asks for several at a time. How many it dares depends on how many it found of late: each
// one found is worth foundGain, each one missing costs one. Where it has lost them all it asks for whatever comes next.
const foundGain = 4

// gets is a range of messages that are asked for one by one.
type gets struct {
	*asker
	skip   func(seq uint64) bool
	cursor uint64 // to be asked for next
	done   bool   // nothing is left to ask
	ahead  int    // how many may be asked for at a time; 0 before the first
}

func (g *gets) read(m *archive.Message) error {
	if g.ahead == 0 {
		g.ahead = g.room
	}
	for {
		if err := g.fill(); err != nil {
			return err
		}
		if len(g.asked) == 0 {
			return io.EOF
		}
		q := g.asked[0]
		err := g.answer(m)
		switch {
		case errors.Is(err, ErrMessageNotFound) && q.following:
			if err := g.end(m); err != nil {
				return err
			}
		case errors.Is(err, ErrMessageNotFound):
			g.ahead = max(g.ahead-1, 1)
		case err != nil:
			return err
		case q.following && m.Seq > g.last:
			return io.EOF
		default:
			g.ahead = min(g.ahead+foundGain, g.room)
			if q.following {
				g.pass(m.Seq)
			}
			if g.skip == nil || !g.skip(m.Seq) {
				return nil
			}
		}
	}
}

// fill asks as much as may be asked at a time.
func (g *gets) fill() error {
	for len(g.asked) < g.ahead && !g.done {
		if g.skip != nil && g.skip(g.cursor) {
			g.pass(g.cursor)
			continue
		}
		// Alone, and after misses: where the stream goes on is for the server to find.
		following := g.ahead == 1
		if err := g.ask(g.cursor, following); err != nil {
			return err
		}
		if following {
			return nil // its answer says what to ask next
		}
		g.pass(g.cursor)
	}
	return nil
}

// pass moves on behind seq.
func (g *gets) pass(seq uint64) {
	g.done = seq >= g.last
	g.cursor = seq + 1
}

// end is called where the server says that nothing follows. It says the same where it cannot read on: then the last message of the
// range, which most often exists, is there after all.
func (g *gets) end(m *archive.Message) error {
	if err := g.ask(g.last, false); err != nil {
		return err
	}
	err := g.answer(m)
	switch {
	case errors.Is(err, ErrMessageNotFound):
		g.done = true
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("the server has message %d, and finds none from %d on", g.last, g.cursor)
}
