package main

// rewriting: what is taken out of snapshots is nowhere in them, nothing else is, and no snapshot goes before another has its place.
func rewriting() []mutant {
	const file, ofDead, inMany = "streamlog/rewrite.go", "^TestRewriteOfDead$", "^TestRewriteTakesMessagesOut$"
	return []mutant{
		{
			promise: "what had been deleted is taken out of the log too",
			file:    file,
			old:     "			case unwanted && dead:\n				w.out.deleted++\n",
			new:     "			case unwanted && dead:\n				w.out.deleted++\n				return m, nil\n",
			pkg:     inStreamlog, run: ofDead,
		},
		{
			promise: "no snapshot is stored anew of which packs were deleted meanwhile",
			file:    "repo/rewrite.go",
			old:     "if err := w.whole(ctx, roots...); err != nil {",
			new:     "if err := error(nil); err != nil {",
			pkg:     inRepo, run: "^TestNoSnapshotBesideAPrune$",
		},
		{
			promise: "what is dead for another reason does not come back",
			file:    file,
			old:     "			case !dead:\n				return m, nil\n",
			new:     "			default:\n				return m, nil\n",
			pkg:     inStreamlog, run: ofDead,
		},
		{
			promise: "nothing is dead in a group that was stored anew",
			file:    file,
			old:     "dead = x.log.Dead.Minus(NewDead(slices.Values(x.cleared)))",
			new:     "dead = x.log.Dead",
			pkg:     inStreamlog, run: ofDead,
		},
		{
			promise: "groups that hold nothing unwanted stay as they are",
			file:    file,
			old:     "		if !touched[j] {\n",
			new:     "		if false {\n",
			pkg:     inStreamlog, run: ofDead,
		},
		{
			promise: "a group that may hold unwanted messages by its bounds is read",
			file:    file,
			old:     "g.To >= u.Since.UnixNano()",
			new:     "g.From >= u.Since.UnixNano()",
			pkg:     inStreamlog, run: "^TestUnwantedBounds$",
		},
		{
			promise: "a rewritten stream begins with its first message that is left",
			file:    file,
			old:     "	if was != nil && x.seqs.Has(was.seq) {",
			new:     "	if false && was != nil {",
			pkg:     inStreamlog, run: ofDead,
		},
		{
			promise: "the state counts the bytes that are left",
			file:    file,
			old:     "	s.Bytes -= min(s.Bytes, x.bytes)\n",
			new:     "",
			pkg:     inStreamlog, run: ofDead,
		},
		{
			promise: "no consumer waits for a message that was taken out",
			file:    file,
			old:     "return !x.seqs.Has(seq)",
			new:     "return true",
			pkg:     inTests, run: inMany,
		},
		{
			promise: "what was stored anew is read back, and holds nothing unwanted",
			file:    file,
			old:     "			if unwanted {\n",
			new:     "			if unwanted && false {\n",
			pkg:     inStreamlog, run: "^TestRewriteReadsBack$",
		},
		{
			promise: "what takes the place of a part is remembered with what was dead in it",
			file:    file,
			old:     "sha256.Sum256(EncodeSegment(within))",
			new:     "sha256.Sum256(EncodeSegment(within.Within(1, 0)))",
			pkg:     inStreamlog, run: ofDead,
		},
		{
			promise: "packs and index are stored before a snapshot takes another's place",
			file:    "repo/rewrite.go",
			old:     "	if err := w.flush(ctx); err != nil {\n		return err\n	}\n	var roots",
			new:     "	var roots",
			pkg:     inTests, run: inMany,
		},
		{
			promise: "the old snapshot goes when the new one is there",
			file:    "repo/rewrite.go",
			old:     "		if s.ID, err = w.saveUnpacked(ctx, storage.Snapshot, text); err != nil {\n			s.ID = storage.ID{}\n			return err\n		}\n",
			new:     "		s.ID, _ = w.saveUnpacked(ctx, storage.Snapshot, text)\n",
			pkg:     inTests, run: "^TestFaultAtEveryCallOfRewrite$",
		},
		{
			promise: "a rewriting that was killed makes no snapshot twice",
			file:    "repo/rewrite.go",
			old:     "			s.ID, s.Known = other.ID(), true\n",
			new:     "",
			pkg:     inTests, run: "^TestRewriteAgain$",
		},
		{
			promise: "a dry run rewrites nothing",
			file:    "repo/rewrite.go",
			old:     "	case o.DryRun:\n",
			new:     "	case false:\n",
			pkg:     inTests, run: inMany,
		},
		{
			promise: "what is protected is not replaced unless that is meant",
			file:    "cmd/jetsam/command/rewrite.go",
			old:     "	if o.Forget && !c.Bool(\"protected\") {",
			new:     "	if false {",
			pkg:     inTests, run: "^TestRewriteKeepsOldSnapshots$",
		},
		{
			promise: "a backup that goes on from an old snapshot does not bring back what was taken out of it",
			file:    "repo/rewrite.go",
			old:     "err = r.locked(ctx, o.Forget, x.run)",
			new:     "err = r.locked(ctx, false, x.run)",
			pkg:     inTests, run: "^TestRewriteAgain$",
		},
	}
}
