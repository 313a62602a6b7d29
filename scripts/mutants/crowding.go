package main

// crowding is what is promised of accounts with very many streams.
func crowding() []mutant {
	const once = "^TestDirectoryOfStreamsIsReadOnce$"
	return []mutant{
		{
			promise: "a backup reads once which streams an earlier snapshot holds",
			file:    "backup/lineage.go",
			old:     "	s := streamlog.OpenDir(ctx, src, a.dir)\n",
			new:     "	streamlog.OpenDirectory(ctx, src, a.tree)\n	s := streamlog.OpenDir(ctx, src, a.dir)\n",
			pkg:     inTests, run: once,
		},
		{
			promise: "a plan reads once which streams a snapshot holds",
			file:    "restore/plan.go",
			old:     "		held := streamlog.OpenDir(ctx, p.rd, dirs[name])\n",
			new:     "		openDirectory(ctx, p.rd, p.Snapshot)\n		held := streamlog.OpenDir(ctx, p.rd, dirs[name])\n",
			pkg:     inTests, run: once,
		},
		{
			promise: "a plan reads nothing of streams that are not chosen",
			file:    "restore/plan.go",
			old:     "		names, dirs[name] = append(names, name), dir\n",
			new:     "		streamlog.OpenDir(ctx, p.rd, dir)\n		names, dirs[name] = append(names, name), dir\n",
			pkg:     inTests, run: once,
		},
		{
			promise: "a plan for a moment reads once which streams its snapshots hold",
			file:    "restore/moment.go",
			old:     "			if e.err = err; err == nil {\n",
			new:     "			d, err = streamlog.OpenDirectory(ctx, m.rd, sn.Tree)\n			if e.err = err; err == nil {\n",
			pkg:     inTests, run: once,
		},
		{
			promise: "what is the same in two snapshots is not opened to find messages in it",
			file:    "restore/find.go",
			old:     "ok && before.tree == dir.Subtree {\n",
			new:     "ok && streamlog.OpenDir(ctx, s.p.rd, dir).Err == nil && before.tree == dir.Subtree {\n",
			pkg:     inTests, run: "^TestFindDoesNotOpenWhatIsTheSame$",
		},
		{
			promise: "of many streams, those are found that listen to a subject by a wildcard",
			file:    "restore/subjects.go",
			old:     `range []string{token, "*"} {`,
			new:     `range []string{token} {`,
			pkg:     inRestore, run: "^TestClaimsOverlap$",
		},
		{
			promise: "what is the same of many streams is said once",
			file:    "cmd/jetsam/command/crowd.go",
			old:     "case !told[s.many]:",
			new:     "default:",
			pkg:     inCommand, run: "^TestCrowd$",
		},
		{
			promise: "what is said of a few streams, or is of one only, is said in full",
			file:    "cmd/jetsam/command/crowd.go",
			old:     `s.many == "" || len(names) <= mostAlike`,
			new:     "len(names) <= 1",
			pkg:     inCommand, run: "^TestCrowd$",
		},
		{
			promise: "a stream that was read once is not said to be torn in two attempts",
			file:    "cmd/jetsam/command/backup.go",
			old:     `if s.Retried == "" { // which`,
			new:     `if false { // which`,
			pkg:     inCommand, run: "^TestTornInWords$",
		},
		{
			promise: "an error that many names are missing tells some of them",
			file:    "jetstream/list.go",
			old:     "names[:min(len(names), mostNamed)]",
			new:     "names",
			pkg:     inJetstream, run: "^TestMissingErrorOfMany$",
		},
	}
}
