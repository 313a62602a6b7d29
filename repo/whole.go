package repo

import (
	"context"
	"errors"
	"fmt"

	"jetsam/blob"
	"jetsam/storage"
)

// This file looks, before snapshots are stored, whether what they are made of is still
// there. The lock promises that; but locks are removed by force, and clocks differ.

// fewPacks is how many packs are looked at one by one: listing all of them is less
// work for more.
const fewPacks = 100

// whole returns nil if the packs of this run are there, and if either no index file
// is gone that was read, or all that the trees need is in what is there now.
func (w *Writer) whole(ctx context.Context, roots ...blob.ID) error {
	if err := w.ownPacks(ctx); err != nil {
		return err
	}
	if gone, err := w.rd.reloadIfGone(ctx); err != nil || !gone {
		return err
	}
	if err := w.lists(ctx, roots); err != nil {
		return fmt.Errorf("packs were removed meanwhile, although the repository is locked: no snapshot was stored that needs them, try again: %w", err)
	}
	return nil
}

// ownPacks returns nil if the packs that this run has stored are there.
func (w *Writer) ownPacks(ctx context.Context) error {
	if len(w.own) > fewPacks {
		sizes, err := w.repo.packSizes(ctx)
		if err != nil {
			return err
		}
		for id := range w.own {
			if _, ok := sizes[id]; !ok {
				return removed(storage.File{Kind: storage.Pack, ID: id}, storage.ErrNotExist)
			}
		}
		return nil
	}
	for id := range w.own {
		f := storage.File{Kind: storage.Pack, ID: id}
		_, err := w.repo.be.Stat(ctx, f)
		switch {
		case errors.Is(err, storage.ErrNotExist):
			return removed(f, err)
		case err != nil:
			return fmt.Errorf("look for %v, which was saved: %w", f, err)
		}
	}
	return nil
}

func removed(f storage.File, err error) error {
	return fmt.Errorf("%v was removed meanwhile, although the repository is locked: no snapshot was stored that needs it, try again: %w", f, err)
}

// lists returns nil if the index that was loaded now has all that the trees need,
// in packs that are there.
func (w *Writer) lists(ctx context.Context, roots []blob.ID) error {
	x, err := w.repo.sound(ctx, w.rd.index.Load())
	if err != nil {
		return err
	}
	rd := &Reader{repo: w.repo}
	rd.index.Store(x)
	var lost error
	c := &reach{rd: rd, found: x.NewSet(), visited: func() {}, missing: func(h blob.Handle) {
		if lost == nil {
			lost = rd.unlisted(h)
		}
	}}
	if err := c.walk(ctx, roots, 0); err != nil {
		return err
	}
	return lost
}
