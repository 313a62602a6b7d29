package storage

import (
	"sync/atomic"
	"time"
)

// Clocked is a Backend whose place has a clock of its own, which all who use the
// repository share, however wrong their own are.
type Clocked interface {
	// Clock returns what time it is by the place's clock, if it has told.
	Clock() (now time.Time, known bool)
}

// PlaceClock is a place's clock, as far as the place tells. The zero value has heard
// nothing. It may be used by many goroutines at once.
type PlaceClock struct {
	ahead atomic.Pointer[time.Duration] // of ours, when the place last told
}

// Heard notes that it was told by the place's clock just now. A place that keeps no
// times tells of 1970, which is no time.
func (c *PlaceClock) Heard(told time.Time) {
	if told.Unix() <= 0 {
		return
	}
	ahead := time.Until(told)
	c.ahead.Store(&ahead)
}

// Clock implements Clocked.
func (c *PlaceClock) Clock() (now time.Time, known bool) {
	ahead := c.ahead.Load()
	if ahead == nil {
		return time.Time{}, false
	}
	return time.Now().Add(*ahead), true
}
