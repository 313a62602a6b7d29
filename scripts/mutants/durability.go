package main

// durability: what is acknowledged is on disk, whole, and in the order in which one file needs the other.
func durability() []mutant {
	return []mutant{
		{
			promise: "a file's bytes are synced before it has its name",
			file:    "storage/local/save.go",
			old:     "return ignoreUnsupported(f.Sync())",
			new:     "return nil",
			pkg:     inLocal, run: "^TestCrashAtEveryStep$",
		},
		{
			promise: "a file counts as saved when its name is synced, and not if that fails",
			file:    "storage/local/save.go",
			old:     "if err := b.disk.SyncDir(filepath.Dir(path)); err != nil {",
			new:     "if err := b.disk.SyncDir(filepath.Dir(path)); false && err != nil {",
			pkg:     inLocal, run: "^TestSaveFaults$",
		},
		{
			promise: "the folder is synced after the file has its name",
			file:    "storage/local/save.go",
			old: `	if err := b.place(tmp, path); err != nil {
		return afterCleanup(err, b.discard(tmp))
	}
	if err := b.disk.SyncDir(filepath.Dir(path)); err != nil {`,
			new: `	if err := b.disk.SyncDir(filepath.Dir(path)); err != nil {
		return afterCleanup(err, b.discard(tmp))
	}
	if err := b.place(tmp, path); err != nil {`,
			pkg: inLocal, run: "^TestCrashAtEveryStep$",
		},
		{
			promise: "a removal is synced",
			file:    "storage/local/local.go",
			old:     "return b.disk.SyncDir(filepath.Dir(path))",
			new:     "return nil",
			pkg:     inLocal, run: "^TestCrashAtEveryStep$",
		},
		{
			promise: "a folder made for a file is synced",
			file:    "storage/local/layout.go",
			old:     "return disk.SyncDir(parent)",
			new:     "return nil",
			pkg:     inLocal, run: "^TestCrashAtEveryStep$",
		},
		{
			promise: "the folders of packs are synced",
			file:    "storage/local/layout.go",
			old:     "if err := b.disk.SyncDir(data); err != nil {",
			new:     "if err := error(nil); err != nil {",
			pkg:     inLocal, run: "^TestCreateSyncsEveryFolder$",
		},
		{
			promise: "the folders of the layout are synced",
			file:    "storage/local/layout.go",
			old:     "return b.disk.SyncDir(b.dir)",
			new:     "return nil",
			pkg:     inLocal, run: "^TestCreateSyncsEveryFolder$",
		},
		{
			promise: "the operating system is asked to sync folders",
			file:    "storage/local/os_unix.go",
			old:     "err = ignoreUnsupported(dir.Sync())",
			new:     "err = nil",
			pkg:     inTests, run: "^TestSyncsReachTheSystem$",
		},
		{
			promise: "a file that did not arrive whole gets no name",
			file:    "storage/local/save.go",
			old:     "if info.Size() != int64(len(data)) {",
			new:     "if false && info.Size() != int64(len(data)) {",
			pkg:     inLocal, run: "^TestSaveMeasuresWhatArrived$",
		},
		{
			promise: "a file that is there is not replaced",
			file:    "storage/local/save.go",
			old:     "err := b.disk.Link(tmp, path)",
			new:     "err := b.disk.Rename(tmp, path)",
			pkg:     inLocal, run: "^TestSaveFaults$",
		},
		{
			promise: "a directory that was replaced is noticed",
			file:    "storage/local/local.go",
			old:     "case !os.SameFile(now, b.identity):",
			new:     "case false && !os.SameFile(now, b.identity):",
			pkg:     inLocal, run: "^TestGone$",
		},
		{
			promise: "a full disk is told from other errors",
			file:    "storage/local/os_unix.go",
			old:     "return errors.Is(err, syscall.ENOSPC) ||",
			new:     "return",
			pkg:     inLocal, run: "^TestErrorsAreTranslated$",
		},
		{
			promise: "files are readable for their owner only, while they are written",
			file:    "storage/local/fs.go",
			old:     "os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)",
			new:     "os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)",
			pkg:     inLocal, run: "^TestFilesAreNobodysWhileWritten$",
		},
		{
			promise: "files are readable for their owner only",
			file:    "storage/local/layout.go",
			old:     "private = modes{dir: 0o700, file: 0o400}",
			new:     "private = modes{dir: 0o700, file: 0o444}",
			pkg:     inLocal, run: "^TestFilesAreReadOnly$",
		},
		{
			promise: "folders are open to their owner only",
			file:    "storage/local/layout.go",
			old:     "private = modes{dir: 0o700, file: 0o400}",
			new:     "private = modes{dir: 0o755, file: 0o400}",
			pkg:     inLocal, run: "^TestCreateMakesTheLayout$",
		},
		{
			promise: "the snapshot is stored after the index",
			file:    "repo/commit.go",
			old: `	if err := w.storeIndex(ctx, w.takeUnindexed()); err != nil {
		return storage.ID{}, err
	}`,
			new: "	defer func() { _ = w.storeIndex(ctx, w.takeUnindexed()) }()",
			pkg: inRepo, run: "^TestWriteOrder$",
		},
		{
			promise: "packs are stored before the index that lists them",
			file:    "repo/commit.go",
			old: `	if err := w.flushPacks(); err != nil {
		return storage.ID{}, err
	}`,
			new: `	defer func() { _ = w.flushPacks() }()`,
			pkg: inRepo, run: "^TestWriteOrder$",
		},
		{
			promise: "a pack is known to others when it is stored, not before",
			file:    "repo/commit.go",
			old: `	if err := w.save(ctx, storage.File{Kind: storage.Pack, ID: id}, data); err != nil {
		return err
	}
	size := len(data)`,
			new: `	size := len(data)
	defer func() { _ = w.save(ctx, storage.File{Kind: storage.Pack, ID: id}, data) }()`,
			pkg: inRepo, run: "^TestWriteOrder$",
		},
		{
			promise: "a snapshot's root was saved",
			file:    "repo/commit.go",
			old:     "!w.Has(root) {",
			new:     "false && !w.Has(root) {",
			pkg:     inRepo, run: "^TestCommitRefuses$",
		},
		{
			promise: "the storage is asked whether it has a pack that was saved",
			file:    "repo/commit.go",
			old:     "return w.repo.stored(ctx, f, len(data))",
			new:     "return nil",
			pkg:     inRepo, run: "^TestNoSnapshotOfWhatIsNotStored$",
		},
		{
			promise: "a saved file is there in full length",
			file:    "repo/files.go",
			old:     "case info.Size != int64(size):",
			new:     "case false && info.Size != int64(size):",
			pkg:     inRepo, run: "^TestNoSnapshotOfWhatIsNotStored$",
		},
		{
			promise: "index files and snapshots are read back after they were saved",
			file:    "repo/commit.go",
			old:     "return id, size, w.repo.readBack(ctx, storage.File{Kind: k, ID: id}, size)",
			new:     "return id, size, w.repo.stored(ctx, storage.File{Kind: k, ID: id}, size)",
			pkg:     inRepo, run: "^TestNoSnapshotOfWhatIsNotStored$",
		},
		{
			promise: "the config of a new repository comes last",
			file:    "repo/repo.go",
			old: `	if r.keyID, err = r.saveKey(ctx, password); err != nil {
		return nil, err
	}
`,
			new: `	defer func() { r.keyID, _ = r.saveKey(ctx, password) }()
`,
			pkg: inRepo, run: "^(TestCrashDuringInit|TestInitRefuses)$",
		},
		{
			promise: "a place that holds keys or snapshots gets no new repository",
			file:    "repo/repo.go",
			old:     "for _, k := range []storage.Kind{storage.Key, storage.Snapshot} {",
			new:     "for _, k := range []storage.Kind{} {",
			pkg:     inRepo, run: "^TestInitRefuses$",
		},
		{
			promise: "what the index lists in a missing pack is stored again",
			file:    "repo/loadindex.go",
			old:     "if ok && size == pack.FileSize(blobs) {",
			new:     "if ok || size == 0 {",
			pkg:     inRepo, run: "^TestBackupHealsMissingPacks$",
		},
	}
}
