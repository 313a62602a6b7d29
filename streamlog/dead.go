package streamlog

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"sort"
)

// Run is the sequences from First to Last, both of them included.
type Run struct{ First, Last uint64 }

// Dead is a set of sequences: of the entries in a stream's log that are not alive in a snapshot, and of the gaps between them.
// It never changes, and a nil *Dead is the empty set. It takes about as many bytes as its stored form, two or three for a run.
type Dead struct {
	runs  []byte // as in a segment: the gap before each run and its length
	n     int    // runs
	count uint64 // sequences
	marks []mark // every markEvery runs, so that nothing is read from the beginning
}

// markEvery is how many runs are read at most to find one of them.
const markEvery = 64

// mark is where a run is found.
type mark struct {
	first  uint64 // of the run
	before uint64 // sequences in the runs before it
	at     int    // where the run's length is in runs
}

// NewDead returns the set of the sequences in all runs. They are best given in ascending order; they may touch and overlap.
// There is no sequence 0, and a run whose Last is below its First has none.
func NewDead(runs iter.Seq[Run]) *Dead {
	b := newDeadBuilder(0)
	var late []Run
	for r := range runs {
		if r.First = max(r.First, 1); r.Last >= r.First && !b.add(r) {
			late = append(late, r)
		}
	}
	if len(late) == 0 {
		return b.dead()
	}
	slices.SortFunc(late, func(x, y Run) int { return cmp.Compare(x.First, y.First) })
	return b.dead().Union(NewDead(slices.Values(late)))
}

// Len is how many sequences are in the set.
func (d *Dead) Len() uint64 {
	if d == nil {
		return 0
	}
	return d.count
}

// Has says whether seq is in the set.
func (d *Dead) Has(seq uint64) bool {
	c := d.cursor()
	return c.seek(seq) && c.run.First <= seq
}

// Count is how many sequences from first to last are in the set.
func (d *Dead) Count(first, last uint64) uint64 {
	if d == nil || first > last || last == 0 {
		return 0
	}
	return d.upTo(last) - d.upTo(max(first, 1)-1)
}

// upTo is how many sequences up to and with last are in the set.
func (d *Dead) upTo(last uint64) uint64 {
	c := d.cursor()
	n, ok := c.enter(last)
	for ; ok && c.run.First <= last; ok = c.next() {
		n += min(c.run.Last, last) - c.run.First + 1
	}
	return n
}

// Living is from the first to the last of the sequences from first to last that are not in the set, if there are any.
func (d *Dead) Living(first, last uint64) (r Run, ok bool) {
	r = Run{first, last}
	c := d.cursor()
	if c.seek(first) && c.run.First <= first {
		if c.run.Last >= last {
			return Run{}, false
		}
		r.First = c.run.Last + 1
	}
	if c.seek(last) && c.run.First <= last {
		r.Last = c.run.First - 1
	}
	return r, r.First <= r.Last
}

// Runs are the runs of the set, in ascending order. Between two of them there is a sequence that is not in the set.
func (d *Dead) Runs() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		c := d.cursor()
		for c.next() {
			if !yield(c.run) {
				return
			}
		}
	}
}

// Ascending returns a function that is Has for sequences that it is asked for in ascending order, and quicker.
func (d *Dead) Ascending() func(seq uint64) bool {
	c := d.cursor()
	ok := c.next()
	return func(seq uint64) bool {
		ok = ok && c.forward(seq)
		return ok && c.run.First <= seq
	}
}

// Within is the part of the set from first to last.
func (d *Dead) Within(first, last uint64) *Dead {
	b := newDeadBuilder(0)
	c := d.cursor()
	for ok := c.seek(first); ok && c.run.First <= last; ok = c.next() {
		b.add(Run{max(c.run.First, first), min(c.run.Last, last)})
	}
	return b.dead()
}

// Union is the set of what is in d or in other.
func (d *Dead) Union(other *Dead) *Dead {
	switch {
	case other == nil:
		return d
	case d == nil:
		return other
	}
	b := newDeadBuilder(len(d.runs) + len(other.runs)) // a union takes no more bytes than its parts
	x, y := d.cursor(), other.cursor()
	xok, yok := x.next(), y.next()
	for xok || yok {
		if !yok || xok && x.run.First <= y.run.First {
			b.add(x.run)
			xok = x.next()
		} else {
			b.add(y.run)
			yok = y.next()
		}
	}
	return b.dead()
}

// unionOf is the union of many sets.
func unionOf(sets []*Dead) *Dead {
	switch n := len(sets); n {
	case 0:
		return nil
	case 1:
		return sets[0]
	default:
		return unionOf(sets[:n/2]).Union(unionOf(sets[n/2:]))
	}
}

// Minus is the set of what is in d and not in other.
func (d *Dead) Minus(other *Dead) *Dead {
	b := newDeadBuilder(0)
	out := other.cursor()
	ok := out.next()
	for r := range d.Runs() {
		ok = ok && out.forward(r.First)
		rest := true
		for ok && rest && out.run.First <= r.Last {
			if r.First < out.run.First {
				b.add(Run{r.First, out.run.First - 1})
			}
			if rest = out.run.Last < r.Last; rest {
				r.First = out.run.Last + 1
				ok = out.next()
			}
		}
		if rest {
			b.add(r)
		}
	}
	return b.dead()
}

// cursor goes through the runs of a set.
type cursor struct {
	d   *Dead
	at  int // in d.runs, behind the run at hand
	run Run // at hand; before the first one its Last is one below 0
}

func (d *Dead) cursor() cursor {
	if d == nil {
		d = &Dead{}
	}
	return cursor{d: d, run: Run{Last: math.MaxUint64}}
}

// next moves to the next run, if there is one.
func (c *cursor) next() bool {
	if c.at == len(c.d.runs) {
		return false
	}
	gap, n := binary.Uvarint(c.d.runs[c.at:])
	c.at += n
	c.run.First = c.run.Last + 2 + gap
	c.measure()
	return true
}

// measure reads the length of the run at hand.
func (c *cursor) measure() {
	more, n := binary.Uvarint(c.d.runs[c.at:])
	c.at += n
	c.run.Last = c.run.First + more
}

// enter moves to the last marked run that does not begin behind seq, if there is one, and says how many sequences come before it.
func (c *cursor) enter(seq uint64) (before uint64, ok bool) {
	marks := c.d.marks
	i := sort.Search(len(marks), func(i int) bool { return marks[i].first > seq }) - 1
	if i < 0 {
		return 0, false
	}
	c.at, c.run.First = marks[i].at, marks[i].first
	c.measure()
	return marks[i].before, true
}

// seek moves to the first run that does not end before seq, if there is one.
func (c *cursor) seek(seq uint64) bool {
	_, ok := c.enter(seq)
	if !ok {
		*c = c.d.cursor()
		ok = c.next()
	}
	for ok && c.run.Last < seq {
		ok = c.next()
	}
	return ok
}

// forward is seek for a run that does not come before the one at hand, and quicker where it is near.
func (c *cursor) forward(seq uint64) bool {
	const near = 8 // runs that are read before one is looked for
	for range near {
		if c.run.Last >= seq {
			return true
		}
		if !c.next() {
			return false
		}
	}
	return c.seek(seq)
}

// deadBuilder makes a set of runs that come in ascending order.
type deadBuilder struct {
	d    Dead
	run  Run // not written yet, as it may grow
	open bool
	last uint64 // of the run before; one below 0 where there is none
}

// newDeadBuilder has memory for so many bytes of runs.
func newDeadBuilder(size int) *deadBuilder {
	return &deadBuilder{d: Dead{runs: make([]byte, 0, size)}, last: math.MaxUint64}
}

// add returns false, and does nothing, where r begins before the run before it.
func (b *deadBuilder) add(r Run) bool {
	switch {
	case !b.open:
		b.run, b.open = r, true
	case r.First < b.run.First:
		return false
	case r.First-1 <= b.run.Last:
		b.run.Last = max(b.run.Last, r.Last)
	default:
		b.flush()
		b.run = r
	}
	return true
}

// flush writes the run.
func (b *deadBuilder) flush() {
	d := &b.d
	d.runs = binary.AppendUvarint(d.runs, b.run.First-b.last-2)
	if d.n%markEvery == 0 {
		d.marks = append(d.marks, mark{b.run.First, d.count, len(d.runs)})
	}
	d.runs = binary.AppendUvarint(d.runs, b.run.Last-b.run.First)
	d.n++
	d.count += b.run.Last - b.run.First + 1
	b.last = b.run.Last
}

// dead is the set; nothing may be added after.
func (b *deadBuilder) dead() *Dead {
	if !b.open {
		return nil
	}
	b.flush()
	return &b.d
}
