package streamlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// segmentMagic begins a segment of the dead. Part of the format.
const segmentMagic = "JSDEAD01"

// checksumSize is how many bytes the checksum at a segment's end has: a CRC-32C, little endian. Part of the format.
const checksumSize = 4

// castagnoli is the table of the checksum.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EncodeSegment returns the stored form of a set that is not empty: equal sets give equal bytes.
//
//	+----------+---------+-------------------------------------------------------+--------+
//	| JSDEAD01 | runs    | first - last of the run before - 2 | last - first | … | CRC    |
//	|          | uvarint | uvarint                            | uvarint      |   | 4 bytes|
//	+----------+---------+-------------------------------------------------------+--------+
//
// Before the first run, of which its first sequence less 1 is written, the last one counts as -1.
func EncodeSegment(d *Dead) []byte {
	if d == nil {
		d = &Dead{}
	}
	p := make([]byte, 0, segmentSize(d))
	p = append(p, segmentMagic...)
	p = binary.AppendUvarint(p, uint64(d.n))
	p = append(p, d.runs...)
	return binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

// segmentSize is how many bytes a segment takes, or a few more.
func segmentSize(d *Dead) int {
	return len(segmentMagic) + binary.MaxVarintLen64 + len(d.runs) + checksumSize
}

// DecodeSegment reads a segment. It takes what EncodeSegment writes and nothing else. The set goes on using p.
func DecodeSegment(p []byte) (*Dead, error) {
	d, err := decodeSegment(p)
	if err != nil {
		return nil, fmt.Errorf("decode segment of the dead: %w", err)
	}
	return d, nil
}

func decodeSegment(p []byte) (*Dead, error) {
	if len(p) > maxDeadFile {
		return nil, fmt.Errorf("larger than %d bytes", maxDeadFile)
	}
	if !bytes.HasPrefix(p, []byte(segmentMagic)) || len(p) < len(segmentMagic)+checksumSize {
		return nil, errors.New("it does not begin with " + segmentMagic + ", or is too short")
	}
	rest, sum := p[:len(p)-checksumSize], p[len(p)-checksumSize:]
	if crc32.Checksum(rest, castagnoli) != binary.LittleEndian.Uint32(sum) {
		return nil, errors.New("its checksum is wrong")
	}
	rest = rest[len(segmentMagic):]
	n, size := shortUvarint(rest)
	rest = rest[max(size, 0):]
	if size <= 0 || n == 0 || n > uint64(len(rest))/2 {
		return nil, errors.New("its number of runs is wrong")
	}
	return indexRuns(rest, int(n))
}

// indexRuns reads n runs, which must be all that is in p.
func indexRuns(p []byte, n int) (*Dead, error) {
	d := &Dead{runs: p, n: n, marks: make([]mark, 0, (n+markEvery-1)/markEvery)}
	at, last := 0, uint64(math.MaxUint64) // one below 0
	for i := range n {
		gap, size := shortUvarint(p[at:])
		at += max(size, 0)
		more, size2 := shortUvarint(p[at:])
		if size <= 0 || size2 <= 0 {
			return nil, fmt.Errorf("run %d is cut short, or not in its shortest form", i)
		}
		first := last + 2 // 1 at first
		if i > 0 && first < 2 || gap > math.MaxUint64-first || more > math.MaxUint64-first-gap {
			return nil, fmt.Errorf("run %d ends above the highest sequence", i)
		}
		first += gap
		if i%markEvery == 0 {
			d.marks = append(d.marks, mark{first, d.count, at})
		}
		at += size2
		last = first + more
		d.count += more + 1
	}
	if at != len(p) {
		return nil, fmt.Errorf("%d bytes follow the last run", len(p)-at)
	}
	return d, nil
}

// shortUvarint is binary.Uvarint, but takes a number in its shortest form only: n is 0 or less where there is none.
func shortUvarint(p []byte) (v uint64, n int) {
	if v, n = binary.Uvarint(p); n > 1 && p[n-1] == 0 {
		return 0, -n
	}
	return v, n
}
