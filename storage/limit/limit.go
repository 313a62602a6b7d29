// Package limit bounds how much is asked of a storage at once, and how fast.
//
// A file goes over the line as fast as that is; then the next one waits until the
// rate is kept on average. Locks are bound by nothing: one that is renewed too late
// is lost.
package limit

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"jetsam/storage"
)

// Options are the bounds. Of what is zero there is as much as comes.
type Options struct {
	Requests         int // at the same time; lists are not counted
	Upload, Download int // bytes a second
}

// Backend is a storage.Backend that keeps to bounds in the use of another one.
type Backend struct {
	storage.Backend
	slots    chan struct{} // nil: no bound
	up, down *rate.Limiter // nil: no bound
}

var _ storage.Backend = (*Backend)(nil)

// New puts bounds around be.
func New(be storage.Backend, o Options) *Backend {
	b := &Backend{Backend: be, up: limiter(o.Upload), down: limiter(o.Download)}
	if o.Requests > 0 {
		b.slots = make(chan struct{}, o.Requests)
	}
	return b
}

// Around returns the Backend that the bounds are around.
func (b *Backend) Around() storage.Backend { return b.Backend }

// limiter counts what goes over the line. It runs into debt, which is paid with time.
func limiter(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}

// Save implements storage.Backend.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	return b.do(ctx, f, b.up, func() (int, error) { return len(data), b.Backend.Save(ctx, f, data) })
}

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) (data []byte, err error) {
	err = b.do(ctx, f, b.down, func() (_ int, err error) {
		data, err = b.Backend.Load(ctx, f, off, n)
		return len(data), err
	})
	return data, err
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (info storage.Info, err error) {
	err = b.do(ctx, f, nil, func() (_ int, err error) {
		info, err = b.Backend.Stat(ctx, f)
		return 0, err
	})
	return info, err
}

// Remove implements storage.Backend.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	return b.do(ctx, f, nil, func() (int, error) { return 0, b.Backend.Remove(ctx, f) })
}

// do does something with f when there is room and no debt. What it does returns how many
// bytes went over the line for that.
func (b *Backend) do(ctx context.Context, f storage.File, l *rate.Limiter, do func() (int, error)) error {
	if f.Kind == storage.Lock {
		_, err := do()
		return err
	}
	began := time.Now()
	err := b.enter(ctx, l)
	storage.Waited(ctx, time.Since(began))
	if err != nil {
		return fmt.Errorf("wait for %v: %w", f, err)
	}
	defer b.leave()
	n, err := do()
	charge(l, n)
	return err
}

func (b *Backend) enter(ctx context.Context, l *rate.Limiter) error {
	if b.slots != nil {
		select {
		case b.slots <- struct{}{}:
		case <-ctx.Done():
			return storage.Cancelled(ctx)
		}
	}
	if l == nil {
		return nil
	}
	if err := l.Wait(ctx); err != nil {
		b.leave()
		if cancelled := storage.Cancelled(ctx); cancelled != nil {
			return cancelled
		}
		return err // the context would end before
	}
	return nil
}

func (b *Backend) leave() {
	if b.slots != nil {
		<-b.slots
	}
}

// charge takes the bytes that went over the line from those that may.
func charge(l *rate.Limiter, n int) {
	if l == nil {
		return
	}
	for n > 0 {
		part := min(n, l.Burst())
		l.ReserveN(time.Now(), part)
		n -= part
	}
}
