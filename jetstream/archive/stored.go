package archive

import (
	"fmt"
	"io"
)

// StoredReader reads stored blobs as the plain bytes that they frame.
type StoredReader struct {
	next  func() ([]byte, error)
	blob  int // how many blobs have been asked for
	frame unframer
	block []byte // what is left of the block at hand
	err   error
}

// NewStoredReader returns a reader of the plain bytes of the blobs that next
// gives, each of them framed, until next returns io.EOF. A blob has to stay
// valid until the call of next after it. Its errors are final.
func NewStoredReader(next func() ([]byte, error)) *StoredReader {
	return &StoredReader{next: next, frame: unframer{identified: true}}
}

// Read gives plain bytes. It calls next as it needs more.
func (r *StoredReader) Read(p []byte) (int, error) {
	total := 0
	for total < len(p) && r.err == nil {
		if len(r.block) == 0 {
			if r.block, r.err = r.nextBlock(); len(r.block) == 0 {
				continue
			}
		}
		n := copy(p[total:], r.block)
		r.block = r.block[n:]
		total += n
	}
	if total > 0 || len(p) == 0 {
		return total, nil
	}
	return 0, r.err
}

// nextBlock returns the next block, of the next blob where this one has ended.
// A block may be nil without an error.
func (r *StoredReader) nextBlock() ([]byte, error) {
	block, err := r.frame.next()
	if err != nil {
		return nil, fmt.Errorf("unframe blob %d: %w", r.blob, err)
	}
	if block != nil {
		return block, nil
	}
	blob, err := r.next()
	if err != nil {
		return nil, err
	}
	r.blob++
	r.frame = unframer{rest: blob}
	return nil, nil
}

var _ io.Reader = (*StoredReader)(nil)
