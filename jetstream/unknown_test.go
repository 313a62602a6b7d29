package jetstream_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"jetsam/jetstream"
)

// everyField is a document that has every field of a type, none of which says nothing.
func everyField(t reflect.Type) any {
	switch t.Kind() {
	case reflect.Pointer:
		return everyField(t.Elem())
	case reflect.Struct:
		if t.String() == "time.Time" {
			return "2026-01-02T03:04:05Z"
		}
		out := map[string]any{}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name != "" && name != "-" {
				out[name] = everyField(t.Field(i).Type)
			}
		}
		return out
	case reflect.Slice:
		return []any{everyField(t.Elem())}
	case reflect.Map:
		return map[string]any{"owner": "me"}
	case reflect.Bool:
		return true
	case reflect.String:
		return "x"
	}
	return 7
}

// TestEveryFieldIsKnown: the newest release knows all fields of the server's own types, and none that is made up. A field that a new version of the
// server brings makes this fail, and belongs into the tables with the release that has it first.
func TestEveryFieldIsKnown(t *testing.T) {
	newest := jetstream.Release{Major: 2, Minor: 15}
	for name, c := range map[string]struct {
		of    any
		known func(json.RawMessage) (json.RawMessage, []jetstream.UnknownField, error)
	}{
		"stream":   {server.StreamConfig{}, newest.KnownOfStream},
		"consumer": {server.ConsumerConfig{}, newest.KnownOfConsumer},
	} {
		all := everyField(reflect.TypeOf(c.of)).(map[string]any)
		raw, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		left, unknown, err := c.known(raw)
		if err != nil || len(unknown) > 0 {
			t.Errorf("%s: unknown %v, %v", name, unknown, err)
		}
		var got, want any
		if json.Unmarshal(left, &got) != nil || json.Unmarshal(raw, &want) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: (-want +got)\n%s", name, cmp.Diff(want, got))
		}
		all["of_the_future"] = map[string]any{"a": 1}
		raw, err = json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		if _, unknown, err = c.known(raw); err != nil || len(unknown) != 1 || unknown[0].String() != "of_the_future" {
			t.Errorf("%s with another field: unknown %v, %v", name, unknown, err)
		}
	}
}

func TestUnknownFields(t *testing.T) {
	stream, consumer := jetstream.Release.KnownOfStream, jetstream.Release.KnownOfConsumer
	for _, c := range []struct {
		name    string
		known   func(jetstream.Release, json.RawMessage) (json.RawMessage, []jetstream.UnknownField, error)
		minor   int
		config  string
		unknown string
		left    string
	}{
		{"nothing of a newer one", stream, 9, `{"name":"S","compression":"none","allow_msg_ttl":false,"consumer_limits":{"max_ack_pending":0},"first_seq":0,"metadata":{"_nats.level":"1"},"persist_mode":"default","mirror":null,"x":[]}`,
			"", `{"mirror":null,"name":"S"}`},
		{"a few", stream, 10, `{"name":"S","allow_msg_ttl":true,"compression":"s2","allow_batched":true}`, "allow_batched (since 2.14), allow_msg_ttl (since 2.11)", `{"compression":"s2","name":"S"}`},
		{"metadata", stream, 9, `{"metadata":{"a":"b","_nats.level":"1"}}`, "metadata (since 2.10)", `{}`},
		{"the server's own", stream, 10, `{"metadata":{"a":"b","_nats.level":"1"}}`, "", `{"metadata":{"a":"b"}}`},
		{"of sources", stream, 9, `{"sources":[{"name":"A","subject_transforms":[{"src":"a","dest":"b"}]},{"name":"B","subject_transforms":[{"src":"c"}]}]}`,
			"sources.subject_transforms (since 2.10)", `{"sources":[{"name":"A"},{"name":"B"}]}`},
		{"of sources, deeper", stream, 14, `{"sources":[{"name":"A","external":{"api":"x","later":1},"consumer":{"name":"c"}}]}`,
			"sources.external.later", `{"sources":[{"consumer":{"name":"c"},"external":{"api":"x"},"name":"A"}]}`},
		{"of placement", stream, 10, `{"placement":{"cluster":"C","preferred":"n"}}`, "placement.preferred (since 2.11)", `{"placement":{"cluster":"C"}}`},
		{"in other letters", stream, 9, `{"Name":"S","Compression":"S2"}`, "compression (since 2.10)", `{"Name":"S"}`},
		{"of a consumer", consumer, 9, `{"name":"C","filter_subjects":["a"],"backoff":[1]}`, "filter_subjects (since 2.10)", `{"backoff":[1],"name":"C"}`},
		{"a value", consumer, 11, `{"priority_policy":"prioritized","priority_groups":["a"]}`, "priority_policy=prioritized (since 2.12)", `{"priority_groups":["a"]}`},
		{"a value that is known", consumer, 12, `{"priority_policy":"prioritized"}`, "", `{"priority_policy":"prioritized"}`},
		{"large numbers", stream, 9, `{"max_bytes":18446744073709551615}`, "", `{"max_bytes":18446744073709551615}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			left, unknown, err := c.known(jetstream.Release{Major: 2, Minor: c.minor}, json.RawMessage(c.config))
			var names []string
			for _, f := range unknown {
				names = append(names, f.String())
			}
			slices.Sort(names)
			if got := strings.Join(names, ", "); err != nil || got != c.unknown || string(left) != c.left {
				t.Errorf("unknown %q, left %s, %v", got, left, err)
			}
		})
	}
	for _, bad := range []string{``, `[]`, `{"sources":["x"]}`, `{"name":`} {
		if _, _, err := stream(jetstream.Release{Major: 2, Minor: 14}, json.RawMessage(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestOldest: what the older of two servers takes, both do.
func TestOldest(t *testing.T) {
	for _, c := range []struct {
		connected string
		level     int
		want      string
	}{
		{"2.15.2", 5, "2.15"}, {"2.16.0", 6, "2.16"}, {"2.15.2", 4, "2.14"}, {"2.14.9", 5, "2.14"}, {"2.12.15", 3, "2.12"}, {"2.12.0", 2, "2.12"}, {"2.15.0", 2, "2.12"},
		{"2.11.17", 1, "2.11"}, {"2.10.29", 0, "2.10"}, {"2.9.10", 0, "2.9"}, {"2.15.2", 0, "2.10"}, {"2.15.2", -1, "2.10"}, {"", 5, "0.0"},
	} {
		if got := jetstream.OldestOf(jetstream.ServerInfo{Version: c.connected}.Release(), c.level).String(); got != c.want {
			t.Errorf("connected to %s, level %d: %s, want %s", c.connected, c.level, got, c.want)
		}
	}
}
