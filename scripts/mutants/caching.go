package main

// caching: copies on this machine never stand for what is not the same.
func caching() []mutant {
	return []mutant{
		{
			promise: "a copy is compared with its hash",
			file:    "cache/cache.go",
			old:     "if sum(key, content) != [sha256.Size]byte(stored) {",
			new:     "if false {",
			pkg:     inCache, run: "^TestDamagedCopies$",
		},
		{
			promise: "a copy is of what was asked for",
			file:    "cache/cache.go",
			old:     "	h.Write(name[:])\n",
			new:     "	_ = name\n",
			pkg:     inCache, run: "^TestDamagedCopies$",
		},
		{
			promise: "what was not used for longest goes first",
			file:    "cache/cache.go",
			old:     "return a.time.Compare(b.time)",
			new:     "return b.time.Compare(a.time)",
			pkg:     inCache, run: "^TestTheLastUsedStay$",
		},
		{
			promise: "a copy of a file that is not the file is not read",
			file:    "repo/cached.go",
			old:     "if storage.Sum(data) == f.ID && ",
			new:     "if ",
			pkg:     inRepo, run: "^TestCopiesAreReadInstead$",
		},
		{
			promise: "only a blob that was found sound is kept",
			file:    "repo/reader.go",
			old:     "	keep := rd.repo.keepBlob(l, sealed)\n",
			new:     "	keep := rd.repo.keepBlob(l, sealed)\n	keep()\n",
			pkg:     inRepo, run: "^TestNothingUnsoundIsKept$",
		},
		{
			promise: "who asks what the storage holds gets no copies",
			file:    "cmd/jetsam/command/cache.go",
			old:     `[]string{"check", `,
			new:     `[]string{`,
			pkg:     inProgram, run: "^TestScripts$/^cache$",
		},
	}
}
