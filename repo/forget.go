package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"jetsam/internal/strictjson"
	"jetsam/snapshot"
	"jetsam/storage"
)

// Forget removes snapshots, and looks that they are gone. What only they need stays
// until it is pruned. forgotten are those that are gone now; err names the others.
//
// It takes a lock that is not exclusive: whoever is reading a snapshot, or going on
// from it, keeps all that it is made of.
func (r *Repo) Forget(ctx context.Context, ids []storage.ID) (forgotten []storage.ID, err error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	err = r.locked(ctx, false, func(ctx context.Context) error {
		var errs []error
		for _, id := range ids {
			err := r.forget(ctx, id)
			if cancelled := storage.Cancelled(ctx); cancelled != nil {
				return errors.Join(append(errs, cancelled)...)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			forgotten = append(forgotten, id)
		}
		return errors.Join(errs...)
	})
	return forgotten, err
}

func (r *Repo) forget(ctx context.Context, id storage.ID) error {
	return r.remove(ctx, storage.File{Kind: storage.Snapshot, ID: id})
}

// remove removes f, and looks that it is gone.
func (r *Repo) remove(ctx context.Context, f storage.File) error {
	if err := r.be.Remove(ctx, f); err != nil && !errors.Is(err, storage.ErrNotExist) {
		return err // which names the file
	}
	return r.gone(ctx, f)
}

// gone returns nil if f, which was removed, is not there.
func (r *Repo) gone(ctx context.Context, f storage.File) error {
	for try := 1; ; try++ {
		_, err := r.be.Stat(ctx, f)
		switch {
		case errors.Is(err, storage.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("look for %v, which was removed: %w", f, err)
		case try == storedTries:
			return fmt.Errorf("%v is still there, although the storage said that it was removed", f)
		}
		if err := storage.Sleep(ctx, r.opts.LockWait); err != nil {
			return err
		}
	}
}

// Retag gives a snapshot other tags, which change makes of those that it has. Since
// a snapshot's ID is the hash of its bytes that makes another snapshot of it: the
// new one is stored, and read back, before the old one is removed. Its ID is
// returned, or the old one if the tags are as they were.
//
// If the error comes after the new one was stored, both are there, and id is the
// new one's.
func (r *Repo) Retag(ctx context.Context, old storage.ID, change func(tags []string) []string) (id storage.ID, err error) {
	if err := r.writable(); err != nil {
		return old, err
	}
	id = old
	err = r.locked(ctx, false, func(ctx context.Context) error {
		text, err := r.LoadUnpacked(ctx, storage.File{Kind: storage.Snapshot, ID: old})
		if err != nil {
			return err
		}
		edited, err := retagged(old, text, change)
		if err != nil || edited == nil {
			return err
		}
		// A lock that was removed by force did not keep others from deleting what
		// this snapshot is made of.
		if err := r.carried(ctx, false).confirm(ctx); err != nil {
			return err
		}
		stored, size, err := r.saveUnpacked(ctx, storage.Snapshot, edited)
		if err != nil {
			return err
		}
		if err := r.readBack(ctx, storage.File{Kind: storage.Snapshot, ID: stored}, size); err != nil {
			return err
		}
		id = stored
		return r.forget(ctx, old)
	})
	return id, err
}

// retagged is the text of a snapshot with other tags; nil if they are the same.
// Fields that are not known stay.
func retagged(id storage.ID, text []byte, change func([]string) []string) ([]byte, error) {
	s, err := snapshot.Decode(id, text)
	if err != nil {
		return nil, err
	}
	tags := change(slices.Clone(s.Tags))
	if slices.Equal(tags, s.Tags) {
		return nil, nil
	}
	if err := snapshot.CheckTags(tags); err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := strictjson.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	set := func(name string, value any) {
		p, e := json.Marshal(value)
		err = errors.Join(err, e)
		fields[name] = p
	}
	set("tags", tags)
	if len(tags) == 0 {
		delete(fields, "tags")
	}
	if s.Original.IsZero() {
		set("original", id)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}
