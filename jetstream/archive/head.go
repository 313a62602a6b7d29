package archive

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Head is what stands before the messages of an archive.
type Head struct {
	State     json.RawMessage // the payload of state.json as it was sent; ParseState reads it
	StateTime int64           // when it was taken, Unix nanoseconds
	Consumers []Consumer
}

// Consumer is the entry of one consumer in the head.
type Consumer struct {
	Name string
	JSON json.RawMessage // {"config":…,"state":…} as it was sent; ParseConsumer reads it
	Time int64           // when it was taken, Unix nanoseconds
}

// Append appends the magic and the entries of state.json and of the consumers,
// these sorted by name. It does not change h, and checks nothing: that
// consumer_count is the number of consumers is what WithConsumers and WithState
// see to.
func (h *Head) Append(dst []byte) []byte {
	dst = AppendMagic(dst)
	dst = AppendMessage(dst, stateName, h.StateTime, 0, nil, h.State)
	for _, c := range h.sorted() {
		dst = AppendMessage(dst, consumerPrefix+c.Name, c.Time, 0, nil, c.JSON)
	}
	return dst
}

func (h *Head) sorted() []Consumer {
	return slices.SortedStableFunc(slices.Values(h.Consumers), func(a, b Consumer) int {
		return cmp.Compare(a.Name, b.Name)
	})
}

// WithoutConsumers returns a copy of h without consumers, for a restore that
// leaves them out: consumer_count is 0, and every other byte of state.json is
// what it was.
func (h *Head) WithoutConsumers() *Head { return h.WithConsumers(nil) }

// WithConsumers returns a copy of h with other consumers and their number in
// consumer_count. Every other byte of state.json is kept. A State that is not a
// JSON object, which no reader returns, is kept as it is.
func (h *Head) WithConsumers(consumers []Consumer) *Head {
	state := setUint(h.State, fieldConsumers, uint64(len(consumers)))
	return &Head{State: state, StateTime: h.StateTime, Consumers: consumers}
}

// readHead reads the magic, state.json and the consumers.
func (r *Reader) readHead() (*Head, error) {
	if err := r.readMagic(); err != nil {
		return nil, err
	}
	h := &Head{}
	room := r.entries.limits.MaxHead
	if err := r.readState(h, &room); err != nil {
		return nil, err
	}
	state, err := ParseState(h.State)
	if err != nil {
		return nil, err
	}
	if state.Consumers > r.entries.limits.MaxConsumers {
		return nil, fmt.Errorf("%w: %d consumers, at most %d are accepted", ErrLimit, state.Consumers, r.entries.limits.MaxConsumers)
	}
	for i := range state.Consumers {
		if err := r.readConsumer(h, &room); err != nil {
			return nil, fmt.Errorf("consumer %d of %d: %w", i+1, state.Consumers, err)
		}
	}
	r.entries.first = state.FirstSeq
	return h, uniqueNames(h)
}

func (r *Reader) readMagic() error {
	win := &r.entries.win
	err := win.fill(len(magic))
	if have := win.bytes(); !bytes.HasPrefix([]byte(magic), have[:min(len(have), len(magic))]) {
		return fmt.Errorf("%w: it does not begin with %s", ErrFormat, magic)
	}
	if err != nil {
		return truncated(err)
	}
	win.consume(len(magic))
	return nil
}

func (r *Reader) readState(h *Head, room *int) error {
	name, raw, err := r.headEntry(room)
	if err != nil {
		return fmt.Errorf("%s: %w", stateName, err)
	}
	if name != stateName {
		return fmt.Errorf("%w: the first entry is not %s", ErrFormat, stateName)
	}
	h.State, h.StateTime = raw, r.entries.entry.time
	return nil
}

func (r *Reader) readConsumer(h *Head, room *int) error {
	name, raw, err := r.headEntry(room)
	if err != nil {
		return err
	}
	short, found := strings.CutPrefix(name, consumerPrefix)
	if !found || short == "" || strings.ContainsAny(short, "/\x00") {
		return fmt.Errorf("%w: an entry that is none of a consumer is where one is expected", ErrFormat)
	}
	h.Consumers = append(h.Consumers, Consumer{Name: short, JSON: raw, Time: r.entries.entry.time})
	return nil
}

// headEntry reads an entry of JSON and takes its size off the room.
func (r *Reader) headEntry(room *int) (name string, raw json.RawMessage, err error) {
	err = r.entries.load(min(r.entries.limits.MaxHeadEntry, *room))
	if err != nil {
		if err == io.EOF {
			err = ErrTruncated
		}
		return "", nil, err
	}
	m := &r.entries.msg
	switch {
	case m.Seq != 0:
		return "", nil, fmt.Errorf("%w: message %d is where the head is expected", ErrFormat, m.Seq)
	case len(m.Header) != 0:
		return "", nil, fmt.Errorf("%w: an entry with a header is where the head is expected", ErrFormat)
	}
	if err := checkObject(m.Payload); err != nil {
		return "", nil, fmt.Errorf("%s: %w", headName(m.Subject), err)
	}
	*room -= min(*room, len(m.Subject)+len(m.Payload))
	return string(m.Subject), bytes.Clone(m.Payload), nil
}

// headName names an entry of the head in an error. What bears another name may be a message, and subjects stay out of errors.
func headName(name []byte) string {
	if string(name) == stateName || bytes.HasPrefix(name, []byte(consumerPrefix)) {
		return fmt.Sprintf("entry %q", abbreviate(name))
	}
	return "entry of another name"
}

func uniqueNames(h *Head) error {
	seen := make(map[string]struct{}, len(h.Consumers))
	for _, c := range h.Consumers {
		if _, dup := seen[c.Name]; dup {
			return fmt.Errorf("%w: consumer %q appears twice", ErrFormat, abbreviate([]byte(c.Name)))
		}
		seen[c.Name] = struct{}{}
	}
	return nil
}
