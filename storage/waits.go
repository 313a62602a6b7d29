package storage

import (
	"context"
	"sync/atomic"
	"time"
)

type waitsKey struct{}

// CountWaits returns a context, and how long what is done with it has waited at this end
// by now: for bounds that were set here, while nothing was asked of the place.
func CountWaits(ctx context.Context) (context.Context, func() time.Duration) {
	waited := new(atomic.Int64)
	return context.WithValue(ctx, waitsKey{}, waited), func() time.Duration { return time.Duration(waited.Load()) }
}

// Waited adds to what CountWaits counts.
func Waited(ctx context.Context, d time.Duration) {
	if waited, ok := ctx.Value(waitsKey{}).(*atomic.Int64); ok {
		waited.Add(int64(d))
	}
}
