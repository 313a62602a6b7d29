package streamlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"jetsam/blob"
	"jetsam/internal/chance"
)

// deadOf returns the set of runs that are given as pairs of first and last.
func deadOf(bounds ...uint64) *Dead {
	return NewDead(func(yield func(Run) bool) {
		for i := 0; i < len(bounds); i += 2 {
			if !yield(Run{bounds[i], bounds[i+1]}) {
				return
			}
		}
	})
}

func runsOf(d *Dead) []Run { return slices.Collect(d.Runs()) }

// TestDeadIsASet holds the set against a map, for what may be asked of it.
func TestDeadIsASet(t *testing.T) {
	seed := chance.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	const highest = 1500
	random := func() (*Dead, map[uint64]bool) {
		model := map[uint64]bool{}
		var runs []Run
		for range rng.IntN(400) {
			r := Run{First: rng.Uint64N(highest)}
			r.Last = min(r.First+rng.Uint64N(4), highest)
			runs = append(runs, r)
			for seq := max(r.First, 1); seq <= r.Last; seq++ {
				model[seq] = true
			}
		}
		if rng.IntN(2) == 0 {
			slices.SortFunc(runs, func(a, b Run) int { return int(a.First) - int(b.First) })
		}
		return NewDead(slices.Values(runs)), model
	}
	compare := func(what string, d *Dead, model map[uint64]bool) {
		t.Helper()
		if d.Len() != uint64(len(model)) || (d == nil) != (len(model) == 0) {
			t.Fatalf("%s has %d sequences, the map %d", what, d.Len(), len(model))
		}
		count := uint64(0)
		ascending, sparse := d.Ascending(), d.Ascending()
		for seq := range uint64(highest + 3) {
			if d.Has(seq) != model[seq] || ascending(seq) != model[seq] {
				t.Fatalf("%s: sequence %d: %v, ascending %v, the map says %v", what, seq, d.Has(seq), ascending(seq), model[seq])
			}
			if rng.IntN(20) == 0 && sparse(seq) != model[seq] {
				t.Fatalf("%s: sequence %d of some in ascending order: %v", what, seq, !model[seq])
			}
			if model[seq] {
				count++
			}
			if got := d.Count(0, seq); got != count {
				t.Fatalf("%s: %d sequences up to %d, the map has %d", what, got, seq, count)
			}
		}
		last := uint64(0)
		for i, r := range runsOf(d) {
			if r.Last < r.First || i > 0 && r.First < last+2 {
				t.Fatalf("%s: run %v follows %d", what, r, last)
			}
			last = r.Last
		}
		if d == nil {
			return
		}
		again, err := DecodeSegment(EncodeSegment(d))
		if err != nil || !bytes.Equal(EncodeSegment(again), EncodeSegment(d)) || !slices.Equal(again.marks, d.marks) || again.Len() != d.Len() {
			t.Fatalf("%s: decoded again: %v", what, err)
		}
	}
	for range 40 {
		x, mx := random()
		y, my := random()
		compare("set", x, mx)
		union, minus, within := map[uint64]bool{}, map[uint64]bool{}, map[uint64]bool{}
		first, last := rng.Uint64N(highest), rng.Uint64N(highest)
		for seq := range mx {
			union[seq] = true
			if !my[seq] {
				minus[seq] = true
			}
			if first <= seq && seq <= last {
				within[seq] = true
			}
		}
		for seq := range my {
			union[seq] = true
		}
		compare("union", x.Union(y), union)
		compare("difference", x.Minus(y), minus)
		compare("part", x.Within(first, last), within)
		if got := x.Count(first, last); got != uint64(len(within)) {
			t.Fatalf("%d sequences from %d to %d, the map has %d", got, first, last, len(within))
		}
	}
}

// TestDeadAtTheEnds wants sequences up to the highest that there is.
func TestDeadAtTheEnds(t *testing.T) {
	const top = math.MaxUint64
	var none *Dead
	if none.Len() != 0 || none.Has(1) || none.Count(0, top) != 0 || none.Union(nil) != nil || none.Minus(nil) != nil || none.Within(0, top) != nil || none.Ascending()(7) {
		t.Error("the set without anything has something")
	}
	all := deadOf(0, top)
	if all.Len() != top || !all.Has(1) || all.Has(0) || !all.Has(top) || all.Count(0, top) != top || all.Count(5, 7) != 3 {
		t.Errorf("the set of everything: %v", runsOf(all))
	}
	if got := all.Minus(deadOf(5, 6, top, top)); !slices.Equal(runsOf(got), []Run{{1, 4}, {7, top - 1}}) {
		t.Errorf("without some of it: %v", runsOf(got))
	}
	if got := all.Minus(all); got != nil {
		t.Errorf("without itself: %v", runsOf(got))
	}
	ends := deadOf(top, top, 1, 1, 9, 8)
	if !slices.Equal(runsOf(ends), []Run{{1, 1}, {top, top}}) || ends.Count(2, top-1) != 0 || ends.Count(top, top) != 1 || ends.Len() != 2 {
		t.Errorf("first and last: %v", runsOf(ends))
	}
	for _, d := range []*Dead{all, ends} {
		if again, err := DecodeSegment(EncodeSegment(d)); err != nil || !slices.Equal(runsOf(again), runsOf(d)) {
			t.Errorf("decoded again: %v, %v", again, err)
		}
	}
}

// sealed is a segment with these bytes between its magic and its checksum.
func sealed(between ...byte) []byte {
	p := append([]byte(segmentMagic), between...)
	return binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

func TestSegmentsThatAreRefused(t *testing.T) {
	max64 := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
	good := EncodeSegment(deadOf(3, 4, 9, 9))
	if !bytes.Equal(good, sealed(2, 2, 1, 3, 0)) {
		t.Fatalf("% x", good)
	}
	flipped := bytes.Clone(good)
	flipped[9] ^= 1
	for _, c := range []struct {
		name string
		p    []byte
		want string
	}{
		{"nothing", nil, "does not begin"},
		{"only its magic", []byte(segmentMagic), "does not begin"},
		{"another magic", append([]byte("JSDEAD02"), good[8:]...), "does not begin"},
		{"a bit flipped", flipped, "checksum"},
		{"a byte less", good[:len(good)-1], "checksum"},
		{"a byte more", append(bytes.Clone(good), 0), "checksum"},
		{"no number of runs", sealed(), "number of runs"},
		{"no runs", sealed(0), "number of runs"},
		{"fewer runs than it says", sealed(2, 2, 1), "number of runs"},
		{"more runs than it says", sealed(1, 2, 1, 3, 0), "2 bytes follow"},
		{"very many runs", sealed(append(max64, 0, 0)...), "number of runs"},
		{"a number of runs in a longer form", sealed(0x81, 0x00, 2, 1), "number of runs"},
		{"a gap in a longer form", sealed(1, 0x82, 0x00, 1), "run 0"},
		{"a length in a longer form", sealed(1, 2, 0x81, 0x00), "run 0"},
		{"a number that does not end", sealed(1, 2, 0x81), "run 0"},
		{"a number above 64 bits", sealed(append([]byte{1, 2}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02)...), "run 0"},
		{"a length past the end", sealed(append([]byte{1, 2}, max64...)...), "run 0 ends above"},
		{"a gap past the end", sealed(append(append([]byte{1}, max64...), 0)...), "run 0 ends above"},
		{"a run behind the highest sequence", sealed(append(append([]byte{2, 0}, max64[:9]...), 0x00, 0, 0)...), "run 0"},
	} {
		if _, err := DecodeSegment(c.p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for _, last := range []uint64{math.MaxUint64, math.MaxUint64 - 1} {
		p := append([]byte{2, 0}, binary.AppendUvarint(nil, last-1)...) // sequences 1 to last, and a run behind it
		if _, err := DecodeSegment(sealed(append(p, 0, 0)...)); err == nil || !strings.Contains(err.Error(), "run 1 ends above") {
			t.Errorf("a run behind sequence %d: %v", last, err)
		}
	}
}

// FuzzSegment: what is accepted has one form, and is a set.
func FuzzSegment(f *testing.F) {
	f.Add(EncodeSegment(deadOf(3, 4, 9, 9)))
	f.Add(EncodeSegment(deadOf(1, math.MaxUint64)))
	f.Add(sealed(0))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= len(segmentMagic)+checksumSize { // else nothing but its checksum would be tried
			at := len(p) - checksumSize
			p = binary.LittleEndian.AppendUint32(bytes.Clone(p[:at]), crc32.Checksum(p[:at], castagnoli))
		}
		d, err := DecodeSegment(bytes.Clone(p))
		if err != nil {
			return
		}
		if !bytes.Equal(EncodeSegment(d), p) {
			t.Fatalf("% x is encoded as % x", p, EncodeSegment(d))
		}
		var n, last uint64
		for r := range d.Runs() {
			if r.First == 0 || r.Last < r.First || n > 0 && r.First-1 <= last {
				t.Fatalf("run %v follows %d", r, last)
			}
			if !d.Has(r.First) || !d.Has(r.Last) || d.Has(r.First-1) || d.Count(r.First, r.Last) != r.Last-r.First+1 || d.Count(1, r.Last) != n+r.Last-r.First+1 {
				t.Fatalf("run %v is not in the set", r)
			}
			n, last = n+r.Last-r.First+1, r.Last
		}
		if n != d.Len() || n == 0 {
			t.Fatalf("%d sequences in the runs, %d in the set", n, d.Len())
		}
		if again := NewDead(d.Runs()); !bytes.Equal(EncodeSegment(again), p) {
			t.Fatal("made of its runs it is another")
		}
	})
}

// TestSegmentsMergeGeometrically lets a stream's messages die in many steps.
func TestSegmentsMergeGeometrically(t *testing.T) {
	seed := chance.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	m := newMemory()
	parent := &Stream{Name: "S", src: m, Document: &Document{}}
	save := func(d *Dead) *DeadFile {
		t.Helper()
		f, err := SaveDead(t.Context(), m, parent, d)
		if err != nil {
			t.Fatal(err)
		}
		parent = &Stream{Name: "S", src: m, Document: &Document{}}
		if f != nil {
			parent.dead, parent.Document.Jetsam.Dead = f.Segments, &DeadSummary{len(f.Segments), f.Sequences}
		}
		if got, err := parent.Dead(t.Context()); err != nil || !slices.Equal(runsOf(got), runsOf(d)) {
			t.Fatalf("read back: %v", err)
		}
		return f
	}
	if save(nil) != nil {
		t.Fatal("a file was made of nothing")
	}
	var d *Dead
	var written, most int
	for range 1000 {
		d = d.Union(deadOf(rng.Uint64N(1e6)+1, 0).Union(NewDead(func(yield func(Run) bool) {
			for range 1 + rng.IntN(5) {
				seq := 1 + rng.Uint64N(1e6)
				yield(Run{seq, seq})
			}
		})))
		f := save(d)
		written, most = written+int(f.NewBytes), max(most, len(f.Segments))
		class, alike := -1, 0
		for _, x := range must(parent.segments(t.Context())) {
			if c := segmentClass(x); c != class {
				class, alike = c, 0
			}
			if alike++; alike >= segmentsAlike {
				t.Fatalf("%d segments in a row have about %d sequences", alike, x.set.Len())
			}
		}
	}
	final := len(EncodeSegment(d))
	t.Logf("%d sequences in %d bytes, %d written in all, at most %d segments", d.Len(), final, written, most)
	if most < 3 || most > 20 || written > 9*final {
		t.Errorf("%d bytes were written for %d, in up to %d segments", written, final, most)
	}

	same := save(d)
	if same.NewBytes != 0 {
		t.Errorf("the same set again wrote %d bytes", same.NewBytes)
	}
	fewer := d.Minus(d.Within(1, 5e5))
	f := save(fewer)
	var held *Dead
	for _, id := range f.Segments {
		held = held.Union(must(DecodeSegment(must(m.Load(t.Context(), blob.Handle{Kind: blob.Data, ID: id}, nil)))))
	}
	if f.Sequences != fewer.Len() || held.Len() != fewer.Len() || held.Minus(fewer).Len() > 0 {
		t.Errorf("a set that lost some has %d sequences, want %d", held.Len(), fewer.Len())
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestManySegmentsBecomeFew wants no more segments than are written, however they stand to each other.
func TestManySegmentsBecomeFew(t *testing.T) {
	var kept []segment
	var all *Dead
	for i := range uint64(40) {
		seq := uint64(1) << i // each of them far smaller than the one before
		set := deadOf(1<<41-seq+1+seq/2, 1<<41-seq/2)
		if i == 39 {
			set = deadOf(1<<50, 1<<50+1<<45)
		}
		kept = append(kept, segment{size: 1, set: set})
		all = all.Union(set)
	}
	slices.Reverse(kept)
	out := arrange(kept, all)
	if len(out) > mostSegments || !slices.Equal(runsOf(union(out)), runsOf(all)) {
		t.Errorf("%d segments became %d", len(kept), len(out))
	}
}

func TestAliveInAGroup(t *testing.T) {
	d := deadOf(1, 10, 15, 15, 17, 20, 40, 50)
	for _, c := range []struct {
		first, last, messages, want uint64
	}{
		{21, 39, 3, 3},  // untouched: with gaps of its own
		{11, 20, 10, 5}, // of ten stored
		{11, 20, 7, 5},  // of seven stored, three were gaps
		{17, 20, 2, 0},
		{41, 49, 9, 0},
		{50, 51, 2, 1},
	} {
		g := Group{First: c.first, Last: c.last, Messages: c.messages}
		if got := g.Alive(d); got != c.want {
			t.Errorf("%d to %d: %d are alive, want %d", c.first, c.last, got, c.want)
		}
	}
	if g := (Group{First: 1, Last: math.MaxUint64, Messages: 9}); g.Alive(nil) != 9 || g.Alive(d) != math.MaxUint64-d.Len() {
		t.Error("a group of all sequences")
	}
}

func TestTooManyDead(t *testing.T) {
	far := &Dead{runs: make([]byte, maxDeadFile), n: maxDeadFile / 2, count: maxDeadFile / 2}
	if _, err := SaveDead(t.Context(), newMemory(), nil, far); !errors.Is(err, ErrTooManyDead) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkDead(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	d := NewDead(func(yield func(Run) bool) {
		for seq := uint64(1); seq < 20e6; seq += 2 + rng.Uint64N(20) {
			if !yield(Run{seq, seq}) {
				return
			}
		}
	})
	b.Logf("%d runs in %d bytes", d.n, len(d.runs)+24*len(d.marks))
	b.Run("count", func(b *testing.B) {
		for b.Loop() {
			seq := rng.Uint64N(20e6)
			d.Count(seq, seq+5000)
		}
	})
	b.Run("ascending", func(b *testing.B) {
		has, seq := d.Ascending(), uint64(0)
		for b.Loop() {
			if seq++; seq > 20e6 {
				has, seq = d.Ascending(), 0
			}
			has(seq)
		}
	})
	b.Run("union", func(b *testing.B) {
		other := NewDead(func(yield func(Run) bool) {
			for r := range d.Runs() {
				yield(Run{r.First + 1, r.Last + 1})
			}
		})
		for b.Loop() {
			d.Union(other)
		}
	})
}
