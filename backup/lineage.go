package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"jetsam/blob"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

// maxAncestors is in how many earlier snapshots, of those that may hold it, a stream is looked for.
const maxAncestors = 32

// ancestor says what an earlier snapshot holds under a stream's name.
type ancestor struct {
	snapshot storage.ID
	taken    time.Time // the snapshot
	tree     blob.ID   // its root
	created  time.Time // the stream
	life     time.Time // when its life began, see [streamlog.CapturedStream.Began]
	last     uint64    // the sequence of its last message

	dir    *snapshot.Node // the stream's
	dirErr error          // why there is none
}

// open reads the stream, but not its messages.
func (a *ancestor) open(ctx context.Context, src streamlog.Loader) (*streamlog.Stream, error) {
	if a.dir == nil {
		return nil, cmp.Or(a.dirErr, errNoAncestor)
	}
	s := streamlog.OpenDir(ctx, src, a.dir)
	return s, s.Err
}

// findAncestors finds, for each stream, the newest snapshot of the same host, cluster and account that holds one of its name. What cannot be read is
// in the error; the ancestors are those that can. However many streams there are, each snapshot's directory of them is read once.
func (b *run) findAncestors(ctx context.Context, r *repo.Repo, names []string) (map[string]ancestor, error) {
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	var all []*snapshot.Snapshot
	var errs []error
	account := "/" + streamlog.EscapeName(b.account.Name)
	filter := snapshot.Filter{Hosts: []string{b.host()}, Below: []string{account}}
	for s, err := range r.Snapshots(ctx) {
		if err != nil {
			errs = append(errs, err)
			break
		}
		if filter.Match(s) && mayHold(s, account, wanted) {
			all = append(all, s)
		}
	}
	snapshot.Sort(all)
	found := make(map[string]ancestor, len(names))
	for i := len(all) - 1; i >= max(0, len(all)-maxAncestors) && len(found) < len(wanted); i-- {
		d, err := streamlog.OpenDirectory(ctx, b.w.Reader(), all[i].Tree)
		if err == nil {
			err = d.AccountErr
		}
		if err != nil && !errors.Is(err, streamlog.ErrNoStreams) {
			errs = append(errs, fmt.Errorf("snapshot %s: %w", all[i].ID().Short(), err))
		}
		if err != nil || d.Account.Server.Cluster != b.server.Cluster || d.Account.Server.Domain != b.account.Domain {
			continue
		}
		for _, c := range d.Account.Captured {
			if _, known := found[c.Name]; wanted[c.Name] && !known && !c.Created.IsZero() {
				a := ancestor{snapshot: all[i].ID(), taken: all[i].Time, tree: all[i].Tree, created: c.Created, life: c.Began(), last: c.LastSeq}
				a.dir, a.dirErr = d.Find(c.Name)
				found[c.Name] = a
			}
		}
	}
	return found, errors.Join(errs...)
}

// mayHold says whether a snapshot is of all streams of the account, or of chosen ones that some wanted stream is among.
func mayHold(s *snapshot.Snapshot, account string, wanted map[string]bool) bool {
	for _, path := range s.Paths {
		name, below := strings.CutPrefix(path, account+"/")
		if !below || wanted[name] || strings.ContainsAny(name, "*?[") {
			return true
		}
	}
	return false
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

// note notes of a captured stream which life of it that is. other says that it has another message where the earlier snapshot has one, and last is
// its last sequence, which no stream takes back.
func (s *StreamResult) note(earlier ancestor, last uint64, other bool) {
	switch {
	case earlier.created.IsZero() || s.Recreated != "":
		s.Life = s.Created
	case other || last < earlier.last:
		s.Life, s.WentBack = s.Captured, earlier.snapshot
	default:
		s.Life = earlier.life
	}
}

// parent is the newest of the snapshots that streams go on from.
func (b *run) parent(streams []StreamResult) (id storage.ID) {
	var taken time.Time
	for _, s := range streams {
		if a := b.ancestors[s.Name]; s.Parent != (storage.ID{}) && s.Err == nil && !a.taken.Before(taken) {
			id, taken = a.snapshot, a.taken
		}
	}
	return id
}

// same is the earlier snapshot that holds exactly what was captured; zero if there is none.
func (b *run) same(ctx context.Context, captures []*capture) storage.ID {
	first := b.ancestors[captures[0].Name]
	for _, c := range captures {
		if b.ancestors[c.Name].snapshot != first.snapshot || !b.unchanged(ctx, c) {
			return storage.ID{}
		}
	}
	d, err := streamlog.OpenDirectory(ctx, b.w.Reader(), first.tree)
	if err != nil {
		return storage.ID{}
	}
	held := 0
	for range d.Streams() {
		held++
	}
	if held != len(captures) {
		return storage.ID{}
	}
	return first.snapshot
}

// unchanged says whether a stream's directory is the one in the earlier snapshot, also where the stream was read whole, as an empty one is.
func (b *run) unchanged(ctx context.Context, c *capture) bool {
	if !c.Unchanged && c.Err == nil && c.Torn == "" && len(c.FailedConsumers) == 0 {
		a := b.ancestors[c.Name]
		s, err := a.open(ctx, b.w.Reader())
		c.Unchanged = err == nil && s.Node().Subtree == c.node.Subtree
	}
	return c.Unchanged
}
