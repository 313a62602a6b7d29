package main

// merging: index files that piled up become few, nothing that they list is lost, and nobody is disturbed.
func merging() []mutant {
	return []mutant{
		{
			promise: "there are few index files",
			file:    "repo/mergeindex.go",
			old:     "end = i + 1",
			new:     "end = 0",
			pkg:     inRepo, run: "^TestIndexFilesStayFew$",
		},
		{
			promise: "an entry of the index is rewritten a few times",
			file:    "repo/mergeindex.go",
			old:     "return small[:end]",
			new:     "return small",
			pkg:     inRepo, run: "^TestIndexFilesStayFew$",
		},
		{
			promise: "one backup merges a bounded part of the index",
			file:    "repo/mergeindex.go",
			old:     "bytes > mergeBytes {",
			new:     "false {",
			pkg:     inRepo, run: "^TestPiledIsBounded$",
		},
		{
			promise: "index files are not merged beyond the length that restic keeps",
			file:    "repo/mergeindex.go",
			old:     "blobs+files[n].blobs() <= indexBlobs)",
			new:     "true)",
			pkg:     inRepo, run: "^TestMergeAll$",
		},
		{
			promise: "a merged index file is stored before those that it lists are removed",
			file:    "repo/commit.go",
			old: `	if _, _, err := w.saveReadBack(ctx, storage.Index, text); err != nil {
		return err
	}
	for _,`,
			new: `	defer func() { _, _, _ = w.saveReadBack(ctx, storage.Index, text) }()
	for _,`,
			pkg: inRepo, run: "^TestEveryFaultOfAMerge$",
		},
		{
			promise: "a superseded index file that lists more is not removed",
			file:    "repo/mergeindex.go",
			old:     "case listed.have(f):",
			new:     "default:",
			pkg:     inRepo, run: "^TestSupersededFileThatListsMore$",
		},
		{
			promise: "an index file with fields that are not known is not merged",
			file:    "repo/mergeindex.go",
			old:     "f.bad != nil || f.Unknown ||",
			new:     "f.bad != nil ||",
			pkg:     inRepo, run: "^TestMergeLeavesOddFiles$",
		},
		{
			promise: "what two index files say differently of a pack stays in both",
			file:    "repo/mergeindex.go",
			old:     "len(p.Blobs) == 0 || ok && !equalBlobs(known, p.Blobs) {",
			new:     "len(p.Blobs) == 0 || ok && known == nil {",
			pkg:     inRepo, run: "^TestMergeOfDifferentLists$",
		},
		{
			promise: "a pack is listed once in a merged index file",
			file:    "repo/mergeindex.go",
			old:     "seen[p.ID] = struct{}{}",
			new:     "",
			pkg:     inRepo, run: "^TestMergeTwice$",
		},
		{
			promise: "what a merge left behind is removed by the next backup",
			file:    "repo/mergeindex.go",
			old:     "if len(left) == 0 && len(piled(infos)) == 0 {",
			new:     "if len(piled(infos)) == 0 {",
			pkg:     inRepo, run: "^TestEveryFaultOfAMerge$",
		},
		{
			promise: "where nothing can be removed, merged index files do not pile up",
			file:    "repo/loadindex.go",
			old:     "l.left[id] = f.id",
			new:     "",
			pkg:     inRepo, run: "^TestMergeWhereNothingCanBeRemoved$",
		},
		{
			promise: "where nothing can be removed, that is no reason to warn",
			file:    "repo/commit.go",
			old:     "case refused(err):\n\t\treturn errBusy",
			new:     "case false:\n\t\treturn errBusy",
			pkg:     inRepo, run: "^TestMergeWhereNothingCanBeRemoved$",
		},
		{
			promise: "a merge that failed is said",
			file:    "repo/commit.go",
			old:     "if err != nil && !errors.Is(err, errBusy) && storage.Cancelled(ctx) == nil {",
			new:     "if false && err != nil {",
			pkg:     inRepo, run: "^TestMergeOnFullDisk$",
		},
		{
			promise: "nothing is merged while somebody may be about to read the index",
			file:    "repo/lock.go",
			old:     "case !l.Dead && r.wallClock().Sub(l.Time) < lockSettled:",
			new:     "case false && l.Dead:",
			pkg:     inRepo, run: "^TestMergeWaitsForOthers$",
		},
		{
			promise: "whoever comes while index files are removed finds the rest",
			file:    "repo/commit.go",
			old: `	if err := w.lock.settled(ctx); err != nil {
		return err
	}
	err := w.repo.be.Remove`,
			new: `	err := w.repo.be.Remove`,
			pkg: inRepo, run: "^TestMergeStopsForOthers$",
		},
		{
			promise: "nobody merges an index file before it was read back",
			file:    "repo/commit.go",
			old:     "_ = w.lock.show(ctx)",
			new:     "",
			pkg:     inRepo, run: "^TestOneOfTwoMerges$",
		},
		{
			promise: "whoever merges is seen by others",
			file:    "repo/lock.go",
			old:     "if l.age() >= lockSettled {",
			new:     "if false {",
			pkg:     inRepo, run: "^TestMergeThatTakesLong$",
		},
		{
			promise: "a reader looks again where index files were merged under its hands",
			file:    "repo/loadindex.go",
			old:     "if len(gone) == 0 || try == indexTries {",
			new:     "if true {",
			pkg:     inRepo, run: "^TestLoadIndexDuringMerge$",
		},
		{
			promise: "a list with a file that is never there is not read for ever",
			file:    "repo/loadindex.go",
			old:     "try == indexTries {",
			new:     "false {",
			pkg:     inRepo, run: "^TestLoadIndexOfAGhost$",
			hangs: "20s",
		},
		{
			promise: "a reader that is used again does not read the index anew after a merge",
			file:    "repo/loadindex.go",
			old:     "	delete(rd.files, id)",
			new:     "",
			pkg:     inRepo, run: "^TestReaderAfterItsMerge$",
		},
		{
			promise: "an index file is decoded with word of fields that are not known",
			file:    "index/scan.go",
			old:     "s.skips = true",
			new:     "",
			pkg:     inIndex, run: "^TestDecodeAccepts$",
		},
	}
}
