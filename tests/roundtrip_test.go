package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jsm.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// wide is a server that takes messages of 8 MiB with their headers.
var wide = natsd.Options{MaxPayload: 9 << 20}

// filled starts a server that holds all fixtures, and returns their images.
func filled(t testing.TB) (*source, map[string]image) {
	t.Helper()
	s := startServer(t, wide)
	for _, f := range fixtures() {
		f.fill(t, s)
	}
	images := map[string]image{}
	for _, f := range fixtures() {
		images[f.stream] = lookAt(t, s, f.stream)
	}
	return s, images
}

// TestRoundTrip backs up an account of every kind of stream, loses the server, restores into another,
// and lets the nats CLI's library and the server's own archive package say whether anything differs.
func TestRoundTrip(t *testing.T) {
	src, want := filled(t)
	r, dir := newRepo(t, repo.Options{})
	res := backUp(t, src, r, backup.Options{Selection: allStreams})
	if len(res.Streams) != len(want) {
		t.Errorf("%d streams in the snapshot, want %d", len(res.Streams), len(want))
	}
	src.Shutdown()

	dst := startServer(t, wide)
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	for name, im := range want {
		t.Run(name, func(t *testing.T) { sameImage(t, im, lookAt(t, dst, name)) })
	}
	restic(t, dir, "check", "--read-data")
}

// TestWayOut recovers every stream without jetsam: restic restore, cat, and the nats CLI's restore.
func TestWayOut(t *testing.T) {
	src, want := filled(t)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	src.Shutdown()

	out := t.TempDir()
	restic(t, dir, "restore", "latest", "--target", out)
	dst := startServer(t, wide)
	mgr, err := jsm.New(dst.nc)
	must(t, err)
	for name, im := range want {
		t.Run(name, func(t *testing.T) {
			streamDir := filepath.Join(out, "$G", streamlog.EscapeName(name))
			joinArchive(t, streamDir)
			if _, _, err := mgr.RestoreSnapshotFromDirectory(t.Context(), name, streamDir); err != nil {
				t.Fatal(err)
			}
			sameImage(t, im, lookAt(t, dst, name))
		})
	}
}

// joinArchive does what docs/without-jetsam.md says: cat head.arc.s2 $(find messages -name arc.s2 | sort) end.arc.s2 > stream.arc.s2
func joinArchive(t testing.TB, dir string) {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(dir, "messages", "*", "*", "arc.s2"))
	must(t, err)
	slices.Sort(parts)
	var joined []byte
	for _, name := range slices.Concat([]string{filepath.Join(dir, "head.arc.s2")}, parts, []string{filepath.Join(dir, "end.arc.s2")}) {
		p, err := os.ReadFile(name)
		must(t, err)
		joined = append(joined, p...)
	}
	must(t, os.WriteFile(filepath.Join(dir, "stream.arc.s2"), joined, 0o600))
}

// TestSecondBackup holds what an unchanged and a little changed account cost.
func TestSecondBackup(t *testing.T) {
	src, want := filled(t)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	first := diskUsage(t, dir)

	backUp(t, src, r, backup.Options{Selection: allStreams})
	second := diskUsage(t, dir)
	const perStream = 20 << 10
	if added := second - first; added > int64(perStream*len(want)) {
		t.Errorf("the backup of an unchanged account added %d bytes for %d streams", added, len(want))
	} else {
		t.Logf("unchanged: %d bytes added for %d streams", added, len(want))
	}
	restic(t, dir, "check", "--read-data")
}

// TestOnePercentMore appends 1 % to a stream and holds what its backup adds.
func TestOnePercentMore(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}})
	const n = 40_000
	event := eventMaker(1)
	src.publish(t, "events.a", n, func(int) []byte { return event(1024) })
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	first := diskUsage(t, dir)
	src.publish(t, "events.a", n/100, func(int) []byte { return event(1024) })
	backUp(t, src, r, backup.Options{Selection: allStreams})
	added := diskUsage(t, dir) - first
	limit := first*15/1000 + 20<<10
	// What follows the last content-defined cut is stored anew: a blob at most, which weighs in a stream as small as this one.
	const tail = 8 << 20 / 3
	t.Logf("first backup %d bytes, 1 %% more added %d", first, added)
	if added > limit+tail {
		t.Errorf("1 %% more added %d bytes, the first backup had %d", added, first)
	}
}

// diskUsage is the sum of the sizes of all files below dir.
func diskUsage(t testing.TB, dir string) int64 {
	t.Helper()
	var n int64
	must(t, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}))
	return n
}

// TestThousandStreams backs up and restores an account of a thousand streams.
func TestThousandStreams(t *testing.T) {
	src := startServer(t, natsd.Options{})
	const n = 1000
	for i := range n {
		src.create(t, jetstream.StreamConfig{Name: fmt.Sprintf("S%04d", i), Subjects: []string{fmt.Sprintf("s.%d", i)}, Storage: jetstream.MemoryStorage})
		src.publish(t, fmt.Sprintf("s.%d", i), 2, text)
	}
	r, dir := newRepo(t, repo.Options{})
	res := backUp(t, src, r, backup.Options{Selection: allStreams})
	if len(res.Streams) != n {
		t.Fatalf("%d streams captured", len(res.Streams))
	}
	src.Shutdown()
	dst := startServer(t, natsd.Options{})
	restoreInto(t, dst, r, restore.Options{Selection: allStreams})
	for i := range n {
		if got := dst.messages(t, fmt.Sprintf("S%04d", i)); got != 2 {
			t.Fatalf("stream %d has %d messages", i, got)
		}
	}
	if out := restic(t, dir, "check"); !strings.Contains(out, "no errors were found") {
		t.Errorf("restic check: %s", out)
	}
}

// TestPendingLongerThanAckWait restores a consumer whose messages waited for their acknowledgement longer than they may. The server
// would deliver them again, but nothing of that may look like a difference.
func TestPendingLongerThanAckWait(t *testing.T) {
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "LATE", Subjects: []string{"late"}})
	src.publish(t, "late", 20, text)
	c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 100 * time.Millisecond})
	must(t, err)
	msgs, err := c.Fetch(10, jetstream.FetchMaxWait(10*time.Second))
	must(t, err)
	for range msgs.Messages() {
	}
	must(t, msgs.Error())
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	time.Sleep(300 * time.Millisecond) // the acknowledgements are overdue now, which is the case under test
	dst := startServer(t, natsd.Options{})
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
}
