package jetstream

import "sync"

// The window of a snapshot is what its server sends ahead of our answers. All of it can wait in the server for a line
// that is slow, and servers cut off a client that takes longer than 10 s for what waits, or for which more than 64 MiB
// wait (write_deadline and max_pending of nats-server 2.15, client.go). A window of 8 MiB, which is also the server's own
// default, holds on a line of 1 MB/s; one of 32 MiB, the largest, was cut off at 2 MB/s, and is no faster where the line
// is fast. It only helps where the round trip is long: 8 MiB at 100 ms are 80 MB/s.
const (
	maxWindow     = 32 << 20
	defaultWindow = 8 << 20
	minWindow     = 1 << 20
	// oldWindow is the window of servers up to 2.12.4, whatever they are asked for. They may have sent twice as much when they begin to wait, which they do
	// for 2 s, and go on when less is unanswered (nats-server 2.10, streamSnapshot).
	oldWindow = 8 << 20
	// windowBudget is for all snapshots of a connection together.
	windowBudget = 32 << 20

	// The window of a consumer is not ours to set: it begins with firstFlow, and doubles each time that the server is told to go
	// on, up to maxWindow (nats-server 2.15, setMaxPendingBytes and processFlowControl). That was cut off at 2 MB/s as well.
	firstFlow = 2 << 20
	// shrink divides the budget when the line proves too slow, as it may when a connection is lost; grow multiplies it
	// again after each snapshot that ends well.
	shrink = 4
	grow   = 2

	// Chunks of a snapshot, unlike those of a restore, are not bound by max_payload. Larger ones cost less; a smaller
	// window has smaller ones, so that on a slow line each comes, and is answered, before somebody's patience ends.
	maxChunk       = 1 << 20
	minChunk       = 64 << 10
	chunksOfWindow = 8
)

// windows shares out the budget of a connection among its snapshots.
type windows struct {
	mu     sync.Mutex
	budget int
	used   int
	narrow bool // the line has proved too slow once
}

// take returns the window for another snapshot, until it is given back: what it asks for, or if it asks for nothing in
// particular, as much of the default as the budget has left.
func (w *windows) take(wanted int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := wanted
	if n <= 0 {
		n = min(max(w.budget-w.used, minWindow), defaultWindow)
	}
	w.used += n
	return n
}

// goOns is how often a consumer whose window is to stay within n bytes may be told to go on.
func goOns(n int) int {
	times := 0
	for window := 2 * firstFlow; window <= n; window *= 2 {
		times++
	}
	return times
}

func (w *windows) give(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
}

// slow notes that a snapshot ended as one on a slow line does. Those to come get a fraction of what there was.
func (w *windows) slow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used > 0 {
		w.budget = max(min(w.budget, w.used)/shrink, minWindow)
		w.narrow = true
	}
}

// isNarrow reports whether the line has ever proved too slow.
func (w *windows) isNarrow() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.narrow
}

// well notes that a snapshot ended well.
func (w *windows) well() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.budget = min(w.budget*grow, windowBudget)
}

// chunkSize returns the size of the chunks of a window, unless another is wanted.
func chunkSize(wanted, window int) int {
	if wanted > 0 {
		return wanted
	}
	return min(max(window/chunksOfWindow, minChunk), maxChunk)
}
