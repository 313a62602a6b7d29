package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"jetsam/storage"
)

// Lock keeps others from deleting what is being used, and if it is exclusive from
// using the repository at all. It is renewed in the background until Release.
//
// A holder that could not renew its lock in time must stop: somebody may have
// taken it for dead. The Context ends then, and a Writer writes nothing more.
type Lock struct {
	repo      *Repo
	exclusive bool
	past      bool // locks that cannot be read do not stand against it: it neither writes nor deletes
	none      bool // there is no file: Options.NoLock
	ctx       context.Context
	cancel    context.CancelCauseFunc
	watched   map[storage.ID]time.Time // others' locks that stood against it, and when they were first seen
	certain   chan struct{}            // closed when nobody has, or somebody may have, locked at the same time: then lost says so
	stopped   chan struct{}            // closed when it is no longer renewed

	mu       sync.Mutex // held while the lock file is replaced
	info     LockInfo
	file     storage.File
	replaced []storage.File // older files of this lock that are still there
	retry    time.Time      // do not try to renew before
	lost     error          // why it is not held any more
	released bool
}

// lockKey finds the lock that a context carries.
type lockKey struct{}

// Lock locks the repository. If others' locks stand against it the error is
// *LockedError, once Options.RetryLock has passed. Locks whose holders died on
// this machine are removed.
//
// Methods that need a lock take one themselves, unless the context they get is
// derived from the Context of one that will do.
func (r *Repo) Lock(ctx context.Context, exclusive bool) (*Lock, error) {
	l := r.newLock(ctx, exclusive)
	l.past = !exclusive
	if r.opts.NoLock && !exclusive {
		l.none = true
		return l, nil
	}
	return l.hold(ctx)
}

// lockFile is Lock for whoever deletes or writes: without regard to
// Options.NoLock, and a lock that cannot be read stands against it.
func (r *Repo) lockFile(ctx context.Context, exclusive bool) (*Lock, error) {
	return r.newLock(ctx, exclusive).hold(ctx)
}

// hold acquires the lock and begins to renew it.
func (l *Lock) hold(ctx context.Context) (*Lock, error) {
	if err := l.acquire(ctx); err != nil {
		l.cancel(err)
		return nil, err
	}
	close(l.certain)
	go l.keep()
	return l, nil
}

// begin writes the lock, and returns before it is certain that it is held: for who
// has to read first. If it is not, its context ends, with *LockedError as cause.
//
// Others may be waited for only before anything is read: then it is hold.
func (l *Lock) begin(ctx context.Context) (*Lock, error) {
	if l.repo.opts.RetryLock > 0 {
		return l.hold(ctx)
	}
	if err := l.write(ctx); err != nil {
		l.cancel(err)
		return nil, err
	}
	go func() {
		if err := l.ascertain(l.ctx); err != nil {
			l.mu.Lock()
			l.lost = err
			l.mu.Unlock()
			l.cancel(err)
		}
		close(l.certain)
		l.keep()
	}()
	return l, nil
}

func (r *Repo) newLock(ctx context.Context, exclusive bool) *Lock {
	l := &Lock{repo: r, exclusive: exclusive, watched: make(map[storage.ID]time.Time), certain: make(chan struct{}), stopped: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(context.WithValue(ctx, lockKey{}, l))
	return l
}

// locked runs f with a lock: the one that ctx carries, or a new one.
func (r *Repo) locked(ctx context.Context, exclusive bool, f func(context.Context) error) error {
	if r.carried(ctx, exclusive) != nil {
		return f(ctx)
	}
	l, err := r.lockFile(ctx, exclusive)
	if err != nil {
		return err
	}
	return errors.Join(f(l.Context()), l.Release())
}

// lockedPastDamage runs f with an exclusive lock, against which locks that cannot
// be read do not stand: for who wants to be alone and deletes nothing.
func (r *Repo) lockedPastDamage(ctx context.Context, f func(context.Context) error) error {
	if r.carried(ctx, true) != nil {
		return f(ctx)
	}
	l := r.newLock(ctx, true)
	l.past = true
	if _, err := l.hold(ctx); err != nil {
		return err
	}
	return errors.Join(f(l.Context()), l.Release())
}

// carried returns the lock that ctx carries if it will do.
func (r *Repo) carried(ctx context.Context, exclusive bool) *Lock {
	l, ok := ctx.Value(lockKey{}).(*Lock)
	if !ok || l.repo != r || l.none || exclusive && !l.exclusive {
		return nil
	}
	return l
}

// acquire tries until the lock is held, or the time for that is over.
func (l *Lock) acquire(ctx context.Context) error {
	const pause = time.Second
	end := l.repo.wallClock().Add(l.repo.opts.RetryLock)
	for {
		err := l.try(ctx)
		var locked *LockedError
		if !errors.As(err, &locked) || !l.repo.wallClock().Before(end) {
			return err
		}
		if err := storage.Sleep(ctx, min(pause, end.Sub(l.repo.wallClock()))); err != nil {
			return err
		}
	}
}

// try looks for locks that stand against this one, writes it, and looks again.
func (l *Lock) try(ctx context.Context) error {
	if err := l.write(ctx); err != nil {
		return err
	}
	return l.ascertain(ctx)
}

// write writes the lock, unless others' stand against it.
func (l *Lock) write(ctx context.Context) (err error) {
	if err := l.conflict(ctx, storage.File{}); err != nil {
		return err
	}
	l.info = l.repo.newLockInfo(l.exclusive)
	l.file, err = l.repo.saveLock(ctx, l.info)
	return err
}

// ascertain waits, and looks for others' locks again: somebody may have written
// one at the same time. Where one stands against this one, this one is removed.
func (l *Lock) ascertain(ctx context.Context) error {
	err := storage.Sleep(ctx, l.repo.opts.LockWait)
	if err == nil {
		err = l.conflict(ctx, l.file)
	}
	if err != nil {
		return errors.Join(err, l.repo.removeLocks(ctx, l.file))
	}
	return nil
}

// conflict returns *LockedError if a lock other than the file own stands against
// this one.
func (l *Lock) conflict(ctx context.Context, own storage.File) error {
	infos, err := l.repo.list(ctx, storage.Lock)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if info.File == own || info.Size == 0 {
			continue
		}
		if err := l.conflictWith(ctx, info); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lock) conflictWith(ctx context.Context, info storage.Info) error {
	r := l.repo
	other, err := r.loadLock(ctx, info)
	if errors.Is(err, ErrCorrupt) {
		// In some places a file can be seen before all of it is there.
		if err := storage.Sleep(ctx, r.opts.LockWait); err != nil {
			return err
		}
		other, err = r.loadLock(ctx, info)
	}
	if cancelled := storage.Cancelled(ctx); cancelled != nil {
		return cancelled
	}
	age := r.wallClock().Sub(other.Time)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return nil
	case err != nil && !errors.Is(err, ErrCorrupt):
		return fmt.Errorf("look at a lock that may stand against this one: %w", err)
	case err != nil && l.past && l.exclusive:
		return nil // a check reports it
	case err != nil:
		other.Err, age = err, 0
		r.warn(fmt.Errorf("lock cannot be read: %w", err))
	case other.Dead:
		r.removeDead(ctx, info.File)
		return nil
	case age < -lockSkew:
		r.warn(fmt.Errorf("%v of %s is %v in the future: the clocks differ", info.File, other.Hostname, -age.Round(time.Second)))
	}
	// One that cannot be read may be exclusive, and its holder about to delete.
	// Readers go on: what they miss they say.
	if l.exclusive || other.Exclusive || other.Err != nil && !l.past {
		if l.abandoned(other) {
			r.removeDead(ctx, info.File)
			return nil
		}
		return &LockedError{Lock: other, Age: age}
	}
	return nil
}

// abandoned says whether a lock was watched for so long without being renewed, which
// would make another file of it, that its holder has stopped. No clock but this
// machine's has a say in that, nor a time when it sleeps.
func (l *Lock) abandoned(other LockInfo) bool {
	now := l.repo.now()
	first, ok := l.watched[other.ID]
	if !ok {
		l.watched[other.ID] = now
		return false
	}
	if now.Sub(first) <= lockStale {
		return false
	}
	l.repo.warn(fmt.Errorf("%v was not renewed for %v while it was waited for: its holder is gone, and it is removed",
		storage.File{Kind: storage.Lock, ID: other.ID}, lockStale))
	return true
}

// errBusy says that others' locks are too young to remove index files now.
var errBusy = errors.New("others have begun to use the repository")

// announce shows the lock, and returns errBusy unless all others are older than
// lockSettled. Of two that announce themselves at the same time, at most one gets
// nil: each has to see the other's.
func (l *Lock) announce(ctx context.Context) error {
	if err := l.show(ctx); err != nil {
		return err
	}
	return l.settled(ctx)
}

// show renews the lock unless it is young enough for others to see, for a while,
// that its holder is at work.
func (l *Lock) show(ctx context.Context) error {
	if err := l.held(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.age() < lockSettled/2 {
		return nil
	}
	if err := l.renew(ctx); err != nil {
		return err
	}
	return storage.Sleep(ctx, l.repo.opts.LockWait)
}

// settled returns errBusy unless all others' locks are older than lockSettled,
// and this one, which keeps others from the same, is not.
func (l *Lock) settled(ctx context.Context) error {
	infos, err := l.repo.list(ctx, storage.Lock)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.age() >= lockSettled {
		return errBusy
	}
	for _, info := range infos {
		if info.File == l.file || slices.Contains(l.replaced, info.File) || info.Size == 0 {
			continue
		}
		if err := l.repo.settled(ctx, info); err != nil {
			return err
		}
	}
	return nil
}

// settled returns errBusy unless a lock is older than lockSettled.
func (r *Repo) settled(ctx context.Context, info storage.Info) error {
	l, err := r.loadLock(ctx, info)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return nil
	case errors.Is(err, ErrCorrupt):
		return errBusy
	case err != nil:
		return fmt.Errorf("look at another's lock: %w", err)
	case !l.Dead && r.wallClock().Sub(l.Time) < lockSettled:
		return errBusy
	}
	return nil
}

// removeDead removes the lock of a process that is gone. Where that is not
// possible it still does not count.
func (r *Repo) removeDead(ctx context.Context, f storage.File) {
	err := r.be.Remove(ctx, f)
	if err != nil && !errors.Is(err, storage.ErrNotExist) {
		r.warn(fmt.Errorf("remove %v, whose holder is dead: %w", f, err))
	}
}

// Context returns a context that ends when the lock is lost or released. When it
// is lost the cause is ErrLockLost.
func (l *Lock) Context() context.Context { return l.ctx }

// Release ends the lock. Releasing it again does nothing.
func (l *Lock) Release() error {
	l.cancel(context.Canceled)
	if l.none {
		return nil
	}
	<-l.stopped
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return nil
	}
	l.released = true
	err := l.repo.removeLocks(l.ctx, append(l.replaced, l.file)...)
	if errors.Is(l.lost, ErrLockLost) {
		return nil // whoever removed the file has been dealt with
	}
	return err
}

// releaseTime bounds how long the removal of a lock file may take.
const releaseTime = time.Minute

// removeLocks removes files of own locks, even if ctx is cancelled.
func (r *Repo) removeLocks(ctx context.Context, files ...storage.File) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	var errs []error
	for _, f := range files {
		// A lock that somebody else removed is released as well. What that means for a writer, Commit finds out.
		if err := r.be.Remove(ctx, f); err != nil && !errors.Is(err, storage.ErrNotExist) {
			errs = append(errs, fmt.Errorf("release %v: %w", f, err))
		}
	}
	return errors.Join(errs...)
}
