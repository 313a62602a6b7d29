package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jetsam/storage"
)

// keep renews the lock until its context ends. It polls the clock, rather than
// wait for five minutes, because a machine that sleeps stops timers but not time.
func (l *Lock) keep() {
	defer close(l.stopped)
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// An error that matters ends l.ctx; any other is tried again.
			_ = l.tend()
		case <-l.ctx.Done():
			return
		}
	}
}

// held returns nil if the lock is certain, which it waits for, and has been renewed
// recently enough to write. It is asked before each write, since the background may
// not have had its turn: after the machine slept for example.
func (l *Lock) held() error {
	if l.none {
		return nil
	}
	<-l.certain
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil && l.age() > lockLimit {
		l.revive()
	}
	return l.lost
}

// confirm is held, and also looks whether the lock file is still there: somebody
// may have removed it by force.
func (l *Lock) confirm(ctx context.Context) error {
	if err := l.held(); err != nil || l.none {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.repo.be.Stat(ctx, l.file)
	if errors.Is(err, storage.ErrNotExist) {
		l.lose(fmt.Errorf("%v: %w", l.file, errRemoved))
		return l.lost
	}
	if err != nil {
		return fmt.Errorf("look for own %v: %w", l.file, err)
	}
	return nil
}

var errRemoved = errors.New("somebody removed the lock file")

// age returns how long ago the lock was renewed. It is negative if the clock was
// set back.
func (l *Lock) age() time.Duration { return l.repo.wallClock().Sub(l.info.Time) }

// tend renews the lock if it is time to.
func (l *Lock) tend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	age := l.age()
	switch {
	case l.lost != nil:
		return l.lost
	case age > lockLimit:
		l.revive()
		return l.lost
	case age >= 0 && (age < lockRefresh || l.repo.wallClock().Before(l.retry)):
		return nil
	}
	err := l.renew(l.ctx)
	if err != nil {
		l.retry = l.repo.wallClock().Add(lockRetry)
	}
	return err
}

// renew replaces the lock file by a new one with the time of now. If the old one
// is gone the lock is lost, for others may have worked without regard to it.
func (l *Lock) renew(ctx context.Context) error {
	r := l.repo
	info := r.newLockInfo(l.exclusive)
	f, err := r.saveLock(ctx, info)
	if err != nil {
		return err
	}
	old := l.file
	l.info, l.file = info, f
	// A removal that is repeated, since its answer was lost, does not tell who removed the file.
	if _, err = r.be.Stat(ctx, old); err == nil {
		err = r.be.Remove(ctx, old)
	}
	switch {
	case errors.Is(err, storage.ErrNotExist):
		l.lose(fmt.Errorf("%v: %w", old, errRemoved))
		return l.lost
	case err != nil:
		l.replaced = append(l.replaced, old) // for Release to remove
	}
	return nil
}

// revive decides about a lock that is too old to go on with. It is held again if
// the file is still there, can be renewed, and nobody took a conflicting lock;
// else it is lost.
func (l *Lock) revive() {
	age := l.age().Round(time.Second)
	if err := l.tryRevive(l.ctx); err != nil && l.lost == nil {
		l.lose(fmt.Errorf("not renewed for %v: %w", age, err))
	}
}

func (l *Lock) tryRevive(ctx context.Context) error {
	if _, err := l.repo.be.Stat(ctx, l.file); err != nil {
		return err
	}
	if err := l.renew(ctx); err != nil {
		return err
	}
	if err := storage.Sleep(ctx, l.repo.opts.LockWait); err != nil {
		return err
	}
	return l.conflict(ctx, l.file)
}

// lose ends the lock's context.
func (l *Lock) lose(why error) {
	l.lost = fmt.Errorf("%w: %w", ErrLockLost, why)
	l.cancel(l.lost)
}
