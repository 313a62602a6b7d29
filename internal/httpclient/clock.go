package httpclient

import (
	"net/http"
	"sync/atomic"
	"time"
)

// ServerClock is a server's clock, as far as its answers tell.
type ServerClock struct {
	ahead atomic.Pointer[time.Duration] // of ours, when the server last answered
}

// Hear notes what an answer tells.
func (c *ServerClock) Hear(h http.Header) {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		ahead := time.Until(date)
		c.ahead.Store(&ahead)
	}
}

// Clock returns what time it is by the server's clock, if it has told.
func (c *ServerClock) Clock() (now time.Time, known bool) {
	ahead := c.ahead.Load()
	if ahead == nil {
		return time.Time{}, false
	}
	return time.Now().Add(*ahead), true
}
