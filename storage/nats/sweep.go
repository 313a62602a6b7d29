package nats

import (
	"context"
	"errors"
	"strings"
	"time"

	"jetsam/storage"
)

// leftoverAge is how old chunks without a head must be for nobody to be storing
// them still.
const leftoverAge = 24 * time.Hour

// sweepOnce takes away what interrupted uploads left, once in the life of a Backend.
func (b *Backend) sweepOnce(ctx context.Context) error {
	b.mu.Lock()
	first := !b.swept
	b.swept = true
	b.mu.Unlock()
	if !first {
		return nil
	}
	return b.sweep(ctx, leftoverAge)
}

// sweep purges chunks that belong to no head and are older by age than the newest
// message, so that it is the server's clock that tells, and not this machine's.
func (b *Backend) sweep(ctx context.Context, age time.Duration) error {
	chunks, err := b.subjects(ctx, b.prefix()+"c.>")
	if err != nil {
		return err
	}
	heads, err := b.subjects(ctx, b.prefix()+"f.>")
	if err != nil {
		return err
	}
	stream, err := b.info(ctx, "", 0)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(heads)) // KIND.ID
	for subject := range heads {
		there[fileToken(strings.TrimPrefix(subject, b.prefix()+"f."))] = true
	}
	for subject := range chunks {
		if there[fileToken(strings.TrimPrefix(subject, b.prefix()+"c."))] {
			continue
		}
		last, err := b.fromLeader(ctx, map[string]any{"last_by_subj": subject})
		switch {
		case errors.Is(err, storage.ErrNotExist):
			continue
		case err != nil:
			return err
		case stream.State.LastTime.Sub(last.time) < age:
			continue
		}
		if err := b.purge(ctx, subject); err != nil {
			return err
		}
	}
	return nil
}

// fileToken is KIND.ID of KIND.ID.REST.
func fileToken(text string) string {
	if i := strings.LastIndexByte(text, '.'); i >= 0 {
		return text[:i]
	}
	return text
}
