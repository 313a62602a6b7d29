package streamlog

import (
	"sync"

	"jetsam/chunker"
)

// bufferSize is enough for most blobs: chunks of that minimum and average rarely pass it.
const bufferSize = chunker.MinSize + 2*chunker.AverageSize

// buffers lends memory for blobs. Its zero value is ready.
type buffers struct{ pool sync.Pool }

// get returns an empty buffer.
func (b *buffers) get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return make([]byte, 0, bufferSize)
}

// put takes a buffer back. What is much larger than most blobs need is left to the garbage collector.
func (b *buffers) put(p []byte) {
	if cap(p) <= 2*bufferSize {
		b.pool.Put(&p)
	}
}
