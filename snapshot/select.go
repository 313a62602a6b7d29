package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"jetsam/storage"
)

// Latest is the name that selects the newest snapshot.
const Latest = "latest"

// Errors of Find.
var (
	ErrNotFound  = errors.New("no snapshot found")
	ErrAmbiguous = errors.New("more than one snapshot begins so")
)

// Filter chooses snapshots. Every field that is set must match; the zero value
// matches all.
type Filter struct {
	Hosts []string   // one of these
	Tags  [][]string // all tags of one of these lists; the empty list: no tags at all
	Paths []string   // all of these, exactly
	Below []string   // a path that is or lies below one of these
}

// Match reports whether the filter chooses s.
func (f Filter) Match(s *Snapshot) bool {
	return f.matchHost(s) && f.matchTags(s) && f.matchPaths(s) && f.matchBelow(s)
}

func (f Filter) matchHost(s *Snapshot) bool {
	return len(f.Hosts) == 0 || slices.Contains(f.Hosts, s.Hostname)
}

func (f Filter) matchTags(s *Snapshot) bool {
	if len(f.Tags) == 0 {
		return true
	}
	return slices.ContainsFunc(f.Tags, func(list []string) bool {
		if len(list) == 0 {
			return len(s.Tags) == 0
		}
		return containsAll(s.Tags, list)
	})
}

func (f Filter) matchPaths(s *Snapshot) bool { return containsAll(s.Paths, f.Paths) }

func (f Filter) matchBelow(s *Snapshot) bool {
	if len(f.Below) == 0 {
		return true
	}
	return slices.ContainsFunc(s.Paths, func(path string) bool {
		return slices.ContainsFunc(f.Below, func(top string) bool { return below(path, top) })
	})
}

// below reports whether path is top or lies in it.
func below(path, top string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(top, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

func containsAll(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// Sort puts snapshots in order of their time, the oldest first. Those of the
// same time are in order of their IDs.
func Sort(snapshots []*Snapshot) { slices.SortFunc(snapshots, compare) }

func compare(a, b *Snapshot) int {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c
	}
	return a.id.Compare(b.id)
}

// Newest returns the newest of the snapshots that f matches, or nil.
func Newest(snapshots []*Snapshot, f Filter) *Snapshot {
	var newest *Snapshot
	for _, s := range snapshots {
		if f.Match(s) && (newest == nil || compare(s, newest) > 0) {
			newest = s
		}
	}
	return newest
}

// FindID returns the one ID that begins with the hexadecimal digits of prefix.
// If none does the error is ErrNotFound, if several do ErrAmbiguous.
func FindID(ids []storage.ID, prefix string) (storage.ID, error) {
	var found []storage.ID
	for _, id := range ids {
		if prefix != "" && strings.HasPrefix(id.String(), prefix) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return storage.ID{}, fmt.Errorf("%.70q: %w", prefix, ErrNotFound)
	case 1:
		return found[0], nil
	default:
		return storage.ID{}, fmt.Errorf("%q: %w: %s and %s", prefix, ErrAmbiguous, found[0].Short(), found[1].Short())
	}
}
