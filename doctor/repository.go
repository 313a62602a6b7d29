package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

// RepositoryOptions says how to look at a repository.
type RepositoryOptions struct {
	Account string        // whose snapshots are looked for; empty: anybody's
	MaxAge  time.Duration // an older newest snapshot is a problem; 0: no age is
	NoLock  bool          // nothing is written
}

// Repository looks at a repository that was opened, and at the storage that it is on. The error is ctx's.
func Repository(ctx context.Context, r *repo.Repo, o RepositoryOptions) ([]Finding, error) {
	var f findings
	f.add("repository", OK, "", "%s opens, and is repository %.10s", r.Backend().Location(), r.ID())
	f.checkLocks(ctx, r)
	if o.NoLock {
		f.add("writing", OK, "", "not tried, because of --no-lock")
	} else {
		f.checkWriting(ctx, r)
	}
	f.checkSnapshots(ctx, r, o)
	return f, context.Cause(ctx)
}

// checkLocks tells of locks.
func (f *findings) checkLocks(ctx context.Context, r *repo.Repo) {
	locks, err := r.Locks(ctx)
	if err != nil {
		f.add("locks", Problem, "", "%v", err)
		return
	}
	now := time.Now()
	for _, l := range locks {
		whose := fmt.Sprintf("%s on %s (process %d)", l.Username, l.Hostname, l.PID)
		age := now.Sub(l.Time).Round(time.Second)
		switch {
		case l.Err != nil:
			f.add("locks", Warning, "when no other program is at work, `jetsam unlock --remove-all` removes it", "a lock cannot be read, and may be anybody's: %v", l.Err)
		case l.Stale(now):
			f.add("locks", Warning, "`jetsam unlock` removes it", "the lock of %s is stale: renewed %v ago", whose, age)
		case l.Exclusive:
			f.add("locks", Warning, "wait until it has ended: nobody else can use the repository", "locked exclusively by %s, renewed %v ago", whose, age)
		default:
			f.add("locks", OK, "", "in use by %s, renewed %v ago", whose, age)
		}
	}
	if len(locks) == 0 {
		f.add("locks", OK, "", "none")
	}
}

// checkWriting writes a lock and removes it.
func (f *findings) checkWriting(ctx context.Context, r *repo.Repo) {
	lock, err := r.Lock(ctx, false)
	var locked *repo.LockedError
	switch {
	case errors.As(err, &locked):
		f.add("writing", Warning, "look again when that has ended", "not tried: %v", err)
		return
	case errors.Is(err, storage.ErrFull):
		f.add("writing", Problem, "make room", "%v", err)
		return
	case err != nil:
		f.add("writing", Problem, "look at the owner and permissions of the repository; readers can do with --no-lock", "%v", err)
		return
	}
	if be, ok := storage.As[storage.Clocked](r.Backend()); ok {
		if told, known := be.Clock(); known {
			f.compareClocks("the storage", told, time.Now())
		}
	}
	if err := lock.Release(); err != nil {
		f.add("writing", Problem, "see that files may be removed there, those in locks at least", "a file was written and cannot be removed: %v", err)
		return
	}
	f.add("writing", OK, "", "a file was written, read back and removed")
}

// checkSnapshots looks at the newest snapshot.
func (f *findings) checkSnapshots(ctx context.Context, r *repo.Repo, o RepositoryOptions) {
	var all []*snapshot.Snapshot
	for s, err := range r.Snapshots(ctx) {
		if err != nil {
			f.add("snapshots", Problem, "`jetsam check` tells what is damaged", "%v", err)
			return
		}
		all = append(all, s)
	}
	var filter snapshot.Filter
	whose := ""
	if o.Account != "" {
		filter.Below, whose = []string{"/" + streamlog.EscapeName(o.Account)}, " of account "+o.Account
	}
	level := Warning
	if o.MaxAge > 0 {
		level = Problem
	}
	newest := snapshot.Newest(all, filter)
	if newest == nil {
		f.add("snapshots", level, "make one: `jetsam backup --all`", "there is none%s", whose)
		return
	}
	age := time.Since(newest.Time).Round(time.Second)
	switch {
	case age < -clockSkew:
		f.add("snapshots", Warning, "compare the clocks of the machines that back up", "the newest%s, %s, is %v in the future", whose, newest.ID().Short(), -age)
	case o.MaxAge > 0 && age > o.MaxAge:
		f.add("snapshots", Problem, "look why no backup was made since", "the newest%s, %s, is %v old, more than %v", whose, newest.ID().Short(), age, o.MaxAge)
	default:
		f.add("snapshots", OK, "", "the newest%s, %s, is %v old", whose, newest.ID().Short(), max(0, age))
	}
}
