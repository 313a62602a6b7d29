package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"jetsam/internal/strictjson"
	"jetsam/storage"
)

// Times of the lock protocol; the first two are restic's and part of the format.
const (
	lockRefresh = 5 * time.Minute  // how often a holder renews its lock
	lockStale   = 30 * time.Minute // how old a lock must be for unlock to remove it

	// lockLimit is when a holder that could not renew its lock must stop writing:
	// well before anybody may take it for stale.
	lockLimit = lockStale - lockRefresh*3/2

	// lockSettled is how old a lock must be for its holder to have read the index:
	// that is the first thing it does.
	lockSettled = 2 * time.Minute

	lockPoll  = time.Second      // how often a holder looks at the clock
	lockRetry = 10 * time.Second // after a renewal that failed
	lockSkew  = 5 * time.Minute  // by how much another clock may be ahead without a warning
)

// LockInfo describes a lock file.
type LockInfo struct {
	ID        storage.ID `json:"-"`
	Time      time.Time  `json:"time"` // last renewed, by its holder's clock
	Exclusive bool       `json:"exclusive"`
	Hostname  string     `json:"hostname"`
	Username  string     `json:"username"`
	PID       int        `json:"pid"`
	UID       uint32     `json:"uid,omitempty"`
	GID       uint32     `json:"gid,omitempty"`
	holder

	Dead bool  `json:"-"` // its process certainly ended
	Err  error `json:"-"` // why it cannot be read; then only ID is known
}

// Stale reports whether the lock may be removed: its holder is dead, or did not
// renew it for half an hour.
func (l *LockInfo) Stale(now time.Time) bool {
	return l.Err == nil && (l.Dead || now.Sub(l.Time) > lockStale)
}

// LockedError says that somebody else is at work on the repository.
type LockedError struct {
	Lock LockInfo
	Age  time.Duration // since the lock was last renewed
}

// Error names who holds the lock since when.
func (e *LockedError) Error() string {
	f := storage.File{Kind: storage.Lock, ID: e.Lock.ID}
	if e.Lock.Err != nil {
		return fmt.Sprintf("repository is locked: %v cannot be read, so it may be anybody's: %v", f, e.Lock.Err)
	}
	how := ""
	if e.Lock.Exclusive {
		how = " exclusively"
	}
	left := ""
	if e.Age > lockStale {
		left = "; unless the clocks differ it is left over, and --retry-lock 35m finds that out and removes it"
	}
	return fmt.Sprintf("repository is locked%s by %s on %s (process %d), renewed %v ago at %s (%v)%s",
		how, e.Lock.Username, e.Lock.Hostname, e.Lock.PID,
		e.Age.Round(time.Second), e.Lock.Time.Local().Format(time.DateTime), f, left)
}

// newLockInfo describes a lock of this process.
func (r *Repo) newLockInfo(exclusive bool) LockInfo {
	return LockInfo{
		Time:      r.wallClock(),
		Exclusive: exclusive,
		Hostname:  r.opts.Hostname,
		Username:  r.opts.Username,
		PID:       os.Getpid(),
		UID:       uint32(max(0, os.Getuid())), // -1 on Windows
		GID:       uint32(max(0, os.Getgid())),
		holder:    thisProcess(),
	}
}

// wallClock returns the time without a monotonic reading: that one stands still
// while the machine sleeps, and others' clocks do not.
func (r *Repo) wallClock() time.Time { return r.now().Round(0) }

// saveLock stores a lock file. It is renewed by storing another one, since files
// are never modified.
func (r *Repo) saveLock(ctx context.Context, info LockInfo) (storage.File, error) {
	text, err := json.Marshal(info)
	if err != nil {
		return storage.File{}, fmt.Errorf("encode lock: %w", err)
	}
	id, _, err := r.saveUnpacked(ctx, storage.Lock, text)
	return storage.File{Kind: storage.Lock, ID: id}, err
}

// loadLock reads a lock file. The error says why that is not possible; if it was
// released meanwhile it is storage.ErrNotExist.
func (r *Repo) loadLock(ctx context.Context, info storage.Info) (LockInfo, error) {
	l := LockInfo{ID: info.File.ID}
	err := r.parseUnpacked(ctx, info, func(text []byte) error { return strictjson.Unmarshal(text, &l) })
	if err != nil {
		return l, err
	}
	l.Dead = l.dead(l.PID, thisProcess(), lookAt)
	return l, nil
}

// Locks returns all locks, those that cannot be read too. Empty files, which an
// interrupted upload leaves in some places, are none.
func (r *Repo) Locks(ctx context.Context) ([]LockInfo, error) {
	infos, err := r.list(ctx, storage.Lock)
	if err != nil {
		return nil, err
	}
	var out []LockInfo
	for _, info := range infos {
		if info.Size == 0 {
			continue
		}
		l, err := r.loadLock(ctx, info)
		if cancelled := storage.Cancelled(ctx); cancelled != nil {
			return nil, cancelled
		}
		if errors.Is(err, storage.ErrNotExist) {
			continue
		}
		l.Err = err
		out = append(out, l)
	}
	return out, nil
}

// Unlock removes stale locks, or all of them, even those in use, and returns how
// many that were. A lock that cannot be read is removed with the others only if
// all are.
func (r *Repo) Unlock(ctx context.Context, all bool) (removed int, err error) {
	locks, err := r.Locks(ctx)
	if err != nil {
		return 0, err
	}
	now := r.wallClock()
	for _, l := range locks {
		if l.Err != nil && !all {
			r.warn(l.Err)
		}
		if !all && !l.Stale(now) {
			continue
		}
		f := storage.File{Kind: storage.Lock, ID: l.ID}
		err := r.be.Remove(ctx, f)
		if err != nil && !errors.Is(err, storage.ErrNotExist) {
			return removed, fmt.Errorf("remove %v: %w", f, err)
		}
		removed++
	}
	return removed, nil
}
