package archive

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/s2"
	upstream "github.com/nats-io/nats-server/v2/server/archive"
)

// benchSizes are the payload sizes of the codec's benchmarks.
var benchSizes = []struct {
	name    string
	payload int
}{
	{"200B", 200},
	{"1KiB", 1 << 10},
	{"128KiB", 128 << 10},
}

// benchMessages gives about 32 MiB of entries.
func benchMessages(payload int) (entries []byte, count int) {
	body := bytes.Repeat([]byte{'x'}, payload)
	for len(entries) < 32<<20 {
		count++
		entries = AppendMessage(entries, "orders.eu.created", 1_780_000_000_123_456_789+int64(count)*1_000, uint64(count), nil, body)
	}
	return entries, count
}

func benchArchive(payload int) (whole []byte, count int) {
	entries, count := benchMessages(payload)
	whole = (&Head{State: []byte(`{"messages":0,"first_seq":1,"consumer_count":0}`)}).Append(nil)
	return AppendEnd(append(whole, entries...)), count
}

func BenchmarkReader(b *testing.B) {
	for _, size := range benchSizes {
		whole, count := benchArchive(size.payload)
		b.Run(size.name+"/jetsam", func(b *testing.B) {
			b.SetBytes(int64(len(whole)))
			for b.Loop() {
				benchRead(b, whole, count)
			}
		})
		b.Run(size.name+"/upstream", func(b *testing.B) {
			b.SetBytes(int64(len(whole)))
			for b.Loop() {
				benchReadUpstream(b, whole, count)
			}
		})
	}
}

func benchRead(b *testing.B, whole []byte, count int) {
	r := NewReader(bytes.NewReader(whole), Limits{})
	n := 0
	for {
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		n++
		_ = m.Payload
	}
	if n != count {
		b.Fatalf("read %d messages of %d", n, count)
	}
}

// benchReadUpstream reads as the server does: each payload into memory.
func benchReadUpstream(b *testing.B, whole []byte, count int) {
	r := upstream.NewReader(bytes.NewReader(whole))
	var buf []byte
	n := -2 // state.json and the end mark
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		size := int(h.HeaderSize + h.PayloadSize)
		if size > len(buf) {
			buf = make([]byte, size)
		}
		if _, err := io.ReadFull(r, buf[:size]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	if n != count {
		b.Fatalf("read %d messages of %d", n, count)
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	for _, size := range benchSizes {
		body := bytes.Repeat([]byte{'x'}, size.payload)
		subject := []byte("orders.eu.created")
		b.Run(size.name+"/jetsam", func(b *testing.B) {
			dst := make([]byte, 0, 1<<20)
			b.SetBytes(int64(size.payload))
			for b.Loop() {
				dst = AppendMessage(dst[:0], subject, 1_780_000_000_123_456_789, 123_456, nil, body)
			}
		})
		b.Run(size.name+"/upstream", func(b *testing.B) {
			var dst bytes.Buffer
			w := upstream.NewWriter(&dst)
			h := upstream.Header{Name: string(subject), Timestamp: 1_780_000_000_123_456_789, Sequence: 123_456, PayloadSize: int64(size.payload)}
			b.SetBytes(int64(size.payload))
			for b.Loop() {
				dst.Reset()
				if err := w.WriteHeader(&h); err != nil {
					b.Fatal(err)
				}
				if _, err := w.Write(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFrame(b *testing.B) {
	plain, _ := benchMessages(1 << 10)
	plain = plain[:3<<19] // the usual blob
	dst := make([]byte, 0, FramedSize(len(plain)))
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		dst = AppendFrame(dst[:0], plain)
	}
}

func BenchmarkUnframe(b *testing.B) {
	plain, _ := benchMessages(1 << 10)
	framed := AppendFrame(nil, plain[:3<<19])
	b.Run("AppendUnframed", func(b *testing.B) {
		dst := make([]byte, 0, len(framed))
		b.SetBytes(int64(len(framed)))
		for b.Loop() {
			if _, err := AppendUnframed(dst[:0], framed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("s2.Reader", func(b *testing.B) {
		r := s2.NewReader(nil)
		b.SetBytes(int64(len(framed)))
		for b.Loop() {
			r.Reset(bytes.NewReader(framed))
			if _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStored is how a restore or a verification reads messages: blobs as
// they are stored, to messages.
func BenchmarkStored(b *testing.B) {
	for _, size := range benchSizes[:2] {
		b.Run(size.name, func(b *testing.B) {
			entries, count := benchMessages(size.payload)
			framed := AppendFrame(nil, entries)
			b.SetBytes(int64(len(framed)))
			for b.Loop() {
				blobs := [][]byte{framed}
				r := NewMessageReader(NewStoredReader(nextOf(&blobs)), Limits{})
				n := 0
				for {
					_, err := r.Next()
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != count {
					b.Fatalf("read %d messages of %d", n, count)
				}
			}
		})
	}
}

// BenchmarkCapture is how a backup reads what a server sends: compressed S2, to
// messages.
func BenchmarkCapture(b *testing.B) {
	whole, count := benchArchive(200)
	var sent bytes.Buffer
	w := s2.NewWriter(&sent)
	if _, err := w.Write(whole); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(whole)))
	for b.Loop() {
		r := NewReader(Decompress(bytes.NewReader(sent.Bytes()), -1), Limits{})
		n := 0
		for {
			_, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != count {
			b.Fatalf("read %d messages of %d", n, count)
		}
	}
}

// nextOf gives the blobs one after the other, then io.EOF.
func nextOf(blobs *[][]byte) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(*blobs) == 0 {
			return nil, io.EOF
		}
		b := (*blobs)[0]
		*blobs = (*blobs)[1:]
		return b, nil
	}
}
