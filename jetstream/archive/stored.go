package archive

import "fmt"

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

// Read gives what is left of one block. So next is called only when everything
// before has been read and more is wanted: whoever reads messages from here has
// had all that are whole in a blob before the next one is asked for.
func (r *StoredReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.block) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.block, r.err = r.nextBlock()
	}
	n := copy(p, r.block)
	r.block = r.block[n:]
	return n, nil
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
