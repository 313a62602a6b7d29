package nats

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"jetsam/storage"
)

// Headers of a head.
const (
	uploadHeader = "Jetsam-Upload" // a name that no other upload has
	chunkHeader  = "Jetsam-Chunk"  // length of all chunks but the last, in bytes; without it the content is in the head
)

// parallel is how many chunks are on their way at the same time.
const parallel = 8

// tidyTime bounds how long it may take to take away what is left of a failed upload.
const tidyTime = 10 * time.Second

// Save implements storage.Backend. It returns when the server has acknowledged all.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	err := storage.Check(ctx, f)
	if err == nil {
		err = b.save(ctx, f, data)
	}
	if err != nil {
		return fmt.Errorf("save %v: %w", f, err)
	}
	return nil
}

func (b *Backend) save(ctx context.Context, f storage.File, data []byte) error {
	switch _, err := b.find(ctx, f); {
	case err == nil:
		return storage.ErrExist
	case !errors.Is(err, storage.ErrNotExist):
		return err
	}
	upload := rand.Text()
	if len(data) <= b.chunk {
		return b.saveHead(ctx, f, len(data), natsgo.Header{uploadHeader: {upload}}, data)
	}
	sequences, err := b.saveChunks(ctx, b.chunkSubject(f, upload), data)
	if err != nil {
		b.tidy(ctx, b.chunkSubject(f, upload))
		return err
	}
	header := natsgo.Header{uploadHeader: {upload}, chunkHeader: {strconv.Itoa(b.chunk)}}
	if err := b.saveHead(ctx, f, len(data), header, sequences); err != nil {
		// Whatever else it is, the head may be stored yet.
		if errors.Is(err, storage.ErrExist) || errors.Is(err, storage.ErrFull) {
			b.tidy(ctx, b.chunkSubject(f, upload))
		}
		return err
	}
	return nil
}

// tidy takes away chunks that nobody sees. If that fails they stay, until they are
// swept.
func (b *Backend) tidy(ctx context.Context, subject string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	_ = b.purge(ctx, subject)
}

// saveChunks stores data in messages, and returns their sequences.
func (b *Backend) saveChunks(ctx context.Context, subject string, data []byte) (sequences []byte, err error) {
	n := (len(data) + b.chunk - 1) / b.chunk
	sequences = make([]byte, 8*n)
	// Of those that are on their way when one fails the answers are waited for, so that all that was stored is known.
	var g errgroup.Group
	var failed atomic.Bool
	g.SetLimit(parallel)
	for i := 0; i < n && !failed.Load(); i++ {
		g.Go(func() error {
			seq, err := b.publish(ctx, subject, nil, data[i*b.chunk:min((i+1)*b.chunk, len(data))])
			binary.BigEndian.PutUint64(sequences[8*i:], seq)
			if err != nil {
				failed.Store(true)
			}
			return err
		})
	}
	return sequences, g.Wait()
}

// saveHead stores the head of a file that has none.
func (b *Backend) saveHead(ctx context.Context, f storage.File, size int, header natsgo.Header, body []byte) error {
	header[natsgo.ExpectedLastSubjSeqHdr] = []string{"0"}
	header["Nats-Expected-Last-Subject-Sequence-Subject"] = []string{b.headSubject(f, "*")}
	return b.persist(ctx, func() (again bool, err error) {
		_, err = b.publish(ctx, b.headSubject(f, strconv.Itoa(size)), header, body)
		var wrong *apiError
		if !errors.As(err, &wrong) || !wrong.wrongLast() {
			return false, err
		}
		// It is there: somebody else's, or this one, whose acknowledgement was lost.
		there, err := b.headAtLeader(ctx, f)
		switch {
		case errors.Is(err, storage.ErrNotExist):
			return true, wrong // it was on its way, and did not arrive
		case err != nil:
			return false, err
		case there.upload == header.Get(uploadHeader):
			return false, nil
		}
		return false, storage.ErrExist
	})
}

// Remove implements storage.Backend: first the head, then what it stands for.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	err := storage.Check(ctx, f)
	if err == nil {
		err = b.remove(ctx, f)
	}
	if err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	return nil
}

func (b *Backend) remove(ctx context.Context, f storage.File) error {
	// Whether it was there does not show afterwards: where the answer to a purge is lost, it is asked for again, and nothing is there.
	if _, err := b.find(ctx, f); err != nil {
		return err
	}
	if err := b.purge(ctx, b.headSubject(f, "*")); err != nil {
		return err
	}
	b.forget(f)
	if f.Kind == storage.Pack {
		if err := b.sweepOnce(ctx); err != nil {
			return fmt.Errorf("it is gone; look for what interrupted uploads left: %w", err)
		}
	}
	return b.purge(ctx, b.chunkSubject(f, "*"))
}
