package restore

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"jetsam/jetstream/archive"
)

// entryOf is a message as an archive has it.
func entryOf(seq uint64, subject string, time int64, header, payload string) []byte {
	return archive.AppendMessage(nil, subject, time, seq, []byte(header), []byte(payload))
}

// TestVerifyComparesEveryMessage reads back streams that differ in one thing from what the repository has.
func TestVerifyComparesEveryMessage(t *testing.T) {
	one, two, three := entryOf(1, "a", 10, "", "x"), entryOf(2, "a", 20, "NATS/1.0\r\nk: v\r\n\r\n", "y"), entryOf(3, "a", 30, "", "z")
	for name, tt := range map[string]struct {
		got  [][]byte
		want string
	}{
		"the same":     {[][]byte{one, two, three}, ""},
		"payload":      {[][]byte{one, two, entryOf(3, "a", 30, "", "Z")}, "message 3 has another payload"},
		"header":       {[][]byte{one, entryOf(2, "a", 20, "NATS/1.0\r\nk: w\r\n\r\n", "y"), three}, "message 2 has another header"},
		"subject":      {[][]byte{entryOf(1, "b", 10, "", "x"), two, three}, "message 1 has another subject"},
		"time":         {[][]byte{one, two, entryOf(3, "a", 31, "", "z")}, "message 3 has another time"},
		"first is not": {[][]byte{two, three}, "message 1 is missing"},
		"last is not":  {[][]byte{one, two}, "message 3 is missing"},
		"one more":     {[][]byte{one, two, three, entryOf(4, "a", 40, "", "")}, "message 4 is there and not in the snapshot"},
		"came since":   {[][]byte{one, two, three, entryOf(5, "a", 50, "", "")}, ""},
		"renumbered":   {[][]byte{one, two, entryOf(4, "a", 30, "", "z")}, "message 3 is missing; message 4 is there and not in the snapshot"},
		"none":         {nil, "message 1 is missing; message 2 is missing; message 3 is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			head := archive.Head{State: []byte(`{"messages":3,"bytes":0,"first_seq":1,"last_seq":3,"consumer_count":0}`)}
			text := archive.AppendEnd(append(head.Append(nil), slices.Concat(tt.got...)...))
			got := archive.NewReader(bytes.NewReader(text), archive.Limits{})
			want := archive.NewMessageReader(bytes.NewReader(slices.Concat(one, two, three)), archive.Limits{})
			v := &verification{p: &Plan{}, s: &StreamPlan{state: archive.State{LastSeq: 4}}, diff: &DifferenceError{}, digest: sha256.New()}
			if err := v.compareMessages(want.Next, got.Next); err != nil {
				t.Fatal(err)
			}
			if said := strings.Join(v.diff.Differences, "; "); said != tt.want {
				t.Errorf("differences: %q, want %q", said, tt.want)
			}
		})
	}
}
