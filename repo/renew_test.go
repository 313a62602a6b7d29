package repo

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jetsam/blob"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

func TestLockIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, be, _ := testRepo(t)
		l := mustLock(t, r, false)
		seen := make(map[storage.ID]bool)
		for range 4 {
			locks, err := r.Locks(t.Context())
			if err != nil || len(locks) != 1 {
				t.Fatalf("%d locks, %v", len(locks), err)
			}
			// restic 0.9.6 renewed a lock with the time of its beginning.
			if age := time.Since(locks[0].Time); age > 10*time.Second {
				t.Errorf("the lock is %v old", age)
			}
			seen[locks[0].ID] = true
			time.Sleep(lockRefresh + 2*time.Second)
			synctest.Wait()
		}
		if len(seen) != 4 {
			t.Errorf("%d different lock files in four intervals", len(seen))
		}
		release(t, l)
		if n := len(listIDs(t, be, storage.Lock)); n != 0 {
			t.Errorf("%d lock files after Release", n)
		}
	})
}

func TestLockRemovedByForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, be, _ := testRepo(t)
		l := mustLock(t, r, false)
		if n, err := r.Unlock(t.Context(), true); n != 1 || err != nil {
			t.Fatalf("Unlock: %d, %v", n, err)
		}
		<-l.Context().Done() // at the next renewal
		if cause := context.Cause(l.Context()); !errors.Is(cause, ErrLockLost) {
			t.Errorf("cause %v, want ErrLockLost", cause)
		}
		release(t, l)
		if n := len(listIDs(t, be, storage.Lock)); n != 0 {
			t.Errorf("%d lock files after Release", n)
		}
	})
}

func TestConfirmNoticesRemoval(t *testing.T) {
	r, _, _ := testRepo(t)
	l := mustLock(t, r, false)
	defer release(t, l)
	if err := l.confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Unlock(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := l.confirm(t.Context()); !errors.Is(err, ErrLockLost) {
		t.Errorf("confirm: %v, want ErrLockLost", err)
	}
	if l.Context().Err() == nil {
		t.Error("context lives on")
	}
}

func TestLockThatCannotBeRenewed(t *testing.T) {
	for _, outage := range []time.Duration{lockLimit - lockRefresh - time.Minute, lockStale} {
		synctest.Test(t, func(t *testing.T) {
			r, be, _ := testRepo(t)
			var down atomic.Bool
			be.Before = func(op storagetest.Op, f storage.File) error {
				if down.Load() {
					return errors.New("no connection")
				}
				return nil
			}
			l := mustLock(t, r, false)
			down.Store(true)
			began := time.Now()
			select {
			case <-l.Context().Done():
			case <-time.After(lockRefresh + outage):
			}
			lost := l.Context().Err() != nil
			if want := outage == lockStale; lost != want {
				t.Errorf("outage of %v: lost %v, want %v", outage, lost, want)
			}
			if took := time.Since(began); lost && (took < lockLimit || took > lockLimit+time.Minute) {
				t.Errorf("lost after %v, want %v", took, lockLimit)
			}
			if err := context.Cause(l.Context()); lost && (!errors.Is(err, ErrLockLost) || !strings.Contains(err.Error(), "no connection")) {
				t.Errorf("cause %v", err)
			}
			down.Store(false)
			if time.Sleep(lockRetry + 2*time.Second); !lost {
				synctest.Wait()
				if err := l.held(); err != nil {
					t.Errorf("held after the outage: %v", err)
				}
			}
			release(t, l)
			if n := len(listIDs(t, be, storage.Lock)); n != 0 {
				t.Errorf("%d lock files after Release", n)
			}
		})
	}
}

func TestLockAfterSleep(t *testing.T) {
	const night = 8 * time.Hour
	tests := []struct {
		name  string
		while func(t *testing.T, r *Repo) // what others do meanwhile
		lost  bool
	}{
		{"nobody came", func(*testing.T, *Repo) {}, false},
		{"unlocked by another", func(t *testing.T, r *Repo) {
			if n, err := r.Unlock(context.Background(), false); n != 1 || err != nil {
				t.Fatalf("Unlock: %d, %v", n, err)
			}
		}, true},
		{"another reader", func(t *testing.T, r *Repo) { otherLock(t, r, nil) }, false},
		{"another got hold of it", func(t *testing.T, r *Repo) { otherLock(t, r, exclusive) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, be, _ := testRepo(t)
				var offset atomic.Int64
				o := testOptions(nil)
				o.Clock = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
				r := reopen(t, be, o)
				var saves atomic.Int64
				be.Before = func(op storagetest.Op, f storage.File) error {
					if op == storagetest.OpSave {
						saves.Add(1)
					}
					return nil
				}
				l := mustLock(t, r, false)
				offset.Store(int64(night))
				tt.while(t, r)
				saves.Store(0)
				// The next write comes before the background has its turn.
				err := l.held()
				if (err != nil) != tt.lost || err != nil && !errors.Is(err, ErrLockLost) {
					t.Errorf("held: %v, want it lost: %v", err, tt.lost)
				}
				if tt.name == "unlocked by another" && saves.Load() > 0 {
					t.Error("a lock that was gone was renewed")
				}
				if !tt.lost && l.age() > time.Minute {
					t.Errorf("lock is %v old", l.age())
				}
				release(t, l)
			})
		})
	}
}

func TestLockWhenClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, be, _ := testRepo(t)
		var offset atomic.Int64
		o := testOptions(nil)
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		r := reopen(t, be, o)
		l := mustLock(t, r, false)
		offset.Store(int64(-time.Hour))
		time.Sleep(2 * lockPoll)
		synctest.Wait()
		locks, err := r.Locks(t.Context())
		if err != nil || len(locks) != 1 {
			t.Fatalf("%v, %v", locks, err)
		}
		if ahead := locks[0].Time.Sub(r.now()); ahead > 0 {
			t.Errorf("lock is %v ahead of the clock", ahead)
		}
		release(t, l)
	})
}

// While a lock cannot be renewed, its writer works on until somebody might take the lock for stale, and then stores nothing more.
func TestWriterFreezesWithItsLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, be, _ := testRepo(t)
		o := testOptions(nil)
		o.PackSize = 1 // a pack for each blob
		began := time.Now()
		var last atomic.Int64 // when something was stored
		be.Before = func(op storagetest.Op, f storage.File) error {
			switch {
			case op == storagetest.OpSave && f.Kind == storage.Lock && time.Since(began) > time.Minute:
				return errors.New("no connection")
			case op == storagetest.OpSave:
				last.Store(int64(time.Since(began)))
			}
			return nil
		}
		w, err := reopen(t, be, o).NewWriter(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		var frozen time.Duration
		var root blob.ID
		for i := range 40 {
			time.Sleep(time.Minute)
			id, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.FileNode(strconv.Itoa(i), nil, 0, began)}})
			if err == nil {
				root = id
				continue
			}
			if !errors.Is(err, ErrLockLost) {
				t.Fatalf("SaveTree: %v, want ErrLockLost", err)
			}
			frozen = time.Since(began)
			break
		}
		if frozen < lockLimit || frozen > lockLimit+2*time.Minute {
			t.Errorf("frozen after %v, want %v", frozen, lockLimit)
		}
		if stored := time.Duration(last.Load()); stored > lockLimit || stored < lockLimit-2*time.Minute {
			t.Errorf("stored something after %v, want it up to %v", stored, lockLimit)
		}
		if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root}); !errors.Is(err, ErrLockLost) {
			t.Errorf("Commit: %v, want ErrLockLost", err)
		}
		if ids := listIDs(t, be, storage.Snapshot); len(ids) != 0 {
			t.Errorf("%d snapshots", len(ids))
		}
	})
}

// TestLockRemovedBesideALostAnswer: a removal that was repeated says that it succeeded, whoever removed the file. A lock that was removed by force is lost
// all the same.
func TestLockRemovedBesideALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, be, _ := testRepo(t)
		be.After = func(op storagetest.Op, f storage.File, err error) error {
			if op == storagetest.OpRemove && f.Kind == storage.Lock && errors.Is(err, storage.ErrNotExist) {
				return nil
			}
			return err
		}
		l := mustLock(t, r, false)
		if n, err := r.Unlock(t.Context(), true); n != 1 || err != nil {
			t.Fatalf("Unlock: %d, %v", n, err)
		}
		select {
		case <-l.Context().Done():
			if cause := context.Cause(l.Context()); !errors.Is(cause, ErrLockLost) {
				t.Errorf("cause %v, want ErrLockLost", cause)
			}
		case <-time.After(2 * lockRefresh):
			t.Error("it was renewed")
		}
		release(t, l)
		if n := len(listIDs(t, be, storage.Lock)); n != 0 {
			t.Errorf("%d lock files after Release", n)
		}
	})
}
