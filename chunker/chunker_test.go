package chunker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/restic/chunker"

	"jetsam/internal/chance"
)

// testPolynomial is irreducible and of degree 53.
const testPolynomial = 0x3DA3358B4DC173

// seeded gives a source of randomness and says how to have it again.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := chance.Seed(t)
	return rand.New(rand.NewPCG(seed, 0))
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rnd.Uint32())
	}
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(p) // never fails
	return p
}

func newCutter(t testing.TB) *Cutter {
	t.Helper()
	c, err := New(testPolynomial)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cuts gives data in records of the sizes that next says, and returns after
// which of them a blob ended.
func cuts(data []byte, next func() int, ends func([]byte) bool) []int {
	var after []int
	for i := 0; len(data) > 0; i++ {
		n := min(next(), len(data))
		if ends(data[:n]) {
			after = append(after, i)
		}
		data = data[n:]
	}
	return after
}

func wantSameCuts(t *testing.T, c *Cutter, data []byte, sizes func() func() int) {
	t.Helper()
	c.Reset()
	got := cuts(data, sizes(), c.Ends)
	base := chunker.NewBase(testPolynomial)
	want := cuts(data, sizes(), func(p []byte) bool { return base.NextSplitPoint(p) >= 0 })
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("cuts after records\n%v, restic's chunker has them after\n%v", got, want)
	}
	for _, batch := range []int{1, 3, 100} {
		c.Reset()
		if got := cutsInBatches(c, data, sizes(), batch); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("in batches of %d: cuts after records\n%v, restic's chunker has them after\n%v", batch, got, want)
		}
	}
}

// cutsInBatches is cuts by EndsAt, with that many records at a time.
func cutsInBatches(c *Cutter, data []byte, next func() int, batch int) []int {
	var after []int
	for first := 0; len(data) > 0; {
		var ends []int
		end := 0
		for len(ends) < batch && end < len(data) {
			end = min(end+next(), len(data))
			ends = append(ends, end)
		}
		records := data[:end]
		data = data[end:]
		for len(ends) > 0 {
			i := c.EndsAt(records, ends)
			if i < 0 {
				first += len(ends)
				break
			}
			after = append(after, first+i)
			first += i + 1
			done := ends[i]
			records, ends = records[done:], ends[i+1:]
			for j := range ends {
				ends[j] -= done
			}
		}
	}
	return after
}

func constant(n int) func() func() int {
	return func() func() int { return func() int { return n } }
}

func TestEndsWhereResticSplits(t *testing.T) {
	rnd := seeded(t)
	cutter := newCutter(t)
	contents := []struct {
		name string
		data []byte
	}{
		{"noise", randomBytes(rnd, 4<<20)},
		{"zeros", make([]byte, 2<<20)},                        // the hash is zero all the time
		{"one letter", bytes.Repeat([]byte("x"), MaxSize+99)}, // the hash is constant, so that the largest size cuts
		{"text", bytes.Repeat([]byte(`{"order":1234567,"total":"99.00","currency":"EUR"}`), 60_000)},
	}
	for _, c := range contents {
		for _, size := range []int{230, 4<<10 + 1, 700 << 10, MaxSize - 1, MaxSize, MaxSize + 1} {
			t.Run(fmt.Sprintf("%s in %d", c.name, size), func(t *testing.T) {
				wantSameCuts(t, cutter, c.data, constant(size))
			})
		}
		t.Run(c.name+" in random sizes", func(t *testing.T) {
			seed := rnd.Uint64()
			wantSameCuts(t, cutter, c.data, func() func() int {
				rnd := rand.New(rand.NewPCG(seed, 0))
				return func() int { return rnd.IntN(1 << rnd.UintN(18)) }
			})
		})
	}
}

// Around the least size a record may end before, at and behind the first byte
// that is hashed and the first hash that is tested.
func TestEndsAroundTheLeastSize(t *testing.T) {
	rnd := seeded(t)
	cutter := newCutter(t)
	data := make([]byte, MinSize+1000) // zeros: the first hash that is tested is a split point's
	noise := randomBytes(rnd, MinSize+1000)
	for first := MinSize - windowSize - 2; first <= MinSize+2; first++ {
		for _, second := range []int{1, 2, windowSize - 1, windowSize, 500} {
			sizes := func() func() int {
				given := -1
				return func() int {
					given++
					return []int{first, second, 1}[min(given, 2)]
				}
			}
			wantSameCuts(t, cutter, data, sizes)
			wantSameCuts(t, cutter, noise, sizes)
		}
	}
}

func TestSizes(t *testing.T) {
	rnd := seeded(t)
	c := newCutter(t)
	size, largest, blobs := 0, 0, 0
	data := randomBytes(rnd, 32<<20)
	for rest := data; len(rest) > 0; rest = rest[1<<10:] {
		size += 1 << 10
		if !c.Ends(rest[:1<<10]) {
			continue
		}
		if size < MinSize || size > MaxSize+1<<10 {
			t.Fatalf("a blob of %d bytes", size)
		}
		largest, size = max(largest, size), 0
		blobs++
	}
	if average := len(data) / max(blobs, 1); average < MinSize+AverageSize/4 || average > 4*AverageSize {
		t.Errorf("%d blobs, %d bytes on average, %d at most", blobs, average, largest)
	}
}

func TestEmptyRecords(t *testing.T) {
	c := newCutter(t)
	zeros := make([]byte, MinSize)
	for i, want := range []struct {
		record []byte
		ends   bool
	}{{nil, false}, {zeros[:MinSize-1], false}, {nil, false}, {zeros[:1], true}, {nil, false}, {zeros, true}} {
		if got := c.Ends(want.record); got != want.ends {
			t.Fatalf("record %d of %d bytes: %v", i, len(want.record), got)
		}
	}
}

// A blob's end does not depend on the blobs before it.
func TestEndStartsAfresh(t *testing.T) {
	rnd := seeded(t)
	data := randomBytes(rnd, 6<<20)
	once := newCutter(t)
	var sizes []int
	size := 0
	for rest := data; len(rest) > 0; rest = rest[512:] {
		size += 512
		if !once.Ends(rest[:512]) {
			continue
		}
		sizes = append(sizes, size)
		size = 0
	}
	for _, want := range sizes {
		fresh, got := newCutter(t), 512
		for !fresh.Ends(data[got-512 : got]) {
			got += 512
		}
		if got != want {
			t.Fatalf("a blob of %d bytes has %d when it is the first", want, got)
		}
		data = data[want:]
	}
}

func TestReset(t *testing.T) {
	data := randomBytes(seeded(t), 4<<20)
	used, fresh := newCutter(t), newCutter(t)
	used.Ends(data[:MinSize+77])
	used.Reset()
	records := func() int { return 1000 }
	if got, want := cuts(data, records, used.Ends), cuts(data, records, fresh.Ends); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("cuts after %v, a new cutter's after %v", got, want)
	}
}

func TestFresh(t *testing.T) {
	data := randomBytes(seeded(t), 4<<20)
	records := func() int { return 1000 }
	used := newCutter(t)
	want := cuts(data, records, used.Ends)
	used.Ends(data[:MinSize+77])
	done := make(chan []int)
	for range 2 { // while the one they come from is in use
		go func() { done <- cuts(data, records, used.Fresh().Ends) }()
	}
	used.Ends(data[:MinSize+77])
	for range 2 {
		if got := <-done; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("cuts after %v, want %v", got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	rnd := seeded(t)
	for name, payload := range map[string][]byte{
		"noise":      randomBytes(rnd, 12<<20),
		"one letter": bytes.Repeat([]byte("x"), MaxSize+5),
		"just above": randomBytes(rnd, MaxSize+1),
	} {
		t.Run(name, func(t *testing.T) {
			want := chunker.New(bytes.NewReader(payload), testPolynomial)
			for i, piece := range newCutter(t).Split(payload) {
				chunk, err := want.Next(nil)
				if err != nil || !bytes.Equal(piece, chunk.Data) {
					t.Fatalf("piece %d of %d bytes, restic's chunker has %d, %v", i, len(piece), chunk.Length, err)
				}
				if cap(piece) != len(piece) {
					t.Fatalf("piece %d has room for what follows it", i)
				}
			}
			if _, err := want.Next(nil); err != io.EOF {
				t.Fatal("restic's chunker has another piece")
			}
		})
	}
}

func TestSplitLeavesSmallPayloadsWhole(t *testing.T) {
	c := newCutter(t)
	for _, size := range []int{0, 1, LargePayload, MaxSize} {
		payload := make([]byte, size)
		if pieces := c.Split(payload); len(pieces) != 1 || len(pieces[0]) != size {
			t.Errorf("%d bytes became %d pieces", size, len(pieces))
		}
	}
}

func TestSplitAndEndsDoNotMeet(t *testing.T) {
	data := randomBytes(seeded(t), 10<<20)
	c, other := newCutter(t), newCutter(t)
	records := func() int { return 1 << 20 }
	interrupted := func(p []byte) bool {
		c.Split(data[:MaxSize+1])
		return c.Ends(p)
	}
	if got, want := cuts(data[:4<<20], records, interrupted), cuts(data[:4<<20], records, other.Ends); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("cuts after %v, without splitting after %v", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, polynomial := range map[string]uint64{
		"zero":                0,
		"one":                 1,
		"with a factor":       testPolynomial ^ 1, // x divides it
		"of higher degree":    1<<54 | 1,
		"of the highest":      1<<63 | 1,
		"of a lower degree":   1<<52 | 1,
		"small, but no other": 0b111, // x²+x+1 is irreducible
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(polynomial); !errors.Is(err, ErrPolynomial) {
				t.Fatal(err)
			}
		})
	}
}

func TestNewTakesWhatResticMakes(t *testing.T) {
	for range 3 {
		pol, err := chunker.RandomPolynomial()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(uint64(pol)); err != nil {
			t.Error(err)
		}
	}
}

func TestPolynomialMatters(t *testing.T) {
	data := randomBytes(seeded(t), 16<<20)
	pol, err := chunker.RandomPolynomial()
	if err != nil {
		t.Fatal(err)
	}
	other, err := New(uint64(pol))
	if err != nil {
		t.Fatal(err)
	}
	records := func() int { return 1 << 10 }
	if a, b := cuts(data, records, newCutter(t).Ends), cuts(data, records, other.Ends); fmt.Sprint(a) == fmt.Sprint(b) {
		t.Fatalf("both cut after %v", a)
	}
}
