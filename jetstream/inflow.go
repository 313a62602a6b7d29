package jetstream

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// arrivalOverhead is about what a message takes in memory besides its bytes.
const arrivalOverhead = 128

// arrival is a message as it came.
type arrival struct {
	*nats.Msg
	header []byte // the header block as it was on the wire, where a tap kept it
	beat   bool   // an idle heartbeat: the latest of several in a row says all
}

// headerSize is how many bytes the header block of a message had on the wire. nats.go counts them in the size of what it received.
func headerSize(m *nats.Msg) int {
	return m.Size() - len(m.Subject) - len(m.Reply) - len(m.Data)
}

// inflow is the queue between the subscription of a fetch and its reader. What bounds it is that a server sends no more than a window
// ahead, or answers only what it was asked; one that does not keep to that ends the fetch.
type inflow struct {
	mu    sync.Mutex
	queue []arrival
	size  int // bytes of queue
	limit int // for size
	err   error

	ready chan struct{} // holds one token when there may be something to take
}

func newInflow(limit int) *inflow {
	return &inflow{limit: limit, ready: make(chan struct{}, 1)}
}

// push appends what came.
func (q *inflow) push(a arrival) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	if last := len(q.queue) - 1; a.beat && last >= 0 && q.queue[last].beat {
		q.queue[last] = a
		return
	}
	if q.size += a.Size() + len(a.header) + arrivalOverhead; q.size > q.limit {
		q.setErr(fmt.Errorf("the server sends more than it was asked for: %d bytes are pending", q.size))
		return
	}
	q.queue = append(q.queue, a)
	q.wake()
}

// take returns all that has come, in order, and takes spent, what it returned before, to fill that next. It waits until there is
// something, and returns ErrTimeout if that takes longer than patience. Once the queue has failed the error comes before whatever is left in it,
// unless the connection was lost: what has come is good.
func (q *inflow) take(spent []arrival, patience time.Duration) ([]arrival, error) {
	clear(spent)
	if all, err := q.swap(spent[:0]); len(all) > 0 || err != nil {
		return all, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-q.ready:
		case <-timer.C:
			return nil, ErrTimeout
		}
		if all, err := q.swap(spent[:0]); len(all) > 0 || err != nil {
			return all, err
		}
	}
}

func (q *inflow) swap(empty []arrival) ([]arrival, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		return nil, q.err
	}
	all := q.queue
	q.queue, q.size = empty, 0
	return all, nil
}

// fail makes the reader stop with err, unless it has stopped already.
func (q *inflow) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.setErr(err)
}

// setErr is fail with q.mu held.
func (q *inflow) setErr(err error) {
	if q.err == nil {
		q.err = err
		if !errors.Is(err, ErrConnectionLost) {
			q.queue, q.size = nil, 0
		}
		q.wake()
	}
}

func (q *inflow) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
