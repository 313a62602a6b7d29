package repo

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"jetsam/storage"
)

// TestAbandonedLock: who waits for a lock of another machine removes it once it was not renewed for half an hour, by the clock of who waits: what time the
// lock bears does not matter. One that is renewed is never removed, however old it says it is.
func TestAbandonedLock(t *testing.T) {
	for name, c := range map[string]struct {
		wait    time.Duration // --retry-lock
		age     time.Duration // of the lock, as its time has it
		renewed bool          // by a holder whose clock is that far behind
		got     bool
	}{
		"waited long enough":             {31 * time.Minute, time.Hour, false, true},
		"its clock is ahead":             {31 * time.Minute, -3 * time.Hour, false, true},
		"not waited long enough":         {29 * time.Minute, time.Hour, false, false},
		"not waited":                     {0, 1000 * time.Hour, false, false},
		"renewed, and its clock behind":  {65 * time.Minute, 4 * time.Hour, true, false},
		"renewed, and its clock correct": {65 * time.Minute, 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, be, w := testRepo(t)
				r.opts.RetryLock = c.wait
				store := func() storage.File {
					info := LockInfo{Time: r.wallClock().Add(-c.age), Hostname: "elsewhere", Username: "them", PID: 1}
					f, err := r.saveLock(t.Context(), info)
					if err != nil {
						t.Error(err)
					}
					return f
				}
				theirs := store()
				stop := make(chan struct{})
				stopped := make(chan struct{})
				go func() {
					defer close(stopped)
					for tick := time.NewTicker(lockRefresh); c.renewed; {
						select {
						case <-tick.C:
							old := theirs
							theirs = store()
							if err := be.Remove(t.Context(), old); err != nil {
								t.Errorf("the lock was removed under its holder: %v", err)
							}
						case <-stop:
							return
						}
					}
				}()
				l, err := r.Lock(t.Context(), true)
				close(stop)
				<-stopped
				var locked *LockedError
				if c.got != (err == nil) || err != nil && !errors.As(err, &locked) {
					t.Fatalf("Lock: %v", err)
				}
				if err != nil {
					if said := strings.Contains(err.Error(), "--retry-lock 35m"); said != (c.age > lockStale) {
						t.Errorf("of a lock %v old: %v", c.age, err)
					}
					return
				}
				if warned := w.take(); len(warned) == 0 || !strings.Contains(warned[len(warned)-1].Error(), "is gone, and it is removed") {
					t.Errorf("warned of %v", warned)
				}
				if ids := listIDs(t, be, storage.Lock); len(ids) != 1 || ids[0] == theirs.ID {
					t.Errorf("locks %v", ids)
				}
				release(t, l)
			})
		})
	}
}
