package legacy

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

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

// consumerVersion is the version of o.dat that every server since 2.2 writes. Part of the format.
const consumerVersion = 2

// parseConsumerState reads o.dat. Its sequences and times are relative to others.
func parseConsumerState(p []byte) (*consumerState, error) {
	if len(p) < 2 || p[0] != fileMagic || p[1] != consumerVersion {
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
	s.sort()
	return s, c.err
}

func (s *consumerState) sort() {
	slices.SortFunc(s.pending, func(a, b waiting) int { return cmp.Compare(a.seq, b.seq) })
	slices.SortFunc(s.redelivered, func(a, b times) int { return cmp.Compare(a.seq, b.seq) })
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

// parseConsumer takes the entry of a consumer apart.
func parseConsumer(c archive.Consumer) (config json.RawMessage, s *consumerState, err error) {
	if _, err := archive.ParseConsumer(c.JSON); err != nil {
		return nil, nil, err
	}
	var entry struct {
		Config json.RawMessage `json:"config"`
		State  struct {
			Delivered archive.SequencePair `json:"delivered"`
			Floor     archive.SequencePair `json:"ack_floor"`
			Pending   map[uint64]struct {
				Sequence  uint64
				Timestamp int64
			} `json:"pending"`
			Redelivered map[uint64]uint64 `json:"redelivered"`
		} `json:"state"`
	}
	if err := json.Unmarshal(c.JSON, &entry); err != nil {
		return nil, nil, malformed("its state: %w", err)
	}
	s = &consumerState{delivered: entry.State.Delivered, floor: entry.State.Floor}
	for seq, p := range entry.State.Pending {
		s.pending = append(s.pending, waiting{seq, p.Sequence, p.Timestamp})
	}
	for seq, n := range entry.State.Redelivered {
		s.redelivered = append(s.redelivered, times{seq, n})
	}
	s.sort()
	return entry.Config, s, nil
}

// encode writes the state as o.dat has it. Times of delivery are whole seconds there.
func (s *consumerState) encode(now time.Time) []byte {
	p := []byte{fileMagic, consumerVersion}
	for _, n := range []uint64{s.floor.Consumer, s.floor.Stream, s.delivered.Consumer, s.delivered.Stream, uint64(len(s.pending))} {
		p = binary.AppendUvarint(p, n)
	}
	base := now.Unix()
	if len(s.pending) > 0 {
		p = binary.AppendVarint(p, base)
	}
	for _, w := range s.pending {
		p = binary.AppendUvarint(p, w.seq-s.floor.Stream)
		p = binary.AppendUvarint(p, w.delivery-s.floor.Consumer)
		p = binary.AppendVarint(p, base-w.at/1e9)
	}
	p = binary.AppendUvarint(p, uint64(len(s.redelivered)))
	for _, t := range s.redelivered {
		p = binary.AppendUvarint(p, t.seq-s.floor.Stream)
		p = binary.AppendUvarint(p, t.n)
	}
	return p
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

// withFields is a JSON object with some of its fields set.
func withFields(object json.RawMessage, set map[string]any) ([]byte, error) {
	m := meta{text: object}
	fields, err := m.fields()
	if err != nil {
		return nil, err
	}
	for name, value := range set {
		if fields[name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}
