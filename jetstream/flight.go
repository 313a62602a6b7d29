package jetstream

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// maxInFlight is how many chunks of a restore are on their way at a time: at 128 KiB each, 4 MiB.
const maxInFlight = 32

// dropGrace is how long a restore whose chunks nobody takes any more waits for the reason: the server answers the chunk
// that it could not use by another way than it reports that it listens no longer, and the report can come first.
const dropGrace = time.Second

// flight keeps account of the chunks of a restore that are on their way, by number, and of the first error among their
// answers.
type flight struct {
	room   chan struct{} // a token for each chunk on its way
	failed chan struct{} // closed when err is set
	landed chan struct{} // holds one token when a chunk may have been answered

	mu      sync.Mutex
	pending map[int]bool
	dropped bool // somebody was told that the server does not listen
	err     error
}

func newFlight() *flight {
	return &flight{
		room:    make(chan struct{}, maxInFlight),
		failed:  make(chan struct{}),
		landed:  make(chan struct{}, 1),
		pending: map[int]bool{},
	}
}

// start waits until another chunk may be sent and counts chunk n as on its way.
func (f *flight) start(n int, timeout time.Duration) error {
	select {
	case f.room <- struct{}{}:
	default:
		if err := f.waitForRoom(timeout); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.pending[n] = true
	return nil
}

func (f *flight) waitForRoom(timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case f.room <- struct{}{}:
		return nil
	case <-f.failed:
		return f.error()
	case <-timer.C:
		return fmt.Errorf("%w: no chunk was taken for %v", ErrTimeout, timeout)
	}
}

// drain waits until no chunk is on its way.
func (f *flight) drain(timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		if f.count() == 0 {
			return f.error()
		}
		select {
		case <-f.landed:
			timer.Reset(timeout)
		case <-f.failed:
			return f.error()
		case <-timer.C:
			return fmt.Errorf("%w: no chunk was taken for %v", ErrTimeout, timeout)
		}
	}
}

// answer notes the answer to chunk n: an empty message, or an error. Answers to chunks that are not on their way, such as
// a second one, mean nothing.
func (f *flight) answer(n int, m *nats.Msg) {
	if !f.land(n) {
		return
	}
	switch {
	case isNoResponders(m):
		f.drop()
	case len(m.Data) > 0:
		if _, err := checkAnswer(m.Data); err != nil {
			f.fail(err)
		}
	}
	f.settle()
	select {
	case f.landed <- struct{}{}:
	default:
	}
}

func (f *flight) land(n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.pending[n] {
		return false
	}
	delete(f.pending, n)
	<-f.room
	return true
}

// drop notes that the server listens no longer. That is an error, but it may be about to say why.
func (f *flight) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dropped {
		f.dropped = true
		time.AfterFunc(dropGrace, func() { f.fail(ErrRestoreDropped) })
	}
}

// settle gives up waiting for a reason once every chunk has its answer.
func (f *flight) settle() {
	f.mu.Lock()
	over := f.dropped && len(f.pending) == 0
	f.mu.Unlock()
	if over {
		f.fail(ErrRestoreDropped)
	}
}

// fail ends the restore with err, unless it has ended already.
func (f *flight) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		close(f.failed)
	}
}

func (f *flight) error() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// count returns how many chunks are on their way.
func (f *flight) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending)
}

// isNoResponders reports whether m is what a server sends in place of an answer when nobody listens to a subject. It is as
// empty as a good answer.
func isNoResponders(m *nats.Msg) bool {
	return len(m.Data) == 0 && m.Header.Get("Status") == "503"
}
