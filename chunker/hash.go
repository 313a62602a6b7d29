package chunker

import "github.com/restic/chunker"

const (
	// windowSize is how many bytes the hash covers.
	windowSize = 64
	// splitMask is what a hash has no bit of at a split point.
	splitMask = 1<<averageBits - 1
	// stageSize is how much of a record is copied behind what came before it.
	stageSize = 4 << 10
	// lanesFrom is how many bytes it takes for several lanes to be faster.
	lanesFrom = windowSize + 4*8
)

// tables hold what a byte adds to the hash where that takes polynomial division.
type tables struct {
	// mod takes the eight bits that were shifted out of the hash back in.
	mod [256]uint64
	// out takes away what leaves the window.
	out [256]uint64
}

func newTables(pol chunker.Pol) *tables {
	t := &tables{}
	for bit := range 8 {
		high := chunker.Pol(1) << (degree + bit)
		left := chunker.Pol(1) << bit
		for range windowSize {
			left = (left << 8).Mod(pol)
		}
		t.mod[1<<bit] = uint64(high | high.Mod(pol))
		t.out[1<<bit] = uint64(left)
	}
	for b := range 256 { // what several bits add is the sum of what each adds
		low := b & -b
		t.mod[b] = t.mod[low] ^ t.mod[b^low]
		t.out[b] = t.out[low] ^ t.out[b^low]
	}
	return t
}

// in is the hash h after the byte b came in, as long as nothing leaves.
func (t *tables) in(h uint64, b byte) uint64 {
	return (h<<8 | uint64(b)) ^ t.mod[byte(h>>(degree-8))]
}

// step is the hash h after the byte b came in and the byte left went out.
func (t *tables) step(h uint64, b, left byte) uint64 {
	return t.in(h, b) ^ t.out[left]
}

// hash is a hash that rolls over a sequence of bytes that comes in pieces. The
// window is full of zeros at first.
type hash struct {
	*tables
	sum uint64
	// stage begins with the window, and has room for the start of a piece behind
	// it, so that the bytes that come in and those that leave stand in one slice.
	stage [windowSize + stageSize]byte
}

func (h *hash) reset() {
	h.sum = 0
	clear(h.stage[:windowSize])
}

// roll takes bytes, at most stageSize of them, without looking at the hashes.
func (h *hash) roll(p []byte) {
	n := copy(h.stage[windowSize:], p)
	for i := range n {
		h.sum = h.step(h.sum, h.stage[windowSize+i], h.stage[i])
	}
	h.keep(h.stage[:windowSize+n])
}

// find takes bytes, and reports whether one of their hashes is a split point's.
// If so, the hash has to be reset.
func (h *hash) find(p []byte) bool {
	n := copy(h.stage[windowSize:], p)
	if h.scan(h.stage[:windowSize+n]) {
		return true
	}
	if n == len(p) {
		h.keep(h.stage[:windowSize+n])
		return false
	}
	if h.scan(p[n-windowSize:]) {
		return true
	}
	h.keep(p)
	return false
}

// keep makes the end of p the window.
func (h *hash) keep(p []byte) { copy(h.stage[:windowSize], p[len(p)-windowSize:]) }

// scan takes the bytes behind the first windowSize of w, which are the window.
func (h *hash) scan(w []byte) bool {
	if len(w) < windowSize+lanesFrom {
		return h.scanSerially(w)
	}
	return h.scanInLanes(w)
}

func (h *hash) scanSerially(w []byte) bool {
	sum, t := h.sum, h.tables
	in := w[windowSize:]
	leaving := w[:len(in)]
	for i, b := range in {
		sum = t.step(sum, b, leaving[i])
		if sum&splitMask == 0 {
			return true
		}
	}
	h.sum = sum
	return false
}

// scanInLanes hashes four stretches of w at once. One hash waits for the one
// before it most of the time; four that do not depend on each other fill the
// time. Those of the second to fourth stretch start from an empty window, which
// the bytes before the stretch fill, while the first is ahead by as many bytes:
//
//	| window |     first       |  second  |  third   |  fourth  |
func (h *hash) scanInLanes(w []byte) bool {
	n := len(w) - windowSize
	k := (n - windowSize) / 4
	second, third, fourth := windowSize+k, windowSize+2*k, windowSize+3*k
	sums, found := h.fillLanes(w[:2*windowSize], w[second:][:windowSize], w[third:][:windowSize], w[fourth:][:windowSize])
	if found || !h.runLanes(&sums, k, w[windowSize:], w[second:], w[third:], w[fourth:]) {
		return true
	}
	h.sum = sums[3]
	return h.scanSerially(w[fourth+k:])
}

// fillLanes takes windowSize bytes in each lane.
func (h *hash) fillLanes(w0, w1, w2, w3 []byte) (sums [4]uint64, found bool) {
	t := h.tables
	s0, s1, s2, s3 := h.sum, uint64(0), uint64(0), uint64(0)
	for i := range windowSize {
		s0 = t.step(s0, w0[windowSize+i], w0[i])
		s1 = t.in(s1, w1[i])
		s2 = t.in(s2, w2[i])
		s3 = t.in(s3, w3[i])
		if s0&splitMask == 0 {
			return sums, true
		}
	}
	return [4]uint64{s0, s1, s2, s3}, false
}

// runLanes takes k bytes in each lane, those behind the window that its slice
// begins with, and reports whether none of the hashes is a split point's.
func (h *hash) runLanes(sums *[4]uint64, k int, w0, w1, w2, w3 []byte) bool {
	t := h.tables
	s0, s1, s2, s3 := sums[0], sums[1], sums[2], sums[3]
	w0 = w0[:windowSize+k]
	w1, w2, w3 = w1[:len(w0)], w2[:len(w0)], w3[:len(w0)]
	for i := windowSize; i < len(w0); i++ {
		s0 = t.step(s0, w0[i], w0[i-windowSize])
		s1 = t.step(s1, w1[i], w1[i-windowSize])
		s2 = t.step(s2, w2[i], w2[i-windowSize])
		s3 = t.step(s3, w3[i], w3[i-windowSize])
		if s0&splitMask == 0 || s1&splitMask == 0 || s2&splitMask == 0 || s3&splitMask == 0 {
			return false
		}
	}
	*sums = [4]uint64{s0, s1, s2, s3}
	return true
}
