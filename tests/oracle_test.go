package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/nats-io/jsm.go"
	"github.com/nats-io/nats-server/v2/server/archive"
)

// image is a stream as other people's code sees it: the nats CLI's library takes it from the server, the server's own package reads it.
type image struct {
	Config    map[string]any
	State     map[string]any
	Consumers map[string]any
	Messages  []string // one a message: sequence, time, subject, header and payload, quoted
}

// lookAt takes a stream's image.
func lookAt(t testing.TB, s *source, stream string) image {
	t.Helper()
	dir := t.TempDir()
	dump(t, s, stream, dir)
	return readDump(t, dir)
}

// dump runs what `nats stream backup` runs.
func dump(t testing.TB, s *source, stream, dir string) {
	t.Helper()
	must(t, tryDump(s, stream, dir))
}

func tryDump(s *source, stream, dir string) error {
	mgr, err := jsm.New(s.nc)
	if err != nil {
		return err
	}
	st, err := mgr.LoadStream(stream)
	if err != nil {
		return err
	}
	if _, err := st.SnapshotToDirectory(context.Background(), dir, jsm.SnapshotConsumers()); err != nil {
		return fmt.Errorf("dump %s: %w", stream, err)
	}
	return nil
}

// readDump reads a directory that dump, or whoever writes the same form, has written.
func readDump(t testing.TB, dir string) image {
	t.Helper()
	var im image
	meta, err := os.ReadFile(filepath.Join(dir, "backup.json"))
	must(t, err)
	var doc struct{ Config, State map[string]any }
	unmarshal(t, meta, &doc)
	im.Config = doc.Config
	f, err := os.Open(filepath.Join(dir, "stream.arc.s2"))
	must(t, err)
	defer f.Close()
	im.readArchive(t, s2.NewReader(f))
	return im
}

func (im *image) readArchive(t testing.TB, r io.Reader) {
	t.Helper()
	im.Consumers = map[string]any{}
	in := archive.NewReader(r)
	for {
		h, err := in.Next()
		if err != nil {
			t.Fatalf("archive ends without its mark: %v", err)
		}
		body, err := io.ReadAll(io.LimitReader(in, h.HeaderSize+h.PayloadSize))
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		name, consumer := strings.CutPrefix(h.Name, "consumers/")
		switch {
		case h.Sequence > 0:
			im.Messages = append(im.Messages, fmt.Sprintf("%d %d %q %q %q", h.Sequence, h.Timestamp, h.Name, body[:h.HeaderSize], body[h.HeaderSize:]))
		case h.Name == "":
			return
		case consumer:
			var v any
			unmarshal(t, body, &v)
			im.Consumers[name] = v
		default:
			unmarshal(t, body, &im.State)
		}
	}
}

func unmarshal(t testing.TB, p []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
}

// withoutWhatRestoresLose drops the two fields of a state that no restore carries over: the time of a last message that is no longer alive,
// and whether a stream that was never used says first_seq 0 or 1.
func withoutWhatRestoresLose(state map[string]any, messages []string) map[string]any {
	state = maps.Clone(state)
	last := fmt.Sprint(state["last_seq"])
	if len(messages) == 0 || !strings.HasPrefix(messages[len(messages)-1], last+" ") {
		delete(state, "last_ts")
	}
	if last == "0" {
		delete(state, "first_seq")
	}
	return state
}

// sameImage compares what must be equal after a round trip: everything that a restore can carry.
func sameImage(t testing.TB, want, got image) {
	t.Helper()
	for i := range min(len(want.Messages), len(got.Messages)) {
		if want.Messages[i] != got.Messages[i] {
			t.Fatalf("message %d differs:\n want %.200s\n  got %.200s", i, want.Messages[i], got.Messages[i])
		}
	}
	if len(want.Messages) != len(got.Messages) {
		t.Fatalf("%d messages, want %d", len(got.Messages), len(want.Messages))
	}
	for _, c := range []struct {
		what      string
		want, got any
	}{{"configuration", want.Config, got.Config}, {"state", withoutWhatRestoresLose(want.State, want.Messages), withoutWhatRestoresLose(got.State, got.Messages)}, {"consumers", want.Consumers, got.Consumers}} {
		if d := cmp.Diff(c.want, c.got); d != "" {
			t.Errorf("%s differs (-want +got):\n%s", c.what, d)
		}
	}
}
