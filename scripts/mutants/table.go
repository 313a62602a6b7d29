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
	for _, part := range [][]mutant{
		durability(),
		sealing(),
		caching(),
		merging(),
		measuring(),
		limits(),
		locking(),
		capturing(),
		accounting(),
		importing(),
		fromOlder(),
		resuming(),
		clustering(),
		continuing(),
		restoring(),
		repairing(),
		choosing(),
		crowding(),
		replacing(),
		exporting(),
		forgetting(),
		pruning(),
		rewriting(),
		older(),
		surveying(),
		absent(),
		storing(),
		speaking(),
		reaching(),
		copying(),
		streaming(),
		google(),
	} {
		all = append(all, part...)
	}
	return all
}

const (
	inLocal     = "./storage/local"
	inRetry     = "./storage/retry"
	inLimit     = "./storage/limit"
	inREST      = "./storage/rest"
	inRclone    = "./storage/rclone"
	inSFTP      = "./storage/sftp"
	inLocation  = "./storage/location"
	inChild     = "./internal/child"
	inNATS      = "./storage/nats"
	inS3        = "./storage/s3"
	inAzure     = "./storage/azure"
	inGS        = "./storage/gs"
	inHTTP      = "./internal/httpclient"
	inRepo      = "./repo"
	inCrypto    = "./crypto"
	inCache     = "./cache"
	inMetrics   = "./metrics"
	inPack      = "./pack"
	inIndex     = "./index"
	inSnapshot  = "./snapshot"
	inJSON      = "./internal/strictjson"
	inArchive   = "./jetstream/archive"
	inJetstream = "./jetstream"
	inLegacy    = "./jetstream/legacy"
	inStreamlog = "./streamlog"
	inBackup    = "./backup"
	inRestore   = "./restore"
	inRetention = "./retention"
	inDoctor    = "./doctor"
	inSecret    = "./secret"
	inCommand   = "./cmd/jetsam/command"
	inProgram   = "./cmd/jetsam"
	inTests     = "./tests"
)
