package streamlog

import (
	"sync"
	"sync/atomic"

	"jetsam/chunker"
)

// bufferSize is enough for most blobs: chunks of that minimum and average rarely pass it.
const bufferSize = chunker.MinSize + 2*chunker.AverageSize

// firstBuffer is what the buffers of a stream begin with: most of very many streams have less than a blob, and are done before they need more.
const firstBuffer = 32 << 10

// buffers lends memory for the blobs of a stream. Its zero value is ready.
type buffers struct {
	pool  sync.Pool
	large atomic.Bool // one has grown
}

// get returns an empty buffer.
func (b *buffers) get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	if !b.large.Load() {
		return make([]byte, 0, firstBuffer)
	}
	return make([]byte, 0, bufferSize)
}

// put takes a buffer back. What is much larger than most blobs need is left to the garbage collector.
func (b *buffers) put(p []byte) {
	if cap(p) > firstBuffer {
		b.large.Store(true)
	}
	if cap(p) <= 2*bufferSize {
		b.pool.Put(&p)
	}
}
