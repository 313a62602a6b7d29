// Package retry repeats what a storage could not do just now.
//
// It stands around a Backend whose place is reached over a network. What fails
// there is tried again, after pauses that grow and differ by chance, until the time
// for it is over. What cannot succeed is not: see storage.IsPermanent.
//
// An attempt that failed may have been carried out all the same, its answer being
// lost. So that a file is there, or gone, when it is tried again can be our own doing:
//
//   - Remove succeeds then. The file is gone, as was wished.
//   - Save loads what is there. If it is what was to be saved, that is a success;
//     otherwise somebody else was first. So of several who save different bytes under one
//     name, only he whose bytes are there is told that he won. That decides who makes a
//     repository, since no two draw the same config: it holds a random ID, and is sealed
//     with a random nonce. Files of other kinds are named by their content, so that it
//     makes no difference whose upload it was.
//   - What is there may also be the beginning of an upload that broke off, where a place
//     shows files before they are whole. It is told by bytes that do not have the hash
//     which is their name, or, of any kind, by being as far as it goes what we sent: 16
//     random bytes and more, which nobody else has. It is removed, and saved again. An
//     empty config says nothing of who began it, and stays.
package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"jetsam/storage"
)

// Options say how long to try.
type Options struct {
	// Limit is how long one request is repeated. Zero: it is tried once.
	Limit time.Duration

	// First takes the place of Limit, if it is shorter, until the storage has answered
	// for the first time: an address that is wrong should not take as long to be found
	// out as a disturbance may last. Zero: Limit.
	First time.Duration

	// Notify is told why a request will be repeated after a pause. It may be nil, and
	// is called from many goroutines.
	Notify func(err error, pause time.Duration)
}

// The pauses, each half as long again as the one before, and by chance up to half
// shorter or longer.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

// Backend is a storage.Backend that repeats what another one fails to do.
type Backend struct {
	storage.Backend
	o        Options
	answered atomic.Bool
	repeated atomic.Int64
}

var _ storage.Backend = (*Backend)(nil)

// New puts retries around be.
func New(be storage.Backend, o Options) *Backend { return &Backend{Backend: be, o: o} }

// Do repeats something else that a storage could not do: to be opened.
func Do(ctx context.Context, o Options, attempt func() error) error {
	return New(nil, o).try(ctx, func(context.Context, bool) error { return attempt() })
}

// Around returns the other one.
func (b *Backend) Around() storage.Backend { return b.Backend }

// Repeated returns how many requests were repeated by now, each as often as it was.
func (b *Backend) Repeated() int { return int(b.repeated.Load()) }

// Save implements storage.Backend.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	return b.try(ctx, func(ctx context.Context, again bool) error {
		if !again {
			return b.Backend.Save(ctx, f, data)
		}
		err := b.absent(ctx, f) // spares sending it
		if err == nil {
			err = b.Backend.Save(ctx, f, data)
		}
		if errors.Is(err, storage.ErrExist) {
			return b.settle(ctx, f, data, err)
		}
		return err
	})
}

// absent returns nil if f is not there, and storage.ErrExist if it is.
func (b *Backend) absent(ctx context.Context, f storage.File) error {
	_, err := b.Backend.Stat(ctx, f)
	if err == nil {
		return fmt.Errorf("save %v: %w", f, storage.ErrExist)
	}
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

// settle decides what it means that f exists after an earlier attempt to save it
// failed: see the package's comment.
func (b *Backend) settle(ctx context.Context, f storage.File, data []byte, exists error) error {
	got, err := b.Backend.Load(ctx, f, 0, -1)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return fmt.Errorf("save %v: it existed, and is gone", f)
	case err != nil && storage.IsPermanent(err):
		return fmt.Errorf("%w; whether it is what was to be saved cannot be seen: %w", exists, err)
	case err != nil:
		return err
	case bytes.Equal(got, data):
		return nil
	case !torn(f, data, got):
		return exists
	}
	if err := b.Backend.Remove(ctx, f); err != nil && !errors.Is(err, storage.ErrNotExist) {
		return fmt.Errorf("remove what an upload that broke off left of %v: %w", f, err)
	}
	return fmt.Errorf("save %v: an earlier upload of it broke off", f)
}

// torn reports whether got is what an upload that broke off left of data, or of the
// same file by another.
func torn(f storage.File, data, got []byte) bool {
	const nonce = 16
	if len(got) >= nonce && len(got) < len(data) && bytes.HasPrefix(data, got) {
		return true
	}
	return f.Kind != storage.Config && storage.Sum(data) == f.ID
}

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) (data []byte, err error) {
	err = b.try(ctx, func(ctx context.Context, _ bool) (err error) {
		data, err = b.Backend.Load(ctx, f, off, n)
		return err
	})
	return data, err
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (info storage.Info, err error) {
	err = b.try(ctx, func(ctx context.Context, _ bool) (err error) {
		info, err = b.Backend.Stat(ctx, f)
		return err
	})
	return info, err
}

// List implements storage.Backend. The list is complete before the first file of it
// is yielded: what broke off begins anew, and nothing of it counts.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var infos []storage.Info
		err := b.try(ctx, func(ctx context.Context, _ bool) (err error) {
			infos, err = gather(b.Backend.List(ctx, k))
			return err
		})
		if err != nil {
			yield(storage.Info{}, err)
			return
		}
		storage.Yield(ctx, k, infos, nil, yield)
	}
}

// gather returns a whole list, each file of it once.
func gather(list iter.Seq2[storage.Info, error]) ([]storage.Info, error) {
	var infos []storage.Info
	for info, err := range list {
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b storage.Info) int { return a.File.ID.Compare(b.File.ID) })
	return slices.CompactFunc(infos, func(a, b storage.Info) bool { return a.File == b.File }), nil
}

// Remove implements storage.Backend.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	return b.try(ctx, func(ctx context.Context, again bool) error {
		err := b.Backend.Remove(ctx, f)
		if again && errors.Is(err, storage.ErrNotExist) {
			return nil
		}
		return err
	})
}

// try calls attempt until it succeeds, cannot, or the time is over. It tells attempt
// whether an earlier one failed. What attempt waits for at this end takes none of the
// time: that is longer than the time where a bound is low.
func (b *Backend) try(ctx context.Context, attempt func(ctx context.Context, again bool) error) error {
	began := time.Now()
	ctx, waited := storage.CountWaits(ctx)
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = firstPause, longestPause
	for tries := 1; ; tries++ {
		err := attempt(ctx, tries > 1)
		if err == nil || storage.IsPermanent(err) {
			b.answered.Store(true)
			return err
		}
		if cancelled := storage.Cancelled(ctx); cancelled != nil {
			return ended(ctx, cancelled, err)
		}
		pause := max(pauses.NextBackOff(), asked(err))
		if spent := time.Since(began) - waited(); spent+pause > b.limit() {
			return given(err, tries, spent)
		}
		b.repeated.Add(1)
		if b.o.Notify != nil {
			b.o.Notify(err, pause)
		}
		if cancelled := storage.Sleep(ctx, pause); cancelled != nil {
			return ended(ctx, cancelled, err)
		}
	}
}

// limit is how long to repeat a request as things are.
func (b *Backend) limit() time.Duration {
	if b.o.First > 0 && !b.answered.Load() {
		return min(b.o.First, b.o.Limit)
	}
	return b.o.Limit
}

// ended is the error of a request whose context ended, and what it failed with before.
func ended(ctx context.Context, cancelled, err error) error {
	if errors.Is(err, ctx.Err()) && errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return fmt.Errorf("%w, and before that: %w", cancelled, err)
}

// given adds to an error how much was tried.
func given(err error, tries int, took time.Duration) error {
	if tries == 1 {
		return err
	}
	return fmt.Errorf("%w (tried %d times in %v)", err, tries, took.Round(time.Second))
}

// asked is how long the storage asks to be left alone: an error of it may say so
// with a method RetryAfter.
func asked(err error) time.Duration {
	var e interface{ RetryAfter() time.Duration }
	if errors.As(err, &e) {
		return e.RetryAfter()
	}
	return 0
}
