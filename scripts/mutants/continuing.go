package main

// continuing: a snapshot that goes on from an earlier one is what a whole capture would be.
func continuing() []mutant {
	return []mutant{
		{
			promise: "what is common with the earlier log is found by its bytes",
			file:    "streamlog/log.go",
			old:     "return e.Seq == m.Seq && bytes.Equal(e.Raw, m.Raw)",
			new:     "return e.Seq == m.Seq || bytes.Equal(e.Raw, m.Raw)",
			pkg:     inTests, run: "^TestIncrementsOfAnotherLife$",
		},
		{
			promise: "a message that died since is noticed",
			file:    "backup/increment.go",
			old:     "if same && i.info.Deleted == 0 &&",
			new:     "if same || i.info.Deleted == 0 &&",
			pkg:     inTests, run: "^TestIncrements$",
		},
		{
			promise: "whatever happened to a stream, what died since is noticed",
			file:    "backup/increment.go",
			old:     "same && i.info.Deleted == 0 &&",
			new:     "same || i.info.Deleted == 0 &&",
			pkg:     inTests, run: "^TestModel$",
		},
		{
			promise: "an increment into which a purge fell is read again, whole",
			file:    "backup/increment.go",
			old:     `if v.torn == "" && died > 0 &&`,
			new:     `if false && died > 0 &&`,
			pkg:     inTests, run: "^TestIncrementInMidPurge$",
		},
		{
			promise: "messages above the common one are not taken from the earlier log",
			file:    "streamlog/splice.go",
			old:     "if m.Seq <= s.next.Through && !isDead(m.Seq) {",
			new:     "if !isDead(m.Seq) {",
			pkg:     inStreamlog, run: "^TestContinue$",
		},
		{
			promise: "dead entries of a group that stays are named",
			file:    "streamlog/splice.go",
			old:     "touched: before > 0 || alive < x.Messages}",
			new:     "touched: before > 0}",
			pkg:     inStreamlog, run: "^TestContinue$",
		},
		{
			promise: "a message that was dead and is back is not left out",
			file:    "streamlog/splice.go",
			old:     "case before > 0 && s.log.Dead.Within(x.First, last).Minus(s.next.Dead).Len() > 0:",
			new:     "case false:",
			pkg:     inStreamlog, run: "^TestContinue$",
		},
		{
			promise: "a message that the earlier log never had is not left out",
			file:    "streamlog/splice.go",
			old:     "if err == io.EOF && n != want {",
			new:     "if false {",
			pkg:     inStreamlog, run: "^TestContinue$",
		},
		{
			promise: "where groups were stored anew, nothing is dead",
			file:    "streamlog/splice.go",
			old:     "dead := m.Dead.Union(l.Dead.Minus(m.cleared))",
			new:     "dead := m.Dead.Union(l.Dead)",
			pkg:     inStreamlog, run: "^TestContinue$",
		},
		{
			promise: "a log of which less than half lives is stored anew",
			file:    "streamlog/splice.go",
			old:     "case 2*alive < whole:",
			new:     "case false:",
			pkg:     inStreamlog, run: "^TestContinue$",
		},
		{
			promise: "the hash of a cut goes on where the tail ends",
			file:    "chunker/chunker.go",
			old:     "c.hash.roll(last[len(last)-hashed:])",
			new:     "_ = hashed",
			pkg:     "./chunker", run: "^TestResume$",
		},
		{
			promise: "many small increments do not write the tail over and over",
			file:    "streamlog/tail.go",
			old:     "if alike < mostAlike {",
			new:     "if alike < 1 {",
			pkg:     inStreamlog, run: "^TestSmallIncrements$",
		},
		{
			promise: "what is dead does not come back",
			file:    "restore/log.go",
			old:     "if m, err := next(); err != nil || !gone(m.Seq) {",
			new:     "if m, err := next(); err != nil || gone != nil {",
			pkg:     inTests, run: "^TestIncrements$",
		},
		{
			promise: "whatever happened to a stream, what is dead does not come back",
			file:    "restore/log.go",
			old:     "err != nil || !gone(m.Seq) {",
			new:     "err != nil || gone != nil {",
			pkg:     inTests, run: "^TestModel$",
		},
	}
}
