package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"jetsam/snapshot"
	"jetsam/storage"
)

// fileReaders is how many small files are read at the same time.
const fileReaders = 8

// Snapshots yields all snapshots, in no particular order. Those that are damaged,
// or gone meanwhile, are passed over, with a warning. One that cannot be read just
// now is an error: it may be the very one that is looked for.
func (r *Repo) Snapshots(ctx context.Context) iter.Seq2[*snapshot.Snapshot, error] {
	return func(yield func(*snapshot.Snapshot, error) bool) {
		infos, err := r.list(ctx, storage.Snapshot)
		if err != nil {
			yield(nil, err)
			return
		}
		load := func(ctx context.Context, i int, _ *snapshot.Snapshot) (*snapshot.Snapshot, error) {
			s, err := r.loadListed(ctx, infos[i])
			if errors.Is(err, ErrCorrupt) || errors.Is(err, storage.ErrNotExist) {
				r.warn(err)
				return nil, nil
			}
			return s, err
		}
		for s, err := range inOrder(ctx, len(infos), fileReaders, load) {
			if s == nil && err == nil {
				continue
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

// loadListed reads a snapshot that a list names. Some places take a moment until
// they have what they list.
func (r *Repo) loadListed(ctx context.Context, info storage.Info) (*snapshot.Snapshot, error) {
	s, err := r.loadSnapshot(ctx, info)
	if !errors.Is(err, storage.ErrNotExist) {
		return s, err
	}
	if err := storage.Sleep(ctx, r.opts.LockWait); err != nil {
		return nil, err
	}
	return r.loadSnapshot(ctx, info)
}

func (r *Repo) loadSnapshot(ctx context.Context, info storage.Info) (s *snapshot.Snapshot, err error) {
	err = r.parseUnpacked(ctx, info, func(text []byte) error {
		s, err = snapshot.Decode(info.File.ID, text)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Snapshot returns the one snapshot whose ID begins with name, or if that is
// "latest", the newest that filter matches. The error is ErrNotFound if there is
// none, and ErrAmbiguous if there are several.
func (r *Repo) Snapshot(ctx context.Context, name string, filter snapshot.Filter) (*snapshot.Snapshot, error) {
	if name == snapshot.Latest {
		return r.latest(ctx, filter)
	}
	id, err := r.Find(ctx, storage.Snapshot, name)
	if err != nil {
		return nil, err
	}
	return r.loadSnapshot(ctx, storage.Info{File: storage.File{Kind: storage.Snapshot, ID: id}, Size: -1})
}

func (r *Repo) latest(ctx context.Context, filter snapshot.Filter) (*snapshot.Snapshot, error) {
	var all []*snapshot.Snapshot
	for s, err := range r.Snapshots(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	newest := snapshot.Newest(all, filter)
	if newest == nil {
		return nil, fmt.Errorf("%s: %w", snapshot.Latest, ErrNotFound)
	}
	return newest, nil
}

// Find returns the ID of the one file of a kind whose ID begins with prefix. The
// error is ErrNotFound if there is none, and ErrAmbiguous if there are several.
func (r *Repo) Find(ctx context.Context, k storage.Kind, prefix string) (storage.ID, error) {
	infos, err := r.list(ctx, k)
	if err != nil {
		return storage.ID{}, err
	}
	ids := make([]storage.ID, len(infos))
	for i, info := range infos {
		ids[i] = info.File.ID
	}
	return snapshot.FindID(ids, prefix)
}
