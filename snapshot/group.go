package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// GroupBy says what snapshots of one group have in common.
type GroupBy struct {
	Host     bool
	Accounts bool // the first elements of the paths
	Paths    bool
	Tags     bool
}

// GroupKey is what the snapshots of a group have in common. Fields that are not
// grouped by are empty. The lists are sorted.
type GroupKey struct {
	Hostname string
	Accounts []string
	Paths    []string
	Tags     []string
}

// Group is snapshots with a key in common, the oldest first.
type Group struct {
	Key       GroupKey
	Snapshots []*Snapshot
}

// Accounts returns the first elements of the snapshot's paths, sorted and each
// once: in a snapshot of streams, the names of the accounts.
func (s *Snapshot) Accounts() []string {
	var names []string
	for _, path := range s.Paths {
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		names = append(names, name)
	}
	return sortedSet(names)
}

// Groups divides snapshots into groups, in order of their keys.
func Groups(snapshots []*Snapshot, by GroupBy) []Group {
	groups := make(map[string]*Group)
	for _, s := range snapshots {
		key := by.key(s)
		name := key.text()
		if groups[name] == nil {
			groups[name] = &Group{Key: key}
		}
		groups[name].Snapshots = append(groups[name].Snapshots, s)
	}
	out := make([]Group, 0, len(groups))
	for _, g := range groups {
		Sort(g.Snapshots)
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int { return a.Key.compare(b.Key) })
	return out
}

func (by GroupBy) key(s *Snapshot) GroupKey {
	var k GroupKey
	if by.Host {
		k.Hostname = s.Hostname
	}
	if by.Accounts {
		k.Accounts = s.Accounts()
	}
	if by.Paths {
		k.Paths = sortedSet(s.Paths)
	}
	if by.Tags {
		k.Tags = sortedSet(s.Tags)
	}
	return k
}

// text returns a text that only equal keys have in common.
func (k GroupKey) text() string {
	return fmt.Sprintf("%q %q %q %q", k.Hostname, k.Accounts, k.Paths, k.Tags)
}

func (k GroupKey) compare(other GroupKey) int {
	return cmp.Or(
		cmp.Compare(k.Hostname, other.Hostname),
		slices.Compare(k.Accounts, other.Accounts),
		slices.Compare(k.Paths, other.Paths),
		slices.Compare(k.Tags, other.Tags),
	)
}

func sortedSet(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}
