package backup

import (
	"context"
	"errors"
	"sync"
	"time"

	"jetsam/jetstream"
)

// defaultPatience is how long a run waits for a server that went away: as long as a restart takes.
const defaultPatience = 30 * time.Second

// patienceStep is how often a server that is away is asked whether it is back.
const patienceStep = 250 * time.Millisecond

// outage is the time during which a server does not answer. The captures of a run share it, so that they wait for the server once, and not one after the other.
type outage struct {
	mu    sync.Mutex
	since time.Time // zero: the server answers
}

// begin returns when the outage began, which is now unless it goes on already.
func (o *outage) begin() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
	}
	return o.since
}

func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since = time.Time{}
}

// over reports whether the server has been away for longer than that.
func (o *outage) over(patience time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.since.IsZero() && time.Since(o.since) > patience
}

// awaitServer waits until the server says something of the stream, or until patience ends, and says whether it did.
func (b *run) awaitServer(ctx context.Context, stream string) bool {
	deadline := b.outage.begin().Add(b.patience())
	for time.Now().Before(deadline) {
		_, err := b.conn.Stream(ctx, stream)
		if errors.Is(err, jetstream.ErrProtocol) {
			return false // it is not made again
		}
		if !errors.Is(err, jetstream.ErrUnreachable) && !errors.Is(err, jetstream.ErrNoJetStream) {
			b.outage.end()
			return true
		}
		if !sleep(ctx, patienceStep) {
			break
		}
	}
	return false
}

// patiently asks, and once more where the server went away and is back.
func (b *run) patiently(ctx context.Context, stream string, ask func() error) error {
	err := ask()
	if err != nil && broke(err) && b.awaitServer(ctx, stream) {
		err = ask()
	}
	return err
}

// sleep waits, and says whether ctx still goes on then.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (b *run) patience() time.Duration {
	if b.o.Patience > 0 {
		return b.o.Patience
	}
	return defaultPatience
}
