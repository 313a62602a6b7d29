package legacy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server/avl"

	"jetsam/jetstream/archive"
)

func wantOurs(t *testing.T, err error) {
	t.Helper()
	for _, known := range []error{archive.ErrTruncated, archive.ErrFormat, archive.ErrOrder, archive.ErrLimit} {
		if errors.Is(err, known) {
			return
		}
	}
	t.Fatalf("an error of no known kind: %v", err)
}

// Seeds are small: the fuzzing engine takes very long to minimize large ones.

// recordOf writes a record, without its checksum.
func recordOf(seq uint64, subject, header, payload string) []byte {
	length := uint32(recordHeader + len(subject) + len(header) + len(payload) + checksumSize)
	if header != "" {
		length = (length + headersLength) | hasHeaders
	}
	p := binary.LittleEndian.AppendUint32(nil, length)
	p = binary.LittleEndian.AppendUint64(p, seq)
	p = binary.LittleEndian.AppendUint64(p, 5)
	p = append(binary.LittleEndian.AppendUint16(p, uint16(len(subject))), subject...)
	if header != "" {
		p = append(binary.LittleEndian.AppendUint32(p, uint32(len(header))), header...)
	}
	return append(append(p, payload...), make([]byte, checksumSize)...)
}

// summed gives the records of a block the checksums that they should have.
func summed(t *testing.T, p []byte, stream string, block uint64) []byte {
	t.Helper()
	p = bytes.Clone(p)
	var b records
	if err := b.reset(nil, stream, block); err != nil {
		t.Fatal(err)
	}
	for rest := p; len(rest) >= recordHeader+checksumSize; {
		length := binary.LittleEndian.Uint32(rest)
		size := int64(length &^ hasHeaders)
		var r record
		if size < recordHeader+checksumSize || size > int64(len(rest)) || r.parse(rest, rest[recordHeader:size], length&hasHeaders != 0) != nil {
			break
		}
		copy(b.head[:], rest)
		copy(rest[size-checksumSize:], b.sum(&r))
		rest = rest[size:]
	}
	return p
}

func hashed(t *testing.T, key string, p []byte) []byte {
	t.Helper()
	h, err := keyed(key)
	if err != nil {
		t.Fatal(err)
	}
	h.Write(p)
	return h.Sum(nil)
}

// smallIndex is one of a block with sequences 1 to 4, of which 2 is deleted.
func smallIndex() []byte {
	var dead avl.SequenceSet
	dead.Insert(2)
	p := []byte{indexMagic, indexVersion, 3, 0, 1, 0, 4, 0, 1, 1, 'a', 3, 1, 1, 1, 1, 0, 1, 0, 4, 0, 1, 0, 0}
	return append(append(p, dead.Encode(nil)...), 1, 0, 0, 0, 0, 0, 0, 0, 0)
}

// FuzzSnapshot: any files with right checksums give messages in order, and consumers that readers of archives take, or one of our errors.
func FuzzSnapshot(f *testing.F) {
	block := slices.Concat(recordOf(1, "a", "", "x"), recordOf(2, "a", "h", ""), recordOf(3, "a", "h", "y"), recordOf(2|erased, "", "", ""), recordOf(1|tombstone, "", "", ""))
	f.Add(block, []byte(nil), []byte{fileMagic, 2, 0, 0, 0, 0, 0, 0})
	f.Add(block, smallIndex(), []byte{fileMagic, 2, 1, 1, 3, 3, 1, 8, 1, 1, 0, 1, 1, 2})
	f.Fuzz(func(t *testing.T, block, index, state []byte) {
		const config = `{"Created":"2026-01-02T03:04:05Z","name":"S"}`
		files := []entry{
			{name: metaName, data: []byte(config)}, {name: sumName, data: fmt.Appendf(nil, "%x", hashed(t, "S", []byte(config)))},
			{name: "msgs/1.blk", data: summed(t, block, "S", 1)},
			{name: "obs/C/meta.inf", data: []byte(config)}, {name: "obs/C/meta.sum", data: fmt.Appendf(nil, "%x", hashed(t, "S/C", []byte(config)))},
			{name: "obs/C/o.dat", data: state},
		}
		if len(index) > 0 {
			files = append(files, entry{name: "msgs/index.db", data: slices.Concat(index, hashed(t, "S", index))})
		}
		p := tarOf(t, files)
		s, err := Scan(bytes.NewReader(p), "S")
		if err != nil {
			wantOurs(t, err)
			return
		}
		if _, err := archive.ParseConsumer(s.Consumers[0].JSON); err != nil {
			t.Fatalf("consumer: %v", err)
		}
		var last, n uint64
		_, once, onceErr := readOnce(p, "S")
		var twice strings.Builder
		for m := s.Messages(bytes.NewReader(p), 0, 1<<62); ; n++ {
			msg, err := m.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				wantOurs(t, err)
				return
			}
			if msg.Seq <= last || len(msg.Subject) == 0 {
				t.Fatalf("message %d after %d", msg.Seq, last)
			}
			last = msg.Seq
			fmt.Fprintf(&twice, "%d %d %q %q %q\n", msg.Seq, msg.Time, msg.Subject, msg.Header, msg.Payload)
		}
		if onceErr == nil && once != twice.String() {
			t.Fatalf("read once: %q, read twice: %q", once, twice.String())
		} else if onceErr != nil {
			wantOurs(t, onceErr)
		}
		if s.Indexed() && n > s.Alive(0, 1<<62) {
			t.Fatalf("%d messages, by the index %d", n, s.Alive(0, 1<<62))
		}
	})
}

// FuzzRecords: any bytes are records, whose parts are as long as they say together, or one of our errors.
func FuzzRecords(f *testing.F) {
	f.Add(slices.Concat(recordOf(1, "a", "", "x"), recordOf(2, "b", "h", "")))
	f.Add(recordOf(1, "a", "h", "x")[:30])
	f.Fuzz(func(t *testing.T, p []byte) {
		var b records
		if err := b.reset(bytes.NewReader(p), "", 1); err != nil {
			t.Fatal(err)
		}
		for {
			at := b.read
			r, err := b.next()
			if err == io.EOF && b.read == int64(len(p)) {
				return
			}
			if err != nil {
				wantOurs(t, err)
				return
			}
			n := recordHeader + len(r.subject) + len(r.header) + len(r.payload) + checksumSize
			if took := b.read - at; took != int64(n) && took != int64(n+headersLength) {
				t.Fatalf("a record of %d bytes has %d", took, n)
			}
		}
	})
}

// FuzzIndex: any bytes with the right checksum are an index, or one of our errors, and no index has more messages than sequences.
func FuzzIndex(f *testing.F) {
	f.Add(smallIndex(), uint64(1), uint64(3))
	f.Add([]byte{indexMagic, 1, 3, 0, 1, 0, 4, 0, 0, 0}, uint64(0), uint64(9))
	f.Fuzz(func(t *testing.T, p []byte, first, last uint64) {
		x := &index{}
		if err := x.readIndex(slices.Concat(p, hashed(t, "S", p)), "S"); err != nil {
			wantOurs(t, err)
			return
		}
		for _, b := range x.blocks {
			if n := b.alive(first, last); n > 0 && (first > last || n-1 > last-first) {
				t.Fatalf("%d messages from %d to %d", n, first, last)
			}
		}
	})
}

// FuzzSet: a set of sequences has those that the server's own package finds in it.
func FuzzSet(f *testing.F) {
	var set avl.SequenceSet
	for _, seq := range []uint64{1, 2, 63, 64, 2047} {
		set.Insert(seq)
	}
	f.Add(set.Encode(nil))
	old := append([]byte{22, 1, 1, 0, 0, 0, 2, 0, 0, 0}, make([]byte, 8+64*8+2)...) // of version 1: 70 and 4,095
	binary.LittleEndian.PutUint64(old[10+8+8:], 1<<6)
	binary.LittleEndian.PutUint64(old[10+8+63*8:], 1<<63)
	f.Add(old)
	f.Fuzz(func(t *testing.T, p []byte) {
		x, b, c := &index{}, &block{last: 1<<63 - 1}, &cursor{p: p}
		err := x.readSet(c, b)
		if err != nil {
			wantOurs(t, err)
			return
		}
		theirs, n, err := avl.Decode(p)
		if err != nil {
			return // of sets of version 1 it compares a count
		}
		if n != len(p)-len(c.p) {
			t.Fatalf("%d bytes are read, upstream %d", len(p)-len(c.p), n)
		}
		theirs.Range(func(seq uint64) bool {
			if !b.marks(seq) {
				t.Fatalf("%d is not marked", seq)
			}
			return true
		})
	})
}

// FuzzConsumerState: any bytes are the state of a consumer, which readers of archives take, or one of our errors.
func FuzzConsumerState(f *testing.F) {
	files, _ := snapshotOf(f, "2.14.9", "CONSUMED")
	for _, e := range files {
		if strings.HasSuffix(e.name, stateName) {
			f.Add(e.data)
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := parseConsumerState(p)
		if err != nil {
			wantOurs(t, err)
			return
		}
		entry := append(append([]byte(`{"config":{},"state":`), s.json()...), '}')
		got, err := archive.ParseConsumer(entry)
		if err != nil || got.Delivered != s.delivered || got.AckFloor != s.floor || got.AckPending != len(s.pending) || got.Redelivered != len(s.redelivered) {
			t.Fatalf("%+v, %v: %s", got, err, entry)
		}
	})
}
