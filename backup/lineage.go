package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

// maxAncestors is in how many earlier snapshots a stream is looked for.
const maxAncestors = 32

// ancestor says what an earlier snapshot holds under a stream's name.
type ancestor struct {
	snapshot storage.ID
	created  time.Time // the stream
}

// findAncestors finds, for each stream, the newest snapshot of the same host and account that holds one of its name. What cannot be read is in the
// error; the ancestors are those that can.
func (b *run) findAncestors(ctx context.Context, r *repo.Repo, names []string) (map[string]ancestor, error) {
	var all []*snapshot.Snapshot
	filter := snapshot.Filter{Hosts: []string{b.host()}, Below: []string{"/" + streamlog.EscapeName(b.account.Name)}}
	for s, err := range r.Snapshots(ctx) {
		if err != nil {
			return nil, err
		}
		if filter.Match(s) {
			all = append(all, s)
		}
	}
	snapshot.Sort(all)
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	found := make(map[string]ancestor, len(names))
	var errs []error
	for i := len(all) - 1; i >= max(0, len(all)-maxAncestors) && len(found) < len(wanted); i-- {
		a, err := streamlog.OpenAccount(ctx, b.w.Reader(), all[i].Tree)
		if err != nil && !errors.Is(err, streamlog.ErrNoStreams) {
			errs = append(errs, fmt.Errorf("snapshot %s: %w", all[i].ID().Short(), err))
		}
		if err != nil {
			continue
		}
		for _, c := range a.Captured {
			if _, known := found[c.Name]; wanted[c.Name] && !known && !c.Created.IsZero() {
				found[c.Name] = ancestor{all[i].ID(), c.Created}
			}
		}
	}
	return found, errors.Join(errs...)
}

// recreated says that a stream is not the one that an earlier snapshot holds under its name; empty: it is, as far as that is known.
func recreated(earlier ancestor, created time.Time, state archive.State) string {
	if earlier.created.IsZero() || earlier.created.Equal(created) {
		return ""
	}
	how := "deleted and created again"
	if state.Messages > 0 && state.FirstTime.Before(created) {
		how = "restored, or filled from another stream" // its messages are older than itself
	}
	return fmt.Sprintf("%s: it was created at %s, the one in snapshot %s at %s",
		how, created.UTC().Format(time.RFC3339), earlier.snapshot.Short(), earlier.created.UTC().Format(time.RFC3339))
}
