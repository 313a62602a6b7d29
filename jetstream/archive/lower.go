package archive

import (
	"encoding/json"
	"fmt"
)

// Lower returns the consumer with its floor of acknowledgement below all that it
// waits for, and whether that differs. A server lets the floor of a live consumer
// pass over messages that wait: a purge of some subjects sets its count of
// deliveries beyond theirs, and the next acknowledgement the floor itself
// (nats-server 2.15, consumer.purge and moveAckFloor). The same server refuses to
// restore such a state (consumerFileStore.Update), and with it the whole stream.
func (c Consumer) Lower() (Consumer, bool, error) {
	s, err := ParseConsumer(c.JSON)
	if err != nil {
		return c, false, err
	}
	was, state := s.AckFloor, valueOf(c.JSON, "state")
	_, _, _, err = keepMembers(valueOf(state, "pending"), func(seq uint64, entry json.RawMessage) (bool, error) {
		delivery, err := deliveryOf(entry)
		if seq > 0 {
			s.AckFloor.Stream = min(s.AckFloor.Stream, seq-1)
		}
		if delivery > 0 {
			s.AckFloor.Consumer = min(s.AckFloor.Consumer, delivery-1)
		}
		return true, err
	})
	if err != nil {
		return c, false, fmt.Errorf("consumer: pending: %w", err)
	}
	if s.AckFloor.Stream == was.Stream {
		return c, false, nil
	}
	c.JSON = setMember(c.JSON, "state", setPair(state, "ack_floor", s.AckFloor))
	return c, true, nil
}
