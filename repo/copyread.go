package repo

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/storage"
)

// How a copy reads: blobs that lie close to each other in a pack come with one
// request.
const (
	copyReaders = 4         // requests at the same time
	copyGap     = 64 << 10  // bytes between two blobs that are read for nothing
	copySpan    = 8 << 20   // bytes of a request, unless a single blob has more
	copyAlone   = largeBlob // bytes from which spans are read one at a time
)

// lying is a blob and where it lies.
type lying struct {
	blob.Handle
	index.Location
}

func (b lying) end() int64 { return int64(b.Offset) + int64(b.Length) }

// span is blobs of a pack that are read at once.
type span struct {
	blobs []lying // in order of their offsets
	end   int64   // of the last byte that any of them has
}

func (s span) length() int64 { return s.end - int64(s.blobs[0].Offset) }

// spans says how to read blobs.
func (c *copier) spans(handles []blob.Handle) ([]span, error) {
	blobs := make([]lying, len(handles))
	for i, h := range handles {
		l, ok := c.rd.index.Load().First(h)
		if !ok {
			return nil, &lostError{c.rd.unlisted(h)}
		}
		blobs[i] = lying{h, l}
	}
	slices.SortFunc(blobs, func(a, b lying) int {
		return cmp.Or(a.Pack.Compare(b.Pack), cmp.Compare(a.Offset, b.Offset))
	})
	var spans []span
	for i, b := range blobs {
		if n := len(spans) - 1; n >= 0 && spans[n].takes(b) {
			spans[n].blobs = append(spans[n].blobs, b)
			spans[n].end = max(spans[n].end, b.end())
			continue
		}
		spans = append(spans, span{blobs[i : i+1 : i+1], b.end()})
	}
	return spans, nil
}

// takes says whether b, which does not lie before the span's blobs, is read with
// them.
func (s span) takes(b lying) bool {
	first := s.blobs[0]
	return b.Pack == first.Pack && int64(b.Offset)-s.end <= copyGap && max(s.end, b.end())-int64(first.Offset) <= copySpan
}

// read reads blobs and calls use for each, from several goroutines, in any order.
// plain is valid until use returns. What cannot be read is a *lostError.
func (c *copier) read(ctx context.Context, handles []blob.Handle, use func(ctx context.Context, h blob.Handle, plain []byte) error) error {
	spans, err := c.spans(handles)
	if err != nil {
		return err
	}
	parallel := copyReaders
	if slices.ContainsFunc(spans, func(s span) bool { return s.blobs[0].PlainLength > copyAlone || s.length() > copyAlone }) {
		parallel = 1
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, s := range spans {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return c.readSpan(ctx, s, use) })
	}
	return g.Wait()
}

func (c *copier) readSpan(ctx context.Context, s span, use func(context.Context, blob.Handle, []byte) error) error {
	sealed := c.loadSpan(ctx, s)
	var plain []byte
	var err error
	for _, b := range s.blobs {
		if plain, err = c.open(ctx, s, sealed, b, plain[:0]); err != nil {
			return err
		}
		if err := use(ctx, b.Handle, plain); err != nil {
			return err
		}
	}
	return nil
}

// loadSpan returns the bytes of a span, or nil if each blob has to be read by
// itself: where there is but one, or something is wrong.
func (c *copier) loadSpan(ctx context.Context, s span) []byte {
	if len(s.blobs) == 1 {
		return nil
	}
	first := s.blobs[0]
	sealed, err := c.from.be.Load(ctx, storage.File{Kind: storage.Pack, ID: first.Pack}, int64(first.Offset), int(s.length()))
	if err != nil || int64(len(sealed)) != s.length() {
		return nil
	}
	return sealed
}

// open appends the content of a blob to dst: from the bytes of its span, or where
// these are not right, from any copy that is.
func (c *copier) open(ctx context.Context, s span, sealed []byte, b lying, dst []byte) ([]byte, error) {
	if sealed != nil {
		part := sealed[int64(b.Offset)-int64(s.blobs[0].Offset):][:b.Length:b.Length]
		plain, err := c.from.codec.openBlob(dst, part, int(b.PlainLength))
		if err == nil && len(plain) > 0 && blob.Sum(plain) == b.ID {
			return plain, nil
		}
	}
	plain, err := c.rd.Load(ctx, b.Handle, dst)
	if err == nil && len(plain) == 0 {
		err = damaged(storage.File{Kind: storage.Pack, ID: b.Pack}, errors.New("blob without content"))
	}
	if err != nil {
		return nil, &lostError{err}
	}
	return plain, nil
}
