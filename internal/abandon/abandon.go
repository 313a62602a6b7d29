// Package abandon waits, no longer than its caller wants to, for what has no way of
// being cancelled.
package abandon

import "context"

// Run returns what f returns. When ctx ends first, f is left to end by itself, late
// gets what it then returns, and the error is ctx's cause.
func Run[T any](ctx context.Context, f func() (T, error), late func(T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go func() {
			r := <-done
			late(r.value, r.err)
		}()
		var none T
		return none, context.Cause(ctx)
	}
}
