package chunker

import (
	"fmt"
	"testing"
)

// TestResume lets another Cutter go on wherever one stands, at random and around the sizes from which bytes count, and wants the same ends.
func TestResume(t *testing.T) {
	rnd := seeded(t)
	data := randomBytes(rnd, 24<<20)
	var sizes []int
	for total := 0; total < len(data); total += sizes[len(sizes)-1] {
		sizes = append(sizes, 1+rnd.IntN(3000))
	}
	whole := newCutter(t)
	var want []int
	for i, at := 0, 0; i < len(sizes) && at < len(data); i++ {
		n := min(sizes[i], len(data)-at)
		if whole.Ends(data[at : at+n]) {
			want = append(want, at+n)
		}
		at += n
	}
	if len(want) < 3 {
		t.Fatalf("only %d ends", len(want))
	}
	for name, stops := range map[string]func(since int) bool{
		"everywhere":      func(int) bool { return true },
		"at random":       func(int) bool { return rnd.IntN(20) == 0 },
		"at a blob's end": func(since int) bool { return since > MinSize-2*windowSize-3000 },
	} {
		t.Run(name, func(t *testing.T) {
			c, begin := newCutter(t), 0
			var got []int
			for i, at := 0, 0; i < len(sizes) && at < len(data); i++ {
				if stops(at - begin) {
					fresh := c.Fresh()
					last := data[max(begin, at-Window):at]
					if !NeedsLast(at - begin) {
						last = nil
					}
					fresh.Resume(at-begin, last)
					c = fresh
				}
				n := min(sizes[i], len(data)-at)
				if at += n; c.Ends(data[at-n : at]) {
					got, begin = append(got, at), at
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("ends at %v, without a stop at %v", got, want)
			}
		})
	}
	c := newCutter(t)
	for count := MinSize - 2*Window; count < MinSize+2*Window; count++ {
		c.Reset()
		c.Ends(data[:count])
		if c.count != count {
			continue // it ended there
		}
		fresh := newCutter(t)
		fresh.Resume(count, data[count-Window:count])
		if fresh.state() != c.state() {
			t.Fatalf("after %d bytes the states differ", count)
		}
	}
}
