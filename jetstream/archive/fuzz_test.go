package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
)

// fuzzLimits are low enough for a fuzzer to reach them.
var fuzzLimits = Limits{MaxName: 300, MaxMessage: 1 << 16, MaxHeadEntry: 1 << 12, MaxHead: 1 << 14, MaxConsumers: 8}

// FuzzReader: any bytes give an archive or one of our errors; what is accepted
// upstream reads alike, and writing it again gives the same bytes.
func FuzzReader(f *testing.F) {
	// Seeds are small: the fuzzing engine takes very long to minimize large ones.
	f.Add(archiveOf(sampleHead(), edgeSamples()[:4]))
	f.Add(archiveOf(sampleHead().WithoutConsumers(), nil))
	f.Add(archiveOf(sampleHead().WithoutConsumers(), []sample{{"high", -1, 1 << 62, nil, make([]byte, 130)}}))
	f.Add([]byte(magic))
	f.Add(headOfCapture(f))
	f.Fuzz(func(t *testing.T, p []byte) {
		r := NewReader(bytes.NewReader(p), fuzzLimits)
		h, err := r.Head()
		if err != nil {
			wantOurs(t, err)
			return
		}
		samples, err := readAll(r.Next)
		if err != nil {
			wantOurs(t, err)
			return
		}
		wantUpstream(t, p, h, samples)
		if again := sameOrder(h, samples); !bytes.Equal(again, p) {
			t.Fatalf("written again:\n%x\n%x", again, p)
		}
	})
}

func headOfCapture(f *testing.F) []byte {
	f.Helper()
	h, err := NewReader(Decompress(bytes.NewReader(capture(f)), -1), Limits{}).Head()
	if err != nil {
		f.Fatal(err)
	}
	return AppendEnd(h.Append(nil))
}

// sameOrder writes an archive with its consumers in the order they have.
func sameOrder(h *Head, samples []sample) []byte {
	p := (&Head{State: h.State, StateTime: h.StateTime}).Append(nil)
	for _, c := range h.Consumers {
		p = AppendMessage(p, consumerPrefix+c.Name, c.Time, 0, nil, c.JSON)
	}
	for _, s := range samples {
		p = s.append(p)
	}
	return AppendEnd(p)
}

func wantUpstream(t *testing.T, p []byte, h *Head, samples []sample) {
	t.Helper()
	theirs, err := upstreamRead(p)
	if err != nil {
		t.Fatalf("upstream refuses what we take: %v", err)
	}
	wantSamples(t, theirs[1+len(h.Consumers):], samples)
}

func wantOurs(t *testing.T, err error) {
	t.Helper()
	for _, known := range []error{ErrTruncated, ErrFormat, ErrOrder, ErrLimit} {
		if errors.Is(err, known) {
			return
		}
	}
	t.Fatalf("an error of no known kind: %v", err)
}

// FuzzMessageReader: as FuzzReader, for groups.
func FuzzMessageReader(f *testing.F) {
	var entries []byte
	for _, s := range edgeSamples() {
		s.payload = s.payload[:min(len(s.payload), 130)]
		f.Add(s.append(nil))
		entries = s.append(entries)
	}
	f.Add(entries)
	f.Add([]byte(endMark))
	f.Fuzz(func(t *testing.T, p []byte) {
		samples, err := readAll(NewMessageReader(bytes.NewReader(p), fuzzLimits).Next)
		var again []byte
		for _, s := range samples {
			again = s.append(again)
		}
		if !bytes.HasPrefix(p, again) {
			t.Fatalf("written again:\n%x\n%x", again, p)
		}
		if err != nil {
			wantOurs(t, err)
		} else if len(again) != len(p) {
			t.Fatalf("%d of %d bytes were read", len(again), len(p))
		}
	})
}

// FuzzUnframe: what we accept s2.Reader reads alike; what we refuse it refuses
// too, unless it is what stored blobs do not have.
func FuzzUnframe(f *testing.F) {
	good := AppendFrame(nil, []byte("hello world"))
	f.Add(good)
	f.Add(AppendFrame(nil, nil))
	f.Add(slices.Concat(good, Padding(9), good, chunkOf(0x80, []byte("x"))))
	f.Add(good[:len(good)-1])
	f.Add(slices.Concat(good, chunkOf(0x02, nil)))
	f.Add(compress(f, bytes.Repeat([]byte("abc"), 100)))
	f.Add(compress(f, bytes.Repeat([]byte("abc"), 100), s2.WriterSnappyCompat()))
	f.Fuzz(func(t *testing.T, p []byte) {
		ours, err := AppendUnframed(nil, p)
		stored, errStored := io.ReadAll(NewStoredReader(nextOf(&[][]byte{p})))
		if (err == nil) != (errStored == nil) || err == nil && !bytes.Equal(ours, stored) {
			t.Fatalf("AppendUnframed %x %v, StoredReader %x %v", ours, err, stored, errStored)
		}
		theirs, errTheirs := s2Read(p)
		switch {
		case err == nil && (errTheirs != nil || !bytes.Equal(ours, theirs)):
			t.Fatalf("ours %x, s2 %x %v", ours, theirs, errTheirs)
		case err != nil:
			wantOurs(t, err)
			if errTheirs == nil && !onlyForeign(p) {
				t.Fatalf("s2 reads it: %v", err)
			}
		}
		wantDecompressed(t, p, theirs, errTheirs)
	})
}

// onlyForeign reports whether p has what S2 allows and a stored blob does not
// have: nothing at all, a compressed block, Snappy's identifier.
func onlyForeign(p []byte) bool {
	return len(p) == 0 || bytes.Contains(p, []byte("sNaPpY")) || hasCompressed(p)
}

func hasCompressed(p []byte) bool {
	for u := (unframer{rest: p}); len(u.rest) > 0; {
		kind, body, err := u.chunk()
		if err != nil {
			return false
		}
		if kind == chunkCompressed {
			return true
		}
		u.rest = u.rest[chunkHeaderSize+len(body):]
	}
	return false
}

// wantDecompressed checks Decompress against s2.Reader, which it wraps.
func wantDecompressed(t *testing.T, p, theirs []byte, errTheirs error) {
	t.Helper()
	got, err := io.ReadAll(Decompress(bytes.NewReader(p), -1))
	if (err == nil) != (errTheirs == nil) || !bytes.Equal(got, theirs) {
		t.Fatalf("Decompress %x %v, s2 %x %v", got, err, theirs, errTheirs)
	}
	if err != nil {
		wantOurs(t, err)
	}
}

// FuzzState: an edited state says what it should, as encoding/json reads it, and
// all that was not edited says what it said.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"messages":1,"consumer_count":2,"last_seq":18446744073709551615}`), uint64(3))
	f.Add([]byte(` { "a" : {"consumer_count":[1,{}]} , "Consumer_Count":2,"b":"\"}\\" } `), uint64(0))
	f.Add([]byte(`{}`), uint64(1<<63))
	f.Add([]byte(`{"consumer_count":1,"consumer_count":null}`), uint64(7))
	f.Add([]byte(`{"\u0063onsumer_count":-1.5e+3,"":0,"a":true}`), uint64(7))
	f.Add([]byte(`{"consumer_coun`+"\u212a"+`":1}`), uint64(7))
	f.Fuzz(func(t *testing.T, raw []byte, value uint64) {
		before, wasObject := object(raw)
		edited := setUint(raw, fieldConsumers, value)
		if !wasObject {
			if !bytes.Equal(edited, raw) {
				t.Fatalf("%q became %q", raw, edited)
			}
			return
		}
		var s struct {
			Consumers uint64 `json:"consumer_count"`
		}
		if err := json.Unmarshal(edited, &s); err != nil || s.Consumers != value {
			t.Fatalf("%q became %q: %d %v", raw, edited, s.Consumers, err)
		}
		wantUntouched(t, before, edited)
		if again := setUint(edited, fieldConsumers, value); !bytes.Equal(again, edited) {
			t.Fatalf("%q became %q", edited, again)
		}
	})
}

func object(raw []byte) (map[string]json.RawMessage, bool) {
	var m map[string]json.RawMessage
	err := json.Unmarshal(raw, &m)
	return m, err == nil && m != nil && checkObject(raw) == nil
}

func wantUntouched(t *testing.T, before map[string]json.RawMessage, edited []byte) {
	t.Helper()
	after, ok := object(edited)
	if !ok {
		t.Fatalf("%q is no object", edited)
	}
	for key, was := range before {
		if is := after[key]; !bytes.EqualFold([]byte(key), []byte(fieldConsumers)) && !bytes.Equal(is, was) {
			t.Fatalf("%q was %s and is %s", key, was, is)
		}
	}
}
