package main

// locking: nobody works against another's lock, and the lock of the dead keeps nobody out.
func locking() []mutant {
	return []mutant{
		{
			promise: "of two who make a repository at the same time, one is told that it is the other's",
			file:    "repo/config.go",
			old:     "err != nil || c.ID != r.config.ID {",
			new:     "err == nil && c.ID == \"\" {",
			pkg:     inRepo, run: "^TestInitAtTheSameTime$",
		},
		{
			promise: "an exclusive lock stands against all others",
			file:    "repo/lock.go",
			old:     "if l.exclusive || other.Exclusive ||",
			new:     "if l.exclusive && other.Exclusive ||",
			pkg:     inRepo, run: "^TestLocksExclude$",
		},
		{
			promise: "a lock stands whatever time it bears",
			file:    "repo/lock.go",
			old:     "if l.exclusive || other.Exclusive ||",
			new:     "if age < lockStale && (l.exclusive || other.Exclusive) ||",
			pkg:     inRepo, run: "^TestClocksThatDiffer$",
		},
		{
			promise: "a writer minds locks that it cannot read",
			file:    "repo/lock.go",
			old:     "other.Err != nil && !l.past {",
			new:     "false {",
			pkg:     inRepo, run: "^TestOddLockFiles$",
		},
		{
			promise: "other locks are looked for again after one's own is written",
			file:    "repo/lock.go",
			old:     "err = l.conflict(ctx, l.file)",
			new:     "err = nil",
			pkg:     inRepo, run: "^TestLockLooksTwice$",
		},
		{
			promise: "a writer that begins before its lock is certain writes nothing until it is",
			file:    "repo/renew.go",
			old:     "	<-l.certain\n",
			new:     "",
			pkg:     inRepo, run: "^TestWriterReadsWhileItWaits$",
		},
		{
			promise: "a writer's lock against which another stands keeps it from writing",
			file:    "repo/lock.go",
			old:     "if err := l.ascertain(l.ctx); err != nil {",
			new:     "if err := l.ascertain(l.ctx); err != nil && false {",
			pkg:     inRepo, run: "^TestWriterYields$",
		},
		{
			promise: "packs that were deleted before the lock was held are not built on",
			file:    "repo/writer.go",
			old:     "	return w.kept()\n",
			new:     "	return nil\n",
			pkg:     inRepo, run: "^TestWriterFindsPacksGone$",
		},
		{
			promise: "index files that were merged before the lock was held are no reason to stop",
			file:    "repo/writer.go",
			old:     "		if _, ok := there[id]; !ok {",
			new:     "		if _, ok := there[id]; ok {",
			pkg:     inRepo, run: "^TestWriterFindsPacksGone$",
		},
		{
			promise: "a process of the same ID that began later is not the holder",
			file:    "repo/holder.go",
			old:     "return comparableStarts(now.start, h.ProcessStart) && now.start != h.ProcessStart",
			new:     "return false",
			pkg:     inRepo, run: "^TestHolderDead$",
		},
		{
			promise: "nobody on another machine is taken for dead",
			file:    "repo/holder.go",
			old:     "h.BootID != self.BootID || h.PIDNamespace != self.PIDNamespace {",
			new:     "h.PIDNamespace != self.PIDNamespace {",
			pkg:     inRepo, run: "^TestHolderDead$",
		},
		{
			promise: "the lock of a killed process is removed",
			file:    "repo/lock.go",
			old:     "case other.Dead:",
			new:     "case false && other.Dead:",
			pkg:     inRepo, run: "^TestKilledHolder$",
		},
		{
			promise: "no snapshot is stored when the lock was removed by force",
			file:    "repo/commit.go",
			old:     "if err := w.lock.confirm(ctx); err != nil {",
			new:     "if err := w.lock.held(); err != nil {",
			pkg:     inRepo, run: "^TestLockRemovedUnderWriter$",
		},
		{
			promise: "nothing is written under a lock that is too old",
			file:    "repo/renew.go",
			old:     "if l.lost == nil && l.age() > lockLimit {",
			new:     "if false {",
			pkg:     inRepo, run: "^(TestWriterFreezesWithItsLock|TestLockAfterSleep)$",
		},
		{
			promise: "packs are stored under a lock that is held",
			file:    "repo/commit.go",
			old: `	if err := w.Certain(); err != nil {
		return err
	}
	if err := w.repo.be.Save`,
			new: `	if err := w.repo.be.Save`,
			pkg: inRepo, run: "^TestPackIsNotStoredWithoutTheLock$",
		},
		{
			promise: "a lock whose file is gone when it is renewed is lost",
			file:    "repo/renew.go",
			old: `		l.lose(fmt.Errorf("%v: %w", old, errRemoved))
		return l.lost`,
			new: `		return nil`,
			pkg: inRepo, run: "^TestLockRemovedByForce$",
		},
		{
			promise: "a lock whose file is gone is lost, though its removal is said to have succeeded",
			file:    "repo/renew.go",
			old:     "if _, err = r.be.Stat(ctx, old); err == nil {",
			new:     "if true {",
			pkg:     inRepo, run: "^TestLockRemovedBesideALostAnswer$",
		},
		{
			promise: "a renewed lock has the time of now",
			file:    "repo/renew.go",
			old:     "info := r.newLockInfo(l.exclusive)",
			new:     "info := r.newLockInfo(l.exclusive)\n\tinfo.Time = l.info.Time",
			pkg:     inRepo, run: "^TestLockIsRenewed$",
		},
		{
			promise: "a writer's index is of a time when it held the lock",
			file:    "repo/writer.go",
			old:     "err = w.rd.update(ctx)",
			new:     "err = nil",
			pkg:     inRepo, run: "^TestWriterUpdatesIndex$",
		},
		{
			promise: "the lock goes when the work is done",
			file:    "repo/lock.go",
			old:     "err := l.repo.removeLocks(l.ctx, append(l.replaced, l.file)...)",
			new:     "err := l.repo.removeLocks(l.ctx, l.replaced...)",
			pkg:     inRepo, run: "^(TestLocksExclude|TestLockFileContent)$",
		},
		{
			promise: "a lock that nobody renews does not stop who waits for ever",
			file:    "repo/lock.go",
			old:     "	if l.abandoned(other) {",
			new:     "	if false {",
			pkg:     inRepo, run: "^TestAbandonedLock$",
		},
		{
			promise: "a lock is not taken for abandoned before its holder must have stopped",
			file:    "repo/lock.go",
			old:     "	if now.Sub(first) <= lockStale {",
			new:     "	if now.Sub(first) <= lockRefresh {",
			pkg:     inRepo, run: "^TestAbandonedLock$",
		},
		{
			promise: "nor because of the time that it bears",
			file:    "repo/lock.go",
			old:     "		l.watched[other.ID] = now\n		return false\n",
			new:     "		l.watched[other.ID] = now\n		return now.Sub(other.Time) > lockStale\n",
			pkg:     inRepo, run: "^TestAbandonedLock$",
		},
	}
}
