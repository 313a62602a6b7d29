package abandon_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"jetsam/internal/abandon"
)

func TestRun(t *testing.T) {
	t.Parallel()
	v, err := abandon.Run(t.Context(), func() (int, error) { return 7, io.EOF }, func(int, error) { t.Error("it was not late") })
	if v != 7 || err != io.EOF {
		t.Errorf("%d, %v", v, err)
	}
}

// TestAbandoned: nobody waits for what does not end, and what it gives in the end is not lost.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	end, given := make(chan struct{}), make(chan int)
	v, err := abandon.Run(ctx, func() (int, error) { <-end; return 7, nil }, func(v int, _ error) { given <- v })
	if v != 0 || err != why {
		t.Errorf("%d, %v", v, err)
	}
	close(end)
	if v := <-given; v != 7 {
		t.Errorf("%d came late", v)
	}
}
