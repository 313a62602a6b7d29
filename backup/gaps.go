package backup

import (
	"slices"

	"jetsam/streamlog"
)

// maxGaps bounds the memory for the gaps of one capture, and maxDeleted what a server is asked to list of the sequences that it lacks.
// Past them only counts are compared.
const (
	maxGaps    = 4 << 20
	maxDeleted = 2 << 20
)

// span is a run of sequences, both ends included.
type span struct{ from, to uint64 }

// gaps are the sequences of a stream that a capture did not bring, as runs in ascending order.
type gaps struct {
	next uint64 // the sequence that would follow without a gap
	runs []span
	many bool // there were more runs than are kept
}

func newGaps(first uint64) *gaps { return &gaps{next: max(first, 1)} }

// saw notes that the message with that sequence came.
func (g *gaps) saw(seq uint64) {
	if seq > g.next {
		g.add(span{g.next, seq - 1})
	}
	g.next = seq + 1
}

// end notes that nothing more came of a stream whose last sequence was last.
func (g *gaps) end(last uint64) {
	if g.next > 0 && g.next <= last { // 0: the highest sequence that there can be has come
		g.add(span{g.next, last})
	}
}

func (g *gaps) add(s span) {
	if len(g.runs) == maxGaps {
		g.many = true
		return
	}
	g.runs = append(g.runs, s)
}

// dead are the sequences of the gaps.
func (g *gaps) dead() *streamlog.Dead {
	return streamlog.NewDead(func(yield func(streamlog.Run) bool) {
		for _, s := range g.runs {
			if !yield(streamlog.Run{First: s.from, Last: s.to}) {
				return
			}
		}
	})
}

// bury makes gaps of what came from a sequence on and has died since, and returns how many messages these are.
func (g *gaps) bury(from uint64, died *streamlog.Dead) uint64 {
	before := g.dead()
	all := before.Union(died.Within(from, g.next-1))
	g.runs = g.runs[:0]
	for r := range all.Runs() {
		g.add(span{r.First, r.Last})
	}
	return all.Len() - before.Len()
}

// since is how many sequences of the gaps are seq or higher and were alive before, as far as that is known.
func (g *gaps) since(seq uint64, before dead) (n uint64) {
	for _, r := range g.runs {
		if r.to >= seq {
			n += before.alive(span{max(r.from, seq), r.to})
		}
	}
	return n
}

// has reports whether the capture did not bring seq.
func (g *gaps) has(seq uint64) bool {
	_, found := slices.BinarySearchFunc(g.runs, seq, func(r span, seq uint64) int {
		switch {
		case r.to < seq:
			return -1
		case r.from > seq:
			return 1
		}
		return 0
	})
	return found
}

// dead are the sequences that a stream does not have: all below first, and deleted, which ascend.
type dead struct {
	first   uint64
	deleted []uint64
}

// alive is how many sequences of s the stream has.
func (d dead) alive(s span) uint64 {
	s.from = max(s.from, d.first)
	if s.from > s.to {
		return 0
	}
	i, _ := slices.BinarySearch(d.deleted, s.from)
	j, found := slices.BinarySearch(d.deleted, s.to)
	if found {
		j++
	}
	return s.to - s.from + 1 - min(uint64(j-i), s.to-s.from+1)
}

// lost are the runs of gaps in which the stream has messages, and how many these are. At most limit runs are returned.
func (d dead) lost(g *gaps, limit int) (some []span, n uint64) {
	for _, r := range g.runs {
		alive := d.alive(r)
		if n += alive; alive > 0 && len(some) < limit {
			some = append(some, span{max(r.from, d.first), r.to})
		}
	}
	return some, n
}

// firstDied is the lowest sequence that came and that the stream does not have any more; 0 if there is none.
func (d dead) firstDied(g *gaps, firstCame, last uint64) uint64 {
	if firstCame < d.first {
		return firstCame
	}
	for _, seq := range d.deleted {
		if seq > last {
			break
		}
		if seq >= firstCame && !g.has(seq) {
			return seq
		}
	}
	return 0
}
