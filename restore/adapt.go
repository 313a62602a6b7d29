package restore

import (
	"fmt"

	"jetsam/jetstream/archive"
)

// adapt makes the state and the consumers agree with what is sent of the stream.
func (s *StreamPlan) adapt() error {
	doc := s.log.held.Document
	s.state, s.total, s.content = s.log.state, doc.Jetsam.Messages, doc.Jetsam.MessageBytes
	head := s.captured
	if s.isCut() {
		s.adaptState()
		var err error
		if head, err = head.WithState(s.state); err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	consumers, err := s.adaptConsumers(head.Consumers)
	if err != nil {
		return err
	}
	s.head, s.Consumers = head.WithConsumers(consumers), len(consumers)
	return nil
}

// adaptState makes the state that of what is left after a cut, and of what came.
func (s *StreamPlan) adaptState() {
	kept := map[*log]uint64{}
	s.total = 0
	for i := range s.stretches {
		x := &s.stretches[i]
		s.total += x.Messages
		kept[x.log] += x.bytes
	}
	s.content, s.state.Bytes = 0, 0
	for _, l := range s.logs() {
		s.content += share(l.held.Document.Jetsam.MessageBytes, kept[l], l.bytes)
		s.state.Bytes += share(l.state.Bytes, kept[l], l.bytes)
	}
	s.state.Messages = s.total
	first := s.log.state.FirstSeq
	s.state.LastSeq = min(s.end(), s.logs()[len(s.logs())-1].want.Last)
	if s.keepLastSeq {
		s.state.LastSeq = max(s.state.LastSeq, s.log.state.LastSeq, s.reached)
	}
	if n := len(s.stretches); n > 0 {
		s.state.FirstSeq = s.stretches[0].First
		s.state.FirstTime, s.state.LastTime = s.stretches[0].From, s.stretches[n-1].To
		return
	}
	if s.state.LastSeq < s.log.state.LastSeq { // cut before its first message
		s.state.LastSeq = min(s.state.LastSeq, max(first, 1)-1)
	}
	s.state.FirstSeq = s.state.LastSeq + 1
}

// adaptConsumers makes the consumers those of a stream as s.state says it is. Those that stand below its first message go on at it, which a
// server lets a live one do too, and s.raised says how many there are: one that was sent as it is would be forgotten (archive.Consumer.Raise).
// One whose floor lies above what it waits for would be refused (archive.Consumer.Lower).
// Those that stand beyond a cut go back to it, and s.lowered says how many.
func (s *StreamPlan) adaptConsumers(captured []archive.Consumer) ([]archive.Consumer, error) {
	s.raised, s.lowered = 0, 0
	consumers := make([]archive.Consumer, 0, len(captured))
	for _, c := range captured {
		c, _, err := c.Lower()
		if err != nil {
			return nil, fmt.Errorf("stream %s: consumer %s: %w", s.Name, c.Name, err)
		}
		c, raised, err := c.Raise(s.state.FirstSeq)
		if err != nil {
			return nil, fmt.Errorf("stream %s: consumer %s: %w", s.Name, c.Name, err)
		}
		if raised {
			s.raised++
		}
		if s.isCut() {
			lowered := false
			if c, lowered, err = c.Cut(s.state.LastSeq, s.keeps); err != nil {
				return nil, fmt.Errorf("stream %s: consumer %s: %w", s.Name, c.Name, err)
			}
			if lowered {
				s.lowered++
			}
		}
		if old, now, ok := s.bucket(); ok {
			if c, err = c.WithFilters(func(subject string) string { return respell(subject, old, now) }); err != nil {
				return nil, fmt.Errorf("stream %s: consumer %s: %w", s.Name, c.Name, err)
			}
		}
		consumers = append(consumers, c)
	}
	return consumers, nil
}

// keeps says whether a message that a consumer waits for is sent. Before the messages are read, all those within the bounds count.
func (s *StreamPlan) keeps(seq uint64) bool {
	if seq < s.log.want.First || seq > s.log.want.Last || s.log.overtaken.Has(seq) {
		return false
	}
	return !s.filtered || s.awaited.has(seq)
}
