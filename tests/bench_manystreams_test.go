package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// BenchmarkManyStreams times what is done with accounts of very many small streams: what a stream takes is about the same, however many there are.
func BenchmarkManyStreams(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			src, dst := startServer(b, natsd.Options{}), startServer(b, natsd.Options{})
			for i := range n {
				name := fmt.Sprintf("TENANT_%05d", i)
				src.create(b, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.MemoryStorage})
				src.publish(b, name, 1, text)
			}
			r, _ := newRepo(b, repo.Options{LockWait: time.Nanosecond})
			from, to := connect(b, src), connect(b, dst)
			var firsts, seconds, plans, moments, diffs times
			captured := func(o backup.Options) {
				res, err := backup.Run(b.Context(), from, r, o)
				must(b, err)
				if len(res.Failed()) > 0 || len(res.Streams) != n {
					b.Fatalf("%d streams, of which failed %d", len(res.Streams), len(res.Failed()))
				}
			}
			for b.Loop() {
				firsts.add(func() { captured(backup.Options{Selection: allStreams, Mode: backup.ModeFull}) })
				seconds.add(func() { captured(backUpOptions) })
				all := snapshotsOf(b, r)
				newest := all[len(all)-1]
				rd, err := r.LoadIndex(b.Context(), nil)
				must(b, err)
				plans.add(func() {
					_, err := restore.NewPlan(b.Context(), rd, newest, to, restore.Options{Selection: allStreams})
					must(b, err)
				})
				moments.add(func() {
					_, err := restore.NewPlanAt(b.Context(), rd, all, to, restore.Options{Selection: allStreams, Cut: restore.Cut{At: newest.Time}})
					must(b, err)
				})
				diffs.add(func() {
					_, err := restore.Diff(b.Context(), rd, all[len(all)-2], newest, allStreams)
					must(b, err)
				})
			}
			b.ReportMetric(0, "ns/op")
			for what, t := range map[string]times{"full": firsts, "unchanged": seconds, "plan": plans, "moment": moments, "diff": diffs} {
				b.ReportMetric(t.median().Seconds()*1e6/float64(n), what+"-µs/stream")
			}
		})
	}
}
