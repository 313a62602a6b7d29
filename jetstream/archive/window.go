package archive

import (
	"errors"
	"fmt"
	"io"
)

const (
	// firstSize is what a window holds at first: a small stream needs no more.
	firstSize = 64 << 10
	// windowSize is what it holds once a source has more than that to give, as
	// long as nothing larger arrives.
	windowSize = 512 << 10
	// maxEmptyReads is how many reads in a row may give neither bytes nor an error.
	maxEmptyReads = 100
)

// window is the part of a source that is in memory: buf[pos:end]. It grows by
// doubling once the source has filled it: up to windowSize so that fewer reads
// do, and above that only where all of its bytes are still needed.
type window struct {
	src      io.Reader
	buf      []byte
	pos, end int
	start    int64 // offset in the source of buf[0]
	err      error // of the source, io.EOF included
}

// bytes is what is there and not consumed, valid until the next fill.
func (w *window) bytes() []byte { return w.buf[w.pos:w.end:w.end] }

// offset is where in the source bytes begins.
func (w *window) offset() int64 { return w.start + int64(w.pos) }

func (w *window) consume(n int) { w.pos += n }

// fill reads until bytes holds at least n of them, and more if the source gives
// more at once. It returns io.EOF if the source ended first, whatever is there,
// and otherwise the error of the source.
func (w *window) fill(n int) error {
	for w.end-w.pos < n {
		if w.err != nil {
			return w.err
		}
		w.makeRoom(n)
		w.read()
	}
	return nil
}

// makeRoom leaves room behind end, so that n bytes from pos can come to stand
// in one piece in the end.
func (w *window) makeRoom(n int) {
	filled := w.end == len(w.buf)
	if !filled && w.pos+n <= len(w.buf) {
		return
	}
	if w.pos > 0 {
		copy(w.buf, w.buf[w.pos:w.end])
		w.start += int64(w.pos)
		w.pos, w.end = 0, w.end-w.pos
	}
	if w.end == len(w.buf) || filled && len(w.buf) < windowSize {
		w.grow(n)
	}
}

// grow doubles the buffer, but not much beyond the n bytes that are wanted.
func (w *window) grow(n int) {
	size := max(firstSize, min(2*len(w.buf), n+windowSize))
	buf := make([]byte, size)
	copy(buf, w.buf[:w.end])
	w.buf = buf
}

func (w *window) read() {
	for range maxEmptyReads {
		n, err := w.src.Read(w.buf[w.end:])
		if n < 0 || n > len(w.buf)-w.end {
			w.err = errors.New("reader returned an impossible count")
			return
		}
		w.end += n
		w.err = err
		if n > 0 || err != nil {
			return
		}
	}
	w.err = io.ErrNoProgress
}

// truncated says what an error of fill means where bytes were expected.
func truncated(err error) error {
	if err == io.EOF {
		return ErrTruncated
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrTruncated) {
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	return err
}
