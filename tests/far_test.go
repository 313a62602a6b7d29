package tests

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// farRate is what a far line carries in each direction, bytes a second; an answer takes farTrip.
const (
	farRate = 2 << 20
	farTrip = 50 * time.Millisecond
)

// far opens a line of that kind to a server.
func far(t testing.TB, s *source) *link {
	return (&link{delay: farTrip / 2, rate: farRate, up: farRate}).open(t, s.URL())
}

// fillFar makes a stream of so many KiB, which do not compress, and a consumer.
func fillFar(t testing.TB, s *source, kib int) {
	t.Helper()
	st := s.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	random := rand.New(rand.NewPCG(50, 2))
	s.publish(t, "s", kib/32, func(int) []byte { return noise(random, 32<<10) })
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
}

// TestFarLine captures and restores over a line that is far and slow, from and into servers that take messages of 64 KiB only.
func TestFarLine(t *testing.T) {
	t.Parallel()
	narrow := natsd.Options{MaxPayload: 64 << 10}
	src, dst := startServer(t, narrow), startServer(t, narrow)
	fillFar(t, src, sized(4, 64)<<10)
	want := lookAt(t, src, "S")
	r, _ := newRepo(t, repo.Options{})
	res, err := backup.Run(t.Context(), through(t, far(t, src)), r, backup.Options{Selection: allStreams})
	must(t, err)
	if s := res.Streams[0]; s.Err != nil || s.Torn != "" || s.Retried != "" || len(s.Resumed) > 0 {
		t.Fatalf("%+v", s)
	}
	p, err := planInto(t, through(t, far(t, dst)), r, restore.Options{Selection: allStreams, Verify: true})
	must(t, err)
	done, err := p.Run(t.Context())
	must(t, err)
	if s := done.Streams[0]; s.Err != nil || !s.Verified || len(s.Notes) > 0 {
		t.Fatalf("%+v", s)
	}
	sameImage(t, want, lookAt(t, dst, "S"))
}

// BenchmarkFarRestore restores over such a line. What it reports as times/line is how many times as long it takes as the bytes of the messages take
// on the line.
func BenchmarkFarRestore(b *testing.B) {
	const kib = 16 << 10
	src := startServer(b, natsd.Options{})
	fillFar(b, src, kib)
	r, _ := newRepo(b, repo.Options{})
	backUp(b, src, r, backup.Options{Selection: allStreams})
	b.SetBytes(kib << 10)
	var took time.Duration
	for b.Loop() {
		dst := startServer(b, natsd.Options{})
		p, err := planInto(b, through(b, far(b, dst)), r, restore.Options{Selection: allStreams})
		must(b, err)
		began := time.Now()
		done, err := p.Run(b.Context())
		must(b, err)
		took += time.Since(began)
		if len(done.Failed()) > 0 {
			b.Fatal(done.Failed()[0].Err)
		}
		dst.Shutdown()
	}
	b.ReportMetric(took.Seconds()/float64(b.N)/(float64(kib<<10)/farRate), "times/line")
}
