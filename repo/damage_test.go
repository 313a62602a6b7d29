package repo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/mem"
)

// Snapshots that are authentic and wrong concern nobody but themselves: they are named, and the others can be read.
func TestCheckOfCraftedSnapshots(t *testing.T) {
	const tree = `"tree":"TREE"`
	for _, tt := range []struct {
		name, text string
		find       string // empty: it is in order
	}{
		{"no tree", `{"time":"2026-01-01T00:00:00Z","paths":["/"]}`, "it has no tree"},
		{"tree is zero", `{"time":"2026-01-01T00:00:00Z","paths":["/"],"tree":"` + strings.Repeat("0", 64) + `"}`, "it has no tree"},
		{"tree is nowhere", `{"time":"2026-01-01T00:00:00Z","paths":["/"],"tree":"` + strings.Repeat("ab", 32) + `"}`, "no index lists it"},
		{"time is garbage", `{"time":"soon","paths":["/"],` + tree + `}`, "decode snapshot"},
		{"time is of the year 10000", `{"time":"10000-01-01T00:00:00Z","paths":["/"],` + tree + `}`, "decode snapshot"},
		{"time is of the year 0", `{"time":"0000-01-01T00:00:00Z","paths":["/"],` + tree + `}`, ""},
		{"parent is nowhere", `{"time":"2026-01-01T00:00:00Z","parent":"` + strings.Repeat("cd", 32) + `","paths":["/"],` + tree + `}`, ""},
		{"huge tag", `{"time":"2026-01-01T00:00:00Z","tags":["` + strings.Repeat("t", 1<<20) + `"],"paths":["/"],` + tree + `}`, ""},
		{"nests deeply", `{"x":` + strings.Repeat("[", 1e5) + strings.Repeat("]", 1e5) + `,` + tree + `}`, "decode snapshot"},
		{"an array", `[]`, "decode snapshot"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _, w := testRepo(t)
			craft(t, r)
			good := listIDs(t, r.be, storage.Snapshot)[0]
			s, err := r.loadSnapshot(t.Context(), storage.Info{File: storage.File{Kind: storage.Snapshot, ID: good}, Size: -1})
			if err != nil {
				t.Fatal(err)
			}
			id, _, err := r.saveUnpacked(t.Context(), storage.Snapshot, []byte(strings.Replace(tt.text, "TREE", s.Tree.String(), 1)))
			if err != nil {
				t.Fatal(err)
			}
			report, err := r.Check(t.Context(), CheckOptions{ReadData: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			bad := storage.File{Kind: storage.Snapshot, ID: id}
			for _, f := range report.Findings {
				if f.File != bad || !strings.Contains(f.String(), tt.find) {
					t.Errorf("%v", f)
				}
			}
			if report.Damaged() != (tt.find != "") || len(report.Findings) > 1 {
				t.Errorf("findings %v", report.Findings)
			}
			var read []storage.ID
			for s, err := range r.Snapshots(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				read = append(read, s.ID())
			}
			if !slices.Contains(read, good) {
				t.Errorf("the good snapshot is not among %v", read)
			}
			if len(read) == 1 && len(w.take()) != 1 {
				t.Error("nobody was warned of the snapshot that cannot be read")
			}
		})
	}
}

// A key that came from another repository does not keep this one's own from being found, if both have the same password.
func TestKeyOfAnotherRepository(t *testing.T) {
	other, err := Init(t.Context(), mem.New(), secret.New(testPassword), testOptions(nil))
	if err != nil {
		t.Fatal(err)
	}
	r, be, _ := testRepo(t)
	foreign := put(t, be, storage.Key, load(t, other.be, storage.File{Kind: storage.Key, ID: other.KeyID()}))
	for _, hint := range []storage.ID{foreign.ID, r.KeyID()} {
		o := testOptions(nil)
		o.KeyHint = hint.String()
		if got := reopen(t, be, o); got.ID() != r.ID() || got.KeyID() != r.KeyID() {
			t.Errorf("with the hint %s it was opened with key %s", hint.Short(), got.KeyID().Short())
		}
	}
	removeFiles(t, be, storage.Key)
	put(t, be, storage.Key, load(t, other.be, storage.File{Kind: storage.Key, ID: other.KeyID()}))
	if _, err := Open(t.Context(), be, secret.New(testPassword), testOptions(nil)); !errors.Is(err, ErrUnopenable) || !strings.Contains(err.Error(), "config") {
		t.Errorf("with the other repository's key alone: %v, want ErrUnopenable about the config", err)
	}
}

// Whoever can write to the place may put more files among the keys than are read. The key that is named is read all the same.
func TestHintedKeyAmongMany(t *testing.T) {
	r, be, _ := testRepo(t)
	for i := range 3 * maxKeysListed {
		put(t, be, storage.Key, fmt.Append(nil, "garbage ", i))
	}
	o := testOptions(nil)
	o.KeyHint = r.KeyID().String()
	if got := reopen(t, be, o); got.KeyID() != r.KeyID() {
		t.Errorf("opened with key %s", got.KeyID().Short())
	}
}

// A lock that cannot be read may be that of somebody who deletes: it keeps out who writes or deletes, and neither a reader nor a check.
func TestDamagedLockStopsNoReader(t *testing.T) {
	r, be, w := testRepo(t)
	f := put(t, be, storage.Lock, []byte("garbage"))
	var locked *LockedError
	if _, err := r.Lock(t.Context(), true); !errors.As(err, &locked) {
		t.Errorf("exclusive lock: %v, want LockedError", err)
	}
	if _, err := r.NewWriter(t.Context(), nil); !errors.As(err, &locked) {
		t.Errorf("writer: %v, want LockedError", err)
	}
	w.take()
	l, err := r.Lock(t.Context(), false)
	if err != nil {
		t.Fatalf("reader: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if warned := errors.Join(w.take()...); warned == nil || !strings.Contains(warned.Error(), f.String()) {
		t.Errorf("a reader was warned of %v, want %v", warned, f)
	}
	report, err := r.Check(t.Context(), CheckOptions{}, nil)
	if err != nil || !report.Damaged() || len(report.Findings) != 1 || report.Findings[0].File != f {
		t.Errorf("check: %v, %v", report, err)
	}
	// One that can be read does.
	other := otherLock(t, r, func(l *LockInfo) { l.Time = time.Now() })
	if _, err := r.Check(t.Context(), CheckOptions{}, nil); !errors.As(err, &locked) || locked.Lock.ID != other.ID {
		t.Errorf("check beside another's lock: %v, want LockedError about it", err)
	}
}

// What a finding says of its file is said once.
func TestFindingSaysItOnce(t *testing.T) {
	f := storage.File{Kind: storage.Snapshot, ID: storage.Sum(nil)}
	got := Finding{Severity: Damage, File: f, Err: damaged(f, errHash)}.String()
	if want := "damage: " + f.String() + ": content does not match the name"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
