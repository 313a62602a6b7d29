package main

// copying: what is copied is whole and moves once; what the source has lost is named, and costs no other snapshot.
func copying() []mutant {
	return []mutant{
		{
			promise: "a blob that is there does not move",
			file:    "repo/copy.go",
			old:     "return taken || c.has(h)",
			new:     "return taken",
			pkg:     inRepo, run: "^TestCopy$",
		},
		{
			promise: "no copy is stored of which packs were deleted meanwhile",
			file:    "repo/copy.go",
			old:     "if err := w.whole(ctx, roots...); err != nil {",
			new:     "if err := error(nil); err != nil {",
			pkg:     inRepo, run: "^TestNoSnapshotBesideAPrune$",
		},
		{
			promise: "blobs that lie together come with one request",
			file:    "repo/copyread.go",
			old:     "return b.Pack == first.Pack &&",
			new:     "return false && b.Pack == first.Pack &&",
			pkg:     inRepo, run: "^TestCopy$",
		},
		{
			promise: "no more is read than what has to move",
			file:    "repo/copyread.go",
			old:     "int64(b.Offset)-s.end <= copyGap &&",
			new:     "int64(b.Offset)-s.end <= 1<<30 &&",
			pkg:     inRepo, run: "^TestCopyReadsNoGaps$",
		},
		{
			promise: "what was moved is compared with its hash",
			file:    "repo/copyread.go",
			old:     "if err == nil && len(plain) > 0 && blob.Sum(plain) == b.ID {",
			new:     "if err == nil && len(plain) > 0 {",
			pkg:     inRepo, run: "^TestCopyComparesHashes$",
		},
		{
			promise: "what a snapshot lacks is lost for others too",
			file:    "repo/copy.go",
			old:     "		s.Err = lost.err\n",
			new:     "		s.Err = lost.err\n		maps.Copy(c.whole, s.seen)\n",
			pkg:     inRepo, run: "^TestCopyOfDamaged$",
		},
		{
			promise: "what the source has lost does not end the copy",
			file:    "repo/copy.go",
			old:     "return c.answers(ctx, lost.err)",
			new:     "return lost.err",
			pkg:     inRepo, run: "^TestCopyOfDamaged$",
		},
		{
			promise: "a snapshot is stored after its blobs are listed",
			file:    "repo/copy.go",
			old:     "if err := w.storeIndex(ctx, w.takeUnindexed()); err != nil {\n		return err\n	}\n	var roots",
			new:     "var roots",
			pkg:     inRepo, run: "^TestCopy$",
		},
		{
			promise: "a snapshot that was copied before is known by its first ID",
			file:    "repo/copy.go",
			old:     "		origin = s.Original\n",
			new:     "",
			pkg:     inRepo, run: "^TestCopy$",
		},
		{
			promise: "a snapshot with other tags is another one",
			file:    "repo/copy.go",
			old:     " && slices.Equal(a.Tags, b.Tags)",
			new:     "",
			pkg:     inRepo, run: "^TestCopyOfTagged$",
		},
		{
			promise: "the parent, which is not there, is not named",
			file:    "repo/copy.go",
			old:     `	delete(fields, "parent")` + "\n",
			new:     "",
			pkg:     inRepo, run: "^TestCopyKeepsFields$",
		},
		{
			promise: "a large snapshot is listed before it is moved whole",
			file:    "repo/copy.go",
			old:     "if c.moved-c.listed < copyListed {",
			new:     "if true {",
			pkg:     inRepo, run: "^TestCopyListsWhatItMoved$",
		},
		{
			promise: "a dry run writes nothing",
			file:    "repo/copy.go",
			old:     "	if c.o.DryRun {\n		return c.look(ctx)\n	}\n",
			new:     "",
			pkg:     inRepo, run: "^TestCopyDryRun$",
		},
		{
			promise: "a repository is not copied into itself",
			file:    "cmd/jetsam/command/copy.go",
			old:     "case source.ID() == target.ID() && source",
			new:     "case false && source",
			pkg:     inTests, run: "^TestCopyCommand$",
		},
		{
			promise: "a snapshot that is not copied shows in the exit code",
			file:    "cmd/jetsam/command/copy.go",
			old:     "	case err != nil, first == nil:\n",
			new:     "	case true:\n",
			pkg:     inTests, run: "^TestCopyOfADamagedRepository$",
		},
	}
}
