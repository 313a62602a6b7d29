package archive

import (
	"encoding/binary"
	"math/bits"
)

const (
	// maxVarint is the most bytes that a 64-bit varint takes.
	maxVarint = 10
	// continued has the bits of eight bytes that say that another byte follows.
	continued = 0x8080808080808080
)

// uvarint decodes the varint at the start of p and says how many bytes it took:
// 0 if p ends within it, -1 if it is not the shortest encoding of a 64-bit
// value. It accepts what encoding/binary does, but for that last rule.
func uvarint(p []byte) (uint64, int) {
	var v uint64
	for i, b := range p {
		if i == maxVarint-1 && b != 1 {
			return 0, -1 // a tenth byte holds the 64th bit and nothing else
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b >= 0x80 {
			continue
		}
		if b == 0 && i > 0 {
			return 0, -1 // without this byte it would be the same number
		}
		return v, i + 1
	}
	return 0, 0
}

// unzigzag maps 0, 1, 2, 3, … back to 0, -1, 1, -2, …
func unzigzag(u uint64) int64 {
	return int64(u>>1) ^ -int64(u&1)
}

// usualSize is how many bytes parseUsual looks at.
const usualSize = 1 + 9 + 8

// parseUsual is parse for the measures that nearly all messages have: a name
// below 128 bytes, a time between 1971 and 2116, and the three other numbers in
// eight bytes together. It handles eight bytes at once, and twice as many
// messages a second. It returns false where parse has to look.
func (e *entry) parseUsual(p *[usualSize]byte) bool {
	name, timeEnd := p[0], p[9]
	zigzag := binary.LittleEndian.Uint64(p[1:9])
	if name >= 0x80 || zigzag&continued != continued || timeEnd == 0 || timeEnd >= 0x80 {
		return false
	}
	word := binary.LittleEndian.Uint64(p[10:18])
	seq, n1 := lowVarint(word)
	word >>= n1
	header, n2 := lowVarint(word)
	word >>= n2
	payload, n3 := lowVarint(word)
	if n1+n2+n3 > 64 {
		return false
	}
	e.name = uint64(name)
	e.time = unzigzag(gather(zigzag) | uint64(timeEnd)<<56)
	e.seq, e.header, e.payload = seq, header, payload
	e.size = int(10 + (n1+n2+n3)/8)
	return true
}

// lowVarint decodes the varint in the low bytes of word and says how many bits
// of it that took; more than 64 if it is not there whole or has a shorter form.
func lowVarint(word uint64) (v uint64, n uint) {
	n = uint(bits.TrailingZeros64(^word&continued)) + 1
	v = word << (64 - n) >> (64 - n)
	if n > 8 && v>>(n-8) == 0 {
		n = 65
	}
	return gather(v), n
}

// gather moves the low seven bits of each byte together.
func gather(word uint64) uint64 {
	word = word&0x007f007f007f007f | word&0x7f007f007f007f00>>1
	word = word&0x00003fff00003fff | word&0x3fff00003fff0000>>2
	return word&0x000000000fffffff | word&0x0fffffff00000000>>4
}
