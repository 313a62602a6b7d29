package main

// mutants returns the table: what is promised, and what breaks it.
//
// Two suites break the code by themselves, more thoroughly than a change of its text could, and what they break is not here again:
//
//   - TestCrashStatesNeedEverySync and TestCrashTestNoticesMissingSyncs leave out each sort of sync, of files and of folders, in what is
//     replayed of a repository's life;
//   - TestCrashStatesNeedTheOrder stores packs, index files, snapshots and keys too late.
//
// What is here of syncs and order is whether the code asks for them at all.
func mutants() []mutant {
	var all []mutant
	for _, part := range [][]mutant{durability(), sealing(), limits(), locking(), capturing(), restoring(), speaking()} {
		all = append(all, part...)
	}
	return all
}

const (
	inLocal     = "./storage/local"
	inRepo      = "./repo"
	inCrypto    = "./crypto"
	inPack      = "./pack"
	inIndex     = "./index"
	inSnapshot  = "./snapshot"
	inJSON      = "./internal/strictjson"
	inArchive   = "./jetstream/archive"
	inJetstream = "./jetstream"
	inStreamlog = "./streamlog"
	inBackup    = "./backup"
	inRestore   = "./restore"
	inSecret    = "./secret"
	inCommand   = "./cmd/jetsam/command"
	inProgram   = "./cmd/jetsam"
	inTests     = "./tests"
)

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
			old:     "if err := w.repo.readBack(ctx, storage.File{Kind: k, ID: id}, size); err != nil {",
			new:     "if err := w.repo.stored(ctx, storage.File{Kind: k, ID: id}, size); err != nil {",
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

// sealing: bytes that are not what was stored are never taken for it.
func sealing() []mutant {
	return []mutant{
		{
			promise: "nothing is opened whose authentication code is wrong",
			file:    "crypto/crypto.go",
			old:     "if !poly1305.Verify(&tag, ciphertext, &oneTime) {",
			new:     "if !poly1305.Verify(&tag, ciphertext, &oneTime) && false {",
			pkg:     inCrypto, run: "^TestEveryBitCounts$",
		},
		{
			promise: "nonces differ",
			file:    "crypto/crypto.go",
			old:     "rand.Read(nonce[:]) // never fails: it ends the program instead",
			new:     "nonce[0] = 1; _ = rand.Read",
			pkg:     inCrypto, run: "^TestNoncesDiffer$",
		},
		{
			promise: "a sealed blob is opened again before it is stored",
			file:    "repo/codec.go",
			old:     "if err := c.readBack(s, plain, plainLength); err != nil {",
			new:     "if err := c.readBack(s, plain, plainLength); false && err != nil {",
			pkg:     inRepo, run: "^TestErrantCompressorIsNoticed$",
		},
		{
			promise: "what a sealed blob opens to is compared",
			file:    "repo/codec.go",
			old:     "if !bytes.Equal(opened, plain) {",
			new:     "if false && !bytes.Equal(opened, plain) {",
			pkg:     inRepo, run: "^TestReadBackNoticesDamage$",
		},
		{
			promise: "a sealed file is opened again before it is stored",
			file:    "repo/files.go",
			old:     "if !bytes.Equal(again, text) {",
			new:     "if false && !bytes.Equal(again, text) {",
			pkg:     inRepo, run: "^TestErrantCompressorIsNoticed$",
		},
		{
			promise: "a file has the hash that is its name",
			file:    "repo/files.go",
			old:     "storage.Sum(data) == f.ID {",
			new:     "len(data) > 0 {",
			pkg:     inRepo, run: "^TestFilesAreTheirNames$",
		},
		{
			promise: "a blob has the hash that is its ID",
			file:    "repo/reader.go",
			old:     "if blob.Sum(out[len(dst):]) != h.ID {",
			new:     "if false && blob.Sum(out[len(dst):]) != h.ID {",
			pkg:     inRepo, run: "^TestCheckOfCraftedIndex$",
		},
		{
			promise: "all copies of a blob are tried",
			file:    "repo/reader.go",
			old:     "for _, l := range locations {",
			new:     "for _, l := range locations[:1] {",
			pkg:     inRepo, run: "^TestLoadTriesAllCopies$",
		},
		{
			promise: "check --read-data compares the hashes of blobs",
			file:    "repo/checkpacks.go",
			old:     "if blob.Sum(out) != b.Handle.ID {",
			new:     "if false && blob.Sum(out) != b.Handle.ID {",
			pkg:     inRepo, run: "^TestCheckOfCraftedIndex$",
		},
		{
			promise: "plain check compares pack headers with the index",
			file:    "repo/checkpacks.go",
			old: `	c.compareHeader(&v, info.File.ID, header)
	return v
}`,
			new: `	_ = header
	return v
}`,
			pkg: inRepo, run: "^(TestCheckOfCraftedIndex|TestCheckOfResealedPack)$",
		},
		{
			promise: "plain check compares the lengths of packs",
			file:    "repo/check.go",
			old:     "if !exists || size != pack.FileSize(blobs) {",
			new:     "if !exists {",
			pkg:     inRepo, run: "^TestCheckOfCraftedIndex$",
		},
		{
			promise: "check looks at every snapshot's trees",
			file:    "repo/checktrees.go",
			old:     "c.reportLosses(info.File, c.trees[s.Tree])",
			new:     "_ = c.trees[s.Tree]",
			pkg:     inRepo, run: "^TestCheckOfCraftedIndex$",
		},
		{
			promise: "a new password is tried before the old key goes",
			file:    "repo/keys.go",
			old:     "if err := r.tryKey(ctx, id, password); err != nil {",
			new:     "if err := r.tryKey(ctx, id, password); false && err != nil {",
			pkg:     inRepo, run: "^TestChangePasswordFails$",
		},
		{
			promise: "the key in use is not removed",
			file:    "repo/keys.go",
			old:     "if id == r.KeyID() {",
			new:     "if false && id == r.KeyID() {",
			pkg:     inRepo, run: "^TestKeys$",
		},
	}
}

// limits: whatever bytes come, they take bounded memory and time, and what cannot be is refused.
func limits() []mutant {
	return []mutant{
		{
			promise: "scrypt's memory is bounded",
			file:    "crypto/kdf.go",
			old:     "case c.R > maxKDFMemory/128/c.N:",
			new:     "case false && c.R > maxKDFMemory/128/c.N:",
			pkg:     inCrypto, run: "^TestValidate$",
		},
		{
			promise: "scrypt's passes are bounded",
			file:    "crypto/kdf.go",
			old:     "case c.P > maxKDFP:",
			new:     "case false && c.P > maxKDFP:",
			pkg:     inCrypto, run: "^TestValidate$",
		},
		{
			promise: "few keys are tried",
			file:    "repo/keys.go",
			old:     "if f.key == nil || tried == maxKeysTried {",
			new:     "if f.key == nil {",
			pkg:     inRepo, run: "^TestFewKeysAreTried$",
		},
		{
			promise: "a blob is decompressed up to its length and no further",
			file:    "repo/codec.go",
			old:     "zstd.WithDecodeAllCapLimit(true),",
			new:     "",
			pkg:     inRepo, run: "^TestDecompressorIsBounded$",
		},
		{
			promise: "the window of compressed data is bounded",
			file:    "repo/codec.go",
			old: `		zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecodeAllCapLimit(true),`,
			new: `		zstd.WithDecoderMaxWindow(1<<30),
		zstd.WithDecodeAllCapLimit(true),`,
			pkg: inRepo, run: "^TestDecompressorIsBounded$",
		},
		{
			promise: "a large blob is decompressed up to its length and no further",
			file:    "repo/codec.go",
			old:     "more > 0 || err != io.EOF {",
			new:     "false && (more > 0 || err != io.EOF) {",
			pkg:     inRepo, run: "^(TestOpenBlobIsBounded|TestLargeBlob)$",
		},
		{
			promise: "a blob's length is bounded",
			file:    "repo/reader.go",
			old:     "if l.Length > MaxBlob+crypto.Overhead || l.PlainLength > MaxBlob {",
			new:     "if false {",
			pkg:     inRepo, run: "^TestTooLongIsNotRead$",
		},
		{
			promise: "a file's length is bounded",
			file:    "repo/files.go",
			old:     "if limit := maxStored(f.Kind); size > limit {",
			new:     "if limit := maxStored(f.Kind); false && size > limit {",
			pkg:     inRepo, run: "^TestTooLongIsNotRead$",
		},
		{
			promise: "what a file decompresses to is bounded",
			file:    "repo/files.go",
			old:     "case len(text) > limit, room == limit && tooLong(err):",
			new:     "case false && room == limit && tooLong(err):",
			pkg:     inRepo, run: "^(TestOpenFileRefuses|TestFileEncoding)$",
		},
		{
			promise: "a pack's header is bounded",
			file:    "pack/header.go",
			old:     "length > MaxHeader || length > size-lengthSize",
			new:     "length > size-lengthSize",
			pkg:     inPack, run: "^TestLongHeaderIsNotLoaded$",
		},
		{
			promise: "a pack's header lies within the pack",
			file:    "pack/header.go",
			old:     "length > MaxHeader || length > size-lengthSize",
			new:     "length > MaxHeader",
			pkg:     inPack, run: "^TestReadHeaderRefuses$",
		},
		{
			promise: "a pack is as long as its header says",
			file:    "pack/header.go",
			old:     "implied != size {",
			new:     "false && implied != size {",
			pkg:     inPack, run: "^TestReadHeaderRefuses$",
		},
		{
			promise: "an index file is bounded",
			file:    "index/file.go",
			old:     "if len(data) > MaxFileSize {",
			new:     "if false && len(data) > MaxFileSize {",
			pkg:     inIndex, run: "^TestDecodeIsBounded$",
		},
		{
			promise: "an index lists no blob behind 4 GiB",
			file:    "index/file.go",
			old:     "case uint64(b.Offset)+uint64(b.Length) > math.MaxUint32:",
			new:     "case uint64(b.Offset+b.Length) > math.MaxUint32:",
			pkg:     inIndex, run: "^TestDecodeRefuses$",
		},
		{
			promise: "a field of an index file is given once",
			file:    "index/file.go",
			old:     "if *f&(1<<n) != 0 {",
			new:     "if false && *f&(1<<n) != 0 {",
			pkg:     inIndex, run: "^TestDecodeRefuses$",
		},
		{
			promise: "the names of a tree ascend",
			file:    "snapshot/tree.go",
			old:     "n.Name <= c.last {",
			new:     "n.Name < c.last {",
			pkg:     inSnapshot, run: "^TestBadTrees$",
		},
		{
			promise: "a tree's memory is bounded",
			file:    "snapshot/tree.go",
			old:     "c.memory > MaxTreeMemory {",
			new:     "false && c.memory > MaxTreeMemory {",
			pkg:     inSnapshot, run: "^TestNodesAreMeasured$",
		},
		{
			promise: "a tree's nodes are bounded",
			file:    "snapshot/tree.go",
			old:     "if c.count == MaxTreeNodes {",
			new:     "if false && c.count == MaxTreeNodes {",
			pkg:     inSnapshot, run: "^TestNodesAreCounted$",
		},
		{
			promise: "a name in a tree is no path",
			file:    "snapshot/node.go",
			old:     "case strings.ContainsAny(name, \"/\\x00\"):",
			new:     "case strings.ContainsAny(name, \"\\x00\"):",
			pkg:     inSnapshot, run: "^TestBadTrees$",
		},
		{
			promise: "directories nest a thousand levels deep at most",
			file:    "repo/checktrees.go",
			old:     "if depth == snapshot.MaxDepth {",
			new:     "if false && depth == snapshot.MaxDepth {",
			pkg:     inRepo, run: "^TestCheckOfDeepTrees$",
		},
		{
			promise: "JSON is not nested deeply",
			file:    "internal/strictjson/strictjson.go",
			old:     "if len(w.open) > MaxDepth {",
			new:     "if false && len(w.open) > MaxDepth {",
			pkg:     inJSON, run: "^TestCheckDepth$",
		},
		{
			promise: "JSON has no key twice",
			file:    "internal/strictjson/strictjson.go",
			old:     "if _, ok := top.keys[folded]; ok {",
			new:     "if _, ok := top.keys[folded]; false && ok {",
			pkg:     inJSON, run: "^TestCheck$",
		},
		{
			promise: "JSON has no key twice, in capitals or not",
			file:    "internal/strictjson/strictjson.go",
			old:     "folded := strings.ToLower(key)",
			new:     "folded := strings.Clone(key)",
			pkg:     inJSON, run: "^TestCheck$",
		},
		{
			promise: "JSON has a bounded number of values",
			file:    "internal/strictjson/strictjson.go",
			old:     "if w.values < 0 {",
			new:     "if false && w.values < 0 {",
			pkg:     inJSON, run: "^TestMaxValues$",
		},
		{
			promise: "what a server sends decompresses to a bounded length",
			file:    "jetstream/archive/decompress.go",
			old:     "plain: &meter{r: plain, left: limit}}",
			new:     "plain: &meter{r: plain, left: -1}}",
			pkg:     inArchive, run: "^TestDecompressLimit$",
		},
		{
			promise: "what a server sends is bounded before it is decompressed",
			file:    "jetstream/archive/decompress.go",
			old:     "src := &meter{r: r, left: framedLimit(limit)}",
			new:     "src := &meter{r: r, left: framedLimit(-1)}",
			pkg:     inArchive, run: "^TestDecompressEndlessPadding$",
			hangs: "20s",
		},
		{
			promise: "the sizes of an archive's entries are bounded",
			file:    "jetstream/archive/reader.go",
			old:     "if !r.entry.within(r.limits.MaxName, maxBody) {",
			new:     "if false && !r.entry.within(r.limits.MaxName, maxBody) {",
			pkg:     inArchive, run: "^TestLimits$",
		},
		{
			promise: "the consumers of an archive are bounded",
			file:    "jetstream/archive/head.go",
			old:     "if state.Consumers > r.entries.limits.MaxConsumers {",
			new:     "if false && state.Consumers > r.entries.limits.MaxConsumers {",
			pkg:     inArchive, run: "^TestMaxConsumers$",
		},
		{
			promise: "the checksums of stored blocks are compared",
			file:    "jetstream/archive/unframe.go",
			old:     "if got := checksum(block); got != want {",
			new:     "if got := checksum(block); false && got != want {",
			pkg:     inArchive, run: "^TestUnframeRefuses$",
		},
		{
			promise: "answers of a server are bounded",
			file:    "jetstream/request.go",
			old:     "if len(answer) > maxAnswer {",
			new:     "if false && len(answer) > maxAnswer {",
			pkg:     inJetstream, run: "^TestAnswersAreBounded$",
		},
	}
}

// locking: nobody works against another's lock, and the lock of the dead keeps nobody out.
func locking() []mutant {
	return []mutant{
		{
			promise: "an exclusive lock stands against all others",
			file:    "repo/lock.go",
			old:     "if l.exclusive || other.Exclusive ||",
			new:     "if l.exclusive && other.Exclusive ||",
			pkg:     inRepo, run: "^TestLocksExclude$",
		},
		{
			promise: "a writer minds locks that it cannot read",
			file:    "repo/lock.go",
			old:     "other.Err != nil && !l.past {",
			new:     "false {",
			pkg:     inRepo, run: "^TestOddLockFiles$",
		},
		{
			promise: "other locks are looked for again after one's own is written",
			file:    "repo/lock.go",
			old:     "err = l.conflict(ctx, f)",
			new:     "err = nil",
			pkg:     inRepo, run: "^TestLockLooksTwice$",
		},
		{
			promise: "a process of the same ID that began later is not the holder",
			file:    "repo/holder.go",
			old:     "return comparableStarts(now.start, h.ProcessStart) && now.start != h.ProcessStart",
			new:     "return false",
			pkg:     inRepo, run: "^TestHolderDead$",
		},
		{
			promise: "nobody on another machine is taken for dead",
			file:    "repo/holder.go",
			old:     "h.BootID != self.BootID || h.PIDNamespace != self.PIDNamespace {",
			new:     "h.PIDNamespace != self.PIDNamespace {",
			pkg:     inRepo, run: "^TestHolderDead$",
		},
		{
			promise: "the lock of a killed process is removed",
			file:    "repo/lock.go",
			old:     "case other.Dead:",
			new:     "case false && other.Dead:",
			pkg:     inRepo, run: "^TestKilledHolder$",
		},
		{
			promise: "no snapshot is stored when the lock was removed by force",
			file:    "repo/commit.go",
			old:     "if err := w.lock.confirm(ctx); err != nil {",
			new:     "if err := w.lock.held(); err != nil {",
			pkg:     inRepo, run: "^TestLockRemovedUnderWriter$",
		},
		{
			promise: "nothing is written under a lock that is too old",
			file:    "repo/renew.go",
			old:     "if l.lost == nil && l.age() > lockLimit {",
			new:     "if false {",
			pkg:     inRepo, run: "^(TestWriterFreezesWithItsLock|TestLockAfterSleep)$",
		},
		{
			promise: "packs are stored under a lock that is held",
			file:    "repo/commit.go",
			old: `	if err := w.lock.held(); err != nil {
		return err
	}
	if err := w.repo.be.Save`,
			new: `	if err := w.repo.be.Save`,
			pkg: inRepo, run: "^TestPackIsNotStoredWithoutTheLock$",
		},
		{
			promise: "a lock whose file is gone when it is renewed is lost",
			file:    "repo/renew.go",
			old: `		l.lose(fmt.Errorf("%v: %w", old, errRemoved))
		return l.lost`,
			new: `		return nil`,
			pkg: inRepo, run: "^TestLockRemovedByForce$",
		},
		{
			promise: "a renewed lock has the time of now",
			file:    "repo/renew.go",
			old:     "info := r.newLockInfo(l.exclusive)",
			new:     "info := r.newLockInfo(l.exclusive)\n\tinfo.Time = l.info.Time",
			pkg:     inRepo, run: "^TestLockIsRenewed$",
		},
		{
			promise: "a writer's index is of a time when it held the lock",
			file:    "repo/writer.go",
			old:     "err = w.rd.update(ctx)",
			new:     "err = nil",
			pkg:     inRepo, run: "^TestWriterUpdatesIndex$",
		},
		{
			promise: "the lock goes when the work is done",
			file:    "repo/lock.go",
			old:     "err := l.repo.removeLocks(l.ctx, append(l.replaced, l.file)...)",
			new:     "err := l.repo.removeLocks(l.ctx, l.replaced...)",
			pkg:     inRepo, run: "^(TestLocksExclude|TestLockFileContent)$",
		},
	}
}

// capturing: what looks like a whole stream is one.
func capturing() []mutant {
	return []mutant{
		{
			promise: "an archive without its end mark is none",
			file:    "jetstream/archive/reader.go",
			old:     "return ErrTruncated // the end mark is missing",
			new:     "return io.EOF",
			pkg:     inArchive, run: "^TestEveryPrefixIsTruncated$",
		},
		{
			promise: "nothing follows the end mark",
			file:    "jetstream/archive/reader.go",
			old:     `return fmt.Errorf("%w: bytes behind the end mark", ErrFormat)`,
			new:     "return io.EOF",
			pkg:     inArchive, run: "^TestReaderRefuses$",
		},
		{
			promise: "sequences ascend",
			file:    "jetstream/archive/reader.go",
			old:     "case seq <= r.last:",
			new:     "case seq < r.last:",
			pkg:     inArchive, run: "^TestReaderRefuses$",
		},
		{
			promise: "a snapshot that ends without a status is cut short",
			file:    "jetstream/snapshot.go",
			old:     `case status == "204", status == "" && s.next == 1:`,
			new:     `case status == "204", status == "":`,
			pkg:     inJetstream, run: "^TestSnapshotJudgesItsServer$",
		},
		{
			promise: "a snapshot that ends with an error is cut short",
			file:    "jetstream/snapshot.go",
			old:     `case status == "204", status == "" && s.next == 1:`,
			new:     `case status != "":`,
			pkg:     inJetstream, run: "^TestSnapshotJudgesItsServer$",
		},
		{
			promise: "the chunks of a snapshot come in order",
			file:    "jetstream/snapshot.go",
			old:     "if index != s.next {",
			new:     "if false && index != s.next {",
			pkg:     inJetstream, run: "^TestSnapshotJudgesItsServer$",
		},
		{
			promise: "the chunks of a snapshot are whole",
			file:    "jetstream/snapshot.go",
			old:     "if size != len(m.Data) {",
			new:     "if false && size != len(m.Data) {",
			pkg:     inJetstream, run: "^TestSnapshotJudgesItsServer$",
		},
		{
			promise: "a server that falls silent ends the snapshot",
			file:    "jetstream/snapshot.go",
			old:     "return nil, s.silence()",
			new:     "s.timer.Reset(s.idle)",
			pkg:     inJetstream, run: "^TestSnapshotOfASilentServer$",
			hangs: "60s",
		},
		{
			promise: "what a user may not do is named at once",
			file:    "jetstream/events.go",
			old:     "e.tell(p.concerns, p)",
			new:     "_ = p.concerns",
			pkg:     inJetstream, run: "^TestRequestsNeedTheirPermissions$",
		},
		{
			promise: "more messages than the state has cannot be",
			file:    "backup/reconcile.go",
			old:     "if m.Count > state.Messages || m.Last > state.LastSeq {",
			new:     "if false {",
			pkg:     inBackup, run: "^TestImpossibleCaptures$",
		},
		{
			promise: "messages that did not come although the stream has them are a torn capture",
			file:    "backup/reconcile.go",
			old:     "if lost > 0 {",
			new:     "if false && lost > 0 {",
			pkg:     inBackup, run: "^TestReconcile$",
		},
		{
			promise: "a purge in the middle of a capture is a torn capture",
			file:    "backup/reconcile.go",
			old:     "if firstDied == 0 || m.Count == 0 || g.since(firstDied, before) == 0 {",
			new:     "if true || firstDied == 0 {",
			pkg:     inBackup, run: "^TestReconcile$",
		},
		{
			promise: "a stream that went back in sequence is a torn capture",
			file:    "backup/reconcile.go",
			old:     "return verdict{torn: wentBack(missing, state, now)}\n\t}\n\tsome, lost",
			new:     "return verdict{removed: missing}\n\t}\n\tsome, lost",
			pkg:     inBackup, run: "^TestReconcile$",
		},
		{
			promise: "where sequences are not known counts are compared",
			file:    "backup/reconcile.go",
			old:     "case missing > died:",
			new:     "case false && missing > died:",
			pkg:     inBackup, run: "^TestReconcileCounts$",
		},
		{
			promise: "counts are compared with the state before the capture",
			file:    "backup/capture.go",
			old:     "if m.Count == state.Messages {",
			new:     "if true {",
			pkg:     inTests, run: "^TestPurgeInMidCapture$",
		},
		{
			promise: "a stream that was deleted and created again is noticed",
			file:    "backup/capture.go",
			old:     "if !after.Created.Equal(before.Created) {",
			new:     "if false && !after.Created.Equal(before.Created) {",
			pkg:     inTests, run: "^TestStreamRecreatedInMidCapture$",
		},
		{
			promise: "an archive is of the state that the server answered with",
			file:    "backup/capture.go",
			old:     "if err := sameState(state, head); err != nil {",
			new:     "if err := sameState(state, head); false && err != nil {",
			pkg:     inTests, run: "^TestHostileSnapshots$",
		},
		{
			promise: "a torn capture is marked in the repository",
			file:    "backup/capture.go",
			old:     "Torn:           c.Torn,",
			new:     `Torn:           "",`,
			pkg:     inTests, run: "^TestPurgeInMidCapture$",
		},
		{
			promise: "a failed stream is named in the snapshot",
			file:    "backup/backup.go",
			old:     "a.Failed = append(a.Failed, streamlog.FailedStream{Name: s.Name, Error: s.Err.Error()})",
			new:     "",
			pkg:     inTests, run: "^TestOneStreamDenied$",
		},
		{
			promise: "an account without streams makes no snapshot",
			file:    "backup/backup.go",
			old:     "if len(streams) == 0 {\n\t\treturn nil, fmt.Errorf(\"nothing was saved",
			new:     "if false {\n\t\treturn nil, fmt.Errorf(\"nothing was saved",
			pkg:     inTests, run: "^TestEmptyAccount$",
		},
	}
}

// restoring: what comes back is what was saved, and nothing else is touched.
func restoring() []mutant {
	return []mutant{
		{
			promise: "counts and sequences of the restored stream are compared",
			file:    "restore/compare.go",
			old:     "if !whole {",
			new:     "if false && !whole {",
			pkg:     inRestore, run: "^TestCompareState$",
		},
		{
			promise: "a restored stream is compared at all",
			file:    "restore/run.go",
			old:     "if err := t.compare(ctx); err != nil {",
			new:     "if err := t.compare(ctx); false && err != nil {",
			pkg:     inTests, run: "^(TestExpiredMessages|TestRetentionWithoutConsumers)$",
		},
		{
			promise: "consumers below the first message are sent as a purge leaves them",
			file:    "restore/plan.go",
			old:     "if err := s.raiseConsumers(); err != nil {",
			new:     "if err := error(nil); err != nil {",
			pkg:     inTests, run: "^TestConsumersBelowTheFirstMessage$",
		},
		{
			promise: "a stream of an earlier snapshot that was created anew is noticed",
			file:    "backup/lineage.go",
			old:     "if earlier.created.IsZero() || earlier.created.Equal(created) {",
			new:     "if true {",
			pkg:     inTests, run: "^TestStreamRecreatedBetweenBackups$",
		},
		{
			promise: "what a server announces is bounded",
			file:    "jetstream/guard.go",
			old:     "if broken := c.framing.follow(p[:n]); broken != nil {",
			new:     "if broken := error(nil); broken != nil {",
			pkg:     inTests, run: "^TestHostileWire$",
		},
		{
			promise: "what goes to the server is what the snapshot counts",
			file:    "restore/run.go",
			old:     "return t.checkTally()",
			new:     "return nil",
			pkg:     inTests, run: "^TestForgedGroups$",
		},
		{
			promise: "--verify compares every message",
			file:    "restore/verify.go",
			old:     "if !bytes.Equal(w.Raw, g.Raw) {",
			new:     "if false && !bytes.Equal(w.Raw, g.Raw) {",
			pkg:     inRestore, run: "^TestVerifyComparesEveryMessage$",
		},
		{
			promise: "--verify notices messages that are missing",
			file:    "restore/verify.go",
			old:     `diff.add("message %d is missing", w.Seq)`,
			new:     "",
			pkg:     inRestore, run: "^TestVerifyComparesEveryMessage$",
		},
		{
			promise: "a stream that exists is not touched",
			file:    "restore/preflight.go",
			old:     `s.conflict("choose other streams, or leave it as it is with --skip-existing", "a stream of that name exists")`,
			new:     "",
			pkg:     inTests, run: "^TestRestoreTouchesNothingThatIsThere$",
		},
		{
			promise: "a restore begins with a mark on the stream",
			file:    "restore/marker.go",
			old:     "marked, err := t.marked(ctx)",
			new:     "marked, err := t.marked(ctx)\n\tmarked = t.s.wanted",
			pkg:     inTests, run: "^TestMarkerIsTakenOff$",
		},
		{
			promise: "the mark is taken off",
			file:    "restore/run.go",
			old:     "if err := t.unmark(ctx); err != nil {",
			new:     "if err := error(nil); err != nil {",
			pkg:     inTests, run: "^TestMarkerIsTakenOff$",
		},
		{
			promise: "only a stream with this run's own mark is removed",
			file:    "restore/marker.go",
			old:     "return ok && m.run == run",
			new:     "return ok && m.run != \"\"",
			pkg:     inRestore, run: "^TestMarker$",
		},
		{
			promise: "a marked stream into which messages came is not removed",
			file:    "restore/marker.go",
			old:     "return info.LastTime.After(info.Created)",
			new:     "return false",
			pkg:     inTests, run: "^TestLeftovers$",
		},
		{
			promise: "a copied mark makes no leftover",
			file:    "restore/leftover.go",
			old:     "if !ok || m.began.Sub(info.Created).Abs() > clockSkew {",
			new:     "if !ok {",
			pkg:     inTests, run: "^TestLeftovers$",
		},
		{
			promise: "what another run restores right now is not touched",
			file:    "restore/leftover.go",
			old:     "if present {",
			new:     "if false && present {",
			pkg:     inTests, run: "^(TestLeftovers|TestTwoRestoresAtOnce)$",
		},
		{
			promise: "the account's limits are looked at first",
			file:    "restore/limits.go",
			old:     "case limit > 0 && used+needed > uint64(limit):",
			new:     "case false:",
			pkg:     inRestore, run: "^TestCheckLimits$",
		},
		{
			promise: "a directory holds the stream that it is named for",
			file:    "streamlog/read.go",
			old:     "err != nil || name != s.Name {",
			new:     "err != nil {",
			pkg:     inStreamlog, run: "^TestCheckerFindsWhatDoesNotAgree$",
		},
	}
}

// speaking: exit codes say what happened, and nothing says what is secret.
func speaking() []mutant {
	return []mutant{
		{
			promise: "a full disk is exit code 24",
			file:    "cmd/jetsam/command/exit.go",
			old:     "{storage.ErrFull, ending{exitStorage,",
			new:     "{storage.ErrFull, ending{exitFailed,",
			pkg:     inCommand, run: "^TestExitCodes$",
		},
		{
			promise: "a locked repository is exit code 11",
			file:    "cmd/jetsam/command/exit.go",
			old:     "return ending{exitLocked,",
			new:     "return ending{exitFailed,",
			pkg:     inCommand, run: "^TestExitCodes$",
		},
		{
			promise: "a wrong password is exit code 12",
			file:    "cmd/jetsam/command/exit.go",
			old:     "ending{exitPassword,",
			new:     "ending{exitFailed,",
			pkg:     inCommand, run: "^TestExitCodes$",
		},
		{
			promise: "a backup that lacks a stream is exit code 3",
			file:    "backup/backup.go",
			old:     `return s.Err == nil && s.Torn == ""`,
			new:     `return true || s.Err == nil && s.Torn == ""`,
			pkg:     inProgram, run: "^TestScripts/denied$",
		},
		{
			promise: "a torn backup is exit code 3",
			file:    "backup/backup.go",
			old:     `return s.Err == nil && s.Torn == ""`,
			new:     `return s.Err == nil`,
			pkg:     inTests, run: "^TestPurgeInMidCapture$",
		},
		{
			promise: "damage that check found is an error",
			file:    "cmd/jetsam/command/check.go",
			old:     "case !r.Damaged:",
			new:     "case true || !r.Damaged:",
			pkg:     inProgram, run: "^TestScripts/damage$",
		},
		{
			promise: "a secret prints as ***",
			file:    "secret/secret.go",
			old:     "_, _ = f.Write([]byte(mask))",
			new:     "_, _ = f.Write([]byte(s.Reveal()))",
			pkg:     inSecret, run: "^TestNoVerbPrintsTheText$",
		},
		{
			promise: "addresses are printed without who connects",
			file:    "secret/url.go",
			old:     `return userInfo.ReplaceAllString(text, "${1}"+URLMask+"@")`,
			new:     "return text",
			pkg:     inSecret, run: "^TestHideUserInfo$",
		},
		{
			promise: "errors hold no credentials, however badly the address is formed",
			file:    "jetstream/redact.go",
			old:     `s = strings.ReplaceAll(s, k+"@", mask+"@")`,
			new:     "_ = k",
			pkg:     inJetstream, run: "^TestErrorsHoldNoCredentials$",
		},
		{
			promise: "a command that is run for the password learns no secret",
			file:    "cmd/jetsam/command/private.go",
			old:     "return slices.Contains(secretVariables, name) ||",
			new:     "return",
			pkg:     inTests, run: "^TestNothingToSeeFromOutside$",
		},
		{
			promise: "files that others may read are warned of",
			file:    "cmd/jetsam/command/private.go",
			old:     "mode&othersMay != 0 {",
			new:     "false && mode&othersMay != 0 {",
			pkg:     inProgram, run: "^TestScripts/password$",
		},
		{
			promise: "the process cannot be looked into",
			file:    "cmd/jetsam/harden_linux.go",
			old:     "unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)",
			new:     "_ = unix.PR_SET_DUMPABLE",
			pkg:     inTests, run: "^TestUndumpable$",
		},
	}
}
