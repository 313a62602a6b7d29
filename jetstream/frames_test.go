package jetstream

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"

	"jetsam/internal/chance"
	"jetsam/jetstream/archive"
)

// seams returns the offsets in an S2 stream at which a chunk ends.
func seams(stream []byte) map[int]bool {
	at := map[int]bool{}
	for pos := 0; pos+frameHeader <= len(stream); {
		pos += frameHeader + (int(stream[pos+1]) | int(stream[pos+2])<<8 | int(stream[pos+3])<<16)
		if pos > len(stream) {
			break
		}
		at[pos] = true
	}
	return at
}

// follow cuts stream into pieces and checks what frames says of each.
func follow(t *testing.T, stream []byte, piece func() int) {
	t.Helper()
	at := seams(stream)
	var f frames
	for pos := 0; pos < len(stream); {
		end := min(pos+piece(), len(stream))
		want := 0
		for offset := pos + 1; offset <= end; offset++ {
			if at[offset] {
				want = offset - pos
			}
		}
		if got := f.advance(stream[pos:end]); got != want {
			t.Fatalf("bytes %d to %d: the last seam is after %d of them, want %d", pos, end, got, want)
		}
		pos = end
	}
}

func s2Stream(t testing.TB) []byte {
	t.Helper()
	var stream bytes.Buffer
	w := s2.NewWriter(&stream, s2.WriterBlockSize(4<<10), s2.WriterConcurrency(1))
	if _, err := w.Write(bytes.Repeat([]byte("jetsam and flotsam, "), 300)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	stream.Write(archive.Padding(4)) // an empty body
	stream.Write(archive.Padding(100))
	stream.WriteString(streamIdentifier)
	return archive.AppendFrame(stream.Bytes(), make([]byte, 500))
}

func TestFramesFindsSeams(t *testing.T) {
	stream := s2Stream(t)
	for _, size := range []int{1, 2, 3, 4, 5, 1000, len(stream)} {
		follow(t, stream, func() int { return size })
	}
	seed := chance.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		follow(t, stream, func() int { return 1 + random.IntN(300) })
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(s2Stream(f), 7)
	f.Add([]byte(streamIdentifier), 3)
	f.Add([]byte{0xfe, 0, 0, 0, 0xfe, 0, 0, 0}, 5)
	f.Add([]byte{0x00, 0xff, 0xff, 0xff, 1}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 1 {
			return
		}
		follow(t, stream, func() int { return size })
	})
}
