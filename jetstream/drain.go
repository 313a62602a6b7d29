package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	"strconv"
)

// codeWrongLastSequence is a server's word that the last message of a stream is not the one that was expected (nats-server, server/errors.json).
const codeWrongLastSequence = 10071

// Drain returns when a stream has stored, or refused, all that the server had for it before. It publishes to a subject of the stream what the
// stream must refuse, and what came first is dealt with first.
func (c *Conn) Drain(ctx context.Context, stream, subject string) error {
	p, err := c.Publisher(ctx, stream)
	if err != nil {
		return err
	}
	err = p.Publish(ctx, Outgoing{
		Subject: subject, ID: rand.Text(), Header: map[string][]string{"Nats-Expected-Last-Sequence": {strconv.Itoa(math.MaxInt64)}},
	})
	_, told := p.Close(ctx)
	var answer *APIError
	if errors.As(told, &answer) && answer.ErrCode == codeWrongLastSequence {
		return nil
	}
	return errors.Join(err, told)
}
