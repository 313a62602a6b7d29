package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage"
)

// damage hurts a file. Only what needs the file may be lost, every loss is named, and nothing reads as what it is not. A backup of the same
// content heals what is gone. At the end the file is put back as it was.
func (s *stress) damage() {
	if len(s.snapshots) == 0 {
		return
	}
	f := s.victim()
	ctx := s.Context()
	was, err := s.disk.Load(ctx, f, 0, -1)
	s.must(err)
	needed := s.neededBy(f)
	now, how := s.hurt(was)
	s.did = fmt.Sprintf("damage: %v %s", f.Kind, how)
	s.count(s.did)
	s.must(s.disk.Remove(ctx, f))
	if now != nil {
		s.must(s.disk.Save(ctx, f, now))
	}
	if f.Kind == storage.Key {
		s.wantKeyDamage(f, now == nil)
	} else {
		s.wantDamage(f, now == nil, needed)
	}
	if f.Kind == storage.Pack && len(now) != len(was) || f.Kind == storage.Index {
		s.heal(f)
	}
	if now != nil {
		s.must(s.disk.Remove(ctx, f))
	}
	s.must(s.disk.Save(ctx, f, was))
}

// victim chooses a file. What it chooses from has a name in the model, so that the same seed chooses the same.
func (s *stress) victim() storage.File {
	a := s.snapshots[s.rng.IntN(len(s.snapshots))]
	rd := loadIndex(s, s.open(s.disk))
	switch s.rng.IntN(6) {
	case 0:
		return storage.File{Kind: storage.Snapshot, ID: a.id}
	case 1:
		return storage.File{Kind: storage.Key, ID: s.keys[s.password()]}
	case 2:
		return s.indexOf(blob.Handle{Kind: blob.Tree, ID: a.tree})
	case 3:
		return s.packOf(rd, blob.Handle{Kind: blob.Tree, ID: a.tree})
	default:
		return s.packOf(rd, dataHandle(a.files["serial"][0]))
	}
}

// packOf returns a pack that holds the blob.
func (s *stress) packOf(rd *repo.Reader, h blob.Handle) storage.File {
	for found, at := range rd.All() {
		if found == h {
			return storage.File{Kind: storage.Pack, ID: at.Pack}
		}
	}
	s.failf("%v is in no pack", h)
	return storage.File{}
}

// indexOf returns an index file without which the blob is not listed, or any.
func (s *stress) indexOf(h blob.Handle) storage.File {
	pack := s.packOf(loadIndex(s, s.open(s.disk)), h)
	r := s.open(s.disk)
	var any storage.File
	for info, err := range s.disk.List(s.Context(), storage.Index) {
		s.must(err)
		any = info.File
		text, err := r.LoadUnpacked(s.Context(), info.File)
		s.must(err)
		if bytes.Contains(text, []byte(pack.ID.String())) {
			return info.File
		}
	}
	return any
}

// hurt returns bytes as a bad disk or an interrupted copy leaves them, or nil for none.
func (s *stress) hurt(p []byte) (now []byte, how string) {
	p = bytes.Clone(p)
	switch s.rng.IntN(6) {
	case 0:
		p[s.rng.IntN(len(p))] ^= 1 << s.rng.IntN(8)
		return p, "has a flipped bit"
	case 1:
		return p[:s.rng.IntN(len(p))], "is cut off"
	case 2:
		return []byte{}, "is empty"
	case 3:
		clear(p[s.rng.IntN(len(p)):])
		p[len(p)-1] ^= 1 // in case it was zero before
		return p, "ends in zeros"
	case 4:
		return append(p, "more"...), "is too long"
	}
	return nil, "is gone"
}

// neededBy returns which snapshots need a file: others may not suffer from its damage.
func (s *stress) neededBy(f storage.File) map[storage.ID]bool {
	needed := make(map[storage.ID]bool)
	if f.Kind == storage.Snapshot {
		needed[f.ID] = true
		return needed
	}
	// Without the file, what is not listed or not stored any more?
	was, err := s.disk.Load(s.Context(), f, 0, -1)
	s.must(err)
	s.must(s.disk.Remove(s.Context(), f))
	if f.Kind != storage.Key {
		r := s.open(s.disk)
		for _, a := range s.snapshots {
			needed[a.id] = s.read(r, a) != nil
		}
	}
	s.must(s.disk.Save(s.Context(), f, was))
	return needed
}

// wantDamage compares what can be read, and what check says, after a file was damaged.
func (s *stress) wantDamage(f storage.File, gone bool, needed map[storage.ID]bool) {
	s.Helper()
	r := s.open(s.disk)
	report, err := r.Check(s.Context(), repo.CheckOptions{ReadData: true}, nil)
	s.must(err)
	told := make(map[storage.ID]bool) // snapshots that check says to lose something
	named := false
	for _, found := range report.Findings {
		if found.Severity == repo.Note {
			continue
		}
		named = named || found.File == f || strings.Contains(found.Err.Error(), f.String())
		if found.File.Kind == storage.Snapshot {
			told[found.File.ID] = true
		}
	}
	// A file that is gone is missed by what needs it.
	if !gone && !named {
		s.failf("check does not name it: %v", report.Findings)
	}
	for _, a := range s.snapshots {
		err := s.read(r, a)
		vanished := gone && f.Kind == storage.Snapshot && f.ID == a.id
		switch {
		case err == nil && told[a.id]:
			s.failf("snapshot %s reads, but check says that it does not: %v", a.id.Short(), report.Findings)
		case err == nil || vanished:
		case !errors.Is(err, repo.ErrCorrupt) && !errors.Is(err, repo.ErrNotFound):
			s.failf("snapshot %s: %v, want ErrCorrupt", a.id.Short(), err)
		case !needed[a.id]:
			s.failf("snapshot %s does not need it, but is lost: %v", a.id.Short(), err)
		case !told[a.id]:
			s.failf("snapshot %s is lost (%v), and check does not say so: %v", a.id.Short(), err, report.Findings)
		}
	}
}

// wantKeyDamage wants all other passwords to open, and the damaged key to be named.
func (s *stress) wantKeyDamage(f storage.File, gone bool) {
	s.Helper()
	var r *repo.Repo
	for _, password := range slices.Sorted(maps.Keys(s.keys)) {
		got, err := repo.Open(s.Context(), s.disk, secret.New(password), s.options(nil))
		switch {
		case err == nil:
			r = got
		case s.keys[password] != f.ID:
			s.failf("another key's password does not open: %v", err)
		case !errors.Is(err, repo.ErrWrongPassword) && !errors.Is(err, repo.ErrCorrupt):
			s.failf("%v, want ErrWrongPassword or ErrCorrupt", err)
		}
	}
	if r == nil || gone {
		return
	}
	report, err := r.Check(s.Context(), repo.CheckOptions{}, nil)
	s.must(err)
	if !report.Damaged() || !slices.ContainsFunc(report.Findings, func(found repo.Finding) bool { return found.File == f }) {
		s.failf("check does not name it: %v", report.Findings)
	}
	for _, a := range s.snapshots {
		s.must(s.read(r, a))
	}
}

// heal backs up once more what was lost. Then the new snapshots read, and the old ones do again.
func (s *stress) heal(f storage.File) {
	s.Helper()
	for _, a := range slices.Clone(s.snapshots) {
		r := s.open(s.disk)
		if s.read(r, a) == nil {
			continue
		}
		again, err := s.run(s.Context(), r, a.files)
		s.must(err)
		s.acknowledge(again)
		s.count("snapshot healed by another backup")
		for _, x := range []acknowledged{again, a} {
			if err := s.read(s.open(s.disk), x); err != nil {
				s.failf("after another backup: %v", err)
			}
		}
	}
}
