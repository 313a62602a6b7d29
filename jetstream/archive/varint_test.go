package archive

import (
	"encoding/binary"
	"math"
	"testing"
)

// boundaries are the values where the length of a varint changes, and their
// neighbours.
func boundaries() []uint64 {
	values := []uint64{0, 1, 2, math.MaxUint64, math.MaxUint64 - 1}
	for shift := 7; shift < 64; shift += 7 {
		values = append(values, 1<<shift-1, 1<<shift, 1<<shift+1)
	}
	return append(values, 1<<63-1, 1<<63)
}

func TestUvarint(t *testing.T) {
	for _, v := range boundaries() {
		enc := binary.AppendUvarint(nil, v)
		got, n := uvarint(append(enc, 0xff, 0xff))
		if got != v || n != len(enc) {
			t.Errorf("%#x: got %#x from %d of %d bytes", v, got, n, len(enc))
		}
		for short := range len(enc) {
			if _, n := uvarint(enc[:short]); n != 0 {
				t.Errorf("%#x: %d of %d bytes were taken for %d", v, short, len(enc), n)
			}
		}
	}
}

func TestUvarintRefuses(t *testing.T) {
	for name, enc := range map[string][]byte{
		"0 in two bytes":      {0x80, 0x00},
		"1 in three bytes":    {0x81, 0x80, 0x00},
		"127 in nine bytes":   {0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00},
		"2^63-1 in ten bytes": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00},
		"65 bits":             {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		"eleven bytes":        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x00},
	} {
		t.Run(name, func(t *testing.T) {
			if v, n := uvarint(enc); n >= 0 {
				t.Fatalf("taken for %d, %d bytes", v, n)
			}
		})
	}
}

func TestUnzigzag(t *testing.T) {
	for _, v := range boundaries() {
		for _, signed := range []int64{int64(v), -int64(v)} {
			u, _ := binary.Uvarint(binary.AppendVarint(nil, signed))
			if got := unzigzag(u); got != signed {
				t.Errorf("%d came back as %d", signed, got)
			}
		}
	}
}

// The quick way and the general way have to agree wherever the quick one answers,
// and it has to answer for what is usual.
func TestParseUsualAgreesWithParseAny(t *testing.T) {
	rnd := seeded(t)
	values := boundaries()
	pick := func() uint64 { return values[rnd.IntN(len(values))] }
	taken := 0
	for range 200_000 {
		p := appendEntryHeader(nil, int(rnd.UintN(140)), 1_780_000_000_000_000_000+rnd.Int64N(1<<50), pick(), int(pick()>>1), int(pick()>>1))
		if rnd.IntN(3) == 0 { // damage that may make a number longer than it need be, or cut it
			p[rnd.IntN(len(p))] = byte(rnd.UintN(2)) << 7
		}
		p = append(p, randomBytes(rnd, usualSize)...)
		if agree(t, p) {
			taken++
		}
	}
	if taken < 10_000 {
		t.Fatalf("the quick way answered %d times only", taken)
	}
}

func agree(t *testing.T, p []byte) (taken bool) {
	t.Helper()
	var quick, general entry
	if !quick.parseUsual((*[usualSize]byte)(p)) {
		return false
	}
	ok, err := general.parseAny(p)
	if !ok || err != nil || quick != general {
		t.Fatalf("%x: quick %+v, general %+v %v %v", p, quick, general, ok, err)
	}
	return true
}

func TestParseUsualAnswersForTheUsual(t *testing.T) {
	for name, p := range map[string][]byte{
		"small":        appendEntryHeader(nil, 20, 1_780_000_000_000_000_000, 1, 0, 200),
		"with headers": appendEntryHeader(nil, 100, 1_780_000_000_000_000_000, 1_000_000, 100, 1_000),
		"high":         appendEntryHeader(nil, 100, 1_780_000_000_000_000_000, 10_000_000_000, 0, 1_000),
		"large":        appendEntryHeader(nil, 100, 1_780_000_000_000_000_000, 1_000_000, 0, 8<<20),
	} {
		t.Run(name, func(t *testing.T) {
			if !agree(t, append(p, make([]byte, usualSize)...)) {
				t.Fatal("left to the general way")
			}
		})
	}
}
