package archive

import (
	"io"

	"github.com/klauspost/compress/s2"
)

// Compress returns a writer that passes on to w, as an S2 stream of compressed
// blocks such as a server sends, what is written to it. Close ends the stream,
// and does not close w.
func Compress(w io.Writer) io.WriteCloser {
	// One block after the other, so that an error of w is that of the write that
	// met it, and nothing runs on when the writer is dropped.
	return s2.NewWriter(w, s2.WriterConcurrency(1))
}
