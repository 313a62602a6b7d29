package archive

import "fmt"

const (
	// Part of the format.
	magic          = "NATSARC1"
	endMark        = "\x00\x00\x00\x00\x00"
	stateName      = "state.json"
	consumerPrefix = "consumers/"
)

// MagicSize is how many bytes HasMagic has to see.
const MagicSize = len(magic)

// HasMagic reports whether p begins as an archive does. A snapshot of a server
// before 2.15 is a tar and does not.
func HasMagic(p []byte) bool {
	return len(p) >= len(magic) && string(p[:len(magic)]) == magic
}

// maxMeasure is the most bytes that the five varints of an entry take.
const maxMeasure = 5 * maxVarint

// entry is the measure of an entry: its five varints.
type entry struct {
	name, header, payload uint64 // bytes
	time                  int64
	seq                   uint64
	size                  int // bytes that the varints took
}

// parse decodes the varints at the start of p. It returns false, without an
// error, if p ends within them.
func (e *entry) parse(p []byte) (bool, error) {
	if len(p) >= usualSize && e.parseUsual((*[usualSize]byte)(p)) {
		return true, nil
	}
	return e.parseAny(p)
}

func (e *entry) parseAny(p []byte) (bool, error) {
	var v [5]uint64
	at := 0
	for i := range v {
		u, n := uvarint(p[at:])
		if n == 0 {
			return false, nil
		}
		if n < 0 {
			return false, fmt.Errorf("%w: a number is not in its shortest form or above 64 bits", ErrFormat)
		}
		v[i] = u
		at += n
	}
	*e = entry{name: v[0], time: unzigzag(v[1]), seq: v[2], header: v[3], payload: v[4], size: at}
	return true, nil
}

// isEnd reports whether the entry is the end mark.
func (e *entry) isEnd() bool {
	return e.name|e.seq|e.header|e.payload|uint64(e.time) == 0
}

// within reports whether the name, and headers and payload together, keep to
// these sizes.
func (e *entry) within(maxName, maxBody int) bool {
	return e.name <= uint64(maxName) && e.header <= uint64(maxBody) && e.payload <= uint64(maxBody)-e.header
}

// tooLarge is the error of an entry that is not within these sizes.
func (e *entry) tooLarge(maxName, maxBody int) error {
	if e.name > uint64(maxName) {
		return fmt.Errorf("%w: name of %d bytes, at most %d are accepted", ErrLimit, e.name, maxName)
	}
	return fmt.Errorf("%w: %d bytes of headers and %d of payload, at most %d are accepted together",
		ErrLimit, e.header, e.payload, maxBody)
}

// length is how many bytes the whole entry takes; once they are within limits.
func (e *entry) length() int {
	return e.size + int(e.name) + int(e.header) + int(e.payload)
}

// slice points m at the parts of raw, the entry's bytes.
func (e *entry) slice(raw []byte, m *Message) {
	body := raw[e.size:]
	m.Subject, body = cut(body, int(e.name))
	m.Header, body = cut(body, int(e.header))
	m.Payload = body
	m.Time, m.Seq, m.Raw = e.time, e.seq, raw
}

// cut splits p at n and keeps appends to the first part out of the second.
func cut(p []byte, n int) (head, tail []byte) { return p[:n:n], p[n:] }
