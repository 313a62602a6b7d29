package tests

import (
	"fmt"
	"testing"
	"time"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage/local"
)

// BenchmarkIncrement times the backup of a stream that grew by one hundredth since the snapshot before, and of one that did not change, beside
// the dump that `nats stream backup` makes. Opening the repository for it is told apart: the files of keys and configuration (but not what
// deriving a key from the password costs in earnest), the lock, for which it is waited whether others have one, and the index. It is in the
// times of the backups but for the files of keys and configuration. Since a backup works while it waits, it is timed without the wait as well.
func BenchmarkIncrement(b *testing.B) {
	s := startServer(b, natsd.Options{})
	const size = 1024
	total := benchSize(b)
	s.load(b, size, total)
	_, dir := newRepo(b, repo.Options{})
	open := func(o repo.Options) *repo.Repo {
		be, err := local.Open(dir)
		must(b, err)
		r, err := repo.Open(b.Context(), be, secret.New(password), o)
		must(b, err)
		return r
	}
	r := open(repo.Options{})
	hasty := open(repo.Options{LockWait: time.Nanosecond})
	backUp(b, s, r, backup.Options{Selection: allStreams})
	event := eventCycle(size)
	n := total / size
	grow := func() {
		for i := range n / 100 {
			must(b, s.nc.Publish(fmt.Sprintf("events.%d", i%500), event(i)))
		}
		must(b, s.nc.Flush())
		n += n / 100
		s.waitMessages(b, "EVENTS", uint64(n))
	}
	var dumps, opens, locks, grown, same, hastyLocks, hastyGrown times
	var received, added, messages uint64
	for b.Loop() {
		for range benchRounds {
			grow()
			dumps.add(func() { dump(b, s, "EVENTS", emptyDir(b)) })
			opens.add(func() { r = open(repo.Options{}) })
			lock := func(r *repo.Repo) func() {
				return func() {
					w, err := r.NewWriter(b.Context(), nil)
					must(b, err)
					must(b, w.Certain())
					w.Abort()
				}
			}
			locks.add(lock(r))
			grown.add(func() {
				res := backUp(b, s, r, backup.Options{Selection: allStreams})
				x := res.Streams[0]
				if x.Way != backup.WayConsumer {
					b.Fatalf("captured by %s: %s", x.Way, x.Whole)
				}
				received, added, messages = x.Received, res.Stats.AddedBytes(), x.Bytes
			})
			same.add(func() {
				if x := backUp(b, s, r, backup.Options{Selection: allStreams}).Streams[0]; x.Way != backup.WayNone || x.Received > 100<<10 {
					b.Fatalf("captured by %s, %d bytes received", x.Way, x.Received)
				}
			})
			grow()
			hastyLocks.add(lock(hasty))
			hastyGrown.add(func() { backUp(b, s, hasty, backup.Options{Selection: allStreams}) })
		}
	}
	b.ReportMetric(dumps.median().Seconds(), "dump-s")
	b.ReportMetric(opens.median().Seconds(), "open-s")
	b.ReportMetric(locks.median().Seconds(), "lock-s")
	b.ReportMetric(grown.median().Seconds(), "grown-s")
	b.ReportMetric(same.median().Seconds(), "same-s")
	b.ReportMetric((opens.median()+grown.median()).Seconds()/dumps.median().Seconds(), "ratio")
	b.ReportMetric((grown.median()-locks.median()).Seconds()/dumps.median().Seconds(), "ratio-opened")
	b.ReportMetric((hastyGrown.median()-hastyLocks.median()).Seconds()/dumps.median().Seconds(), "ratio-unhidden")
	b.ReportMetric(100*float64(received)/float64(messages), "received-%")
	b.ReportMetric(float64(added)/1024, "added-KiB")
	b.ReportMetric(0, "ns/op")
}
