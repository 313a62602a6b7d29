package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/jsm.go"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/restore"
)

// benchSize is how much message data the end-to-end benchmarks move: 1 GiB, or JETSAM_BENCH_MIB.
func benchSize(b *testing.B) int {
	mib := 1024
	if s := os.Getenv("JETSAM_BENCH_MIB"); s != "" {
		n, err := strconv.Atoi(s)
		must(b, err)
		mib = n
	}
	return mib << 20
}

// benchRounds is how often each side is timed, alternately. Ratios are of the medians.
const benchRounds = 3

// load fills stream EVENTS with events of about size bytes, total bytes in all, by way of a restore: the fastest there is.
func (s *source) load(b *testing.B, size, total int) {
	b.Helper()
	event := eventCycle(size)
	n := total / size
	conn := connect(b, s)
	config := json.RawMessage(`{"name":"EVENTS","subjects":["events.>"],"retention":"limits","storage":"file","num_replicas":1}`)
	state := json.RawMessage(fmt.Sprintf(`{"messages":%d,"bytes":%d,"first_seq":1,"last_seq":%d,"consumer_count":0}`, n, total, n))
	out, err := conn.Restore(b.Context(), "EVENTS", config, state)
	must(b, err)
	defer out.Abort()
	plain := (&archive.Head{State: state}).Append(nil)
	at := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC).UnixNano()
	for i := range n {
		plain = archive.AppendMessage(plain, fmt.Sprintf("events.%d", i%500), at+int64(i)*1e6, uint64(i)+1, nil, event(i))
		if len(plain) > 4<<20 {
			_, err := out.Write(archive.AppendFrame(nil, plain))
			must(b, err)
			plain = plain[:0]
		}
	}
	_, err = out.Write(archive.AppendFrame(nil, archive.AppendEnd(plain)))
	must(b, err)
	_, err = out.Finish(b.Context())
	must(b, err)
}

// eventCycle returns events that repeat after about 32 MiB, far beyond what compression looks back: making each anew would take longer than storing it.
func eventCycle(size int) func(i int) []byte {
	event := eventMaker(1)
	cycle := make([][]byte, 32<<20/size)
	for i := range cycle {
		cycle[i] = event(size)
	}
	return func(i int) []byte { return cycle[i%len(cycle)] }
}

var benchSizes = []struct {
	name string
	size int
}{{"1KiB", 1024}, {"200B", 200}}

// BenchmarkBackup times a full backup into a new repository beside the dump that `nats stream backup` makes of the same stream.
func BenchmarkBackup(b *testing.B) {
	for _, c := range benchSizes {
		b.Run(c.name, func(b *testing.B) {
			s := startServer(b, natsd.Options{})
			s.load(b, c.size, benchSize(b))
			var dumps, backups times
			for b.Loop() {
				for range benchRounds {
					dumps.add(func() { dump(b, s, "EVENTS", emptyDir(b)) })
					r, _ := newRepo(b, repo.Options{})
					backups.add(func() { backUp(b, s, r, backup.Options{Selection: allStreams}) })
				}
			}
			report(b, backups, dumps, "dump")
		})
	}
}

// BenchmarkRestore times a restore beside that of the nats CLI from its dump.
func BenchmarkRestore(b *testing.B) {
	for _, c := range benchSizes {
		b.Run(c.name, func(b *testing.B) {
			s := startServer(b, natsd.Options{})
			s.load(b, c.size, benchSize(b))
			r, _ := newRepo(b, repo.Options{})
			backUp(b, s, r, backup.Options{Selection: allStreams})
			dir := emptyDir(b)
			dump(b, s, "EVENTS", dir)
			var theirs, ours times
			for b.Loop() {
				for range benchRounds {
					dst := startServer(b, natsd.Options{StoreDir: emptyDir(b)})
					mgr, err := jsm.New(dst.nc)
					must(b, err)
					theirs.add(func() {
						_, _, err := mgr.RestoreSnapshotFromDirectory(b.Context(), "EVENTS", dir)
						must(b, err)
					})
					dst.Shutdown()
					dst = startServer(b, natsd.Options{StoreDir: emptyDir(b)})
					ours.add(func() { restoreInto(b, dst, r, restore.Options{Selection: allStreams}) })
					dst.Shutdown()
				}
			}
			report(b, ours, theirs, "stock")
		})
	}
}

// emptyDir is a directory that is removed at the end of the benchmark.
func emptyDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(b.TempDir(), "dir")
	must(b, err)
	return dir
}

// times are durations of the same work.
type times []time.Duration

func (t *times) add(work func()) {
	began := time.Now()
	work()
	*t = append(*t, time.Since(began))
}

func (t times) median() time.Duration { return slices.Sorted(slices.Values(t))[len(t)/2] }

func report(b *testing.B, ours, theirs times, peer string) {
	b.ReportMetric(ours.median().Seconds(), "jetsam-s")
	b.ReportMetric(theirs.median().Seconds(), peer+"-s")
	b.ReportMetric(ours.median().Seconds()/theirs.median().Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}
