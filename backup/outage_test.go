package backup

import (
	"fmt"
	"testing"

	"jetsam/jetstream"
)

// A server that went away may come back. A connection that was ended for what the server sent is not made again, and nobody waits for it.
func TestWhatIsTriedAgain(t *testing.T) {
	for err, want := range map[error]bool{
		jetstream.ErrUnreachable:    false,
		jetstream.ErrConnectionLost: false,
		jetstream.ErrProtocol:       true,
		jetstream.ErrStreamNotFound: true,
	} {
		if got := final(fmt.Errorf("stream S: %w", err)); got != want {
			t.Errorf("%v is final: %v, want %v", err, got, want)
		}
	}
}
