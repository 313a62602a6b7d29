package tests

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/storage"
)

// cancelAt runs f again and again, with a context that ends at its first progress report, at its second, and so on until there are no more.
// f gets the function to report to; it returns how often the context had ended.
func cancelAt(t *testing.T, f func(ctx context.Context, report func())) int {
	t.Helper()
	for k := int64(1); ; k++ {
		ctx, cancel := context.WithCancel(t.Context())
		var reports atomic.Int64
		f(ctx, func() {
			if reports.Add(1) == k {
				cancel()
			}
		})
		cancel()
		if reports.Load() < k {
			return int(k - 1)
		}
		if t.Failed() {
			t.Fatalf("cancelled at report %d", k)
		}
	}
}

// TestCancelAtEveryReport cancels a backup, a check, the loading of the index and a restore at each of their progress reports. What ends
// early must say so: to take a cancelled list for a finished one has cost other tools data.
func TestCancelAtEveryReport(t *testing.T) {
	w := newWorld(t)
	whole, err := openWith(t, w.both, nil).Check(t.Context(), repo.CheckOptions{ReadData: true}, nil)
	must(t, err)

	n := cancelAt(t, func(ctx context.Context, report func()) {
		be := cloneStorage(t, w.before)
		r := openWith(t, be, nil)
		res, err := backup.Run(ctx, w.conn, r, backup.Options{Selection: allStreams, Progress: func(backup.Progress) { report() }})
		want := []storage.ID{w.ids[0]}
		if err == nil {
			want = append(want, res.ID)
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("backup: %v", err)
		}
		for i, id := range want {
			got, err := imagesOf(t.Context(), r, id)
			must(t, err)
			sameImages(t, w.images[i], got)
		}
		wantClean(t, r)
		for range listed(t, be, storage.Snapshot) - len(want) {
			t.Error("a snapshot of a cancelled backup")
		}
	})
	t.Logf("backup: %d reports", n)

	n = cancelAt(t, func(ctx context.Context, report func()) {
		got, err := openWith(t, w.both, nil).Check(ctx, repo.CheckOptions{ReadData: true}, func(repo.CheckProgress) { report() })
		switch {
		case err != nil && (got != nil || !errors.Is(err, context.Canceled)):
			t.Errorf("check: %v, %v", got, err)
		case err == nil && (got.Damaged() || got.PacksRead != whole.PacksRead || got.Trees != whole.Trees || got.Snapshots != whole.Snapshots || got.Files != whole.Files):
			t.Errorf("check: %+v, want %+v", got, whole)
		}
	})
	t.Logf("check: %d reports", n)

	n = cancelAt(t, func(ctx context.Context, report func()) {
		r := openWith(t, w.both, nil)
		rd, err := r.LoadIndex(ctx, func(int, int) { report() })
		switch {
		case err != nil && !errors.Is(err, context.Canceled):
			t.Errorf("load index: %v", err)
		case err == nil && len(rd.Incomplete()) > 0:
			t.Errorf("index is incomplete: %v", rd.Incomplete())
		}
		if err == nil {
			_, err := imagesOf(t.Context(), r, w.ids[1])
			must(t, err)
		}
	})
	t.Logf("index: %d reports", n)

	dst := startServer(t, natsd.Options{})
	c := connect(t, dst)
	n = cancelAt(t, func(ctx context.Context, report func()) {
		r := openWith(t, w.both, nil)
		rd, err := r.LoadIndex(t.Context(), nil)
		must(t, err)
		sn, err := r.Snapshot(t.Context(), "latest", snapshot.Filter{})
		must(t, err)
		p, err := restore.NewPlan(t.Context(), rd, sn, c, restore.Options{Selection: allStreams, Verify: true, Progress: func(restore.Progress) { report() }})
		must(t, err)
		res, err := p.Run(ctx)
		judgeCancelled(t, w, dst, res, err)
		emptyServer(t, dst)
	})
	t.Logf("restore: %d reports", n)
}

// judgeCancelled wants each stream restored and equal, or an error.
func judgeCancelled(t *testing.T, w *world, dst *source, res *restore.Result, err error) {
	t.Helper()
	for _, s := range res.Streams {
		if s.Err == nil {
			sameImage(t, w.images[1][s.Name], lookAt(t, dst, s.Name))
			continue
		}
		if err == nil {
			t.Errorf("stream %s failed, and the run did not: %v", s.Name, s.Err)
		}
		var incomplete *restore.IncompleteError
		_, missing := dst.js.Stream(t.Context(), s.Name)
		if errors.Is(missing, jetstream.ErrStreamNotFound) {
			continue
		}
		must(t, missing)
		if !errors.As(s.Err, &incomplete) || incomplete.Remains == "" {
			t.Errorf("stream %s is left on the server, and nothing says so: %v", s.Name, s.Err)
		}
	}
}

// listed returns how many files of a kind there are.
func listed(t *testing.T, be storage.Backend, k storage.Kind) (n int) {
	t.Helper()
	for _, err := range be.List(t.Context(), k) {
		must(t, err)
		n++
	}
	return n
}
