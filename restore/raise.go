package restore

import (
	"fmt"

	"jetsam/jetstream/archive"
)

// raiseConsumers reads all consumers, as a server must be able to. Those that stand below the stream's first message go on at it, which a
// server lets a live one do too, and it remembers how many there are: one that was sent as it is would be forgotten (archive.Consumer.Raise).
func (s *StreamPlan) raiseConsumers() error {
	consumers := make([]archive.Consumer, 0, len(s.head.Consumers))
	for _, c := range s.head.Consumers {
		c, raised, err := c.Raise(s.state.FirstSeq)
		if err != nil {
			return fmt.Errorf("stream %s: consumer %s: %w", s.Name, c.Name, err)
		}
		if raised {
			s.raised++
		}
		consumers = append(consumers, c)
	}
	if s.raised > 0 {
		s.head = s.head.WithConsumers(consumers)
	}
	return nil
}
