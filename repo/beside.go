package repo

import (
	"context"
	"fmt"
	"slices"

	"jetsam/index"
	"jetsam/pack"
	"jetsam/storage"
)

// packsBeside reads the headers of those packs that x does not list. unread says which
// of them cannot be read, and why.
func (r *Repo) packsBeside(ctx context.Context, x *index.Index, sizes map[storage.ID]int64) (beside *index.Index, unread []error, err error) {
	var infos []storage.Info
	for id, size := range sizes {
		if _, listed := x.Pack(id); !listed {
			infos = append(infos, storage.Info{File: storage.File{Kind: storage.Pack, ID: id}, Size: size})
		}
	}
	slices.SortFunc(infos, func(a, b storage.Info) int { return a.File.ID.Compare(b.File.ID) })
	type header struct {
		blobs []pack.Blob
		bad   error
	}
	load := func(ctx context.Context, i int, _ header) (header, error) {
		blobs, err := r.tryHeader(ctx, infos[i])
		if err != nil {
			err = fmt.Errorf("look into %v, which no index file lists: %w", infos[i].File, err)
		}
		return header{blobs, err}, storage.Cancelled(ctx)
	}
	beside = index.New()
	var done int
	for h, err := range inOrder(ctx, len(infos), fileReaders, load) {
		if err != nil {
			return nil, nil, err
		}
		if h.bad != nil {
			unread = append(unread, h.bad)
		} else {
			beside.AddPack(infos[done].File.ID, h.blobs)
		}
		done++
	}
	return beside, unread, nil
}
