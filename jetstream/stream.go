package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"jetsam/internal/strictjson"
)

// StreamInfo is what a server says of a stream. Raw, Config and State are its own words; the other fields are read from
// them, and a field that the server leaves out is zero.
type StreamInfo struct {
	Name    string
	Created time.Time

	Config json.RawMessage
	State  json.RawMessage
	Raw    json.RawMessage // the whole answer, of which Config and State are parts

	StreamSettings
	StreamState
	Cluster *ClusterInfo // nil on a lone server
}

// StreamSettings are those settings of a stream that decide how it is backed up and where it can be restored.
type StreamSettings struct {
	Description          string            `json:"description"`
	Subjects             []string          `json:"subjects"`
	Storage              string            `json:"storage"`   // "file" or "memory"
	Retention            string            `json:"retention"` // "limits", "interest" or "workqueue"
	Discard              string            `json:"discard"`   // "old" or "new"
	DiscardNewOfSubject  bool              `json:"discard_new_per_subject"`
	Replicas             int               `json:"num_replicas"`
	MaxConsumers         int               `json:"max_consumers"`        // -1: no limit
	MaxMessages          int64             `json:"max_msgs"`             // -1: no limit
	MaxMessagesOfSubject int64             `json:"max_msgs_per_subject"` // -1: no limit
	MaxBytes             int64             `json:"max_bytes"`            // -1: no limit
	MaxMessageSize       int64             `json:"max_msg_size"`         // bytes of headers and payload; -1: no limit
	MaxAge               time.Duration     `json:"max_age"`              // 0: no limit
	Compression          string            `json:"compression"`
	Sealed               bool              `json:"sealed"`
	AllowMessageTTL      bool              `json:"allow_msg_ttl"`
	AllowRollup          bool              `json:"allow_rollup_hdrs"` // a message may remove all before it, or all of its subject
	Mirror               *Origin           `json:"mirror"`
	Sources              []Origin          `json:"sources"`
	Republish            *Republish        `json:"republish"`
	Metadata             map[string]string `json:"metadata"`
}

// Origin is a stream whose messages another one takes over.
type Origin struct {
	Name string `json:"name"`
}

// Republish says where a stream publishes what it stores.
type Republish struct {
	Destination string `json:"dest"`
}

// StreamState counts what a stream holds.
type StreamState struct {
	Messages  uint64    `json:"messages"`
	Bytes     uint64    `json:"bytes"`
	FirstSeq  uint64    `json:"first_seq"`
	LastSeq   uint64    `json:"last_seq"`
	FirstTime time.Time `json:"first_ts"`
	LastTime  time.Time `json:"last_ts"`
	Deleted   uint64    `json:"num_deleted"`  // sequences between FirstSeq and LastSeq that are gone
	Distinct  uint64    `json:"num_subjects"` // subjects that have messages
	Consumers int       `json:"consumer_count"`
}

// ClusterInfo says which servers hold a stream or a consumer.
type ClusterInfo struct {
	Name     string    `json:"name"`
	Leader   string    `json:"leader"`   // empty while there is none
	Replicas []Replica `json:"replicas"` // besides the leader; all of them while there is none
}

// Replica is a server that holds a stream or a consumer.
type Replica struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	Offline bool   `json:"offline"`
	Lag     uint64 `json:"lag"` // operations behind the leader
}

// clustered returns c, or nil on a lone server, which names itself as leader.
func clustered(c *ClusterInfo) *ClusterInfo {
	if c == nil || c.Name == "" {
		return nil
	}
	return c
}

// HasQuorum says whether enough of the servers are there that they have a leader, or will soon have one.
func (c *ClusterInfo) HasQuorum() bool {
	there, all := 0, len(c.Replicas)
	if c.Leader != "" {
		there, all = 1, all+1
	}
	for _, r := range c.Replicas {
		if !r.Offline {
			there++
		}
	}
	return there > all/2
}

// Behind are the servers that do not have all that the leader has, or are not there.
func (c *ClusterInfo) Behind() (names []string) {
	for _, r := range c.Replicas {
		if r.Offline || !r.Current {
			names = append(names, r.Name)
		}
	}
	return names
}

// IsSame reports whether a later look is at the same stream, and not at one that was made anew since.
//
// The servers of a cluster do not agree on when a restored stream was created (nats-server 2.15: the one that restored it says when it began, the
// others when it was done). Where another leads it now, it is the same if no sequence went back, and its first and last message are no others.
func (s *StreamInfo) IsSame(later *StreamInfo) bool {
	if s.Created.Equal(later.Created) {
		return true
	}
	restored := s.FirstTime.Before(s.Created) // its messages are older than itself
	if !restored || s.Cluster == nil || later.Cluster == nil || s.Cluster.Leader == later.Cluster.Leader {
		return false
	}
	return later.FirstSeq >= s.FirstSeq && later.LastSeq >= s.LastSeq &&
		(later.FirstSeq > s.FirstSeq || later.FirstTime.Equal(s.FirstTime)) && (later.LastSeq > s.LastSeq || later.LastTime.Equal(s.LastTime))
}

// parseStreamInfo reads raw, which becomes a part of the result.
func parseStreamInfo(raw json.RawMessage) (*StreamInfo, error) {
	var parts struct {
		Config  json.RawMessage `json:"config"`
		State   json.RawMessage `json:"state"`
		Created time.Time       `json:"created"`
		Cluster *ClusterInfo    `json:"cluster"`
	}
	if err := strictjson.Decode(raw, &parts); err != nil {
		return nil, fmt.Errorf("decode stream information: %w", err)
	}
	s := &StreamInfo{Created: parts.Created, Config: parts.Config, State: parts.State, Raw: raw, Cluster: clustered(parts.Cluster)}
	var err error
	if s.Name, s.StreamSettings, err = ParseSettings(parts.Config); err != nil {
		return nil, err
	}
	if err := strictjson.Decode(parts.State, &s.StreamState); err != nil {
		return nil, fmt.Errorf("decode stream state: %w", err)
	}
	return s, nil
}

// ParseSettings reads a stream's name and settings from its configuration. A limit that the configuration leaves out is none.
func ParseSettings(config json.RawMessage) (name string, s StreamSettings, err error) {
	s = StreamSettings{MaxConsumers: -1, MaxMessages: -1, MaxMessagesOfSubject: -1, MaxBytes: -1, MaxMessageSize: -1}
	parts := struct {
		Name *string `json:"name"`
		*StreamSettings
	}{&name, &s}
	if err := strictjson.Decode(config, &parts); err != nil {
		return "", StreamSettings{}, fmt.Errorf("decode stream configuration: %w", err)
	}
	return name, s, nil
}

// Stream asks for one stream. If there is none of that name the error is ErrStreamNotFound.
func (c *Conn) Stream(ctx context.Context, name string) (*StreamInfo, error) {
	s, err := c.streamInfo(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("get stream %s: %w", name, err)
	}
	return s, nil
}

// maxDeleted is how many sequences a list of those that a stream does not have may name.
const maxDeleted = 4 << 20

// StreamDeleted asks for one stream, and for the sequences between its first and its last that it does not have. They ascend, and State is without them.
// The answer has some 8 bytes for each, more where sequences are high: whoever asks looks at Deleted first.
func (c *Conn) StreamDeleted(ctx context.Context, name string) (*StreamInfo, []uint64, error) {
	if err := checkName("stream", name); err != nil {
		return nil, nil, err
	}
	s, err := c.led(ctx, func() (*StreamInfo, error) { return c.longStreamInfo(ctx, name) })
	if err != nil {
		return nil, nil, fmt.Errorf("get stream %s: %w", name, err)
	}
	var list json.RawMessage
	s.State, list = withoutMember(s.State, "deleted")
	deleted, err := sequences(list)
	if err != nil {
		return nil, nil, fmt.Errorf("decode the deleted sequences of stream %s: %w", name, err)
	}
	return s, deleted, nil
}

// longStreamInfo asks for a stream, and for the sequences that it lost, which its state has then.
func (c *Conn) longStreamInfo(ctx context.Context, name string) (*StreamInfo, error) {
	answer, err := c.request(ctx, c.prefix+".STREAM.INFO."+name, []byte(`{"deleted_details":true}`))
	if err != nil {
		return nil, err
	}
	raw, err := checkLongAnswer(answer)
	if err != nil {
		return nil, err
	}
	return namedStreamInfo(raw, name)
}

// sequences reads a list of sequences, which may be missing, and sorts it.
func sequences(list json.RawMessage) ([]uint64, error) {
	if n := bytes.Count(list, []byte{','}); n >= maxDeleted {
		return nil, fmt.Errorf("a list of %d is longer than %d", n+1, maxDeleted)
	}
	var seqs []uint64
	if err := strictjson.Decode(orNull(list), &seqs); err != nil {
		return nil, err
	}
	slices.Sort(seqs)
	return slices.Compact(seqs), nil
}

// withoutMember takes a member out of a JSON object. It returns the object as it is where it has no such member.
func withoutMember(object json.RawMessage, name string) (rest, value json.RawMessage) {
	rest = append(rest, '{')
	for key, v := range strictjson.Members(object) {
		if key == name {
			value = v
			continue
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		quoted, _ := json.Marshal(key) // a string
		rest = append(append(append(rest, quoted...), ':'), v...)
	}
	if value == nil {
		return object, nil
	}
	return append(rest, '}'), value
}

// CreateStream creates a stream from its configuration, as the API takes it. A stream of that name but of another
// configuration is ErrStreamExists; creating one anew as it is does nothing.
func (c *Conn) CreateStream(ctx context.Context, config json.RawMessage) (*StreamInfo, error) {
	return c.writeStream(ctx, "CREATE", config)
}

// UpdateStream changes the configuration of a stream to config.
func (c *Conn) UpdateStream(ctx context.Context, config json.RawMessage) (*StreamInfo, error) {
	return c.writeStream(ctx, "UPDATE", config)
}

func (c *Conn) writeStream(ctx context.Context, verb string, config json.RawMessage) (*StreamInfo, error) {
	name, err := nameIn(config)
	if err != nil {
		return nil, fmt.Errorf("decode stream configuration: %w", err)
	}
	s, err := c.streamRequest(ctx, verb, name, config)
	if err != nil {
		return nil, fmt.Errorf("%s stream %s: %w", map[string]string{"CREATE": "create", "UPDATE": "update"}[verb], name, err)
	}
	return s, nil
}

// streamRequest sends a request about a stream that is answered with the stream's information.
func (c *Conn) streamRequest(ctx context.Context, verb, name string, body []byte) (*StreamInfo, error) {
	if err := checkName("stream", name); err != nil {
		return nil, err
	}
	raw, err := c.api(ctx, "STREAM."+verb+"."+name, body)
	if err != nil {
		return nil, err
	}
	return namedStreamInfo(raw, name)
}

// electionPause is how long a stream is left alone that has no leader.
const electionPause = 200 * time.Millisecond

// led asks for a stream until its leader answers, for as long as an answer may take. While the servers of a stream elect their leader, any of
// them answers, also one that lacks the last messages (nats-server 2.15, jsStreamInfoRequest).
func (c *Conn) led(ctx context.Context, ask func() (*StreamInfo, error)) (*StreamInfo, error) {
	for deadline := time.Now().Add(c.timeout); ; {
		s, err := ask()
		if err != nil || s.Cluster == nil || s.Cluster.Leader != "" {
			return s, err
		}
		if time.Now().Add(electionPause).After(deadline) {
			return nil, ErrNoLeader
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(electionPause):
		}
	}
}

// streamInfo asks for a stream.
func (c *Conn) streamInfo(ctx context.Context, name string) (*StreamInfo, error) {
	return c.led(ctx, func() (*StreamInfo, error) { return c.streamRequest(ctx, "INFO", name, nil) })
}

// namedStreamInfo reads information that must be of the stream with this name.
func namedStreamInfo(raw json.RawMessage, name string) (*StreamInfo, error) {
	s, err := parseStreamInfo(raw)
	if err == nil && s.Name != name {
		return nil, wrongName(s.Name)
	}
	return s, err
}

// isNamed wants config to be that of the stream with this name.
func isNamed(config json.RawMessage, name string) error {
	got, err := nameIn(orNull(config))
	if err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	if got != name {
		return wrongName(got)
	}
	return nil
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

func wrongName(got string) error {
	return fmt.Errorf("the server answered with the configuration of %q, another stream", printable(got))
}

// DeleteStream deletes a stream with its messages and consumers. If there is none of that name the error is
// ErrStreamNotFound.
//
// A stream created under the same name within about 100 ms can get messages of the deleted one back (measured on
// nats-server 2.10 to 2.15): wait longer than that.
func (c *Conn) DeleteStream(ctx context.Context, name string) error {
	if err := checkName("stream", name); err != nil {
		return fmt.Errorf("delete stream: %w", err)
	}
	if _, err := c.api(ctx, "STREAM.DELETE."+name, nil); err != nil {
		return fmt.Errorf("delete stream %s: %w", name, err)
	}
	return nil
}
