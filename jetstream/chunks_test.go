package jetstream

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// answered collects what a queue answers.
type answered struct {
	replies []string
	err     error
}

func (a *answered) answer(reply string) error {
	a.replies = append(a.replies, reply)
	return a.err
}

// queue returns a queue of n chunks of a size, that are answered to "1", "2" and so on.
func queue(a *answered, n, size int) *chunks {
	c := newChunks(maxWindow, a.answer)
	data := make([]byte, size)
	for i := 1; i <= n; i++ {
		c.push(&nats.Msg{Reply: strconv.Itoa(i), Data: data})
	}
	return c
}

func (a *answered) want(t *testing.T, n int) {
	t.Helper()
	for i, reply := range a.replies {
		if reply != strconv.Itoa(i+1) {
			t.Fatalf("answers are %v", a.replies)
		}
	}
	if len(a.replies) != n {
		t.Fatalf("%d chunks are answered, want %d", len(a.replies), n)
	}
}

// takeAll empties the queue, of which next is the chunk that comes first, and returns how many messages it held.
func takeAll(t *testing.T, c *chunks, next int) (n int) {
	t.Helper()
	for ; ; n++ {
		m, err := c.take()
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			return n
		}
		if m.Reply != "" && m.Reply != strconv.Itoa(next+n) {
			t.Fatalf("chunk %s comes as number %d", m.Reply, next+n)
		}
	}
}

func TestChunksAreAnsweredAsTheyAreTaken(t *testing.T) {
	var a answered
	c := queue(&a, 3, 10)
	a.want(t, 0)
	if _, err := c.take(); err != nil {
		t.Fatal(err)
	}
	a.want(t, 1)
	takeAll(t, c, 2)
	a.want(t, 3)
	if m, err := c.take(); m != nil || err != nil {
		t.Errorf("an empty queue gives %v, %v", m, err)
	}
}

// TestChunksThatAreOwedAreAnsweredAtOnce: a server that goes on only when less than its window is unanswered is answered so much, and then one at a time.
func TestChunksThatAreOwedAreAnsweredAtOnce(t *testing.T) {
	var a answered
	c := queue(&a, 10, 10)
	c.owed = 60
	start := c.moved
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{answerInterval - 1, 0}, {answerInterval, 5}, {2*answerInterval - 1, 5}, {2 * answerInterval, 6}} {
		if err := c.trickle(start.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		a.want(t, step.want)
	}
}

func TestChunksThatNobodyTakesAreAnsweredOneByOne(t *testing.T) {
	var a answered
	c := queue(&a, 5, 10)
	start := c.moved
	for i, step := range []struct {
		after time.Duration
		want  int
	}{
		{0, 0},
		{answerInterval - 1, 0},
		{answerInterval, 1},
		{answerInterval + 1, 1},
		{2*answerInterval - 1, 1},
		{2 * answerInterval, 2},
		{10 * answerInterval, 3}, // one at a time, however late it is
	} {
		if err := c.trickle(start.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if len(a.replies) != step.want {
			t.Fatalf("step %d: %d chunks are answered, want %d", i, len(a.replies), step.want)
		}
	}
	if n := takeAll(t, c, 1); n != 5 {
		t.Errorf("took %d chunks, want 5", n)
	}
	a.want(t, 5) // each of them once
}

func TestChunksAreNotAnsweredAheadWithoutBound(t *testing.T) {
	var a answered
	const size = 1 << 20
	c := queue(&a, stallBudget/size+10, size)
	now := c.moved
	for range stallBudget/size + 20 {
		now = now.Add(answerInterval)
		if err := c.trickle(now); err != nil {
			t.Fatal(err)
		}
	}
	a.want(t, stallBudget/size)
	if !c.exhausted() {
		t.Error("the queue does not know that its budget is spent")
	}
	takeAll(t, c, 1)
	if !c.exhausted() {
		t.Error("the queue has forgotten that its budget was spent")
	}
}

func TestChunksOfAServerThatDoesNotWait(t *testing.T) {
	var a answered
	c := newChunks(maxWindow, a.answer)
	m := &nats.Msg{Reply: "1", Data: make([]byte, 1<<20)}
	for range (maxWindow+stallBudget)/len(m.Data) + 1 {
		c.push(m)
	}
	if _, err := c.take(); err == nil {
		t.Error("the queue takes more than it may")
	}
	if c.queue != nil {
		t.Error("a queue that failed keeps what it has")
	}
}

func TestTheEndIsNotAnswered(t *testing.T) {
	var a answered
	c := queue(&a, 0, 0)
	c.push(&nats.Msg{Data: []byte("the last chunk")})
	c.push(&nats.Msg{})
	if err := c.trickle(c.moved.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n := takeAll(t, c, 1); n != 2 {
		t.Errorf("took %d messages, want 2", n)
	}
	a.want(t, 0)
}

func TestChunksAfterAnError(t *testing.T) {
	var a answered
	c := queue(&a, 3, 10)
	first, second := errors.New("first"), errors.New("second")
	c.fail(first)
	c.fail(second)
	c.push(&nats.Msg{Reply: "4"})
	if m, err := c.take(); m != nil || err != first {
		t.Errorf("take gives %v, %v", m, err)
	}
	if err := c.trickle(c.moved.Add(time.Hour)); err != nil {
		t.Errorf("trickle gives %v", err)
	}
	a.want(t, 0)
	select {
	case <-c.ready:
	default:
		t.Error("whoever waits is not woken")
	}
}

func TestAnswersThatCannotBeSent(t *testing.T) {
	gone := errors.New("gone")
	for name, answer := range map[string]func(*chunks) error{
		"taking":  func(c *chunks) error { _, err := c.take(); return err },
		"waiting": func(c *chunks) error { return c.trickle(c.moved.Add(time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := queue(&answered{err: gone}, 3, 10)
			if err := answer(c); err != gone {
				t.Errorf("error %v", err)
			}
			if _, err := c.take(); err != gone {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestParseReply(t *testing.T) {
	for _, c := range []struct {
		reply       string
		subject     string
		size, index int
		ok          bool
	}{
		{"$JS.SNAPSHOT.ACK.ORDERS.abc.131072.7", "$JS.SNAPSHOT.ACK.ORDERS.abc", 131072, 7, true},
		{"x.1.2", "x", 1, 2, true},
		{"1.2", "", 0, 0, false},
		{"", "", 0, 0, false},
		{"x.y.1", "", 0, 0, false},
		{"x.1.y", "", 0, 0, false},
		{"x.99999999999999999999.1", "", 0, 0, false},
	} {
		subject, size, index, ok := parseReply(c.reply)
		if ok != c.ok || ok && (subject != c.subject || size != c.size || index != c.index) {
			t.Errorf("%q became %q, %d, %d, %v", c.reply, subject, size, index, ok)
		}
	}
}
