package main

// resuming: a capture that breaks off goes on in the same stream, and is what one without a break would be.
func resuming() []mutant {
	return []mutant{
		{
			promise: "a capture goes on only where the last message that came is there still",
			file:    "backup/resume.go",
			old:     "if r.known.sum(m) != sum {",
			new:     "if false && r.known.sum(m) != sum {",
			pkg:     inTests, run: "^TestRolledBackInMidCapture$",
		},
		{
			promise: "a capture does not go on where none of the last messages that came is there",
			file:    "backup/resume.go",
			old:     `return errors.New("none of the last messages that came is there any more")`,
			new:     "return nil",
			pkg:     inTests, run: "^TestCutInMidCapture$",
		},
		{
			promise: "a capture does not go on in a stream that was created anew",
			file:    "backup/resume.go",
			old:     "case !r.as.IsSame(now.StreamInfo):",
			new:     "case false:",
			pkg:     inTests, run: "^TestCutInMidCapture$",
		},
		{
			promise: "a capture does not go on in a stream that lost its end",
			file:    "backup/resume.go",
			old:     "case now.LastSeq < r.as.state.LastSeq:",
			new:     "case false:",
			pkg:     inTests, run: "^TestRolledBackInMidCapture$",
		},
		{
			promise: "a capture goes on above the last message that came",
			file:    "backup/resume.go",
			old:     "now.StreamInfo, r.last+1, want, gone.Has)",
			new:     "now.StreamInfo, r.last+2, want, gone.Has)",
			pkg:     inTests, run: "^TestCutInMidCapture$",
		},
		{
			promise: "what had come and died by then is dead in the snapshot",
			file:    "backup/resume.go",
			old:     "if r.died += r.gaps.bury(r.from, gone); r.gaps.many {",
			new:     "if r.gaps.many {",
			pkg:     inTests, run: "^TestCutInMidCapture$",
		},
		{
			promise: "what died of the earlier snapshot while an increment had broken off is dead",
			file:    "backup/increment.go",
			old:     "if is.Len() > was.Len() || r.died > 0 {",
			new:     "if r.died > 0 {",
			pkg:     inTests, run: "^TestCutInMidIncrement$",
		},
		{
			promise: "what an increment had fetched and died by then is dead",
			file:    "backup/increment.go",
			old:     "m.Dead = m.Dead.Union(is).Union(r.gaps.dead().Within(i.through+1, m.Came.Last))",
			new:     "m.Dead = m.Dead.Union(is)",
			pkg:     inTests, run: "^TestCutInMidIncrement$",
		},
		{
			promise: "consumers are read again when a capture goes on",
			file:    "backup/resume.go",
			old:     "headOf(s.StreamInfo, c.all)",
			new:     "headOf(s.StreamInfo, c.all[:0])",
			pkg:     inTests, run: "^TestCutInMidCapture$",
		},
		{
			promise: "there is an end to how often a capture goes on",
			file:    "backup/resume.go",
			old:     "k.n <= maxBreaks && k.barren < maxBarren",
			new:     "true",
			pkg:     inBackup, run: "^TestBreaksAreBounded$",
		},
		{
			promise: "it is told where a capture went on",
			file:    "cmd/jetsam/command/backup.go",
			old:     "report.Resumed = append(report.Resumed, resumedReport(x))",
			new:     "_ = x",
			pkg:     inTests, run: "^TestResumedBackupIsTold$",
		},
		{
			promise: "what came before the connection was lost is read",
			file:    "jetstream/inflow.go",
			old:     "if !errors.Is(err, ErrConnectionLost) {",
			new:     "if err != nil || !errors.Is(err, ErrConnectionLost) {",
			pkg:     inJetstream, run: "^TestInflowOfALostConnection$",
		},
		{
			promise: "a heartbeat takes no headers of what comes behind it",
			file:    "jetstream/tap.go",
			old:     `if reply == "" {`,
			new:     `if false && reply == "" {`,
			pkg:     inJetstream, run: "^TestTapForgets$",
		},
		{
			promise: "the window of a line that bears it grows again",
			file:    "jetstream/deliveries.go",
			old:     "			d.widen()\n",
			new:     "",
			pkg:     inJetstream, run: "^TestFetchAfterALineProvedSlow$",
		},
	}
}
