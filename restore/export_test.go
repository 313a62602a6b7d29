package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"jetsam/jetstream/archive"
)

// TestReadBack: nothing but what was sent passes.
func TestReadBack(t *testing.T) {
	head := (&archive.Head{State: []byte(`{"messages":3,"first_seq":1,"last_seq":3,"consumer_count":0}`)}).Append(nil)
	var sent archive.Tally
	plain := slices.Clone(head)
	for seq := range uint64(3) {
		m := archive.NewMessage("orders", 1000, seq+1, nil, bytes.Repeat([]byte("payload"), 100))
		sent.Add(m)
		plain = append(plain, m.Raw...)
	}
	short := archive.AppendEnd(slices.Clone(plain[:len(plain)-len(plain)/4]))
	plain = archive.AppendEnd(plain)
	sum := sha256.Sum256(plain)

	packed := func(plain []byte) []byte {
		var out bytes.Buffer
		w := archive.Compress(&out)
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	another := bytes.Replace(plain, []byte("payload"), []byte("paYload"), 1)
	fewer := slices.Clone(head)
	fewer = archive.AppendEnd(append(fewer, archive.NewMessage("orders", 1000, 1, nil, []byte("x")).Raw...))
	whole := packed(plain)
	flipped := slices.Clone(whole)
	flipped[len(flipped)-3] ^= 1
	given := func(p []byte) func(func(io.Reader) error) error {
		return func(read func(io.Reader) error) error { return read(bytes.NewReader(p)) }
	}
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{
		{"whole", whole, ""},
		{"cut short", whole[:len(whole)-1], "read back stream.arc.s2"},
		{"a flipped bit", flipped, "read back stream.arc.s2"},
		{"cut within a message", packed(short), "read back stream.arc.s2"},
		{"without its end", packed(plain[:len(plain)-5]), "read back stream.arc.s2"},
		{"another payload", packed(another), "is not what was written"},
		{"fewer messages", packed(fewer), "holds 1 messages, 1 to 1, and is not what was written: 3 messages, 1 to 3"},
		{"nothing", nil, "read back stream.arc.s2"},
	} {
		f := &outflow{plan: &Plan{}, s: &StreamPlan{}, tally: sent}
		err := f.readBack(t.Context(), given(c.file), sum)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := &outflow{plan: &Plan{}, s: &StreamPlan{}, tally: sent}
	if err := f.readBack(ctx, given(whole), sum); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
