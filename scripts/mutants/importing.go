package main

// importing: what directories hold is in the snapshot, and nothing that is not what they say; what cannot be taken is named.
func importing() []mutant {
	return []mutant{
		{
			promise: "an archive is of the state that stands beside it",
			file:    "backup/import.go",
			old:     "if err := sameState(d.State, head); err != nil {",
			new:     "if err := sameState(d.State, head); false && err != nil {",
			pkg:     inTests, run: "^TestImportOfDamagedDumps$",
		},
		{
			promise: "an archive has no more than its state says",
			file:    "backup/import.go",
			old:     "return msg, possible(d.State, &sofar)",
			new:     "return msg, nil",
			pkg:     inTests, run: "^TestImportOfDamagedDumps$",
		},
		{
			promise: "a dump that lacks messages is marked",
			file:    "backup/import.go",
			old:     "Torn: c.Torn, Consumers: fidelity,",
			new:     "Consumers: fidelity,",
			pkg:     inTests, run: "^TestImportOfABusyStream$",
		},
		{
			promise: "a dump that cannot be taken is named in the snapshot",
			file:    "backup/import.go",
			old:     `case s.Name != "":`,
			new:     `case s.Name == "":`,
			pkg:     inTests, run: "^TestImportOfDamagedDumps$",
		},
		{
			promise: "a snapshot of dumps is of the time of their files",
			file:    "backup/import.go",
			old:     "if d.Err == nil && d.Time.After(at) {",
			new:     "if d.Err == nil && at.IsZero() {",
			pkg:     inTests, run: "^TestImportIsDated$",
		},
		{
			promise: "no stream is taken from one of two directories",
			file:    "backup/dump.go",
			old:     `d.Name != "" && d.Name == before.Name`,
			new:     "false",
			pkg:     inTests, run: "^TestImportOfOneStreamTwice$",
		},
		{
			promise: "a stream's name is no path",
			file:    "backup/dump.go",
			old:     "return jetstream.CheckStreamName(name)",
			new:     "return nil",
			pkg:     inTests, run: "^TestImportOfDamagedDumps$",
		},
		{
			promise: "of two archives none is taken",
			file:    "backup/dump.go",
			old:     "case 1:\n\tdefault:",
			new:     "case 1, 2:\n\tdefault:",
			pkg:     inTests, run: "^TestImportOfDamagedDumps$",
		},
		{
			promise: "imported streams whose creation nobody knows are not taken for one another",
			file:    "restore/between.go",
			old:     "!doc.Created.IsZero() && ",
			new:     "",
			pkg:     inTests, run: "^TestImportsAreJoinedWithCare$",
		},
	}
}
