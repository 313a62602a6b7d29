package chunker

import (
	"slices"
	"testing"
)

func newHash() *hash { return &hash{tables: newTables(testPolynomial)} }

// The hash of all ways to take bytes is the one that comes of taking them one by one.
func TestLanesAgreeWithSerial(t *testing.T) {
	rnd := seeded(t)
	w := randomBytes(rnd, windowSize+1200)
	serial, lanes := newHash(), newHash()
	for n := lanesFrom; n <= 1200; n++ {
		for _, h := range []*hash{serial, lanes} {
			h.sum = 0
			for _, b := range w[:windowSize] {
				h.sum = h.in(h.sum, b)
			}
		}
		found := serial.scanSerially(w[:windowSize+n])
		if found != lanes.scanInLanes(w[:windowSize+n]) {
			t.Fatalf("of %d bytes one way finds a split point", n)
		}
		if !found && serial.sum != lanes.sum {
			t.Fatalf("after %d bytes the sums are %x and %x", n, serial.sum, lanes.sum)
		}
	}
}

// splitWindow gives windowSize bytes whose hash is a split point's.
func splitWindow(t *testing.T) []byte {
	t.Helper()
	data := randomBytes(seeded(t), 16<<20)
	h := newHash()
	for i, b := range data {
		var left byte
		if i >= windowSize {
			left = data[i-windowSize]
		}
		if h.sum = h.step(h.sum, b, left); i >= windowSize && h.sum&splitMask == 0 {
			return data[i+1-windowSize : i+1]
		}
	}
	t.Skip("16 MiB of noise without a split point, which happens once in nine million times")
	return nil
}

// A split point is found wherever it lies in a record, in whichever lane, and
// also when its window began in the records before.
func TestFindsInEveryPlace(t *testing.T) {
	rnd := seeded(t)
	window := splitWindow(t)
	h := newHash()
	for _, n := range []int{1, 50, lanesFrom - 1, lanesFrom, lanesFrom + 3, 230, 701} {
		before, record := randomBytes(rnd, windowSize), randomBytes(rnd, n)
		for at := range n {
			stream := append(slices.Clone(before), record...)
			copy(stream[at+1:], window) // its last byte is the record's byte at
			h.reset()
			h.roll(stream[:windowSize])
			if !h.find(stream[windowSize:]) {
				t.Fatalf("not found at byte %d of %d", at, n)
			}
		}
	}
}

func TestFindInLongRecords(t *testing.T) {
	rnd := seeded(t)
	window := splitWindow(t)
	record := make([]byte, 3*stageSize)
	for i := range record {
		record[i] = byte(i) | 1 // noise could have split points of its own
	}
	h := newHash()
	if h.find(record) {
		t.Fatal("found in what has none")
	}
	for range 200 {
		at := windowSize + rnd.IntN(len(record)-windowSize)
		planted := slices.Clone(record)
		copy(planted[at+1-windowSize:], window)
		h.reset()
		h.roll(record[:windowSize])
		if !h.find(planted) {
			t.Fatalf("not found at byte %d of %d", at, len(record))
		}
	}
}

func TestPiecesDoNotMatter(t *testing.T) {
	rnd := seeded(t)
	data := randomBytes(rnd, 20<<10)
	whole, pieces := newHash(), newHash()
	for whole.find(data) { // noise may have a split point
		whole.reset()
		data = randomBytes(rnd, 20<<10)
	}
	for rest := data; len(rest) > 0; {
		n := min(1+rnd.IntN(1<<rnd.UintN(14)), len(rest))
		if n <= stageSize && rnd.IntN(2) == 0 {
			pieces.roll(rest[:n])
		} else if pieces.find(rest[:n]) {
			t.Fatal("found in what has none")
		}
		rest = rest[n:]
	}
	if whole.sum != pieces.sum || whole.stage[windowSize-1] != pieces.stage[windowSize-1] {
		t.Fatalf("the sums are %x and %x", whole.sum, pieces.sum)
	}
}

func TestHashAllocatesNothing(t *testing.T) {
	c := newCutter(t)
	record := make([]byte, 1000)
	for i := range record {
		record[i] = byte(i)
	}
	if n := testing.AllocsPerRun(5000, func() { c.Ends(record) }); n != 0 {
		t.Fatalf("%v allocations a record", n)
	}
}
