package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/repo"
)

// TestManyInteriorDeletes backs up a stream of which every other message was deleted, and again when more were: an increment, as large as what died.
func TestManyInteriorDeletes(t *testing.T) {
	if !proof() {
		t.Parallel()
	}
	n := sized(40_000, 2_000_000)
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "HOLES", Subjects: []string{"holes.*"}})
	subjects := []string{"stays", "first", "stays", "first", "stays", "first", "later", "first"}
	src.publishTo(t, n, func(i int) string { return "holes." + subjects[i%8] })
	purge := func(subject string, gone int) {
		began := time.Now()
		purgeSubject(t, st, subject)
		info, err := st.Info(t.Context())
		must(t, err)
		if info.State.NumDeleted != gone {
			t.Fatalf("%d sequences are gone, want %d", info.State.NumDeleted, gone)
		}
		t.Logf("%d sequences are gone after %v", gone, time.Since(began).Round(time.Millisecond))
	}
	_, dir := newRepo(t, repo.Options{})
	_, err := binary() // is not timed
	must(t, err)
	run := func(server *source, args string) {
		t.Helper()
		before := sizeOf(t, dir)
		began := time.Now()
		_, peak := runMeasured(t, command{repo: dir, env: []string{"NATS_URL=" + server.URL()}}.prepare(t, strings.Fields(args)...))
		t.Logf("%s: %v, %d MiB of memory, the repository grew by %d KiB", args, time.Since(began).Round(time.Millisecond), peak>>10, (sizeOf(t, dir)-before)>>10)
		if limit := 512 << 10; peak > limit || peak == 0 {
			t.Errorf("jetsam %s took %d KiB of memory, more than %d", args, peak, limit)
		}
	}
	purge("holes.first", n/2)
	run(src, "backup --all")
	src.publishTo(t, 1000, func(int) string { return "holes.stays" })
	purge("holes.later", n/2+n/8)
	before := sizeOf(t, dir)
	run(src, "backup --all --mode incremental")
	if grew, limit := sizeOf(t, dir)-before, int64(256<<10+8*n/8); grew > limit {
		t.Errorf("the increment takes %d bytes, more than %d", grew, limit)
	}
	run(dst, "restore latest --verify")
	run(dst, "check --read-data")
	sameImage(t, lookAt(t, src, "HOLES"), lookAt(t, dst, "HOLES"))
}
