package archive

import (
	"bytes"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
)

// example gives the bytes of an example in docs/format/archive.md.
func example(t *testing.T, name string) []byte {
	t.Helper()
	page, err := os.ReadFile("../../docs/format/archive.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "```hex "+name+"\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatalf("the page has no example %q", name)
	}
	var p []byte
	for line := range strings.Lines(block) {
		digits, _, _ := strings.Cut(line, "|")
		row, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		p = append(p, row...)
	}
	return p
}

// What the page says about its examples.
func exampleHead() *Head {
	return &Head{
		State:     []byte(`{"messages":2,"bytes":108,"first_seq":7,"last_seq":9,"consumer_count":1}`),
		StateTime: 1_780_000_000_000_000_000,
		Consumers: []Consumer{{
			Name: "w",
			JSON: []byte(`{"config":{"durable_name":"w"},"state":{"delivered":{"consumer_seq":1,"stream_seq":7},"ack_floor":{"consumer_seq":1,"stream_seq":7}}}`),
			Time: 1_780_000_000_000_000_000,
		}},
	}
}

func exampleSamples() []sample {
	return []sample{
		{"orders.eu", 1_779_999_999_000_000_001, 7, []byte("NATS/1.0\r\nA: 1\r\n\r\n"), []byte("hello")},
		{"orders.us", 1_779_999_999_500_000_000, 9, nil, []byte("bye")},
	}
}

func TestExampleArchive(t *testing.T) {
	want := example(t, "archive")
	r := NewReader(bytes.NewReader(want), Limits{})
	h, err := r.Head()
	if err != nil {
		t.Fatal(err)
	}
	wantHead(t, h, exampleHead())
	got, err := readAll(r.Next)
	if err != nil {
		t.Fatal(err)
	}
	wantSamples(t, got, exampleSamples())
	if got := archiveOf(exampleHead(), exampleSamples()); !bytes.Equal(got, want) {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
}

func TestExampleFramed(t *testing.T) {
	want := example(t, "framed")
	samples := exampleSamples()
	got := slices.Concat(
		AppendFrame(nil, samples[0].append(nil)),
		Padding(8),
		AppendFrame(nil, AppendEnd(samples[1].append(nil))),
	)
	if !bytes.Equal(got, want) {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
	plain, err := AppendUnframed(nil, want)
	if err != nil || !bytes.Equal(plain, AppendEnd(samples[1].append(samples[0].append(nil)))) {
		t.Errorf("%x %v", plain, err)
	}
}
