package archive

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Raise returns the consumer as a server has it after a purge of all messages
// below first, the stream's first sequence, and whether that differs: it has
// delivered and acknowledged them, and none of them waits. Consumers stay behind
// where a stream drops its oldest messages, and a server that restores one whose
// floor is below first-1 ignores all of its state without a word: it then
// delivers from first on again, whatever was acknowledged (nats-server 2.15,
// setStoreState and consumerFileStore.Update). Only the bytes of what changes are
// other than before.
func (c Consumer) Raise(first uint64) (Consumer, bool, error) {
	s, err := ParseConsumer(c.JSON)
	if err != nil {
		return c, false, err
	}
	if first == 0 || s.AckFloor.Stream >= first-1 {
		return c, false, nil
	}
	raised, err := raise(valueOf(c.JSON, "state"), s, first-1)
	if err != nil {
		return c, false, fmt.Errorf("consumer: %w", err)
	}
	c.JSON = setMember(c.JSON, "state", raised)
	return c, true, nil
}

// raise returns the state s, which raw says, with nothing below or at floor in it.
func raise(raw json.RawMessage, s ConsumerState, floor uint64) (json.RawMessage, error) {
	var highest uint64 // consumer sequence of what waits no more
	pending, _, _, err := keepMembers(valueOf(raw, "pending"), func(seq uint64, entry json.RawMessage) (bool, error) {
		if seq > floor {
			return true, nil
		}
		delivery, err := deliveryOf(entry)
		highest = max(highest, delivery)
		return false, err
	})
	if err != nil {
		return nil, fmt.Errorf("pending: %w", err)
	}
	redelivered, _, _, err := keepMembers(valueOf(raw, "redelivered"), func(seq uint64, _ json.RawMessage) (bool, error) { return seq > floor, nil })
	if err != nil {
		return nil, fmt.Errorf("redelivered: %w", err)
	}
	s.Delivered.Stream = max(s.Delivered.Stream, floor)
	s.AckFloor.Stream = floor
	s.AckFloor.Consumer = min(max(s.AckFloor.Consumer, highest), s.Delivered.Consumer)
	if n, err := countMembers(pending); err == nil && n == 0 {
		s.AckFloor = s.Delivered
	}
	raw = setPair(raw, "delivered", s.Delivered)
	raw = setPair(raw, "ack_floor", s.AckFloor)
	if pending != nil {
		raw = setMember(raw, "pending", pending)
	}
	if redelivered != nil {
		raw = setMember(raw, "redelivered", redelivered)
	}
	return raw, nil
}

func setPair(raw json.RawMessage, name string, p SequencePair) json.RawMessage {
	return setMember(raw, name, fmt.Appendf(nil, `{"consumer_seq":%d,"stream_seq":%d}`, p.Consumer, p.Stream))
}

// valueOf is the value of an object's last member of that name, or nil, as
// encoding/json has it.
func valueOf(raw json.RawMessage, name string) (value json.RawMessage) {
	for m := range members(raw) {
		if strings.EqualFold(m.key, name) {
			value = raw[m.start:m.end]
		}
	}
	return value
}
