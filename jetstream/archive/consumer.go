package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// ConsumerState is what the entry of a consumer says, as far as jetsam reads it.
// The JSON itself is what is kept and sent.
type ConsumerState struct {
	Name           string   // of the configuration; the entry's own name is what counts
	Durable        string   // empty for an ephemeral consumer
	DeliverSubject string   // empty for a pull consumer
	FilterSubjects []string // empty: all of the stream
	AckPolicy      string   // "none", "all", "explicit"
	StartSeq       uint64   // from which on it delivers; 0: another deliver policy
	Delivered      SequencePair
	AckFloor       SequencePair
	AckPending     int // messages delivered and not acknowledged
	Redelivered    int // messages delivered more than once and not acknowledged
}

// SequencePair is a position of a consumer: in what it delivers, and in the stream.
type SequencePair struct {
	Consumer uint64 `json:"consumer_seq"`
	Stream   uint64 `json:"stream_seq"`
}

// consumerEntry is the JSON of a consumer's entry (nats-server 2.15,
// SnapshotConsumerState).
type consumerEntry struct {
	Config *struct {
		Name           string          `json:"name"`
		Durable        string          `json:"durable_name"`
		DeliverSubject string          `json:"deliver_subject"`
		FilterSubject  string          `json:"filter_subject"`
		FilterSubjects json.RawMessage `json:"filter_subjects"`
		AckPolicy      string          `json:"ack_policy"`
		StartSeq       uint64          `json:"opt_start_seq"`
	} `json:"config"`
	State *struct {
		Delivered   SequencePair    `json:"delivered"`
		AckFloor    SequencePair    `json:"ack_floor"`
		Pending     json.RawMessage `json:"pending"`
		Redelivered json.RawMessage `json:"redelivered"`
	} `json:"state"`
}

// ParseConsumer reads the JSON of a consumer's entry. Like a server, it refuses
// one that lacks its configuration or its state.
func ParseConsumer(raw json.RawMessage) (ConsumerState, error) {
	if err := checkObject(raw); err != nil {
		return ConsumerState{}, fmt.Errorf("consumer: %w", err)
	}
	var e consumerEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return ConsumerState{}, fmt.Errorf("%w: consumer: %w", ErrFormat, err)
	}
	if e.Config == nil || e.State == nil {
		return ConsumerState{}, fmt.Errorf("%w: consumer without config or state", ErrFormat)
	}
	return e.state()
}

func (e *consumerEntry) state() (ConsumerState, error) {
	pending, err := countMembers(e.State.Pending)
	if err != nil {
		return ConsumerState{}, fmt.Errorf("consumer: pending: %w", err)
	}
	redelivered, err := countMembers(e.State.Redelivered)
	if err != nil {
		return ConsumerState{}, fmt.Errorf("consumer: redelivered: %w", err)
	}
	filters, err := filterSubjects(e.Config.FilterSubjects)
	if err != nil {
		return ConsumerState{}, fmt.Errorf("consumer: filter_subjects: %w", err)
	}
	if e.Config.FilterSubject != "" {
		filters = append(filters, e.Config.FilterSubject)
	}
	return ConsumerState{
		Name:           e.Config.Name,
		Durable:        e.Config.Durable,
		DeliverSubject: e.Config.DeliverSubject,
		FilterSubjects: filters,
		AckPolicy:      e.Config.AckPolicy,
		StartSeq:       e.Config.StartSeq,
		Delivered:      e.State.Delivered,
		AckFloor:       e.State.AckFloor,
		AckPending:     pending,
		Redelivered:    redelivered,
	}, nil
}

// filterSubjects reads a list that may be absent. Before it is decoded it is
// measured: an empty subject takes three bytes in JSON, and many more in memory.
func filterSubjects(raw json.RawMessage) (subjects []string, err error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if bytes.Count(raw, []byte{','}) > MaxFilters {
		return nil, fmt.Errorf("%w: more than %d", ErrLimit, MaxFilters)
	}
	if err := json.Unmarshal(raw, &subjects); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return subjects, nil
}

// countMembers counts the members of an object that may be absent or null. A
// map with a million entries is counted without being built.
func countMembers(raw json.RawMessage) (int, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, nil
	}
	if raw[0] != '{' {
		return 0, fmt.Errorf("%w: not a JSON object", ErrFormat)
	}
	n := 0
	for range members(raw) {
		n++
	}
	return n, nil
}

// WithConfig returns a copy of c with another configuration. Everything else keeps its bytes.
func (c Consumer) WithConfig(config json.RawMessage) Consumer {
	c.JSON = setMember(c.JSON, "config", config)
	return c
}

// WithFilters returns a copy of c with other filter subjects, each what spell makes of the old one. Everything else keeps its bytes.
func (c Consumer) WithFilters(spell func(subject string) string) (Consumer, error) {
	config, err := c.Config()
	if err != nil {
		return c, err
	}
	edited := config
	if raw := valueOf(config, "filter_subject"); len(raw) > 0 {
		text, err := plainJSON(spell(unquote(raw)))
		if err != nil {
			return c, fmt.Errorf("consumer: filter_subject: %w", err)
		}
		edited = setMember(edited, "filter_subject", text)
	}
	subjects, err := filterSubjects(valueOf(config, "filter_subjects"))
	if err != nil {
		return c, fmt.Errorf("consumer: filter_subjects: %w", err)
	}
	if len(subjects) > 0 {
		for i, s := range subjects {
			subjects[i] = spell(s)
		}
		text, err := plainJSON(subjects)
		if err != nil {
			return c, fmt.Errorf("consumer: filter_subjects: %w", err)
		}
		edited = setMember(edited, "filter_subjects", text)
	}
	c.JSON = setMember(c.JSON, "config", edited)
	return c, nil
}

// Config is the consumer's configuration, which shares c's memory.
func (c Consumer) Config() (json.RawMessage, error) {
	if err := checkObject(c.JSON); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	config := valueOf(c.JSON, "config")
	if checkObject(config) != nil {
		return nil, fmt.Errorf("%w: consumer without config", ErrFormat)
	}
	return config, nil
}
