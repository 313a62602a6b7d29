package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"jetsam/jetstream/archive"
	"jetsam/jetstream/legacy"
)

// filesOf is the tar of a stream S with so many messages, one of which has another payload, and consumers.
func filesOf(t *testing.T, messages, another uint64, consumers ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := legacy.NewWriter(&b, legacy.About{Stream: "S", Config: json.RawMessage(`{"name":"S"}`), Taken: time.Unix(1, 0)})
	for _, name := range consumers {
		err = errors.Join(err, w.Consumer(archive.Consumer{Name: name, JSON: json.RawMessage(`{"config":{},"state":{}}`)}))
	}
	for seq := uint64(1); seq <= messages; seq++ {
		payload := "one"
		if seq == another {
			payload = "two"
		}
		err = errors.Join(err, w.Message(archive.NewMessage("s", 1, seq, nil, []byte(payload))))
	}
	if err = errors.Join(err, w.Close(messages, time.Time{})); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestReadBackFiles: nothing but what was written passes.
func TestReadBackFiles(t *testing.T) {
	packed := func(plain []byte) []byte {
		var b bytes.Buffer
		w := archive.Compress(&b)
		if _, err := w.Write(plain); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	given := func(p []byte) func(func(io.Reader) error) error {
		return func(read func(io.Reader) error) error { return read(bytes.NewReader(p)) }
	}
	plain := filesOf(t, 3, 0, "C")
	sum, whole := sha256.Sum256(plain), packed(plain)
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{
		{"whole", whole, ""},
		{"cut short", whole[:len(whole)-9], "read back stream.tar.s2"},
		{"without its end", packed(plain[:len(plain)-1024]), "read back stream.tar.s2"},
		{"another payload", packed(filesOf(t, 3, 2, "C")), "is not what was written"},
		{"fewer messages", packed(filesOf(t, 2, 0, "C")), "holds 2 messages, 1 to 2, and is not what was written: 3 messages, 1 to 3"},
		{"another consumer", packed(filesOf(t, 3, 0, "D")), "is not what was written"},
		{"fewer consumers", packed(filesOf(t, 3, 0)), "holds 0 consumers, and is not what was written: 1"},
		{"nothing", nil, "read back stream.tar.s2"},
	} {
		f := &outflow{plan: &Plan{}, s: &StreamPlan{Name: "S", Consumers: 1, state: archive.State{LastSeq: 3}}}
		for seq := uint64(1); seq <= 3; seq++ {
			f.tally.Add(archive.NewMessage("s", 1, seq, nil, []byte("one")))
		}
		err := f.readBackFiles(t.Context(), given(c.file), sum)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.readBackFiles(ctx, given(whole), sum); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}
