// Package chunker decides where the blobs of a stream end.
//
// A rolling hash over the last 64 bytes, restic's Rabin fingerprint with the
// repository's polynomial, proposes split points that depend on nothing but the
// bytes before them. A blob ends with the record in which a split point falls,
// so that it always holds whole records:
//
//	records     |  1  |  2  |    3    | 4 |   5   |    6    | …
//	split point              ^                        ^
//	blobs       |        first        |      second         | …
//
// A split point is where the blob has MinSize bytes or more and the low 20 bits
// of the hash are zero, or where it has MaxSize bytes: exactly where package
// github.com/restic/chunker puts one, if each blob is given to it afresh.
//
// Readers take any cuts, but versions of jetsam that cut differently would share
// no blobs, so these rules are part of the format.
package chunker

import (
	"errors"
	"fmt"

	"github.com/restic/chunker"
)

// Part of the format.
const (
	// MinSize is how many bytes stand before a split point at least.
	MinSize = 512 << 10
	// AverageSize is how many bytes follow on MinSize up to a split point, on average.
	AverageSize = 1 << averageBits
	// MaxSize is how many bytes stand before a split point at most.
	MaxSize = 8 << 20
	// LargePayload is the size from which a message's payload gets blobs of its own.
	LargePayload = 128 << 10

	// averageBits is how many low bits of the hash are zero at a split point.
	averageBits = 20
	// degree is that of all polynomials that restic, and jetsam, give repositories.
	degree = 53
)

// ErrPolynomial is returned for a polynomial that no repository has.
var ErrPolynomial = errors.New("unusable chunker polynomial")

// Cutter finds the ends of blobs. It is not safe for concurrent use.
type Cutter struct {
	pol   chunker.Pol
	hash  *hash
	count int // bytes since the last end
}

// New returns a Cutter for the chunker_polynomial of the repository's config: an
// irreducible polynomial over GF(2) of degree 53, given as its coefficients.
func New(polynomial uint64) (*Cutter, error) {
	pol := chunker.Pol(polynomial)
	if d := pol.Deg(); d != degree {
		return nil, fmt.Errorf("%w %#x: of degree %d, not %d", ErrPolynomial, polynomial, d, degree)
	}
	if !pol.Irreducible() {
		return nil, fmt.Errorf("%w %#x: it has factors", ErrPolynomial, polynomial)
	}
	return &Cutter{pol: pol, hash: &hash{tables: newTables(pol)}}, nil
}

// Fresh returns another Cutter for the same polynomial, which has taken no
// records. New takes milliseconds to make sure of the polynomial, this does not.
// It may be called at any time, also while c is in use elsewhere.
func (c *Cutter) Fresh() *Cutter {
	return &Cutter{pol: c.pol, hash: &hash{tables: c.hash.tables}}
}

// Reset forgets the records since the last end, as if a blob had ended here.
func (c *Cutter) Reset() {
	c.count = 0
	c.hash.reset()
}

// Window is how many bytes before it decide whether a split point stands at a place, as far as bytes decide that.
const Window = windowSize

// Resume makes the Cutter go on where another one stood that had taken count bytes since the last end, of which last are the last ones:
// Window of them, or all if there are fewer.
func (c *Cutter) Resume(count int, last []byte) {
	c.Reset()
	c.count = count
	hashed := min(max(count-(MinSize-windowSize), 0), windowSize, len(last))
	c.hash.roll(last[len(last)-hashed:])
}

// NeedsLast says whether Resume looks at the last bytes: not before there are nearly enough for a blob.
func NeedsLast(count int) bool { return count > MinSize-windowSize }

// Ends takes the next record, and says whether the blob ends with it. If so, the
// next record is the first of another blob.
func (c *Cutter) Ends(record []byte) bool {
	if c.count+len(record) >= MaxSize || c.splits(record) {
		c.Reset()
		return true
	}
	c.count += len(record)
	return false
}

// EndsAt takes several records at once, which is several times faster where they
// are short. records holds them one after the other, ends says where in it each of
// them ends. It returns the index of the first with which the blob ends: then the
// records behind that one have not been taken. If the blob ends with none it
// returns -1.
func (c *Cutter) EndsAt(records []byte, ends []int) int {
	before := c.state()
	if c.count+len(records) < MaxSize && !c.splits(records) {
		c.count += len(records)
		return -1
	}
	// One of them it is. Which one, a second look tells, record by record.
	c.restore(before)
	start := 0
	for i, end := range ends {
		if c.Ends(records[start:end]) {
			return i
		}
		start = end
	}
	return -1
}

// state is what a Cutter knows of the records since the last end.
type state struct {
	count  int
	sum    uint64
	window [windowSize]byte
}

func (c *Cutter) state() state {
	return state{c.count, c.hash.sum, [windowSize]byte(c.hash.stage[:windowSize])}
}

func (c *Cutter) restore(s state) {
	c.count, c.hash.sum = s.count, s.sum
	copy(c.hash.stage[:windowSize], s.window[:])
}

// splits reports whether a split point that the hash gives falls in the record.
// The bytes from which no hash reaches up to MinSize are passed over.
func (c *Cutter) splits(record []byte) bool {
	unhashed := min(max(MinSize-windowSize-c.count, 0), len(record))
	untested := min(max(MinSize-1-c.count, unhashed), len(record))
	c.hash.roll(record[unhashed:untested])
	return c.hash.find(record[untested:])
}

// Split cuts one large payload: into itself if it is no larger than MaxSize, and
// otherwise at its split points. The pieces point into payload. It neither looks
// at what Ends has seen nor changes it.
func (c *Cutter) Split(payload []byte) [][]byte {
	if len(payload) <= MaxSize {
		return [][]byte{payload}
	}
	base := chunker.NewBase(c.pol,
		chunker.WithBaseBoundaries(MinSize, MaxSize),
		chunker.WithBaseAverageBits(averageBits))
	var pieces [][]byte
	for len(payload) > 0 {
		n := base.NextSplitPoint(payload)
		if n < 0 {
			n = len(payload)
		}
		pieces = append(pieces, payload[:n:n])
		payload = payload[n:]
	}
	return pieces
}
