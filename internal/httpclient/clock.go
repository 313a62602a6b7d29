package httpclient

import (
	"net/http"

	"jetsam/storage"
)

// ServerClock is a server's clock, as far as its answers tell.
type ServerClock struct{ storage.PlaceClock }

// Hear notes what an answer tells. One that a cache kept is of another time.
func (c *ServerClock) Hear(h http.Header) {
	if h.Get("Age") != "" {
		return
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		c.Heard(date)
	}
}
