package jetstream

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"jetsam/internal/strictjson"
)

// A server drops what it does not know of a configuration without a word, or refuses the request: from 2.12 on, unless it is told otherwise. So what a
// release knows is held against a configuration before that is sent.

// known says since which minor release of 2 servers know a field of a configuration, by its path; everything that is there in 2.9 is from 9 on. A
// field of objects ends in a dot, one of a list of objects alike. The source is nats-server 2.9 to 2.15: StreamConfig, ConsumerConfig and what they hold.
type known map[string]int

func streamFields() known {
	k := known{
		"compression": 10, "consumer_limits.": 10, "first_seq": 10, "metadata": 10, "subject_transform.": 10,
		"allow_msg_ttl": 11, "subject_delete_marker_ttl": 11, "placement.preferred": 11,
		"allow_atomic": 12, "allow_msg_counter": 12, "allow_msg_schedules": 12, "persist_mode": 12,
		"allow_batched":                      14,
		"consumer_limits.inactive_threshold": 10, "consumer_limits.max_ack_pending": 10, "subject_transform.src": 10, "subject_transform.dest": 10,
	}
	k.add(9, "", "allow_direct", "allow_rollup_hdrs", "deny_delete", "deny_purge", "description", "discard", "discard_new_per_subject", "duplicate_window",
		"max_age", "max_bytes", "max_consumers", "max_msg_size", "max_msgs", "max_msgs_per_subject", "mirror.", "mirror_direct", "name", "no_ack",
		"num_replicas", "placement.", "republish.", "retention", "sealed", "sources.", "storage", "subjects", "template_owner")
	k.add(9, "placement.", "cluster", "tags")
	k.add(9, "republish.", "src", "dest", "headers_only")
	for _, origin := range []string{"mirror.", "sources."} {
		k.add(9, origin, "name", "opt_start_seq", "opt_start_time", "filter_subject", "external.", "external.api", "external.deliver")
		k.add(10, origin, "subject_transforms.", "subject_transforms.src", "subject_transforms.dest")
		k.add(14, origin, "consumer.", "consumer.name", "consumer.deliver_subject")
	}
	return k
}

func consumerFields() known {
	k := known{
		"filter_subjects": 10, "metadata": 10,
		"pause_until": 11, "priority_groups": 11, "priority_policy": 11, "priority_timeout": 11,
		"sourcing": 14,
	}
	k.add(9, "", "ack_policy", "ack_wait", "backoff", "deliver_group", "deliver_policy", "deliver_subject", "description", "direct", "durable_name",
		"filter_subject", "flow_control", "headers_only", "idle_heartbeat", "inactive_threshold", "max_ack_pending", "max_batch", "max_bytes",
		"max_deliver", "max_expires", "max_waiting", "mem_storage", "name", "num_replicas", "opt_start_seq", "opt_start_time", "rate_limit_bps",
		"replay_policy", "sample_freq")
	return k
}

func (k known) add(minor int, below string, fields ...string) {
	for _, f := range fields {
		k[below+f] = minor
	}
}

// values are those that are younger than the field that they are of.
func values() known {
	return known{"priority_policy=prioritized": 12, "ack_policy=flow_control": 14}
}

// defaults are values by which a field says no more than if it were not there.
var defaults = []string{"compression=none", "persist_mode=default", "priority_policy=none"}

// meanings say what becomes of a stream or consumer that goes on without a field, where that is more than a setting less.
func meanings() map[string]string {
	return map[string]string{
		"allow_msg_ttl":             "messages with a Nats-TTL do not expire",
		"subject_delete_marker_ttl": "nothing marks a subject whose last message expires",
		"allow_msg_counter":         "what is published is stored as it comes, and not counted up",
		"allow_msg_schedules":       "scheduled messages are stored, and never published",
		"allow_atomic":              "batches of messages are not taken as a whole",
		"subject_transform":         "messages are stored under the subjects that they are published to",
		"subject_transforms":        "messages are stored under the subjects that they are published to",
		"filter_subjects":           "it delivers all messages of the stream",
		"pause_until":               "it delivers at once",
		"priority_groups":           "it does not know its groups of clients",
		"ack_policy":                "it acknowledges each message",
	}
}

// UnknownField is one that a release does not know, or not with that value.
type UnknownField struct {
	Path    string  // "sources.consumer", or "priority_policy=prioritized"
	Since   Release // that knows it; the zero Release: jetsam knows of none
	Meaning string  // what it means to go on without it; often empty
}

func (f UnknownField) String() string {
	if f.Since == (Release{}) {
		return f.Path
	}
	return fmt.Sprintf("%s (since %v)", f.Path, f.Since)
}

// KnownOfStream returns what servers of the release know of a stream's configuration, and what they do not. Unknown fields that say nothing, since they
// are empty or false, are left out without being named, and so are the server's own entries of metadata.
func (r Release) KnownOfStream(config json.RawMessage) (json.RawMessage, []UnknownField, error) {
	return r.knownOf(config, streamFields())
}

// KnownOfConsumer is KnownOfStream for the configuration of a consumer.
func (r Release) KnownOfConsumer(config json.RawMessage) (json.RawMessage, []UnknownField, error) {
	return r.knownOf(config, consumerFields())
}

func (r Release) knownOf(config json.RawMessage, fields known) (json.RawMessage, []UnknownField, error) {
	if err := strictjson.CheckForeign(config); err != nil {
		return nil, nil, fmt.Errorf("decode configuration: %w", err)
	}
	s := &sieve{release: r, fields: fields, values: values()}
	left, err := s.object("", config)
	slices.SortFunc(s.unknown, func(a, b UnknownField) int { return strings.Compare(a.Path, b.Path) })
	return left, slices.CompactFunc(s.unknown, func(a, b UnknownField) bool { return a.Path == b.Path }), err
}

// sieve parts a configuration into what a release knows, and the rest.
type sieve struct {
	release        Release
	fields, values known
	unknown        []UnknownField
}

// object sieves the object below a path, which is empty or ends in a dot.
func (s *sieve) object(below string, raw json.RawMessage) (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	for name, value := range members {
		path := below + strings.ToLower(name)
		kept, err := s.field(path, value)
		if err != nil {
			return nil, err
		}
		if kept == nil {
			delete(members, name)
			continue
		}
		members[name] = kept
	}
	return json.Marshal(members)
}

// field is what is left of a field's value, nil where the field is to go.
func (s *sieve) field(path string, value json.RawMessage) (json.RawMessage, error) {
	since, single := s.fields[path]
	under, holds := s.fields[path+"."]
	known := single && !s.release.Before(2, since) || holds && !s.release.Before(2, under)
	if path == "metadata" {
		value = usersMetadata(value)
	}
	if !known {
		if !saysNothing(path, value) {
			s.note(path, max(since, under))
		}
		return nil, nil
	}
	if holds {
		return s.below(path+".", value)
	}
	var text string
	if json.Unmarshal(value, &text) == nil {
		if since := s.values[path+"="+text]; s.release.Before(2, since) {
			s.note(path+"="+text, since)
			return nil, nil
		}
	}
	return value, nil
}

// below sieves an object, or those of a list.
func (s *sieve) below(path string, value json.RawMessage) (json.RawMessage, error) {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) == nil && list != nil {
		for i, element := range list {
			var err error
			if list[i], err = s.object(path, element); err != nil {
				return nil, err
			}
		}
		return json.Marshal(list)
	}
	if saysNothing(path, value) {
		return value, nil
	}
	return s.object(path, value)
}

func (s *sieve) note(path string, since int) {
	f := UnknownField{Path: path}
	if since > 0 {
		f.Since = Release{2, since}
	}
	field, _, _ := strings.Cut(path, "=")
	f.Meaning = meanings()[field[strings.LastIndexByte(field, '.')+1:]]
	s.unknown = append(s.unknown, f)
}

// usersMetadata is metadata without the server's own entries.
func usersMetadata(value json.RawMessage) json.RawMessage {
	var entries map[string]string
	if json.Unmarshal(value, &entries) != nil {
		return value
	}
	for name := range entries {
		if strings.HasPrefix(name, ServerMetadata) {
			delete(entries, name)
		}
	}
	left, err := json.Marshal(entries)
	if err != nil {
		return value
	}
	return left
}

// saysNothing says whether a field of that value is as good as none.
func saysNothing(path string, value json.RawMessage) bool {
	v, err := strictjson.Any(value)
	if err != nil {
		return false
	}
	return isNothing(v) || slices.Contains(defaults, fmt.Sprintf("%s=%v", path, v))
}

// isNothing says whether a value is empty, or an object of such.
func isNothing(v any) bool {
	object, ok := v.(map[string]any)
	if !ok {
		return strictjson.IsEmpty(v)
	}
	for _, member := range object {
		if !isNothing(member) {
			return false
		}
	}
	return true
}
