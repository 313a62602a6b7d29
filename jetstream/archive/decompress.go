package archive

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
)

// Decompress returns a reader of what the S2 stream in r holds, compressed or
// not, as servers send it. It gives ErrLimit after limit plain bytes, and after
// so many framed ones as could not frame those; a negative limit is none. Errors
// of r are passed on, a stream that ends within a block is ErrTruncated, and one
// that is not valid S2 or fails a checksum is ErrFormat.
func Decompress(r io.Reader, limit int64) io.Reader {
	src := &meter{r: r, left: framedLimit(limit)}
	plain := s2.NewReader(src, s2.ReaderMaxBlockSize(MaxBlock))
	return &decompressor{src: src, plain: &meter{r: plain, left: limit}}
}

// framedLimit is generous: a stream that does not compress grows by 8 bytes a
// block, and empty chunks are cheap to send without end.
func framedLimit(limit int64) int64 {
	const slack = 1 << 20
	if limit < 0 || limit > (1<<62) {
		return -1
	}
	return limit + limit/4 + slack
}

type decompressor struct {
	src   *meter
	plain *meter
	err   error
}

func (d *decompressor) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.plain.Read(p)
	if err != nil {
		d.err = d.explain(err)
	}
	return n, d.err
}

// explain tells an error of the source, an early end of it, and damage apart.
func (d *decompressor) explain(err error) error {
	switch {
	case err == io.EOF:
		return io.EOF
	case errors.Is(err, ErrLimit):
		return err
	case d.src.err == io.EOF:
		return fmt.Errorf("decompress: %w: %w", ErrTruncated, err)
	case d.src.err != nil:
		return d.src.err
	}
	return fmt.Errorf("decompress: %w: %w", ErrFormat, err)
}

// meter passes on at most left bytes, and remembers the error of its reader. A
// negative left is no limit. It never returns bytes and an error at once, so
// that the error is remembered only once it matters.
type meter struct {
	r    io.Reader
	left int64
	held error // what came with the bytes of the read before
	err  error
}

func (m *meter) Read(p []byte) (int, error) {
	if m.held != nil {
		m.err = m.held
		return 0, m.err
	}
	n, err := m.r.Read(p)
	if m.left >= 0 && int64(n) > m.left {
		n, err = int(m.left), fmt.Errorf("%w: more bytes than such a stream can have", ErrLimit)
	}
	if m.left >= 0 {
		m.left -= int64(n)
	}
	if n > 0 {
		m.held = err
		return n, nil
	}
	m.err = err
	return 0, err
}
