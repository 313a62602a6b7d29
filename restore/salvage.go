package restore

import (
	"context"
	"errors"
	"fmt"

	"jetsam/jetstream/archive"
	"jetsam/repo"
)

// settle computes from the stretches what will be sent and what is lost.
func (p *Plan) settle(s *StreamPlan) error {
	if err := s.adapt(); err != nil {
		return err
	}
	s.ids, s.ages, s.ArchiveSize = nil, nil, 0
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.lost() {
			continue
		}
		if x.Messages > 0 {
			s.ages = append(s.ages, age{x.From.UnixNano(), x.To.UnixNano(), x.Messages})
		}
		s.ids = append(s.ids, x.ids...)
		for _, id := range x.ids {
			n, _ := p.rd.Size(dataBlob(id))
			s.ArchiveSize += uint64(n)
		}
	}
	return s.tellLosses()
}

// tellLosses puts what is lost into s.Lost, and makes the head say what is left.
func (s *StreamPlan) tellLosses() error {
	d := &DamageError{Total: s.total, Head: s.headErr}
	if s.headErr != nil {
		for _, c := range s.log.held.Document.Jetsam.Consumers {
			d.Consumers = append(d.Consumers, c.Name)
		}
	}
	var whole, lost, bytes uint64
	var doubt, lostDoubt bool
	for i := range s.stretches {
		switch x := &s.stretches[i]; {
		case !x.lost():
			whole, doubt = whole+x.Messages, doubt || x.Messages == 0
		case i > 0 && s.stretches[i-1].lost():
			d.Lost[len(d.Lost)-1] = d.Lost[len(d.Lost)-1].join(x.Loss)
			lost, bytes, lostDoubt = lost+x.Messages, bytes+x.bytes, lostDoubt || x.Messages == 0
		default:
			d.Lost = append(d.Lost, x.Loss)
			lost, bytes, lostDoubt = lost+x.Messages, bytes+x.bytes, lostDoubt || x.Messages == 0
		}
	}
	s.Messages, s.Lost = whole, nil
	s.Bytes = s.content - min(s.content, bytes)
	if doubt {
		s.Messages = s.total - lost // nobody knows better before they are read
	}
	if lostDoubt && (doubt || s.isCut()) {
		d.Total = 0
	} else {
		d.Messages = s.total - s.Messages
	}
	if len(d.Lost) == 0 {
		if d.Head != nil {
			s.Lost = d
		}
		return nil
	}
	s.Lost = d
	left := s.state
	left.Messages, left.Bytes = s.Messages, left.Bytes-min(left.Bytes, bytes) // an entry is never longer than what a server stores of it
	head, err := s.head.WithState(left)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	s.head = head
	return nil
}

// openHead reads the stream's head. One that is lost is made from the document, which has all of it but the consumers.
func (p *Plan) openHead(ctx context.Context, s *StreamPlan) error {
	held := s.log.held
	head, err := held.Head(ctx)
	if err != nil {
		head, err = held.Head(ctx) // what a storage fails to give once is not lost yet
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case repo.IsUnread(err):
		return err
	case err != nil:
		head = (&archive.Head{State: held.Document.State}).WithoutConsumers()
		if !p.Options.NoConsumers {
			s.headErr = err
			if why := errors.Unwrap(err); why != nil {
				s.headErr = why // without the stream's and the file's name
			}
		}
	}
	if p.Options.NoConsumers {
		head = head.WithoutConsumers()
	}
	s.captured = head
	return nil
}

// lostAt is why the blob at that place of what is sent cannot be read: it names the messages that are lost with it.
func (s *StreamPlan) lostAt(place int, err error) error {
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.lost() {
			continue
		}
		if place < len(x.ids) {
			return s.lossAt(x, err)
		}
		place -= len(x.ids)
	}
	return err
}

// plainDamage is the damage in err, without the words of those who came upon it.
func plainDamage(err error) error {
	var found *DamageError
	if errors.As(err, &found) {
		return found
	}
	return err
}

// lostOf is what a run that ended so found lost.
func (s *StreamPlan) lostOf(err error) *DamageError {
	var found *DamageError
	if errors.As(err, &found) {
		return found
	}
	return s.Lost
}
