package main

// pruning: what a snapshot needs is never removed, what nothing needs is, and nobody who is at work is robbed.
func pruning() []mutant {
	return []mutant{
		{
			promise: "a prune stops where snapshots appear or vanish",
			file:    "repo/prune.go",
			old:     "{{storage.Snapshot, e.seen}, {storage.Index, e.there}}",
			new:     "{{storage.Index, e.there}}",
			pkg:     inRepo, run: "^TestPruneStopsWhereOthersAreAtWork$",
		},
		{
			promise: "a prune stops where index files appear or vanish",
			file:    "repo/prune.go",
			old:     "{{storage.Snapshot, e.seen}, {storage.Index, e.there}}",
			new:     "{{storage.Snapshot, e.seen}}",
			pkg:     inRepo, run: "^TestPruneStopsWhereOthersAreAtWork$",
		},
		{
			promise: "what nothing needs stays for the grace",
			file:    "repo/pruneplan.go",
			old:     "due := now.Sub(since) >= p.opts.Grace",
			new:     "due := true",
			pkg:     inRepo, run: "^TestPruneWithGrace$",
		},
		{
			promise: "what a list does not show yet stays for the grace",
			file:    "repo/pruneplan.go",
			old:     "due := now.Sub(since) >= p.opts.Grace",
			new:     "due := true",
			pkg:     inRepo, run: "^TestStorageThatLags$",
		},
		{
			promise: "a grace that began in the future begins anew",
			file:    "repo/pruneplan.go",
			old:     "!noted || since.After(now)",
			new:     "!noted",
			pkg:     inRepo, run: "^TestPruneWithGrace$",
		},
		{
			promise: "what is lost and needed stops a prune",
			file:    "repo/pruneplan.go",
			old:     "if pk.traits.unsound && pk.kept > 0 {",
			new:     "if false {",
			pkg:     inRepo, run: "^TestPruneRefuses$",
		},
		{
			promise: "an index file that cannot be read stops a prune",
			file:    "repo/pruneplan.go",
			old:     "\t\tif err == nil && f.bad != nil {\n\t\t\terr = fmt.Errorf(\"where blobs are is not known: %w\", f.bad)\n\t\t}\n",
			new:     "\t\tif f.bad != nil {\n\t\t\tp.files = append(p.files, &plannedFile{info: infos[len(p.files)]})\n\t\t\tcontinue\n\t\t}\n",
			pkg:     inRepo, run: "^TestPruneRefuses$",
		},
		{
			promise: "a snapshot that cannot be read stops a prune",
			file:    "repo/pruneplan.go",
			old:     "return blob.ID{}, fmt.Errorf(\"what a snapshot needs is not known: %w\", err)",
			new:     "return blob.ID{}, nil",
			pkg:     inRepo, run: "^TestPruneRefuses$",
		},
		{
			promise: "a pack that is needed again is listed again",
			file:    "repo/pruneplan.go",
			old:     "\t\tp.restore = append(p.restore, l.Pack)\n",
			new:     "",
			pkg:     inRepo, run: "^TestPruneRestores$",
		},
		{
			promise: "without snapshots not everything is removed",
			file:    "repo/pruneplan.go",
			old:     "if p.Snapshots == 0 && !p.opts.RemoveAll &&",
			new:     "if p.Snapshots < 0 &&",
			pkg:     inRepo, run: "^TestPruneWithoutSnapshots$",
		},
		{
			promise: "an index file that is listed twice is not removed for its own sake",
			file:    "repo/pruneplan.go",
			old:     "\tinfos = slices.CompactFunc(infos, func(a, b storage.Info) bool { return a.File == b.File })\n",
			new:     "",
			pkg:     inRepo, run: "^TestPruneOfAListThatRepeats$",
		},
		{
			promise: "packs stay that an index file lists which cannot be replaced",
			file:    "repo/pruneplan.go",
			old:     "\t\t\tif f.odd {\n\t\t\t\tfixed[id] = struct{}{}",
			new:     "\t\t\tif false {\n\t\t\t\tfixed[id] = struct{}{}",
			pkg:     inRepo, run: "^TestPruneLeavesOddIndexFiles$",
		},
		{
			promise: "a blob in several packs is kept once",
			file:    "repo/pruneplan.go",
			old:     "first, _ = placed.Add(b.Handle)",
			new:     "first = true",
			pkg:     inRepo, run: "^TestPruneOfDuplicates$",
		},
		{
			promise: "packs that mix data and trees are made anew",
			file:    "repo/pruneplan.go",
			old:     "case t.odd || pk.waste > 0:",
			new:     "case pk.waste > 0:",
			pkg:     inRepo, run: "^TestPruneRepacksOddPacks$",
		},
		{
			promise: "few small packs are not joined time and again",
			file:    "repo/pruneplan.go",
			old:     "if len(packs) < smallPacks {",
			new:     "if false {",
			pkg:     inRepo, run: "^TestPruneOfSmallPacks$",
		},
		{
			promise: "nothing is removed where a needed blob cannot be read",
			file:    "repo/prune.go",
			old:     "\tif len(bad) > 0 {",
			new:     "\tif false {",
			pkg:     inRepo, run: "^TestPruneOfDamagedPacks$",
		},
		{
			promise: "a blob that is damaged in one pack is copied out of another",
			file:    "repo/prune.go",
			old:     "return rd.Load(ctx, b.Handle, nil)",
			new:     "return nil, unlisted(b.Handle)",
			pkg:     inRepo, run: "^TestPruneCopiesFromASoundPack$",
		},
		{
			promise: "a pack of copies is read back before the originals go",
			file:    "repo/commit.go",
			old:     "if w.careful {",
			new:     "if false {",
			pkg:     inRepo, run: "^TestEveryLieToAPrune$",
		},
		{
			promise: "an index file that the storage spoiled does not stay",
			file:    "repo/prune.go",
			old:     "\tif errors.Is(err, ErrCorrupt) {\n\t\terr = errors.Join(err, e.repo.remove(",
			new:     "\tif false {\n\t\terr = errors.Join(err, e.repo.remove(",
			pkg:     inRepo, run: "^TestEveryLieToAPrune$",
		},
		{
			promise: "what the storage retains does not stop a prune",
			file:    "repo/errors.go",
			old:     " || errors.Is(err, storage.ErrRetained)",
			new:     "",
			pkg:     inRepo, run: "^TestPruneWhereDeletionIsRefused$",
		},
		{
			promise: "packs stay that an index file lists which cannot be removed",
			file:    "repo/prune.go",
			old:     "\tif e.stuck {",
			new:     "\tif false {",
			pkg:     inRepo, run: "^TestPruneWhereDeletionIsRefused$",
		},
		{
			promise: "index files that say what is unused are not merged",
			file:    "repo/mergeindex.go",
			old:     " || len(f.Unused) > 0",
			new:     "",
			pkg:     inRepo, run: "^TestMergeLeavesOddFiles$",
		},
		{
			promise: "a plan is executed under its own lock",
			file:    "repo/prune.go",
			old:     "if p.lock == nil || p.repo.carried(ctx, true) != p.lock {",
			new:     "if false {",
			pkg:     inRepo, run: "^TestPlanIsBoundToItsLock$",
		},
		{
			promise: "a pack that is listed again is not deleted, though its grace is over",
			file:    "repo/pruneplan.go",
			old: `		if listed && !doomed {
			continue
		}
		since, noted := p.noted[id]
		fresh := listed || !noted ||`,
			new: `		since, noted := p.noted[id]
		if listed && !doomed && !noted {
			continue
		}
		fresh := !noted ||`,
			pkg: inRepo, run: "^TestPruneRestores$",
		},
		{
			promise: "a backup looks whether what it counts on is still listed",
			file:    "repo/whole.go",
			old:     "\tif err := w.lists(ctx, roots); err != nil {",
			new:     "\tif err := error(nil); err != nil {",
			pkg:     inRepo, run: "^TestBackupBesideAPrune$",
		},
		{
			promise: "a backup looks whether the packs that it stored are still there",
			file:    "repo/whole.go",
			old:     "\tif err := w.ownPacks(ctx); err != nil {",
			new:     "\tif err := error(nil); err != nil {",
			pkg:     inRepo, run: "^TestBackupBesideAPrune$",
		},
		{
			promise: "a check says how much waits to be deleted",
			file:    "repo/check.go",
			old:     "\tc.checkMarks(sizes, listed)\n",
			new:     "",
			pkg:     inRepo, run: "^TestPruneWithGrace$",
		},
		{
			promise: "forget --prune --dry-run plans for when the snapshots are gone",
			file:    "cmd/jetsam/command/forget.go",
			old:     "\t\to.Without = plan.forget\n",
			new:     "",
			pkg:     inTests, run: "^TestForgetAndPrune$",
		},
	}
}
