package jetstream

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// answerInterval is how long a server that waits for an answer is kept waiting: it gives up after 5 s, before 2.12
	// after 2 s.
	answerInterval = time.Second
	// stallBudget is how many bytes are answered ahead of a reader that does not come to take them. One chunk an
	// interval, so that at 1 MiB a chunk a reader may sleep for a minute.
	stallBudget = 64 << 20
)

// chunks is the queue between the subscription of a snapshot and its reader.
//
// A chunk is answered when the reader takes it: that paces the server. When the reader takes none for a while, one chunk
// is answered each answerInterval to keep the server from giving up. So memory holds at most what the server sends
// unasked, its window, and the stall budget.
type chunks struct {
	answer func(subject string) error
	owed   int // the server goes on when less than so many bytes are unanswered; 0: with each answer

	mu       sync.Mutex
	queue    []*nats.Msg // what the reader has not taken
	answered int         // how many of queue have been answered
	ahead    int         // bytes of those
	size     int         // bytes of queue
	limit    int         // for size
	moved    time.Time   // when a chunk last came or was answered
	spent    bool        // whether chunks were left unanswered because the stall budget was spent
	err      error

	ready chan struct{} // holds one token when there may be something to take
}

func newChunks(window int, answer func(subject string) error) *chunks {
	return &chunks{answer: answer, limit: max(window, maxWindow) + stallBudget, ready: make(chan struct{}, 1)}
}

// push appends what the server sent. It is the subscription's handler.
func (c *chunks) push(m *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if c.size += len(m.Data); c.size > c.limit {
		c.setErr(fmt.Errorf("%w: the server does not wait for answers, %d bytes are pending", ErrSlowReader, c.size))
		return
	}
	c.queue = append(c.queue, m)
	c.moved = time.Now()
	c.wake()
}

// take removes the first message of the queue and answers it. It returns nil if there is none. Once the queue has failed
// the error comes before whatever is left in it.
func (c *chunks) take() (*nats.Msg, error) {
	m, unanswered, err := c.pop()
	if m == nil || err != nil {
		return nil, err
	}
	if unanswered {
		err = c.send(m.Reply)
	}
	return m, err
}

func (c *chunks) pop() (m *nats.Msg, unanswered bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || len(c.queue) == 0 {
		return nil, false, c.err
	}
	m = c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	c.size -= len(m.Data)
	if c.answered > 0 {
		c.answered--
		c.ahead -= len(m.Data)
		return m, false, nil
	}
	c.moved = time.Now()
	return m, m.Reply != "", nil
}

// trickle answers a chunk ahead of the reader, or as many as the server needs answered to go on, if it has waited for long enough. Past the stall budget
// it answers none, and the server will end the snapshot.
func (c *chunks) trickle(now time.Time) error {
	for _, reply := range c.overdue(now) {
		if err := c.send(reply); err != nil {
			return err
		}
	}
	return nil
}

// overdue counts the first unanswered chunks as answered and returns where to, if it is time for that.
func (c *chunks) overdue(now time.Time) (replies []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || now.Sub(c.moved) < answerInterval {
		return nil
	}
	for c.answered < len(c.queue) && (len(replies) == 0 || c.owed > 0 && c.size-c.ahead >= c.owed) {
		m := c.queue[c.answered]
		if m.Reply == "" {
			break // the last chunk and the end: the server waits for nothing any more
		}
		if c.ahead >= stallBudget {
			c.spent = true
			break
		}
		c.answered++
		c.ahead += len(m.Data)
		c.moved = now
		replies = append(replies, m.Reply)
	}
	return replies
}

func (c *chunks) send(reply string) error {
	if err := c.answer(reply); err != nil {
		c.fail(err)
		return err
	}
	return nil
}

// exhausted reports whether chunks were left unanswered because the stall budget was spent.
func (c *chunks) exhausted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spent
}

// fail makes the reader stop with err, unless it has stopped already.
func (c *chunks) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setErr(err)
}

// setErr is fail with c.mu held.
func (c *chunks) setErr(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.queue, c.size = nil, 0
	c.answered, c.ahead = 0, 0
	c.wake()
}

func (c *chunks) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}
