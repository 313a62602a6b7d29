package backup

import (
	"fmt"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// reconcile compares what was received with the state that the capture began with, and explains a difference by how the stream stands afterwards.
//
// A server takes the state first and reads messages later: what is removed meanwhile is not sent, and nothing fails (nats-server 2.15, stream_backup.go).
// removed is how many messages of the state were not received because the stream lost them. torn says why more than that are missing.
// An error means that what was received cannot belong to the state.
func reconcile(state archive.State, m *streamlog.Messages, after *jetstream.StreamInfo) (removed uint64, torn string, err error) {
	if m.Count > state.Messages || m.Last > state.LastSeq {
		return 0, "", fmt.Errorf("received %d messages up to sequence %d of a stream that had %d up to %d", m.Count, m.Last, state.Messages, state.LastSeq)
	}
	missing := state.Messages - m.Count
	if missing == 0 {
		return 0, "", nil
	}
	now, err := archive.ParseState(after.State)
	if err != nil {
		return 0, "", err
	}
	if now.LastSeq < state.LastSeq {
		return 0, fmt.Sprintf("%d messages are missing: the stream's last sequence went back from %d to %d meanwhile", missing, state.LastSeq, now.LastSeq), nil
	}
	died := state.Messages - min(state.Messages, atLeastAlive(state, now))
	if missing > died {
		return died, fmt.Sprintf("%d messages are missing, of which the stream lost at most %d meanwhile", missing, died), nil
	}
	return missing, "", nil
}

// atLeastAlive is the least number of the state's messages that can still be alive: those there now, less all that may have come since.
func atLeastAlive(state, now archive.State) uint64 {
	came := now.LastSeq - state.LastSeq
	return now.Messages - min(now.Messages, came)
}
