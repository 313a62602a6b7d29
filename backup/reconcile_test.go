package backup

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

func TestReconcile(t *testing.T) {
	state := archive.State{Messages: 100, FirstSeq: 1, LastSeq: 100}
	after := func(messages, first, last uint64) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{State: json.RawMessage(fmt.Sprintf(`{"messages":%d,"first_seq":%d,"last_seq":%d}`, messages, first, last))}
	}
	for _, c := range []struct {
		name    string
		count   uint64
		last    uint64
		after   *jetstream.StreamInfo
		removed uint64
		torn    string // a part of it
		err     string // a part of it
	}{
		{"whole", 100, 100, after(100, 1, 100), 0, "", ""},
		{"whole, more came", 100, 100, after(150, 1, 150), 0, "", ""},
		{"ten removed", 90, 100, after(90, 11, 100), 10, "", ""},
		{"ten removed while twenty came", 90, 100, after(110, 11, 120), 10, "", ""},
		{"all removed", 0, 0, after(0, 101, 100), 100, "", ""},
		{"missing without a cause", 90, 100, after(100, 1, 100), 0, "10 messages are missing", ""},
		{"more missing than removed", 80, 100, after(90, 11, 100), 10, "20 messages are missing, of which the stream lost at most 10", ""},
		{"went back", 80, 100, after(50, 1, 50), 0, "went back from 100 to 50", ""},
		{"more than there were", 101, 100, after(101, 1, 101), 0, "", "received 101 messages"},
		{"beyond the end", 100, 101, after(101, 1, 101), 0, "", "up to sequence 101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			removed, torn, err := reconcile(state, &streamlog.Messages{Count: c.count, Last: c.last}, c.after)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if removed != c.removed {
				t.Errorf("removed %d, want %d", removed, c.removed)
			}
			if c.torn == "" && torn != "" || !strings.Contains(torn, c.torn) {
				t.Errorf("torn %q, want %q", torn, c.torn)
			}
		})
	}
}
