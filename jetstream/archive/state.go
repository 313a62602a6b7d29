package archive

import (
	"encoding/json"
	"fmt"
	"time"
)

// Names of the fields of state.json that jetsam edits.
const (
	fieldMessages  = "messages"
	fieldBytes     = "bytes"
	fieldFirstSeq  = "first_seq"
	fieldFirstTime = "first_ts"
	fieldLastSeq   = "last_seq"
	fieldLastTime  = "last_ts"
	fieldConsumers = "consumer_count"
	fieldDeleted   = "num_deleted"
)

// detailFields are what a state says of subjects and of single sequences. A restore
// needs none of it.
var detailFields = [...]string{"num_subjects", "subjects", "deleted", "lost"}

// State is what a server says of a stream: nats-server's StreamState, as far as
// jetsam reads it. The JSON itself is what is kept and sent.
type State struct {
	Messages  uint64    `json:"messages"`
	Bytes     uint64    `json:"bytes"` // as the stream's storage counts them
	FirstSeq  uint64    `json:"first_seq"`
	FirstTime time.Time `json:"first_ts"`
	LastSeq   uint64    `json:"last_seq"`
	LastTime  time.Time `json:"last_ts"`
	Consumers int       `json:"consumer_count"`
}

// ParseState reads the JSON of a stream's state, from state.json or from a
// server's answer. Sequences are exact up to 2^64-1. An absent field is zero.
func ParseState(raw json.RawMessage) (State, error) {
	var s State
	if err := checkObject(raw); err != nil {
		return State{}, fmt.Errorf("stream state: %w", err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return State{}, fmt.Errorf("%w: stream state: %w", ErrFormat, err)
	}
	if s.Consumers < 0 {
		return State{}, fmt.Errorf("%w: stream state: consumer_count is %d", ErrFormat, s.Consumers)
	}
	return s, nil
}

// Check returns an error where a restore would refuse the state: a server takes
// an empty stream only as first_seq 0 and last_seq 0 or as first_seq one above
// last_seq, and never more messages than there are sequences (nats-server 2.15,
// stream_backup.go).
func (s State) Check() error {
	switch {
	case s.FirstSeq == 0:
		if s.LastSeq == 0 && s.Messages == 0 {
			return nil
		}
	case s.FirstSeq > s.LastSeq:
		if s.FirstSeq-1 == s.LastSeq && s.Messages == 0 {
			return nil
		}
	case s.Messages <= s.LastSeq-s.FirstSeq+1:
		return nil
	case s.LastSeq-s.FirstSeq+1 == 0: // all 2^64-1 of them, and 0
		return nil
	}
	return fmt.Errorf("%w: stream state: %d messages between first_seq %d and last_seq %d",
		ErrFormat, s.Messages, s.FirstSeq, s.LastSeq)
}

// WithState returns a copy of h whose state.json says what s says. Only the
// bytes of the fields that differ change; fields that State does not know keep
// theirs. A field that was absent and is not zero in s is added at the end.
// s.Consumers is ignored: consumer_count becomes the number of h's consumers.
func (h *Head) WithState(s State) (*Head, error) {
	old, err := ParseState(h.State)
	if err != nil {
		return nil, err
	}
	s.Consumers = len(h.Consumers)
	raw, err := editState(h.State, old, s)
	if err != nil {
		return nil, err
	}
	return &Head{State: raw, StateTime: h.StateTime, Consumers: h.Consumers}, nil
}

// Reduced returns the JSON of a state from which messages were deleted: raw with what
// s says, the number of sequences that are gone between the first and the last, and
// without what it said of subjects and of single sequences.
func (s State) Reduced(raw json.RawMessage) (json.RawMessage, error) {
	old, err := ParseState(raw)
	if err != nil {
		return nil, err
	}
	if raw, err = editState(raw, old, s); err != nil {
		return nil, err
	}
	for _, field := range detailFields {
		raw = dropMember(raw, field)
	}
	if gone := s.LastSeq + 1 - s.FirstSeq - s.Messages; gone > 0 || valueOf(raw, fieldDeleted) != nil {
		raw = setUint(raw, fieldDeleted, gone)
	}
	return raw, nil
}

// editState sets the fields in which s differs from old, which raw says.
func editState(raw json.RawMessage, old, s State) (json.RawMessage, error) {
	raw = setUintIfNew(raw, fieldMessages, old.Messages, s.Messages)
	raw = setUintIfNew(raw, fieldBytes, old.Bytes, s.Bytes)
	raw = setUintIfNew(raw, fieldFirstSeq, old.FirstSeq, s.FirstSeq)
	raw = setUintIfNew(raw, fieldLastSeq, old.LastSeq, s.LastSeq)
	raw = setUintIfNew(raw, fieldConsumers, uint64(old.Consumers), uint64(s.Consumers))
	raw, err := setTimeIfNew(raw, fieldFirstTime, old.FirstTime, s.FirstTime)
	if err != nil {
		return nil, err
	}
	return setTimeIfNew(raw, fieldLastTime, old.LastTime, s.LastTime)
}

func setUintIfNew(raw json.RawMessage, field string, old, value uint64) json.RawMessage {
	if old == value {
		return raw
	}
	return setUint(raw, field, value)
}

func setTimeIfNew(raw json.RawMessage, field string, old, value time.Time) (json.RawMessage, error) {
	if old.Equal(value) {
		return raw, nil
	}
	text, err := value.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("stream state: %s: %w", field, err)
	}
	return setMember(raw, field, text), nil
}
