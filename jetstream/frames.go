package jetstream

// frameHeader is the size of what every S2 chunk begins with: a byte that says what it is, and the length of what follows
// in three bytes, little endian (S2 and snappy framing format).
const frameHeader = 4

// streamIdentifier begins every S2 stream, and may stand between any two of its chunks.
const streamIdentifier = "\xff\x06\x00\x00S2sTwO"

// frames follows an S2 stream from chunk to chunk, to know where another may be put in between.
type frames struct {
	header [frameHeader]byte
	have   int // bytes of header seen
	body   int // bytes of the body to come, once the header is complete
}

// advance follows the stream through p, its next bytes. It returns how many of them are followed by the seam between two
// chunks that comes last in p; 0 if there is none.
func (f *frames) advance(p []byte) (seam int) {
	for pos := 0; pos < len(p); {
		if f.have < frameHeader {
			n := copy(f.header[f.have:], p[pos:])
			f.have += n
			pos += n
			if f.have < frameHeader {
				break
			}
			f.body = int(f.header[1]) | int(f.header[2])<<8 | int(f.header[3])<<16
		}
		n := min(f.body, len(p)-pos)
		f.body -= n
		pos += n
		if f.body == 0 {
			f.have = 0
			seam = pos
		}
	}
	return seam
}
