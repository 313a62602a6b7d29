package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	conn "jetsam/jetstream"
)

// sampleFields are fields with values that say something: of streams and of consumers, by their paths, each beside what it needs.
func sampleFields() (streams, consumers map[string]string) {
	return map[string]string{
			"allow_direct": `{"allow_direct":true}`, "allow_rollup_hdrs": `{"allow_rollup_hdrs":true}`, "deny_delete": `{"deny_delete":true}`, "deny_purge": `{"deny_purge":true}`,
			"description": `{"description":"d"}`, "discard_new_per_subject": `{"discard":"new","discard_new_per_subject":true,"max_msgs_per_subject":1}`,
			"duplicate_window": `{"duplicate_window":1000000000}`, "no_ack": `{"no_ack":true}`, "republish": `{"republish":{"src":"f","dest":"g","headers_only":true}}`,
			"compression": `{"compression":"s2"}`, "consumer_limits": `{"consumer_limits":{"max_ack_pending":5}}`, "first_seq": `{"first_seq":7}`,
			"metadata": `{"metadata":{"a":"b"}}`, "subject_transform": `{"subject_transform":{"src":"f","dest":"g"}}`,
			"allow_msg_ttl": `{"allow_msg_ttl":true}`, "subject_delete_marker_ttl": `{"subject_delete_marker_ttl":2000000000,"allow_msg_ttl":true,"allow_rollup_hdrs":true}`,
			"allow_atomic": `{"allow_atomic":true}`, "allow_msg_counter": `{"allow_msg_counter":true}`, "allow_msg_schedules": `{"allow_msg_schedules":true,"allow_rollup_hdrs":true}`,
			"persist_mode": `{"persist_mode":"async"}`, "allow_batched": `{"allow_batched":true}`,
			"sources.subject_transforms": `{"sources":[{"name":"O","subject_transforms":[{"src":"o","dest":"f.o"}]}]}`,
			"sources.filter_subject":     `{"sources":[{"name":"O","filter_subject":"o"}]}`,
		}, map[string]string{
			"backoff": `{"backoff":[1000000000],"max_deliver":3}`, "inactive_threshold": `{"inactive_threshold":60000000000}`, "max_batch": `{"max_batch":3}`,
			"mem_storage": `{"mem_storage":true}`, "headers_only": `{"headers_only":true}`, "sample_freq": `{"sample_freq":"5"}`,
			"filter_subjects": `{"filter_subjects":["f","f.x"]}`, "metadata": `{"metadata":{"a":"b"}}`, "pause_until": `{"pause_until":"2100-01-01T00:00:00Z"}`,
			"priority_groups":             `{"priority_groups":["g"],"priority_policy":"overflow"}`,
			"priority_policy":             `{"priority_groups":["g"],"priority_policy":"overflow"}`,
			"priority_timeout":            `{"priority_groups":["g"],"priority_policy":"pinned_client","priority_timeout":60000000000}`,
			"priority_policy=prioritized": `{"priority_groups":["g"],"priority_policy":"prioritized"}`,
		}
}

// TestFieldsOfOldServers asks each server which fields it knows: one that it does not, it refuses, or leaves out of what it made.
func TestFieldsOfOldServers(t *testing.T) {
	t.Parallel()
	streams, consumers := sampleFields()
	for version, program := range oldServers(t) {
		s := startOld(t, program, "")
		release := conn.ServerInfo{Version: version}.Release()
		ask := func(subject, body string) json.RawMessage {
			m, err := s.nc.Request("$JS.API."+subject, []byte(body), 5*time.Second)
			must(t, err)
			var answer struct {
				Config json.RawMessage `json:"config"`
			}
			must(t, json.Unmarshal(m.Data, &answer))
			return answer.Config
		}
		ask("STREAM.CREATE.O", `{"name":"O","subjects":["o"]}`)
		for path, sample := range streams {
			made := ask("STREAM.CREATE.F", `{"name":"F","subjects":["f","f.x"],"retention":"limits","storage":"file","num_replicas":1,`+sample[1:])
			_, unknown, err := release.KnownOfStream(json.RawMessage(sample))
			must(t, err)
			wantKnown(t, version, path, made, unknown)
			ask("STREAM.DELETE.F", "")
		}
		ask("STREAM.CREATE.F", `{"name":"F","subjects":["f","f.x"],"retention":"limits","storage":"file","num_replicas":1}`)
		for path, sample := range consumers {
			made := ask("CONSUMER.DURABLE.CREATE.F.C", `{"stream_name":"F","config":{"durable_name":"C","ack_policy":"explicit","deliver_policy":"all",`+sample[1:]+`}`)
			_, unknown, err := release.KnownOfConsumer(json.RawMessage(sample))
			must(t, err)
			wantKnown(t, version, path, made, unknown)
			ask("CONSUMER.DELETE.F.C", "")
		}
	}
}

// wantKnown compares what a server made of a field with what is said of its release.
func wantKnown(t *testing.T, version, path string, made json.RawMessage, unknown []conn.UnknownField) {
	t.Helper()
	field, _, _ := strings.Cut(path, "=")
	said := true
	for _, f := range unknown {
		said = said && f.Path != path && f.Path != field
	}
	if is := holds(made, path); is != said {
		t.Errorf("%s: it knows %s: %v, by the table %v; it made %s", version, path, is, said, made)
	}
}

// holds says whether a configuration has the field of a path, with its value where that is given.
func holds(config json.RawMessage, path string) bool {
	field, value, valued := strings.Cut(path, "=")
	first, rest, deeper := strings.Cut(field, ".")
	var members map[string]json.RawMessage
	if json.Unmarshal(config, &members) != nil || members[first] == nil {
		return false
	}
	if deeper {
		var list []json.RawMessage
		return json.Unmarshal(members[first], &list) == nil && len(list) > 0 && holds(list[0], rest)
	}
	return !valued || string(members[first]) == fmt.Sprintf("%q", value)
}
