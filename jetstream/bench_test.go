package jetstream_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/nats-io/jsm.go"
	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
)

// What benchmarks move: messages, of so many bytes each.
const benchMessages, benchSize = 200_000, 1 << 10

// benchServer starts a server with the stream S.
func benchServer(b *testing.B) *natsd.Server {
	b.Helper()
	server := serve(b, natsd.Options{})
	js := fill(b, server.URL())
	addStream(b, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(b, js, "s", benchMessages, benchSize)
	return server
}

// BenchmarkSnapshot reads a stream over the loopback from a server of the same process.
func BenchmarkSnapshot(b *testing.B) {
	server := benchServer(b)
	for _, c := range []struct {
		name    string
		options jetstream.SnapshotOptions
	}{
		{"default", jetstream.SnapshotOptions{}},
		{"window=32MiB", jetstream.SnapshotOptions{WindowSize: 32 << 20}},
		{"chunk=128KiB", jetstream.SnapshotOptions{ChunkSize: 128 << 10}},
	} {
		b.Run(c.name, func(b *testing.B) {
			conn := connect(b, jetstream.Config{Servers: server.URL()})
			b.SetBytes(benchMessages * benchSize)
			for b.Loop() {
				s, err := conn.Snapshot(context.Background(), "S", c.options)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSnapshotToDirectory takes the same snapshot as the nats command line does.
func BenchmarkSnapshotToDirectory(b *testing.B) {
	server := benchServer(b)
	stream := load(b, server.URL())
	b.SetBytes(benchMessages * benchSize)
	for b.Loop() {
		if _, err := stream.SnapshotToDirectory(context.Background(), b.TempDir(), jsm.SnapshotConsumers()); err != nil {
			b.Fatal(err)
		}
	}
}

func load(b *testing.B, url string) *jsm.Stream {
	b.Helper()
	stream, err := manager(b, url).LoadStream("S")
	if err != nil {
		b.Fatal(err)
	}
	return stream
}

func manager(b *testing.B, url string) *jsm.Manager {
	b.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	m, err := jsm.New(nc, jsm.WithTimeout(time.Minute))
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// BenchmarkRestore writes a stream into a server of the same process.
func BenchmarkRestore(b *testing.B) {
	server := benchServer(b)
	c := connect(b, jetstream.Config{Servers: server.URL()})
	archive, config, state := snapshot(b, c, "S", jetstream.SnapshotOptions{})
	compressed := taken{archive, config, state}
	for name, archive := range map[string][]byte{"compressed": archive, "stored": compressed.framed(b)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(benchMessages * benchSize)
			for n := 0; b.Loop(); n++ {
				copied := fmt.Sprintf("%s%d", name, n)
				edited := edit(b, config, "name", copied, "subjects", []string{copied})
				if _, err := restore(context.Background(), c, copied, archive, edited, state); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := c.DeleteStream(context.Background(), copied); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRestoreFromDirectory restores the same stream as the nats command line does.
func BenchmarkRestoreFromDirectory(b *testing.B) {
	server := benchServer(b)
	dir := b.TempDir()
	stream := load(b, server.URL())
	if _, err := stream.SnapshotToDirectory(context.Background(), dir, jsm.SnapshotConsumers()); err != nil {
		b.Fatal(err)
	}
	m := manager(b, server.URL())
	b.SetBytes(benchMessages * benchSize)
	for n := 0; b.Loop(); n++ {
		name := fmt.Sprintf("copy%d", n)
		config := stream.Configuration()
		config.Name, config.Subjects = name, []string{name}
		if _, _, err := m.RestoreSnapshotFromDirectory(context.Background(), name, dir, jsm.RestoreConfiguration(config)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := connect(b, jetstream.Config{Servers: server.URL()}).DeleteStream(context.Background(), name); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkFetch reads the messages of a stream over the loopback from a server of the same process, every third of which has headers.
func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{300, 1 << 10} {
		server := serve(b, natsd.Options{})
		js := fill(b, server.URL())
		addStream(b, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
		const messages = 50_000
		publish(b, js, "s", messages, size)
		for _, way := range []struct {
			name string
			way  jetstream.FetchWay
		}{{"ByConsumer", jetstream.ByConsumer}, {"ByGet", jetstream.ByGet}} {
			b.Run(fmt.Sprintf("%s/%dB", way.name, size), func(b *testing.B) {
				conn := connect(b, jetstream.Config{Servers: server.URL()})
				b.SetBytes(int64(messages * size))
				for b.Loop() {
					if n := drain(b, conn, "S", 1, messages, jetstream.FetchOptions{Way: way.way}); n != messages {
						b.Fatalf("%d messages", n)
					}
				}
				b.ReportMetric(float64(messages)*float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

// drain fetches and counts messages.
func drain(b *testing.B, c *jetstream.Conn, stream string, from, to uint64, o jetstream.FetchOptions) (n int) {
	b.Helper()
	f, err := c.Fetch(context.Background(), stream, from, to, o)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for {
		switch _, err := f.Next(); err {
		case nil:
			n++
		case io.EOF:
			return n
		default:
			b.Fatal(err)
		}
	}
}
