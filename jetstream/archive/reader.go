package archive

import (
	"fmt"
	"io"
)

// Reader reads one archive, from the magic to the end mark. Its errors are
// final: once one was returned, every later call returns it again.
type Reader struct {
	entries entries
	head    *Head
}

// NewReader returns a Reader of the archive in r, which is plain, not framed.
// The Reader has a large buffer of its own and reads r to its end.
func NewReader(r io.Reader, limits Limits) *Reader {
	return &Reader{entries: newEntries(r, limits)}
}

// Head returns the head of the archive, reading it if that has not been done.
// It belongs to the caller and stays valid.
func (r *Reader) Head() (*Head, error) {
	if r.head != nil {
		return r.head, nil
	}
	if r.entries.err != nil {
		return nil, r.entries.err
	}
	h, err := r.readHead()
	if err != nil {
		return nil, r.entries.fail(err)
	}
	r.head = h
	return h, nil
}

// Next returns the next message, after reading the head if that has not been
// done. After the last one it returns io.EOF, but only if the end mark was there
// and nothing behind it. The message and its slices are valid until the next
// call.
func (r *Reader) Next() (*Message, error) {
	if r.head == nil {
		if _, err := r.Head(); err != nil {
			return nil, err
		}
	}
	if r.entries.err != nil {
		return nil, r.entries.err
	}
	if err := r.nextEntry(); err != nil {
		return nil, r.entries.fail(err)
	}
	return &r.entries.msg, nil
}

func (r *Reader) nextEntry() error {
	err := r.entries.load(r.entries.limits.MaxMessage)
	switch {
	case err == io.EOF:
		return ErrTruncated // the end mark is missing
	case err != nil:
		return err
	case r.entries.entry.isEnd():
		return r.entries.atEnd()
	}
	return r.entries.admit()
}

// Offset is where the next entry begins, in bytes from the start of the archive.
func (r *Reader) Offset() int64 { return r.entries.win.offset() }

// MessageReader reads entries of messages that stand alone: a group, or several
// in a row, without magic, head and end mark. Its errors are final.
type MessageReader struct {
	entries entries
}

// NewMessageReader returns a MessageReader of the entries in r, which are plain,
// not framed. It has a large buffer of its own and reads r to its end.
func NewMessageReader(r io.Reader, limits Limits) *MessageReader {
	return &MessageReader{entries: newEntries(r, limits)}
}

// Next returns the next message, or io.EOF where r ends between two entries. The
// message and its slices are valid until the next call.
func (r *MessageReader) Next() (*Message, error) {
	if r.entries.err != nil {
		return nil, r.entries.err
	}
	err := r.entries.load(r.entries.limits.MaxMessage)
	if err == nil {
		err = r.entries.admit()
	}
	if err != nil {
		return nil, r.entries.fail(err)
	}
	return &r.entries.msg, nil
}

// Offset is where the next entry begins, in bytes from the start of the reader.
func (r *MessageReader) Offset() int64 { return r.entries.win.offset() }

// entries reads entries one after the other and remembers the first error.
type entries struct {
	win    window
	limits Limits
	first  uint64 // no message may have a lower sequence
	last   uint64 // sequence of the message before, 0 if there was none
	at     int64  // where the entry at hand begins
	entry  entry
	msg    Message
	err    error
}

func newEntries(r io.Reader, limits Limits) entries {
	return entries{win: window{src: r}, limits: limits.withDefaults()}
}

// load brings the next entry whole into the window, sets entry and msg, and
// moves on behind it. It returns io.EOF where the source ends instead.
func (r *entries) load(maxBody int) error {
	r.at = r.win.offset()
	p := r.win.bytes()
	ok, err := r.entry.parse(p)
	if !ok && err == nil {
		p, err = r.loadHeader()
	}
	if err != nil {
		return err
	}
	if !r.entry.within(r.limits.MaxName, maxBody) {
		return r.entry.tooLarge(r.limits.MaxName, maxBody)
	}
	n := r.entry.length()
	if n > len(p) {
		if err := r.win.fill(n); err != nil {
			return truncated(err)
		}
		p = r.win.bytes()
	}
	r.entry.slice(p[:n:n], &r.msg)
	r.win.consume(n)
	return nil
}

// loadHeader reads until the numbers of the next entry are there, and returns
// what is in the window then.
func (r *entries) loadHeader() ([]byte, error) {
	for {
		have := r.win.bytes()
		ok, err := r.entry.parse(have)
		if ok || err != nil {
			return have, err
		}
		err = r.win.fill(len(have) + 1)
		if err == io.EOF && len(have) == 0 {
			return nil, io.EOF
		}
		if err != nil {
			return nil, truncated(err)
		}
	}
}

// admit checks that the entry that was loaded is a message and in order. Its errors name sequences: a subject may be
// about a person, and errors end in logs.
func (r *entries) admit() error {
	seq := r.entry.seq
	switch {
	case seq == 0:
		return fmt.Errorf("%w: an entry has no sequence where a message is expected", ErrFormat)
	case r.entry.name == 0:
		return fmt.Errorf("%w: message %d has no subject", ErrFormat, seq)
	case seq <= r.last:
		return fmt.Errorf("%w: sequence %d", ErrOrder, seq)
	case seq < r.first:
		return fmt.Errorf("%w: sequence %d, but the stream begins at %d", ErrOrder, seq, r.first)
	}
	r.last = seq
	return nil
}

// atEnd returns io.EOF if the source ends here, and has no other bytes.
func (r *entries) atEnd() error {
	r.at = r.win.offset()
	if err := r.win.fill(1); err != nil {
		return err
	}
	return fmt.Errorf("%w: bytes behind the end mark", ErrFormat)
}

// fail makes err the answer to everything that follows.
func (r *entries) fail(err error) error {
	if err != io.EOF {
		err = fmt.Errorf("read archive at byte %d, after sequence %d: %w", r.at, r.last, err)
	}
	r.err = err
	return err
}

// abbreviate keeps a name from filling an error message.
func abbreviate(name []byte) []byte { return name[:min(len(name), 80)] }
