package jetstream

import "sync"

const (
	// maxWindow is the most that a server sends ahead of our answers, and the fastest (nats-server 2.15, streamSnapshot).
	maxWindow = 32 << 20
	// minWindow is what a snapshot gets that comes when the budget is spent.
	minWindow = 2 << 20
	// windowBudget bounds what all snapshots of a connection together may have on their way. A server cuts off a client
	// for which more than max_pending waits to be sent, 64 MiB by default, as it does where the line is slow.
	windowBudget = 56 << 20
)

// windows shares out the budget of a connection among its snapshots.
type windows struct {
	mu   sync.Mutex
	used int
}

// take returns the window for another snapshot: what it asks for, or if it asks for nothing in particular, as much as the
// budget has left.
func (w *windows) take(wanted int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := wanted
	if n <= 0 {
		for n = maxWindow; n > minWindow && w.used+n > windowBudget; {
			n /= 2
		}
	}
	w.used += n
	return n
}

func (w *windows) give(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
}
