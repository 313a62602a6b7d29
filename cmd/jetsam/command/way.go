package command

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/storage"
	"jetsam/storage/limit"
	"jetsam/storage/location"
	"jetsam/storage/retry"
)

const (
	// defaultRetryStorage is how long requests are repeated: less than it takes for a lock to be lost.
	defaultRetryStorage = "15m"

	// firstAnswer is how long a storage is waited for that never answered.
	firstAnswer = time.Minute

	// requestsAtOnce is how many requests a storage elsewhere gets at a time. Each may be a pack that is in memory.
	requestsAtOnce = 8
)

// way is how a storage that is elsewhere is dealt with.
type way struct {
	out    *output
	retry  time.Duration
	limits limit.Options
}

// wayThere is what the flags say of it.
func (p *program) wayThere(c *cli.Context) (way, error) {
	w := way{out: p.out, limits: limit.Options{Requests: requestsAtOnce}}
	for name, rate := range map[string]*int{"limit-upload": &w.limits.Upload, "limit-download": &w.limits.Download} {
		kib := c.Uint(name)
		if c.IsSet(name) && kib == 0 || kib > math.MaxInt32/1024 {
			return w, usagef("--%s %d is out of range; it is 1 to %d KiB a second", name, kib, math.MaxInt32/1024)
		}
		*rate = int(kib) << 10
	}
	text := defaultRetryStorage
	if c.IsSet("retry-storage") {
		text = c.String("retry-storage")
	}
	var err error
	w.retry, err = parseDuration(text)
	return w, err
}

// to opens a location by one of its two ways. What is elsewhere gets limits around it, and around them retries, each
// of which counts for the limits.
func (w way) to(ctx context.Context, l location.Location, o location.Options, open func(location.Location, context.Context, location.Options) (storage.Backend, error)) (storage.Backend, error) {
	l = l.Warning(func(err error) { w.out.warn("%v", err) })
	if !l.Remote() {
		return open(l, ctx, o)
	}
	again := retry.Options{Limit: w.retry, First: firstAnswer, Notify: w.repeating}
	var be storage.Backend
	err := retry.Do(ctx, again, func() (err error) {
		be, err = open(l, ctx, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &remote{retry.New(limit.New(be, w.limits), again), w.out}, nil
}

// repeating says that a request will be repeated.
func (w way) repeating(err error, pause time.Duration) {
	w.out.repeated.Add(1)
	w.out.note("%v; trying again in %v", err, pause.Round(100*time.Millisecond))
}

// remote is a storage elsewhere. At the end it is said how often such were disturbed.
type remote struct {
	*retry.Backend
	out *output
}

func (r *remote) Close() error {
	r.out.tellRepeated(func(text string) { r.out.note("%s", text) })
	if err := r.Backend.Close(); err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}
