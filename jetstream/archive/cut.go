package archive

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Cut returns a copy of c for a stream that ends at last and has those of its messages that kept says: what c has delivered above last it
// delivers again, once something comes there, and it does not wait for what is not kept. It skips no message that it had not acknowledged.
// One that shall begin at a sequence beyond begins right behind last: a server sets a consumer to where it begins before it looks at its state,
// and ignores a state that is below (nats-server 2.15, setStoreState). Everything else keeps its bytes. changed is whether anything had to. A server bounds consumers the same way when it takes a snapshot
// (nats-server 2.15, stream_backup.go), and not at all when it restores one.
func (c Consumer) Cut(last uint64, kept func(seq uint64) bool) (_ Consumer, changed bool, err error) {
	s, err := ParseConsumer(c.JSON)
	if err != nil {
		return c, false, err
	}
	state := valueOf(c.JSON, "state")
	stays := func(seq uint64, _ json.RawMessage) (bool, error) { return seq <= last && kept(seq), nil }
	pending, lowest, dropped, err := keepMembers(valueOf(state, "pending"), stays)
	if err != nil {
		return c, false, fmt.Errorf("consumer: pending: %w", err)
	}
	redelivered, _, forgotten, err := keepMembers(valueOf(state, "redelivered"), stays)
	if err != nil {
		return c, false, fmt.Errorf("consumer: redelivered: %w", err)
	}
	late := last < math.MaxUint64 && s.StartSeq > last+1
	if !late && dropped+forgotten == 0 && s.Delivered.Stream <= last && s.AckFloor.Stream <= last {
		return c, false, nil
	}
	if late {
		c.JSON = setMember(c.JSON, "config", setUint(valueOf(c.JSON, "config"), "opt_start_seq", last+1))
	}
	s.Delivered.Stream = min(s.Delivered.Stream, last)
	s.AckFloor.Stream = min(s.AckFloor.Stream, last)
	switch {
	case dropped == 0:
	case lowest.Stream == 0: // it waits for nothing any more
		s.AckFloor = s.Delivered
	case lowest.Stream-1 > s.AckFloor.Stream:
		s.AckFloor.Stream = lowest.Stream - 1
		if below := lowest.Consumer; below > 0 {
			s.AckFloor.Consumer = min(max(s.AckFloor.Consumer, below-1), s.Delivered.Consumer)
		}
	}
	state = setPair(state, "delivered", s.Delivered)
	state = setPair(state, "ack_floor", s.AckFloor)
	if dropped > 0 {
		state = setMember(state, "pending", pending)
	}
	if forgotten > 0 {
		state = setMember(state, "redelivered", redelivered)
	}
	c.JSON = setMember(c.JSON, "state", state)
	return c, true, nil
}

// Waiting calls yield with the sequence of each message that c has delivered and that is not acknowledged.
func (c Consumer) Waiting(yield func(seq uint64)) error {
	if err := checkObject(c.JSON); err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	state := valueOf(c.JSON, "state")
	if checkObject(state) != nil {
		return nil
	}
	_, _, _, err := keepMembers(valueOf(state, "pending"), func(seq uint64, _ json.RawMessage) (bool, error) {
		yield(seq)
		return true, nil
	})
	return err
}

// keepMembers leaves those members of an object, which are named by sequences of the stream, that stay. It gives the position of the
// lowest of them, whose consumer sequence is 0 where the members have none, and says how many it dropped. What is absent or null stays so.
func keepMembers(raw json.RawMessage, stays func(seq uint64, value json.RawMessage) (bool, error)) (left json.RawMessage, lowest SequencePair, dropped int, err error) {
	if len(raw) == 0 || raw[0] != '{' {
		return raw, lowest, 0, nil
	}
	left = append(left, '{')
	var first json.RawMessage // the value of the lowest
	for m := range members(raw) {
		seq, err := strconv.ParseUint(m.key, 10, 64)
		if err != nil {
			return nil, lowest, 0, fmt.Errorf("%w: %q is not a sequence", ErrFormat, m.key)
		}
		value := raw[m.start:m.end]
		if stay, err := stays(seq, value); err != nil {
			return nil, lowest, 0, err
		} else if !stay {
			dropped++
			continue
		}
		if lowest.Stream == 0 || seq < lowest.Stream {
			lowest.Stream, first = seq, value
		}
		if len(left) > 1 {
			left = append(left, ',')
		}
		left = append(append(strconv.AppendQuote(left, m.key), ':'), value...)
	}
	lowest.Consumer, err = deliveryOf(first)
	return append(left, '}'), lowest, dropped, err
}

// deliveryOf is the consumer sequence that a message's entry in pending has, or 0 where it has none.
func deliveryOf(entry json.RawMessage) (uint64, error) {
	if len(entry) == 0 || entry[0] != '{' {
		return 0, nil
	}
	var e struct {
		Sequence uint64 `json:"sequence"`
	}
	if err := json.Unmarshal(entry, &e); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return e.Sequence, nil
}
