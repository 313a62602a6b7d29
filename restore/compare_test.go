package restore

import (
	"strings"
	"testing"
	"time"

	"jetsam/jetstream/archive"
)

func TestCompareState(t *testing.T) {
	sent := archive.Tally{Messages: 10, FirstSeq: 3, LastSeq: 20}
	for _, c := range []struct {
		name  string
		sent  archive.Tally
		past  uint64
		taken bool
		got   archive.State
		want  string // a part of the error
		note  string // a part of the note
		limit int64  // of messages of a subject
	}{
		{name: "equal", sent: sent, got: archive.State{Messages: 10, FirstSeq: 3, LastSeq: 25}},
		{name: "emptied", got: archive.State{FirstSeq: 26, LastSeq: 25}},
		{name: "one is missing", sent: sent, got: archive.State{Messages: 9, FirstSeq: 3, LastSeq: 25}, want: "sent were 10, 3 to 25"},
		{name: "one too many of its subject", sent: sent, limit: 5, got: archive.State{Messages: 9, FirstSeq: 5, LastSeq: 25}, want: "max_msgs_per_subject 5"},
		{name: "the first is missing", sent: sent, got: archive.State{Messages: 10, FirstSeq: 4, LastSeq: 25}, want: "sequences 4 to 25"},
		{name: "the last sequence is missing", sent: sent, got: archive.State{Messages: 10, FirstSeq: 3, LastSeq: 20}, want: "3 to 20; sent were 10, 3 to 25"},
		{name: "new messages came", sent: sent, got: archive.State{Messages: 12, FirstSeq: 3, LastSeq: 27}, note: "2 messages came"},
		{name: "new messages came, old ones are missing", sent: sent, got: archive.State{Messages: 11, FirstSeq: 3, LastSeq: 27}, want: "2 messages came meanwhile"},
		{name: "more than were sent", sent: sent, got: archive.State{Messages: 11, FirstSeq: 3, LastSeq: 25}, want: "reports 11 messages"},
		{name: "some were taken", sent: sent, taken: true, got: archive.State{Messages: 7, FirstSeq: 5, LastSeq: 26}, note: "taken 4 messages already"},
		{name: "more than were sent, some taken", sent: sent, taken: true, got: archive.State{Messages: 11, FirstSeq: 3, LastSeq: 25}, want: "reports 11 messages"},
		{name: "the end is missing, some taken", sent: sent, taken: true, got: archive.State{Messages: 7, FirstSeq: 5, LastSeq: 24}, want: "sequences 5 to 24"},
		{name: "expired", sent: sent, past: 4, got: archive.State{Messages: 6, FirstSeq: 3, LastSeq: 25}, note: "4 messages have expired, or soon will: the server removes them, 4 are gone already"},
		{name: "more is missing than expired", sent: sent, past: 4, got: archive.State{Messages: 5, FirstSeq: 3, LastSeq: 25}, want: "4 of them have expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &StreamPlan{state: archive.State{Messages: c.sent.Messages, FirstSeq: 3, LastSeq: 25}}
			s.config.MaxMessagesOfSubject = c.limit
			x := &transfer{outflow: outflow{s: s, tally: c.sent, past: c.past}}
			err := x.compareState(c.got, c.taken)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if notes := strings.Join(x.notes, "; "); (c.note == "") != (notes == "") || !strings.Contains(notes, c.note) {
				t.Errorf("notes %q, want %q", notes, c.note)
			}
		})
	}
}

func TestExpired(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		header string
		after  time.Duration
		want   bool
	}{
		{"", time.Hour, false},
		{"NATS/1.0\r\nNats-TTL: 10\r\n\r\n", 11 * time.Second, true},
		{"NATS/1.0\r\nNats-TTL: 10\r\n\r\n", 9 * time.Second, false},
		{"NATS/1.0\r\nA: b\r\nNats-TTL:1m\r\n\r\n", 61 * time.Second, true},
		{"NATS/1.0\r\nNats-TTL: never\r\n\r\n", time.Hour, false},
		{"NATS/1.0\r\nNot-Nats-TTL: 1\r\n\r\n", time.Hour, false},
	} {
		if got := expired(&archive.Message{Time: at.UnixNano(), Header: []byte(c.header)}, at.Add(c.after)); got != c.want {
			t.Errorf("%q after %v: %v", c.header, c.after, got)
		}
	}
}
