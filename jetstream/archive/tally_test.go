package archive

import (
	"bytes"
	"math"
	"testing"
)

func messagesOf(t *testing.T, samples []sample) []*Message {
	t.Helper()
	messages := make([]*Message, len(samples))
	for i, s := range samples {
		m, err := NewMessageReader(bytes.NewReader(s.append(nil)), Limits{}).Next()
		if err != nil {
			t.Fatal(err)
		}
		messages[i] = m
	}
	return messages
}

func tallyOf(messages []*Message) Tally {
	var t Tally
	for _, m := range messages {
		t.Add(m)
	}
	return t
}

func TestTally(t *testing.T) {
	samples := edgeSamples()
	var size int
	for _, s := range samples {
		size += len(s.append(nil))
	}
	got := tallyOf(messagesOf(t, samples))
	want := Tally{uint64(len(samples)), uint64(size), 1, math.MaxUint64, math.MinInt64, math.MaxInt64}
	if got != want {
		t.Fatalf("\n got %+v\nwant %+v", got, want)
	}
	if one := tallyOf(messagesOf(t, samples[2:3])); one.MinTime != -1 || one.MaxTime != -1 || one.FirstSeq != 3 || one.LastSeq != 3 {
		t.Fatalf("of one message: %+v", one)
	}
}

func TestTallyMerge(t *testing.T) {
	messages := messagesOf(t, edgeSamples())
	want := tallyOf(messages)
	for cut := range len(messages) + 1 {
		got := tallyOf(messages[:cut])
		got.Merge(tallyOf(messages[cut:]))
		if got != want {
			t.Fatalf("cut at %d:\n got %+v\nwant %+v", cut, got, want)
		}
	}
}
