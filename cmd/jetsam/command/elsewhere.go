package command

import (
	"context"
	"fmt"
	"slices"

	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// mostSearched is in how many snapshots jetsam looks for a stream that is not in the one that was asked for.
const mostSearched = 30

// elsewhere says in which earlier snapshot a stream that sn lacks was captured last: `ORDERS in 3f2a5c71`. Streams that are found in none
// are left out.
func elsewhere(ctx context.Context, r *repo.Repo, rd *repo.Reader, sn *snapshot.Snapshot, missing []streamlog.FailedStream) string {
	earlier, err := selector{filter: snapshot.Filter{Hosts: []string{sn.Hostname}}}.list(ctx, r)
	if err != nil {
		return "" // it is only a hint, and `jetsam snapshots` says what is wrong
	}
	earlier = slices.DeleteFunc(earlier, func(s *snapshot.Snapshot) bool { return !s.Time.Before(sn.Time) })
	slices.Reverse(earlier)
	var found []string
	lost := make(map[string]bool, len(missing))
	for _, f := range missing {
		lost[f.Name] = true
	}
	for _, s := range earlier[:min(len(earlier), mostSearched)] {
		if len(lost) == 0 {
			break
		}
		d, err := streamlog.OpenDirectory(ctx, rd, s.Tree)
		if err != nil {
			continue
		}
		for name := range d.Streams() {
			if lost[name] {
				found = append(found, fmt.Sprintf("%s in %s", name, s.ID().Short()))
				delete(lost, name)
			}
		}
	}
	slices.Sort(found)
	return abridged(found)
}

// whereMissing is what the user can do about streams that the backup could not read.
func whereMissing(found string) string {
	if found == "" {
		return "no earlier snapshot of that host was found that has it"
	}
	return "an earlier snapshot has it: " + found
}
