package repo

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// otherLock stores a lock as another program on another machine would.
func otherLock(t testing.TB, r *Repo, change func(*LockInfo)) LockInfo {
	t.Helper()
	l := LockInfo{Time: r.now(), Hostname: "there", Username: "you", PID: 4711}
	if change != nil {
		change(&l)
	}
	f, err := r.saveLock(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	l.ID = f.ID
	return l
}

func exclusive(l *LockInfo) { l.Exclusive = true }

func mustLock(t testing.TB, r *Repo, exclusive bool) *Lock {
	t.Helper()
	l, err := r.Lock(context.Background(), exclusive)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func release(t testing.TB, l *Lock) {
	t.Helper()
	if err := l.Release(); err != nil {
		t.Errorf("Release: %v", err)
	}
}

func TestLocksExclude(t *testing.T) {
	tests := []struct {
		first, second bool // exclusive
		want          bool // both at once
	}{
		{false, false, true},
		{false, true, false},
		{true, false, false},
		{true, true, false},
	}
	for _, tt := range tests {
		r, be, _ := testRepo(t)
		first := mustLock(t, r, tt.first)
		second, err := reopen(t, be, testOptions(nil)).Lock(t.Context(), tt.second)
		if (err == nil) != tt.want {
			t.Errorf("exclusive %v, then %v: %v", tt.first, tt.second, err)
		}
		var locked *LockedError
		if !tt.want && !errors.As(err, &locked) {
			t.Errorf("exclusive %v, then %v: %v, want LockedError", tt.first, tt.second, err)
		}
		if err == nil {
			release(t, second)
		}
		if n := len(listIDs(t, be, storage.Lock)); n != 1 {
			t.Errorf("%d lock files, want the first lock's", n)
		}
		release(t, first)
		release(t, first)
		if n := len(listIDs(t, be, storage.Lock)); n != 0 {
			t.Errorf("%d lock files after Release", n)
		}
		if first.Context().Err() == nil {
			t.Error("context lives on after Release")
		}
	}
}

func TestLockFileContent(t *testing.T) {
	r, be, _ := testRepo(t)
	l := mustLock(t, r, true)
	defer release(t, l)
	text, err := r.LoadUnpacked(t.Context(), storage.File{Kind: storage.Lock, ID: listIDs(t, be, storage.Lock)[0]})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"time", "exclusive", "hostname", "username", "pid"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("lock %s lacks %s", text, name)
		}
	}
	if fields["exclusive"] != true || fields["hostname"] != "here" || fields["username"] != "me" {
		t.Errorf("lock %s", text)
	}
}

func TestLockedError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := testRepo(t)
		holder := otherLock(t, r, exclusive)
		time.Sleep(31 * time.Minute)
		_, err := r.Lock(t.Context(), false)
		var locked *LockedError
		if !errors.As(err, &locked) {
			t.Fatalf("Lock: %v, want LockedError", err)
		}
		if locked.Lock.ID != holder.ID || !locked.Lock.Exclusive || locked.Lock.PID != 4711 || locked.Age != 31*time.Minute {
			t.Errorf("%+v", locked)
		}
		for _, want := range []string{"exclusively", "you", "there", "4711", "31m0s", holder.ID.Short()} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not tell %q", err, want)
			}
		}
	})
}

// Of two that lock at the same moment, the second look makes at least one yield.
func TestLockLooksTwice(t *testing.T) {
	r, be, _ := testRepo(t)
	var once atomic.Bool
	be.After = func(op storagetest.Op, f storage.File, err error) error {
		if op == storagetest.OpSave && f.Kind == storage.Lock && once.CompareAndSwap(false, true) {
			otherLock(t, r, exclusive)
		}
		return err
	}
	_, err := r.Lock(t.Context(), false)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Lock.Hostname != "there" {
		t.Errorf("Lock: %v, want LockedError", err)
	}
	if n := len(listIDs(t, be, storage.Lock)); n != 1 {
		t.Errorf("%d lock files, want the other's", n)
	}
}

func TestRetryLock(t *testing.T) {
	tests := []struct {
		name    string
		retry   time.Duration
		release time.Duration // when the other lock goes away
		want    bool
	}{
		{"no retry", 0, time.Second, false},
		{"in time", time.Minute, 10 * time.Second, true},
		{"too late", time.Minute, 2 * time.Minute, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, be, _ := testRepo(t)
				o := testOptions(nil)
				o.RetryLock = tt.retry
				r := reopen(t, be, o)
				other := otherLock(t, r, exclusive)
				time.AfterFunc(tt.release, func() {
					be.Remove(context.Background(), storage.File{Kind: storage.Lock, ID: other.ID})
				})
				began := time.Now()
				l, err := r.Lock(t.Context(), true)
				if (err == nil) != tt.want {
					t.Errorf("Lock: %v", err)
				}
				if took := time.Since(began); took > tt.retry+time.Second {
					t.Errorf("took %v", took)
				}
				if err == nil {
					release(t, l)
				}
				time.Sleep(tt.release)
			})
		})
	}
}

func TestRetryLockIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, be, _ := testRepo(t)
		o := testOptions(nil)
		o.RetryLock = time.Hour
		r := reopen(t, be, o)
		otherLock(t, r, exclusive)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := r.Lock(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lock: %v, want the context's error", err)
		}
	})
}

// A holder that cannot renew its lock stops before others may take it for stale,
// but not at the first failure.
// A machine that slept wakes up with an old lock. It may go on only if nobody
// took it for stale meanwhile.
func TestOddLockFiles(t *testing.T) {
	garbage := func(t *testing.T, r *Repo) storage.File { return put(t, r.be, storage.Lock, []byte("garbage")) }
	sealed := func(text string) func(*testing.T, *Repo) storage.File {
		return func(t *testing.T, r *Repo) storage.File {
			id, _, err := r.saveUnpacked(context.Background(), storage.Lock, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			return storage.File{Kind: storage.Lock, ID: id}
		}
	}
	tests := []struct {
		name   string
		make   func(*testing.T, *Repo) storage.File
		blocks bool // an exclusive lock
		warns  string
	}{
		{"empty file", func(t *testing.T, r *Repo) storage.File { return put(t, r.be, storage.Lock, nil) }, false, ""},
		{"garbage", garbage, true, "cannot be read"},
		{"hash differs", func(t *testing.T, r *Repo) storage.File {
			f := garbage(t, r)
			replace(t, r.be, f, []byte("other"))
			return f
		}, true, "cannot be read"},
		{"no JSON", sealed(`{"time":`), true, "cannot be read"},
		{"time is garbage", sealed(`{"time":"yesterday"}`), true, "cannot be read"},
		{"in the future", func(t *testing.T, r *Repo) storage.File {
			l := otherLock(t, r, func(l *LockInfo) { l.Time = l.Time.Add(time.Hour) })
			return storage.File{Kind: storage.Lock, ID: l.ID}
		}, true, "in the future"},
		{"from the year 2000", func(t *testing.T, r *Repo) storage.File {
			l := otherLock(t, r, func(l *LockInfo) { l.Time = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) })
			return storage.File{Kind: storage.Lock, ID: l.ID}
		}, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _, w := testRepo(t)
			f := tt.make(t, r)
			shared, err := r.Lock(t.Context(), false)
			if err != nil {
				t.Fatalf("shared lock: %v", err)
			}
			release(t, shared)
			warned := errors.Join(w.take()...)
			if tt.warns == "" && warned != nil || tt.warns != "" && (warned == nil ||
				!strings.Contains(warned.Error(), tt.warns) || !strings.Contains(warned.Error(), f.String())) {
				t.Errorf("warned of %v, want %q of %v", warned, tt.warns, f)
			}
			var locked *LockedError
			writer, err := r.NewWriter(t.Context(), nil)
			if err == nil {
				writer.Abort()
			}
			// What cannot be read may be the lock of somebody who is about to delete.
			if blocked := errors.As(err, &locked); blocked != (tt.warns == "cannot be read") {
				t.Errorf("writer: %v", err)
			}
			l, err := r.Lock(t.Context(), true)
			if err == nil {
				release(t, l)
			}
			if blocked := errors.As(err, &locked); blocked != tt.blocks {
				t.Errorf("exclusive lock: %v", err)
			}
			if tt.blocks && !strings.Contains(err.Error(), f.String()) {
				t.Errorf("%q does not name %v", err, f)
			}
		})
	}
}

// A lock that cannot be read just now is not one that can never be: it may be anybody's, and nobody goes on beside it.
func TestLockThatCannotBeReadNow(t *testing.T) {
	r, be, _ := testRepo(t)
	f := storage.File{Kind: storage.Lock, ID: otherLock(t, r, exclusive).ID}
	broken := errors.New("broken")
	be.Before = failOn(t, storagetest.OpLoad, f, broken)
	if _, err := r.Lock(t.Context(), false); !errors.Is(err, broken) || !strings.Contains(err.Error(), f.String()) {
		t.Errorf("shared lock: %v, want the fault of %v", err, f)
	}
	if n := len(listIDs(t, be, storage.Lock)); n != 1 {
		t.Errorf("%d lock files, want the other's", n)
	}
}

func TestUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, be, w := testRepo(t)
		otherLock(t, r, nil)
		garbage := put(t, be, storage.Lock, []byte("garbage"))
		time.Sleep(lockStale + time.Second)
		fresh := otherLock(t, r, nil)

		n, err := r.Unlock(t.Context(), false)
		if n != 1 || err != nil {
			t.Fatalf("Unlock removed %d of one stale lock: %v", n, err)
		}
		if errs := w.take(); len(errs) != 1 || !strings.Contains(errs[0].Error(), garbage.String()) {
			t.Errorf("warned of %v, want %v", errs, garbage)
		}
		locks, err := r.Locks(t.Context())
		if err != nil || len(locks) != 2 {
			t.Fatalf("%v, %v", locks, err)
		}
		for _, l := range locks {
			if l.ID != fresh.ID && (l.ID != garbage.ID || !errors.Is(l.Err, ErrCorrupt)) {
				t.Errorf("left %+v", l)
			}
		}
		if n, err := r.Unlock(t.Context(), true); n != 2 || err != nil {
			t.Errorf("Unlock of all removed %d: %v", n, err)
		}
		if n := len(listIDs(t, be, storage.Lock)); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	})
}

func TestNoLock(t *testing.T) {
	_, be, _ := testRepo(t)
	o := testOptions(nil)
	o.NoLock = true
	r := reopen(t, be, o)
	otherLock(t, r, exclusive)
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpSave || op == storagetest.OpRemove {
			return storage.ErrReadOnly
		}
		return nil
	}
	l, err := r.Lock(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.held(), l.confirm(t.Context())); err != nil {
		t.Error(err)
	}
	release(t, l)
	if _, err := r.Check(t.Context(), CheckOptions{}, nil); err != nil {
		t.Errorf("Check: %v", err)
	}
	var locked *LockedError
	if _, err := r.Lock(t.Context(), true); !errors.As(err, &locked) {
		t.Errorf("exclusive lock: %v, want LockedError", err)
	}
	if _, err := r.NewWriter(t.Context(), nil); !errors.As(err, &locked) {
		t.Errorf("NewWriter: %v, want LockedError", err)
	}
}

// Methods that lock for themselves work under a lock that their caller holds.
func TestContextCarriesLock(t *testing.T) {
	r, be, _ := testRepo(t)
	l := mustLock(t, r, true)
	if _, err := r.Check(l.Context(), CheckOptions{}, nil); err != nil {
		t.Errorf("Check under an exclusive lock: %v", err)
	}
	w, err := r.NewWriter(l.Context(), nil)
	if err != nil {
		t.Fatalf("NewWriter under an exclusive lock: %v", err)
	}
	w.Abort()
	if n := len(listIDs(t, be, storage.Lock)); n != 1 {
		t.Errorf("%d lock files, want the caller's", n)
	}
	other := reopen(t, be, testOptions(nil))
	var locked *LockedError
	if _, err := other.Check(l.Context(), CheckOptions{}, nil); !errors.As(err, &locked) {
		t.Errorf("Check of another Repo: %v, want LockedError", err)
	}
	release(t, l)

	l = mustLock(t, r, false)
	defer release(t, l)
	if _, err := r.Check(l.Context(), CheckOptions{}, nil); !errors.As(err, &locked) {
		t.Errorf("Check under a shared lock: %v, want LockedError", err)
	}
	if id, err := r.AddKey(l.Context(), secret.New("another")); err != nil || id.IsZero() {
		t.Errorf("AddKey under a shared lock: %v", err)
	}
}

func TestLockErrors(t *testing.T) {
	fail := errors.New("broken")
	for _, op := range []storagetest.Op{storagetest.OpList, storagetest.OpSave} {
		r, be, _ := testRepo(t)
		be.Before = func(o storagetest.Op, f storage.File) error {
			if o == op {
				return fail
			}
			return nil
		}
		if _, err := r.Lock(t.Context(), false); !errors.Is(err, fail) {
			t.Errorf("%s fails: Lock: %v", op, err)
		}
	}
}

// The time of a lock that restic wrote has a zone and no identity of its process.
func TestResticLockIsOnlyRemovedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, be, _ := testRepo(t)
		text := `{"time":"` + time.Now().In(time.FixedZone("", 7200)).Format(time.RFC3339Nano) +
			`","exclusive":true,"hostname":"here","username":"me","pid":999999999,"uid":1,"gid":1}`
		if _, _, err := r.saveUnpacked(t.Context(), storage.Lock, []byte(text)); err != nil {
			t.Fatal(err)
		}
		var locked *LockedError
		if _, err := r.Lock(t.Context(), false); !errors.As(err, &locked) || locked.Lock.Dead {
			t.Errorf("Lock: %v, want LockedError", err)
		}
		if n, err := r.Unlock(t.Context(), false); n != 0 || err != nil {
			t.Errorf("Unlock removed %d, %v", n, err)
		}
		time.Sleep(lockStale + time.Second)
		if _, err := r.Lock(t.Context(), false); !errors.As(err, &locked) {
			t.Errorf("Lock after half an hour: %v, want LockedError", err)
		}
		if n, err := r.Unlock(t.Context(), false); n != 1 || err != nil {
			t.Errorf("Unlock after half an hour removed %d, %v", n, err)
		}
		if n := len(listIDs(t, be, storage.Lock)); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	})
}

func FuzzLock(f *testing.F) {
	r, be, _ := testRepo(f)
	f.Add([]byte(`{"time":"2026-11-22T01:02:03Z","exclusive":true,"hostname":"h","username":"u","pid":1,"uid":2,"gid":3}`))
	f.Add([]byte(`{"pid":-1,"boot_id":"b","pid_namespace":"n","process_start":"s"}`))
	f.Add([]byte(`{"pid":1,"PID":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		id, _, err := r.saveUnpacked(context.Background(), storage.Lock, text)
		if err != nil {
			t.Fatal(err)
		}
		file := storage.File{Kind: storage.Lock, ID: id}
		defer be.Remove(context.Background(), file)
		l, err := r.loadLock(context.Background(), storage.Info{File: file, Size: -1})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v, want ErrCorrupt", text, err)
		}
		if err == nil && l.Dead {
			t.Errorf("%q: taken for dead", text)
		}
	})
}
