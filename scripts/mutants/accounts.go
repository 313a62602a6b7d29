package main

// accounting: several accounts are backed up in one run, none is taken for another, and a jobs file says what it seems to say.
func accounting() []mutant {
	return []mutant{
		{
			promise: "an index that lists packs which no file lists is not gone on with",
			file:    "backup/backup.go",
			old:     "case committed || w.Stats().Packs == 0:",
			new:     "case true:",
			pkg:     inTests, run: "^TestIndexIsKept$",
		},
		{
			promise: "several accounts load the index once",
			file:    "backup/backup.go",
			old:     "case committed || w.Stats().Packs == 0:",
			new:     "case false:",
			pkg:     inTests, run: "^TestIndexIsKept$",
		},
		{
			promise: "latest is not of whichever account came last",
			file:    "cmd/jetsam/command/snapshots.go",
			old:     "len(names) > 1 && len(s.filter.Below) == 0",
			new:     "false && len(names) > 1",
			pkg:     inProgram, run: "^TestScripts/accounts$",
		},
		{
			promise: "an account that fails does not stop the others",
			file:    "cmd/jetsam/command/accounts.go",
			old:     "\t\tif ctx.Err() != nil {\n\t\t\tbreak",
			new:     "\t\tif done.err != nil {\n\t\t\tbreak",
			pkg:     inProgram, run: "^TestScripts/accounts$",
		},
		{
			promise: "a run in which an account failed is exit code 3",
			file:    "cmd/jetsam/command/accounts.go",
			old:     "case len(names) == 0:",
			new:     "case len(names) < len(r.Accounts):",
			pkg:     inProgram, run: "^TestScripts/accounts$",
		},
		{
			promise: "the snapshots of a run have one time",
			file:    "cmd/jetsam/command/accounts.go",
			old:     "j.options.Time = began",
			new:     "j.options.Time = a.p.now()",
			pkg:     inTests, run: "^TestSeveralAccounts$",
		},
		{
			promise: "two accounts of one name are not backed up under it",
			file:    "cmd/jetsam/command/accounts.go",
			old:     "known && other.key != account.Key",
			new:     "false && known && other.key != account.Key",
			pkg:     inTests, run: "^TestAccountsOfOneName$",
		},
		{
			promise: "an account that nobody names is not backed up among others",
			file:    "cmd/jetsam/command/accounts.go",
			old:     `if account.Key == "" && j.config.Account == "" {`,
			new:     `if false && account.Key == "" {`,
			pkg:     inProgram, run: "^TestScripts/accounts$",
		},
		{
			promise: "what a flag says for all contexts is refused",
			file:    "cmd/jetsam/command/jobs.go",
			old:     `if c.String(name) != "" {`,
			new:     `if false && c.String(name) != "" {`,
			pkg:     inProgram, run: "^TestScripts/accounts$",
		},
		{
			promise: "fields of a jobs file that are not known are refused",
			file:    "cmd/jetsam/command/jobs.go",
			old:     "if !known {",
			new:     "if field = new(any); false && !known {",
			pkg:     inCommand, run: "^TestJobsThatAreRefused$",
		},
		{
			promise: "fields of a jobs file are there once",
			file:    "cmd/jetsam/command/jobs.go",
			old:     "if seen[key] {",
			new:     "if false && seen[key] {",
			pkg:     inCommand, run: "^TestJobsThatAreRefused$",
		},
		{
			promise: "no password stands in a jobs file",
			file:    "cmd/jetsam/command/jobs.go",
			old:     `case strings.Contains(j.config.Servers, "@"):`,
			new:     `case strings.Contains(j.config.Servers, "@@"):`,
			pkg:     inCommand, run: "^TestJobsThatAreRefused$",
		},
		{
			promise: "files of a jobs file are named from its folder",
			file:    "cmd/jetsam/command/jobs.go",
			old:     "*file = filepath.Join(dir, *file)",
			new:     "_ = dir",
			pkg:     inTests, run: "^TestSeveralAccounts$",
		},
	}
}
