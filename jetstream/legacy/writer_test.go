package legacy

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"jetsam/jetstream/archive"
)

// written writes a snapshot of stream S that ends at last.
func written(t testing.TB, a About, last uint64, consumers []archive.Consumer, messages ...*archive.Message) ([]byte, error) {
	t.Helper()
	var b bytes.Buffer
	a.Stream, a.Config = "S", json.RawMessage(`{"name":"S"}`)
	w, err := NewWriter(&b, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range consumers {
		if err := w.Consumer(c); err != nil {
			return nil, err
		}
	}
	for _, m := range messages {
		if err := w.Message(m); err != nil {
			if again := w.Close(last, time.Time{}); !errors.Is(again, err) {
				t.Fatalf("%v, and then %v", err, again)
			}
			return nil, err
		}
	}
	err = w.Close(last, time.Unix(5, 0))
	return b.Bytes(), err
}

// filesOf are the names of the files of a tar, with their sizes.
func filesOf(t testing.TB, p []byte) (out []string) {
	t.Helper()
	for in := tar.NewReader(bytes.NewReader(p)); ; {
		h, err := in.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(h.Name, " ", h.Size))
	}
}

// TestWriterOfDumps writes what servers sent, and reads the same again.
func TestWriterOfDumps(t *testing.T) {
	for _, version := range versions(t) {
		for _, stream := range []string{"PLAIN", "NEVER_USED", "DELETES", "PURGED", "KV_old", "BLOCKS", "QUEUE", "CONSUMED"} {
			files, said := snapshotOf(t, version, stream)
			p := tarOf(t, files)
			s, _, err := read(p, stream)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			config := json.RawMessage(`{"name":"` + stream + `"}`)
			w, err := NewWriter(&b, About{Stream: stream, Config: config, Created: s.Created, Taken: time.Unix(1e9, 0)})
			for _, c := range s.Consumers {
				err = errors.Join(err, w.Consumer(c))
			}
			for m := s.Messages(bytes.NewReader(p), 0, 1<<62); err == nil; {
				var msg *archive.Message
				if msg, err = m.Next(); err == nil {
					err = w.Message(msg)
				}
			}
			if err != io.EOF {
				t.Fatal(err)
			}
			if err := w.Close(w.last, time.Time{}); err != nil {
				t.Fatal(err)
			}
			again, got, err := read(b.Bytes(), stream)
			if err != nil || got != said || !again.Created.Equal(s.Created) || !again.Taken.Equal(time.Unix(1e9, 0)) {
				t.Errorf("%s of %s: %d messages of %d, created %v, %v", stream, version, strings.Count(got, "\n"), strings.Count(said, "\n"), again.Created, err)
			}
			for i, c := range s.Consumers {
				if g := again.Consumers[i]; g.Name != c.Name || !bytes.Equal(g.JSON, c.JSON) {
					t.Errorf("%s of %s, consumer %s:\n%s, was\n%s", stream, version, c.Name, g.JSON, c.JSON)
				}
			}
		}
	}
}

func message(seq uint64) *archive.Message { return archive.NewMessage("s", 7, seq, nil, []byte("x")) }

// TestWriterOfGaps: what is missing takes little, however much it is, and servers that want it marked get it marked.
func TestWriterOfGaps(t *testing.T) {
	const one = recordHeader + 1 + 1 + checksumSize
	const mark = recordHeader + checksumSize
	for _, c := range []struct {
		name     string
		unmarked bool
		last     uint64
		seqs     []uint64
		files    string
	}{
		{"none", false, 0, nil, ""},
		{"nothing but an end", false, 9, nil, fmt.Sprint("msgs/1.blk ", mark, " msgs/1.idx 21")},
		{"a few", false, 5, []uint64{2, 5}, fmt.Sprint("msgs/1.blk ", 2*one+2*mark)},
		{"a few, unmarked", true, 5, []uint64{2, 5}, fmt.Sprint("msgs/1.blk ", 2*one)},
		{"as many as a block may have", false, maxGap + 2, []uint64{1, maxGap + 2}, fmt.Sprint("msgs/1.blk ", 2*one+maxGap*mark)},
		{"one more", false, maxGap + 3, []uint64{1, maxGap + 3}, fmt.Sprint("msgs/1.blk ", one, " msgs/2.blk ", one)},
		{"one more, unmarked", true, maxGap + 3, []uint64{1, maxGap + 3}, fmt.Sprint("msgs/1.blk ", one, " msgs/2.blk ", one)},
		{"at the end", false, 3, []uint64{1}, fmt.Sprint("msgs/1.blk ", one, " msgs/2.blk ", mark, " msgs/2.idx 21")},
		{"very many", false, 1 << 61, []uint64{1 << 40, 1 << 60}, fmt.Sprint("msgs/1.blk ", one, " msgs/2.blk ", one, " msgs/3.blk ", mark, " msgs/3.idx 37")},
	} {
		t.Run(c.name, func(t *testing.T) {
			var messages []*archive.Message
			want := ""
			for _, seq := range c.seqs {
				messages = append(messages, message(seq))
				want += fmt.Sprintf("%d 7 \"s\" \"\" \"x\"\n", seq)
			}
			p, err := written(t, About{Unmarked: c.unmarked}, c.last, nil, messages...)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(filesOf(t, p)[2:], " "); got != c.files {
				t.Errorf("files %s\nwant %s", got, c.files)
			}
			if _, got, err := read(p, "S"); err != nil || got != want {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// TestWriterOfBlocks: a block ends when it is full, and before it spans too much.
func TestWriterOfBlocks(t *testing.T) {
	large := bytes.Repeat([]byte("y"), blockSize/2)
	var messages []*archive.Message
	for seq := range uint64(3) {
		messages = append(messages, archive.NewMessage("s", 1, seq+1, nil, large))
	}
	messages = append(messages, archive.NewMessage("s", 1, 4, nil, append(large, append(large, large...)...)), message(5))
	for seq := uint64(5 + maxGap); seq <= maxSpan+5; seq += maxGap {
		messages = append(messages, message(seq))
	}
	p, err := written(t, About{Unmarked: true}, maxSpan+5, nil, messages...)
	if err != nil {
		t.Fatal(err)
	}
	blocks := filesOf(t, p)[2:]
	if len(blocks) != 6 { // three, each of one large message; the largest; from 5 to maxSpan+4; the last
		t.Errorf("blocks %q", blocks)
	}
	if _, got, err := read(p, "S"); err != nil || strings.Count(got, "\n") != len(messages) {
		t.Errorf("%d messages, %v", strings.Count(got, "\n"), err)
	}
}

func TestWriterRefuses(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, About{Stream: "S", Config: json.RawMessage(`{"name":"S"}`)})
	if w.marks = MaxMarks - 2; errors.Join(err, w.Message(message(1)), w.Message(message(4))) != nil {
		t.Error("as many marks as there may be are refused")
	}
	if err := w.Message(message(6)); !errors.Is(err, archive.ErrLimit) {
		t.Errorf("one mark more: %v", err)
	}
	huge := bytes.Repeat([]byte("x"), MaxRecord)
	fitting := archive.NewMessage("s", 1, 1, nil, huge[:MaxRecord-RecordSize(1, 0)])
	if _, err := written(t, About{}, 1, nil, fitting); err != nil {
		t.Errorf("the largest message: %v", err)
	}
	for name, c := range map[string]struct {
		messages  []*archive.Message
		consumers []archive.Consumer
		want      error
	}{
		"a message too large":         {[]*archive.Message{archive.NewMessage("s", 1, 1, nil, huge[:MaxRecord-RecordSize(1, 0)+1])}, nil, archive.ErrLimit},
		"one sequence twice":          {[]*archive.Message{message(3), message(3)}, nil, archive.ErrOrder},
		"no sequence":                 {[]*archive.Message{message(0)}, nil, archive.ErrOrder},
		"a sequence that means more":  {[]*archive.Message{message(tombstone)}, nil, archive.ErrOrder},
		"a consumer without a state":  {nil, []archive.Consumer{{Name: "C", JSON: json.RawMessage(`{"config":{}}`)}}, archive.ErrFormat},
		"a consumer out of its place": {nil, []archive.Consumer{{Name: "../C", JSON: json.RawMessage(`{"config":{},"state":{}}`)}}, archive.ErrFormat},
		"a consumer without a name":   {nil, []archive.Consumer{{JSON: json.RawMessage(`{"config":{},"state":{}}`)}}, archive.ErrFormat},
		"a consumer that waits oddly": {nil, []archive.Consumer{{Name: "C", JSON: json.RawMessage(`{"config":{},"state":{"pending":{"x":{}}}}`)}}, archive.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := written(t, About{}, 9, c.consumers, c.messages...); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// FuzzWriter: whatever messages there are, what is written of them is read as the same.
func FuzzWriter(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, false)
	f.Add([]byte{255, 255, 255, 127, 0, 0, 0, 1, 1, 1}, true)
	f.Fuzz(func(t *testing.T, p []byte, unmarked bool) {
		var seq uint64
		var messages []*archive.Message
		want := ""
		for len(p) >= 5 {
			step := uint64(binary.LittleEndian.Uint32(p)) + 1
			header := strings.Repeat("h", int(p[4]%3))
			seq += step >> (p[4] % 32)
			if len(messages) > 0 && seq <= messages[len(messages)-1].Seq || seq == 0 {
				seq++
			}
			m := archive.NewMessage(fmt.Sprint("s.", p[4]), int64(step)-math.MaxInt32, seq, []byte(header), p[:p[4]%5])
			messages = append(messages, m)
			want += fmt.Sprintf("%d %d %q %q %q\n", m.Seq, m.Time, m.Subject, m.Header, m.Payload)
			p = p[5:]
		}
		state := fmt.Appendf(nil, `{"config":{"name":"C"},"state":{"delivered":{"consumer_seq":9,"stream_seq":%d},"ack_floor":{"consumer_seq":1,"stream_seq":0},"pending":{"%d":{"Sequence":3,"Timestamp":4000000000}},"redelivered":{"%d":2}}}`, seq+1, seq+1, seq+1)
		out, err := written(t, About{Unmarked: unmarked}, seq+uint64(len(p)), []archive.Consumer{{Name: "C", JSON: state}}, messages...)
		if err != nil {
			t.Fatal(err)
		}
		s, got, err := read(out, "S")
		if err != nil || got != want {
			t.Fatalf("%v, read\n%swant\n%s", err, got, want)
		}
		if string(s.Consumers[0].JSON) != string(state) {
			t.Fatalf("consumer\n%s, was\n%s", s.Consumers[0].JSON, state)
		}
	})
}
