package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Check returns the error with which a Backend refuses to begin work on f: that
// ctx is done, with its cause, or that no repository holds such a file.
func Check(ctx context.Context, f File) error {
	if err := Cancelled(ctx); err != nil {
		return err
	}
	if !f.Valid() {
		return Permanent(fmt.Errorf("invalid file name: %v with ID %v", f.Kind, f.ID))
	}
	return nil
}

// Cancelled returns nil while ctx is not done, and then an error that wraps both
// ctx.Err and the cause.
func Cancelled(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// Range returns how many bytes Backend.Load gives of a file of size bytes when it
// is asked for n from off. It is io.ErrUnexpectedEOF if the file ends before
// that, and an error if it would be more than MaxFileSize.
func Range(size, off int64, n int) (int, error) {
	if off < 0 {
		return 0, Permanent(fmt.Errorf("negative offset %d", off))
	}
	if off > size || int64(n) > size-off {
		return 0, fmt.Errorf("%d bytes from offset %d of a file of %d: %w", n, off, size, io.ErrUnexpectedEOF)
	}
	want := size - off
	if n >= 0 {
		want = int64(n)
	}
	if want > MaxFileSize {
		return 0, Permanent(fmt.Errorf("%d bytes are more than the %d MiB that are read at once", want, MaxFileSize>>20))
	}
	return int(want), nil
}

// Sleep waits for d, or until ctx is done, which is an error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return Cancelled(ctx)
}

// Yield yields the files of a list that was read as a whole, until ctx is done. An
// error, be it err, with which the list could not be read, ends it.
func Yield(ctx context.Context, k Kind, infos []Info, err error, yield func(Info, error) bool) {
	for _, info := range infos {
		if err != nil || !yield(info, nil) {
			break
		}
		err = Cancelled(ctx)
	}
	if err != nil {
		yield(Info{}, fmt.Errorf("list %v: %w", k, err))
	}
}
