package main

// forgetting: what a policy keeps is kept, what is said to be gone is gone, and a snapshot with other tags is never the last of its kind.
func forgetting() []mutant {
	return []mutant{
		{
			promise: "who forgets is told that this frees nothing yet, and how it does",
			file:    "cmd/jetsam/command/forget.go",
			old:     "if err == nil && !plan.dry &&",
			new:     "if false &&",
			pkg:     inProgram, run: "^TestScripts/forget$",
		},
		{
			promise: "who forgets nothing is not",
			file:    "cmd/jetsam/command/forget.go",
			old:     `!c.Bool("prune") && len(plan.forget) > 0 {`,
			new:     `!c.Bool("prune") {`,
			pkg:     inProgram, run: "^TestScripts/forget$",
		},
		{
			promise: "what is protected is kept whatever a policy says",
			file:    "retention/policy.go",
			old:     "if slices.Contains(s.Tags, Protected) {",
			new:     "if false {",
			pkg:     inRetention, run: "^TestTags$",
		},
		{
			promise: "spans count back from the newest snapshot, and not from now",
			file:    "retention/policy.go",
			old:     "	newest := newestUntil(sorted, now)\n",
			new:     "	newest := now\n",
			pkg:     inRetention, run: "^TestApply$",
		},
		{
			promise: "a snapshot that is dated into the future is where no span begins",
			file:    "retention/policy.go",
			old:     "		if !s.Time.After(now) {\n			return s.Time\n		}\n",
			new:     "		return s.Time\n",
			pkg:     inRetention, run: "^TestFuture$",
		},
		{
			promise: "what it takes to restore to any second includes the snapshot before",
			file:    "retention/policy.go",
			old:     "		v.Reasons = append(v.Reasons, \"any second within \"+p.PITR.String())\n		if !v.Snapshot.Time.After(begin) {\n			return\n		}\n",
			new:     "		if !v.Snapshot.Time.After(begin) {\n			return\n		}\n		v.Reasons = append(v.Reasons, \"any second within \"+p.PITR.String())\n",
			pkg:     inRetention, run: "^TestApply$",
		},
		{
			promise: "a policy forgets what restic forgets",
			file:    "retention/policy.go",
			old:     "case nth == 0 || in != last[n]:",
			new:     "case nth > 0 && in != last[n]:",
			pkg:     inTests, run: "^TestForgetAsRestic$",
		},
		{
			promise: "what is said to be forgotten is gone",
			file:    "repo/forget.go",
			old:     "	return r.gone(ctx, f)\n",
			new:     "	return nil\n",
			pkg:     inRepo, run: "^TestEveryFaultOfForgetting$",
		},
		{
			promise: "a snapshot with other tags is read back before the old one goes",
			file:    "repo/forget.go",
			old:     "if err := r.readBack(ctx, storage.File{Kind: storage.Snapshot, ID: stored}, size); err != nil {",
			new:     "if _ = size; false {",
			pkg:     inRepo, run: "^TestEveryFaultOfForgetting$",
		},
		{
			promise: "nobody forgets beside one who deletes",
			file:    "repo/forget.go",
			old:     "	err = r.locked(ctx, false, func(ctx context.Context) error {\n		var errs",
			new:     "	err = func(f func(context.Context) error) error { return f(ctx) }(func(ctx context.Context) error {\n		var errs",
			pkg:     inRepo, run: "^TestForgetBesideOthers$",
		},
		{
			promise: "a policy that keeps nothing forgets nothing",
			file:    "cmd/jetsam/command/forget.go",
			old:     "if !all && !slices.ContainsFunc",
			new:     "if false && !all && !slices.ContainsFunc",
			pkg:     inProgram, run: "^TestScripts$/^forget$",
		},
		{
			promise: "a dry run forgets nothing",
			file:    "cmd/jetsam/command/forget.go",
			old:     "if !plan.dry && len(plan.forget) > 0 {",
			new:     "if len(plan.forget) > 0 {",
			pkg:     inProgram, run: "^TestScripts$/^forget$",
		},
	}
}
