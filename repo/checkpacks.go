package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"jetsam/blob"
	"jetsam/pack"
	"jetsam/storage"
)

// maxPackRead bounds the length of a pack that is read whole, in bytes. Packs end
// at 128 MiB and one blob.
const maxPackRead = 256 << 20

// checkPacks reads the packs of the subset, or else the header of every pack: a
// small read for each 16 MiB, which a directory answers in no time.
func (c *checker) checkPacks(ctx context.Context) error {
	if !c.opts.ReadData {
		c.report.Headers = len(c.packs)
		return c.eachPack(ctx, "packs", c.packs, fileReaders, c.checkHeader)
	}
	chosen := c.opts.Subset.choose(c.packs)
	if c.opts.only != nil {
		chosen = slices.DeleteFunc(slices.Clone(c.packs), func(p storage.Info) bool { _, ok := c.opts.only[p.File.ID]; return !ok })
	}
	c.report.Headers, c.report.PacksRead = len(chosen), len(chosen)
	for _, p := range chosen {
		c.report.BytesRead += p.Size
	}
	return c.eachPack(ctx, "data", chosen, runtime.GOMAXPROCS(0), c.checkData)
}

// verdict is what was found in a pack.
type verdict struct {
	errs   []error
	bad    []uint32 // offsets of blobs that cannot be read
	unread error    // why nothing was found: the storage does not give it just now
}

func (v *verdict) add(format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf(format, args...))
}

// eachPack calls check for packs, several at a time, and reports the verdicts.
func (c *checker) eachPack(ctx context.Context, step string, packs []storage.Info, parallel int, check func(context.Context, storage.Info) verdict) error {
	judge := func(ctx context.Context, i int, _ verdict) (verdict, error) {
		v := check(ctx, packs[i])
		return v, cmp.Or(storage.Cancelled(ctx), v.unread)
	}
	var done int
	for v, err := range inOrder(ctx, len(packs), parallel, judge) {
		if err != nil {
			return err
		}
		f := packs[done].File
		for _, err := range v.errs {
			c.report.damaged(f, err)
		}
		for _, offset := range v.bad {
			c.bad[blobCopy{f.ID, offset}] = struct{}{}
		}
		done++
		c.progress(CheckProgress{step, done, len(packs)})
	}
	return nil
}

// checkHeader compares a pack's header with the index.
func (c *checker) checkHeader(ctx context.Context, info storage.Info) (v verdict) {
	header, err := c.repo.tryHeader(ctx, info)
	switch {
	case IsUnread(err):
		v.unread = err
		return v
	case err != nil:
		v.add("read header: %w", err)
		return v
	}
	c.compareHeader(&v, info.File.ID, header)
	return v
}

func (c *checker) compareHeader(v *verdict, id storage.ID, header []pack.Blob) {
	if listed, _ := c.index.Pack(id); !equalBlobs(listed, header) {
		v.add("header lists %d blobs, others than the %d in the index", len(header), len(listed))
	}
}

// equalBlobs compares the blobs of a pack, whatever order they are in.
func equalBlobs(a, b []pack.Blob) bool {
	byOffset := func(a, b pack.Blob) int { return cmp.Compare(a.Offset, b.Offset) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), byOffset), slices.SortedFunc(slices.Values(b), byOffset))
}

// checkData reads a whole pack, and once more if anything is wrong with it, to
// tell damage on the way from damage in the place.
func (c *checker) checkData(ctx context.Context, info storage.Info) verdict {
	first := c.readPack(ctx, info)
	if first.unread == nil && len(first.errs) == 0 || storage.Cancelled(ctx) != nil {
		return first
	}
	second := c.readPack(ctx, info)
	if second.unread == nil && len(second.errs) == 0 && len(first.errs) > 0 {
		second.add("sound when read again, but at first: %w", errors.Join(first.errs...))
	}
	return second
}

func (c *checker) readPack(ctx context.Context, info storage.Info) (v verdict) {
	listed, _ := c.index.Pack(info.File.ID)
	data, err := c.loadPack(ctx, info)
	if away(err) {
		v.unread = loadError(info.File, err)
		return v
	}
	if err != nil {
		v.errs = append(v.errs, err)
		for _, b := range listed {
			v.bad = append(v.bad, b.Offset)
		}
		return v
	}
	if storage.Sum(data) != info.File.ID {
		v.errs = append(v.errs, errHash)
	}
	load := func(off int64, n int) ([]byte, error) { return data[off : off+int64(n)], nil }
	if header, err := pack.ReadHeader(int64(len(data)), c.repo.key, load); err != nil {
		v.add("read header: %w", err)
	} else {
		c.compareHeader(&v, info.File.ID, header)
	}
	c.checkBlobs(&v, data, listed)
	return v
}

func (c *checker) loadPack(ctx context.Context, info storage.Info) ([]byte, error) {
	if info.Size > maxPackRead {
		return nil, damaged(info.File, fmt.Errorf("pack of %d bytes is longer than %d", info.Size, maxPackRead))
	}
	return c.repo.be.Load(ctx, info.File, 0, -1)
}

// checkBlobs opens the blobs in a pack and compares their hashes.
func (c *checker) checkBlobs(v *verdict, data []byte, listed []pack.Blob) {
	var plain []byte
	for _, b := range listed {
		if err := c.checkBlob(&plain, data, b); err != nil {
			v.add("%v at offset %d: %w", b.Handle, b.Offset, err)
			v.bad = append(v.bad, b.Offset)
		}
	}
}

// checkBlob overwrites the blob's part of data.
func (c *checker) checkBlob(plain *[]byte, data []byte, b pack.Blob) error {
	end := int64(b.Offset) + int64(b.Length)
	if end > int64(len(data)) {
		return errors.New("it ends behind the end of the pack")
	}
	out, err := c.repo.codec.openBlob((*plain)[:0], data[b.Offset:end:end], int(b.PlainLength))
	if err != nil {
		return err
	}
	*plain = out
	if blob.Sum(out) != b.Handle.ID {
		return errors.New("content is not the blob's")
	}
	if c.opts.Contents != nil && b.Handle.Kind == blob.Data {
		c.opts.Contents.Blob(b.Handle.ID, out)
	}
	return nil
}
