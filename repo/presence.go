package repo

import (
	"context"
	"errors"
	"fmt"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/storage"
)

// Presence knows which packs were in the storage when it was asked for, and how
// long they are.
type Presence struct {
	rd    *Reader
	sizes map[storage.ID]int64
}

// Presence lists the packs.
func (rd *Reader) Presence(ctx context.Context) (*Presence, error) {
	sizes, err := rd.repo.packSizes(ctx)
	if err != nil {
		return nil, err
	}
	return &Presence{rd, sizes}, nil
}

// Check says why no copy of a blob can be read, as far as the index and the
// lengths of packs tell that; it reads nothing. The error is that of Load.
func (p *Presence) Check(h blob.Handle) error {
	locations, ok := p.rd.index.Load().Lookup(h)
	if !ok {
		return p.rd.unlisted(h)
	}
	var errs []error
	for _, l := range locations {
		err := p.checkCopy(l)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("load %v: %w", h, errors.Join(errs...))
}

func (p *Presence) checkCopy(l index.Location) error {
	f := storage.File{Kind: storage.Pack, ID: l.Pack}
	size, ok := p.sizes[l.Pack]
	switch end := int64(l.Offset) + int64(l.Length); {
	case !ok:
		return damaged(f, fmt.Errorf("the pack is gone: %w", storage.ErrNotExist))
	case size < end:
		return damaged(f, fmt.Errorf("the pack has %d bytes, the blob ends at byte %d", size, end))
	}
	return nil
}

// unlisted says that nobody knows where a blob is.
func unlisted(h blob.Handle) error {
	return fmt.Errorf("load %v: %w: no index lists it", h, ErrCorrupt)
}

// unlisted says that no index that was read knows where a blob is: one that the
// storage did not give may.
func (rd *Reader) unlisted(h blob.Handle) error {
	for _, err := range rd.Incomplete() {
		if away(err) {
			return unreadError{fmt.Errorf("load %v: no index that could be read lists it: %w", h, err)}
		}
	}
	return unlisted(h)
}
