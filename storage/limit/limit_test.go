package limit_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jetsam/storage"
	"jetsam/storage/limit"
	"jetsam/storage/local"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

func TestBackend(t *testing.T) {
	generous := limit.Options{Requests: 3, Upload: 1 << 30, Download: 1 << 30}
	t.Run("mem", func(t *testing.T) {
		storagetest.Run(t, func(*testing.T) storage.Backend { return limit.New(mem.New(), generous) })
	})
	t.Run("local", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) storage.Backend {
			be, err := local.Create(filepath.Join(t.TempDir(), "repository"))
			if err != nil {
				t.Fatal(err)
			}
			return limit.New(be, generous)
		})
	})
}

// TestRates: what is moved takes as long as the rates say, but for the last file and the
// first second.
func TestRates(t *testing.T) {
	const size, files, perSecond = 1000, 20, 500
	synctest.Test(t, func(t *testing.T) {
		be := limit.New(mem.New(), limit.Options{Upload: perSecond, Download: perSecond})
		var all []storage.File
		up := took(func() {
			for range files {
				f, data := storagetest.RandomFile(storage.Pack, size)
				if err := be.Save(t.Context(), f, data); err != nil {
					t.Fatal(err)
				}
				all = append(all, f)
			}
		})
		down := took(func() {
			for i, f := range all {
				if _, err := be.Load(t.Context(), f, 0, -(i % 2)); err != nil {
					t.Fatal(err)
				}
				if _, err := be.Load(t.Context(), f, 0, size); err != nil {
					t.Fatal(err)
				}
			}
		})
		if want := (files - 2) * size / perSecond * time.Second; up < want || up > want+3*time.Second {
			t.Errorf("%d bytes up took %v, want about %v", files*size, up, want)
		}
		if want := (files*3/2 - 2) * size / perSecond * time.Second; down < want || down > want+5*time.Second {
			t.Errorf("%d bytes down took %v, want about %v", files*size*3/2, down, want)
		}
	})
}

func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// TestRequests: no more requests are under way than may be, locks not counted.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 3
		var now, highest atomic.Int64
		slow := &storagetest.Faulty{Backend: mem.New(), Before: func(_ storagetest.Op, f storage.File) error {
			if f.Kind != storage.Lock {
				n := now.Add(1)
				for h := highest.Load(); n > h && !highest.CompareAndSwap(h, n); h = highest.Load() {
				}
				time.Sleep(time.Minute)
				now.Add(-1)
			}
			return nil
		}}
		be := limit.New(slow, limit.Options{Requests: most})
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				f, data := storagetest.RandomFile(storage.Pack, 10)
				_ = be.Save(t.Context(), f, data)
				_, _ = be.Load(t.Context(), f, 0, -1)
				_, _ = be.Stat(t.Context(), f)
				_ = be.Remove(t.Context(), f)
			})
		}
		synctest.Wait()
		if lock := took(func() { saveLock(t, be) }); lock != 0 {
			t.Errorf("a lock waited for %v", lock)
		}
		group.Wait()
		if got := highest.Load(); got != most {
			t.Errorf("%d requests at the same time, want %d", got, most)
		}
	})
}

func saveLock(t *testing.T, be storage.Backend) {
	t.Helper()
	f, data := storagetest.RandomFile(storage.Lock, 300)
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	if err := be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// TestCancelledWhileWaiting: who waits for room or for the rate ends when its context does, and nothing was done; a lock
// waits for neither.
func TestCancelledWhileWaiting(t *testing.T) {
	for name, o := range map[string]limit.Options{"for room": {Requests: 1}, "for the rate": {Upload: 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := mem.New()
				be := limit.New(&storagetest.Faulty{Backend: inner, Before: func(storagetest.Op, storage.File) error {
					time.Sleep(time.Second)
					return nil
				}}, o)
				first, data := storagetest.RandomFile(storage.Pack, 1000)
				go func() { _ = be.Save(t.Context(), first, data) }()
				if o.Upload > 0 {
					time.Sleep(2 * time.Second)
				}
				synctest.Wait()
				cause := errors.New("the lock is lost")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Millisecond, func() { cancel(cause) })
				second, data := storagetest.RandomFile(storage.Pack, 1000)
				if err := be.Save(ctx, second, data); !errors.Is(err, cause) {
					t.Errorf("save: %v, want %v", err, cause)
				}
				time.Sleep(time.Minute)
				if _, err := inner.Stat(t.Context(), second); !errors.Is(err, storage.ErrNotExist) {
					t.Errorf("what was cancelled is there: %v", err)
				}
			})
		})
	}
}
