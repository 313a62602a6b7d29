package repo_test

import (
	"context"
	"errors"
	"time"

	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// pruneOptions are any. Some hours may pass.
func (s *stress) pruneOptions() repo.PruneOptions {
	o := thorough(s)
	if s.chance(3) {
		o.MaxUnused = repo.UnusedLimit{}
	}
	o.RepackSmall = s.chance(3)
	if s.chance(3) {
		o.MaxRepack = int64(1 + s.rng.IntN(10_000))
	}
	if s.chance(2) {
		o.Grace = time.Hour
	}
	o.RemoveAll = true
	s.clock.Add(int64(time.Duration(s.rng.IntN(120)) * time.Minute))
	return o
}

// prune tidies, and compares what is left with what the model says is needed.
func (s *stress) prune() {
	r := s.open(s.disk)
	o := s.pruneOptions()
	want := needed(s, r)
	plan, result, err := tryPrune(s.Context(), r, o)
	s.must(err)
	if plan.Used.Count != len(want) || result.Deleted != plan.Delete || len(result.Refused) > 0 {
		s.failf("%d blobs are needed; plan %+v, result %+v", len(want), plan.PruneFacts, result)
	}
	var copies, packs int
	listed := make(map[storage.ID]bool)
	for h, l := range loadIndex(s, r).All() {
		copies++
		if !listed[l.Pack] {
			listed[l.Pack] = true
			packs++
		}
		delete(want, h)
	}
	if len(want) > 0 {
		s.failf("lost %v", want)
	}
	if o.Grace == 0 && o.MaxRepack == 0 && o.MaxUnused == thorough(s).MaxUnused {
		if copies != plan.Used.Count || count(s, s.disk, storage.Pack) != packs {
			s.failf("%d copies of %d blobs, and %d packs of which %d are listed", copies, plan.Used.Count, count(s, s.disk, storage.Pack), packs)
		}
		if plan.Duplicate.Count+plan.Unused.Count > 0 {
			s.count("prune that left nothing unused")
		}
	}
	if plan.Later.Count > 0 {
		s.count("prune that deletes later")
	}
	s.pruneAgain(r, o)
}

// pruneAgain prunes until there is nothing to repack, which is at once. But what a prune copies can end in a short pack, the tenth of them, and then
// the next one joins them.
func (s *stress) pruneAgain(r *repo.Repo, o repo.PruneOptions) {
	rounds := 1
	if o.RepackSmall {
		rounds = 2
	}
	var again *repo.PrunePlan
	for range rounds {
		var err error
		again, _, err = tryPrune(s.Context(), r, o)
		s.must(err)
		if again.Repack.Count == 0 {
			return
		}
		s.count("prune that joined what the one before left")
	}
	if o.MaxRepack == 0 {
		s.failf("prune number %d: %+v", rounds+1, again.PruneFacts)
	}
}

// crashInPrune lets a prune die at any operation.
func (s *stress) crashInPrune() {
	s.forget()
	r, err := repo.Open(s.Context(), s.mortal(1+s.rng.IntN(60)), secret.New(s.password()), s.options(nil))
	if err == nil {
		_, _, err = tryPrune(s.Context(), r, s.pruneOptions())
	}
	switch {
	case err == nil:
		s.count("crash that came too late for a prune")
	case !errors.Is(err, errCrashed):
		s.failf("error is %v, want that of the crash", err)
	}
	s.clearLocks()
}

// pruneCalls are the calls that a prune makes of its storage.
var pruneCalls = []storagetest.Call{
	{Op: storagetest.OpList, Kind: storage.Snapshot},
	{Op: storagetest.OpLoad, Kind: storage.Snapshot},
	{Op: storagetest.OpList, Kind: storage.Index},
	{Op: storagetest.OpLoad, Kind: storage.Index},
	{Op: storagetest.OpSave, Kind: storage.Index},
	{Op: storagetest.OpStat, Kind: storage.Index},
	{Op: storagetest.OpRemove, Kind: storage.Index},
	{Op: storagetest.OpList, Kind: storage.Pack},
	{Op: storagetest.OpLoad, Kind: storage.Pack},
	{Op: storagetest.OpSave, Kind: storage.Pack},
	{Op: storagetest.OpStat, Kind: storage.Pack},
	{Op: storagetest.OpRemove, Kind: storage.Pack},
	{Op: storagetest.OpList, Kind: storage.Lock},
	{Op: storagetest.OpSave, Kind: storage.Lock},
	{Op: storagetest.OpStat, Kind: storage.Lock},
}

// faultInPrune lets one call of a prune, or all from one on, go wrong in any way, lies among them. A list that is always short, and no error, is
// beyond what can be noticed: then what is needed is still there for as long as the grace lasts, and the next prune finds it.
func (s *stress) faultInPrune() {
	s.forget()
	call := pruneCalls[s.rng.IntN(len(pruneCalls))]
	faults := storagetest.Faults(call.Op)
	plan := storagetest.Injection{Call: call, N: 1 + s.rng.IntN(4), Always: s.chance(3), Fault: faults[s.rng.IntN(len(faults))]}
	o := s.pruneOptions()
	short := plan.Fault == storagetest.Halves || plan.Fault == storagetest.Empties
	if call.Op == storagetest.OpList && call.Kind != storage.Lock && short && plan.Always && plan.N == 1 {
		o.Grace = time.Hour
	}
	s.did += ": " + plan.String()
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	be := &storagetest.Injector{Backend: s.disk, Plan: plan, Cancel: cancel}
	r, err := repo.Open(ctx, be, secret.New(s.password()), s.options(nil))
	if err == nil {
		_, _, err = tryPrune(ctx, r, o)
	}
	switch hit := len(be.Hit()) > 0; {
	case err == nil && hit:
		s.count("fault that a prune survived")
	case err == nil:
		s.count("fault that did not come in a prune")
	case !hit:
		s.failf("without a fault: %v", err)
	default:
		s.count("fault that stopped a prune")
	}
	_, err = s.open(s.disk).Unlock(s.Context(), true)
	s.must(err)
	o.Grace = time.Hour
	_, _, err = tryPrune(s.Context(), s.open(s.disk), o)
	s.must(err)
}

// pruneBesideWriter prunes while a backup is at work, whose lock it does not see. With a grace the backup succeeds, unless what it needs has left the
// index; without one it must not store its snapshot if anything is gone.
func (s *stress) pruneBesideWriter() {
	ctx := s.Context()
	files := s.newFiles()
	s.forget()
	o := s.pruneOptions()
	j, err := s.begin(ctx, s.open(s.disk), files)
	s.must(err)
	defer j.w.Abort()
	s.must(j.w.Certain())
	for range s.rng.IntN(10) {
		_, err := j.save(ctx)
		s.must(err)
	}
	blind := &hiding{s.disk, make(map[storage.File]bool)}
	for info, err := range s.disk.List(ctx, storage.Lock) {
		s.must(err)
		blind.hidden[info.File] = true
	}
	_, _, err = tryPrune(ctx, s.open(blind), o)
	s.must(err)
	a, err := j.commit(ctx)
	j.w.Abort()
	if err != nil {
		s.count("backup that noticed a prune")
		if n := count(s, s.disk, storage.Snapshot); n != len(s.snapshots) {
			s.failf("%v, but there are %d snapshots, of which %d are known", err, n, len(s.snapshots))
		}
	} else {
		s.count("backup that lived through a prune")
		s.acknowledge(a)
	}
	// An index file of the backup may list what was deleted: nothing needs it.
	_, _, err = tryPrune(ctx, s.open(s.disk), o)
	s.must(err)
}
