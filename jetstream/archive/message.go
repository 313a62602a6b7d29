package archive

import (
	"encoding/binary"
	"slices"
)

// Message is one message of a stream, as the server stores it.
//
// The slices of a message that a reader returned point into the reader's buffer
// and are valid until its next call.
type Message struct {
	Subject []byte
	Time    int64  // Unix nanoseconds
	Seq     uint64 // from 1
	Header  []byte // the header block with its version line, empty if there is none
	Payload []byte
	Raw     []byte // the whole entry as encoded
}

// PayloadOffset says where in Raw the payload begins. Raw[:PayloadOffset()] is
// the entry's varints, subject and headers; a large payload is stored apart
// from them.
func (m *Message) PayloadOffset() int { return len(m.Raw) - len(m.Payload) }

// StoredSize is what a server counts for the message in a stream of that storage
// (nats-server 2.15, fileStoreMsgSize and memStoreMsgSize), in bytes.
func (m *Message) StoredSize(storage string) uint64 {
	n := uint64(len(m.Subject) + len(m.Header) + len(m.Payload))
	switch {
	case storage == "memory":
		return n + 16
	case len(m.Header) > 0:
		return n + 34
	}
	return n + 30
}

// NewMessage returns a message in memory of its own: its subject, time in Unix
// nanoseconds, sequence (from 1), header block (empty for none) and payload. It
// is what a reader makes of AppendMessage's bytes, and checks as little.
func NewMessage(subject string, time int64, seq uint64, header, payload []byte) *Message {
	m := new(Message)
	m.Set(subject, time, seq, header, payload)
	return m
}

// Set makes m the message that NewMessage returns for the same arguments, in the
// memory of m.Raw as far as that reaches: what m held before is no longer valid,
// and nothing of it may be among the arguments.
func (m *Message) Set(subject string, time int64, seq uint64, header, payload []byte) {
	raw := slices.Grow(m.Raw[:0], maxMeasure+len(subject)+len(header)+len(payload))
	raw = AppendMessage(raw, subject, time, seq, header, payload)
	e := entry{name: uint64(len(subject)), header: uint64(len(header)), payload: uint64(len(payload)), time: time, seq: seq}
	e.size = len(raw) - len(subject) - len(header) - len(payload)
	e.slice(raw, m)
}

// AppendMagic appends what every archive begins with.
func AppendMagic(dst []byte) []byte { return append(dst, magic...) }

// AppendEnd appends the end mark.
func AppendEnd(dst []byte) []byte { return append(dst, endMark...) }

// AppendMessage appends the entry of a message: its subject, time in Unix
// nanoseconds, sequence (from 1), header block (empty for none) and payload. It
// checks nothing: a reader refuses an empty subject and a sequence of 0.
func AppendMessage[S string | []byte](dst []byte, subject S, time int64, seq uint64, header, payload []byte) []byte {
	dst = appendEntryHeader(dst, len(subject), time, seq, len(header), len(payload))
	dst = append(dst, subject...)
	dst = append(dst, header...)
	return append(dst, payload...)
}

func appendEntryHeader(dst []byte, name int, time int64, seq uint64, header, payload int) []byte {
	dst = binary.AppendUvarint(dst, uint64(name))
	dst = binary.AppendVarint(dst, time)
	dst = binary.AppendUvarint(dst, seq)
	dst = binary.AppendUvarint(dst, uint64(header))
	return binary.AppendUvarint(dst, uint64(payload))
}
