package legacy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"jetsam/internal/strictjson"
	"jetsam/jetstream/archive"
)

// waiting is a message that a consumer has delivered and that is not acknowledged.
type waiting struct {
	seq, delivery uint64
	at            int64 // when it was delivered, Unix nanoseconds
}

// times is how often a message was delivered.
type times struct{ seq, n uint64 }

// consumerState is what o.dat says.
type consumerState struct {
	delivered, floor archive.SequencePair
	pending          []waiting
	redelivered      []times
}

// parseConsumerState reads o.dat. Its sequences and times are relative to others.
func parseConsumerState(p []byte) (*consumerState, error) {
	const version = 2 // of every server since 2.2
	if len(p) < 2 || p[0] != fileMagic || p[1] != version {
		return nil, malformed("it does not begin as the state of a consumer, or is of another version")
	}
	c := &cursor{p: p[2:]}
	s := &consumerState{}
	s.floor = archive.SequencePair{Consumer: c.uvarint(), Stream: c.uvarint()}
	s.delivered = archive.SequencePair{Consumer: c.uvarint(), Stream: c.uvarint()}
	n := c.uvarint()
	if n > maxWaiting {
		return nil, fmt.Errorf("%w: it waits for %d messages", archive.ErrLimit, n)
	}
	var latest int64
	if n > 0 {
		latest = c.varint()
	}
	for ; n > 0 && c.err == nil; n-- {
		s.pending = append(s.pending, waiting{s.floor.Stream + c.uvarint(), s.floor.Consumer + c.uvarint(), (latest - c.varint()) * 1e9})
	}
	if n = c.uvarint(); n > maxWaiting {
		return nil, fmt.Errorf("%w: %d messages were redelivered", archive.ErrLimit, n)
	}
	for ; n > 0 && c.err == nil; n-- {
		if t := (times{c.uvarint(), c.uvarint()}); t.seq > 0 && t.n > 0 { // as servers read it
			s.redelivered = append(s.redelivered, times{s.floor.Stream + t.seq, t.n})
		}
	}
	slices.SortFunc(s.pending, func(a, b waiting) int { return cmp.Compare(a.seq, b.seq) })
	slices.SortFunc(s.redelivered, func(a, b times) int { return cmp.Compare(a.seq, b.seq) })
	return s, c.err
}

// json writes the state as servers from 2.15 on do (nats-server 2.15, ConsumerState).
func (s *consumerState) json() []byte {
	p := appendPair([]byte(`{"delivered":`), s.delivered)
	p = appendPair(append(p, `,"ack_floor":`...), s.floor)
	for i, w := range s.pending {
		p = appendMember(p, `,"pending":{`, i, w.seq)
		p = strconv.AppendUint(append(p, `{"Sequence":`...), w.delivery, 10)
		p = append(strconv.AppendInt(append(p, `,"Timestamp":`...), w.at, 10), '}')
	}
	if len(s.pending) > 0 {
		p = append(p, '}')
	}
	for i, t := range s.redelivered {
		p = strconv.AppendUint(appendMember(p, `,"redelivered":{`, i, t.seq), t.n, 10)
	}
	if len(s.redelivered) > 0 {
		p = append(p, '}')
	}
	return append(p, '}')
}

func appendPair(p []byte, s archive.SequencePair) []byte {
	p = strconv.AppendUint(append(p, `{"consumer_seq":`...), s.Consumer, 10)
	return append(strconv.AppendUint(append(p, `,"stream_seq":`...), s.Stream, 10), '}')
}

// appendMember begins the member of a sequence; the first one opens the object.
func appendMember(p []byte, open string, i int, seq uint64) []byte {
	if i > 0 {
		open = ","
	}
	p = append(append(p, open...), '"')
	return append(strconv.AppendUint(p, seq, 10), '"', ':')
}

// consumer is a consumer as its files come.
type consumer struct {
	name  string
	meta  meta
	state []byte // as JSON
}

// entry is the consumer as an archive has it.
func (c *consumer) entry(stream string) (archive.Consumer, error) {
	if err := c.meta.check(stream + "/" + c.name); err != nil {
		return archive.Consumer{}, err
	}
	fields, err := c.meta.fields()
	if err != nil {
		return archive.Consumer{}, err
	}
	delete(fields, "Created")
	delete(fields, "Name") // beside "name" of the configuration
	if absent(fields["name"]) && absent(fields["durable_name"]) {
		if fields["name"], err = json.Marshal(c.name); err != nil {
			return archive.Consumer{}, err
		}
	}
	state := c.state
	if state == nil {
		state = new(consumerState).json() // nothing was delivered yet
	}
	p, err := json.Marshal(struct {
		Config map[string]json.RawMessage `json:"config"`
		State  json.RawMessage            `json:"state"`
	}{fields, state})
	if err == nil && len(p) > archive.MaxHeadEntry {
		err = fmt.Errorf("%w: %d bytes of JSON", archive.ErrLimit, len(p))
	}
	return archive.Consumer{Name: c.name, JSON: p}, err
}

func absent(value json.RawMessage) bool { return len(value) == 0 || string(value) == `""` }

// meta is a meta.inf with its checksum.
type meta struct {
	text, sum []byte
}

// check compares the checksum, whose key is made of a name.
func (m *meta) check(name string) error {
	if m.text == nil {
		return fmt.Errorf("%w: there is no %s", archive.ErrTruncated, metaName)
	}
	h, err := keyed(name)
	if err != nil {
		return err
	}
	h.Write(m.text)
	if want := fmt.Sprintf("%x", h.Sum(nil)); want != string(m.sum) {
		return malformed("the checksum of %s does not match", metaName)
	}
	return nil
}

// fields are the members of the JSON object.
func (m *meta) fields() (fields map[string]json.RawMessage, err error) {
	if err := strictjson.UnmarshalForeign(m.text, &fields); err != nil {
		return nil, malformed("%s: %w", metaName, err)
	}
	if fields == nil {
		return nil, malformed("%s is no JSON object", metaName)
	}
	return fields, nil
}
