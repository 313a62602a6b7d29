package restore

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

func TestMarker(t *testing.T) {
	m := marker{run: newRun(), snapshot: "3f2a5c7100", began: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if got, ok := parseMarker(m.String()); !ok || got != m {
		t.Errorf("%q is read as %+v", m.String(), got)
	}
	carries := &jetstream.StreamInfo{}
	carries.Metadata = map[string]string{markerName: m.String()}
	if !isOf(carries, m.run) || isOf(carries, newRun()) || isOf(&jetstream.StreamInfo{}, m.run) {
		t.Error("a stream is of the run that marked it, and of no other")
	}
	for _, text := range []string{"", "hello", "a b c", "RUN.> 3f2a 2026-01-02T03:04:05Z", " 3f2a 2026-01-02T03:04:05Z",
		strings.Repeat("R", 41) + " 3f2a 2026-01-02T03:04:05Z", "RUN 3f2a 2026-01-02T03:04:05Z more", "RUN 3f2a yesterday"} {
		if m, ok := parseMarker(text); ok {
			t.Errorf("%q is read as %+v", text, m)
		}
	}
}

// FuzzMarker reads what anybody may have written into a stream's metadata: whatever is taken names a run that is one token of a subject.
func FuzzMarker(f *testing.F) {
	f.Add("ENDEDRUN2345 3f2a5c7100 2026-01-02T03:04:05Z")
	f.Fuzz(func(t *testing.T, text string) {
		if m, ok := parseMarker(text); ok && strings.ContainsAny(m.run, ".*> \t\r\n") {
			t.Errorf("run %q", m.run)
		}
	})
}

func TestComparePosition(t *testing.T) {
	want := archive.ConsumerState{Delivered: archive.SequencePair{Consumer: 5, Stream: 8}, AckFloor: archive.SequencePair{Consumer: 2, Stream: 3}, AckPending: 3}
	equal := jetstream.ConsumerInfo{Delivered: jetstream.Position{Consumer: 5, Stream: 8}, AckFloor: jetstream.Position{Consumer: 2, Stream: 3}, AckPending: 3}
	for _, c := range []struct {
		name   string
		change func(*jetstream.ConsumerInfo)
		behind string
		moved  bool
	}{
		{"equal", func(*jetstream.ConsumerInfo) {}, "", false},
		{"delivered less", func(c *jetstream.ConsumerInfo) { c.Delivered = jetstream.Position{Consumer: 4, Stream: 7} }, "delivered up to message 7, in the snapshot up to 8", false},
		{"acknowledged less", func(c *jetstream.ConsumerInfo) { c.AckFloor = jetstream.Position{} }, "acknowledged up to message 0, in the snapshot up to 3", false},
		{"waits for more", func(c *jetstream.ConsumerInfo) { c.AckPending = 4 }, "waits for 4", false},
		{"acknowledged more", func(c *jetstream.ConsumerInfo) { c.AckPending = 2 }, "", true},
		{"delivered more", func(c *jetstream.ConsumerInfo) {
			c.Delivered = jetstream.Position{Consumer: 6, Stream: 9}
			c.AckPending = 4
		}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := equal
			c.change(&got)
			behind, moved := comparePosition(want, &got)
			if moved != c.moved || (c.behind == "") != (behind == "") || !strings.Contains(behind, c.behind) {
				t.Errorf("behind %q, moved %v", behind, moved)
			}
		})
	}
}

// TestComparePositions takes a consumer that is ahead for one in use, unless it stands where the stream has no message.
func TestComparePositions(t *testing.T) {
	head := &archive.Head{Consumers: []archive.Consumer{{Name: "c", JSON: []byte(`{"config":{},"state":{"delivered":{"consumer_seq":5,"stream_seq":8},"ack_floor":{"consumer_seq":5,"stream_seq":8}}}`)}}}
	for _, c := range []struct {
		at, last uint64
		differs  bool
		notes    int
	}{{8, 10, false, 0}, {10, 10, false, 1}, {12, 15, false, 1}, {12, 10, true, 0}} {
		x := &transfer{outflow: outflow{s: &StreamPlan{head: head, state: archive.State{LastSeq: 10}}}}
		diff := &DifferenceError{}
		at := jetstream.Position{Consumer: c.at - 3, Stream: c.at}
		x.comparePositions([]*jetstream.ConsumerInfo{{Name: "c", Delivered: at, AckFloor: at}}, c.last, diff)
		if (diff.Count > 0) != c.differs || len(x.notes) != c.notes {
			t.Errorf("at %d of %d: %v, notes %q", c.at, c.last, diff, x.notes)
		}
	}
}

func TestCompareConfig(t *testing.T) {
	for _, c := range []struct {
		name, want, got string
		says            string
	}{
		{"equal", `{"name":"S","max_age":5}`, `{"max_age":5,"name":"S"}`, ""},
		{"the server's own metadata", `{"name":"S"}`, `{"name":"S","metadata":{"_nats.ver":"2.16.0"}}`, ""},
		{"a field that the source did not know", `{"name":"S"}`, `{"name":"S","future":false}`, ""},
		{"another value", `{"name":"S","max_age":5}`, `{"name":"S","max_age":6}`, "max_age is 6, in the snapshot 5"},
		{"a field is gone", `{"name":"S","sealed":true}`, `{"name":"S"}`, "sealed is null, in the snapshot true"},
		{"the mark is still on", `{"name":"S"}`, `{"name":"S","metadata":{"jetsam-restore":"x"}}`, "jetsam-restore"},
		{"no limits", `{"name":"S","max_msgs":0,"max_bytes":-7,"num_replicas":0}`, `{"name":"S","max_msgs":-1,"max_bytes":-1,"num_replicas":1}`, ""},
		{"a limit where there was none", `{"name":"S","max_msgs":0}`, `{"name":"S","max_msgs":5}`, "max_msgs is 5, in the snapshot -1"},
		{"no limit where there was one", `{"name":"S","max_msgs":5}`, `{"name":"S","max_msgs":-1}`, "max_msgs is -1, in the snapshot 5"},
		{"what says nothing is left out", `{"name":"S","sealed":false,"placement":{"cluster":""},"sources":[{"name":"A","opt_start_seq":0}]}`, `{"name":"S","sources":[{"name":"A"}]}`, ""},
		{"what said nothing says something", `{"name":"S","deny_delete":false}`, `{"name":"S","deny_delete":true}`, "deny_delete is true"},
		{"a window of the server's choice", `{"name":"S","duplicate_window":0}`, `{"name":"S","duplicate_window":120000000000}`, ""},
		{"another window", `{"name":"S","duplicate_window":5}`, `{"name":"S","duplicate_window":6}`, "duplicate_window is 6"},
		{"the subject of its name", `{"name":"S","subjects":[]}`, `{"name":"S","subjects":["S"]}`, ""},
		{"a subject of a mirror", `{"name":"S","subjects":[],"mirror":{"name":"A"}}`, `{"name":"S","subjects":["S"],"mirror":{"name":"A"}}`, "subjects is"},
		{"rollups without marks", `{"name":"S","allow_rollup_hdrs":false}`, `{"name":"S","allow_rollup_hdrs":true}`, "allow_rollup_hdrs is true"},
		{"rollups for marks", `{"name":"S","allow_rollup_hdrs":false,"subject_delete_marker_ttl":5}`, `{"name":"S","allow_rollup_hdrs":true,"subject_delete_marker_ttl":5}`, ""},
		{"empty metadata is gone", `{"name":"S","metadata":{"owner":""}}`, `{"name":"S","metadata":{}}`, `in the snapshot ""`},
		{"metadata is gone", `{"name":"S","metadata":{"owner":"me"}}`, `{"name":"S","metadata":{}}`, `in the snapshot "me"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			diff := &DifferenceError{}
			(&StreamPlan{wanted: json.RawMessage(c.want)}).compareConfig(json.RawMessage(c.got), diff)
			if (c.says == "") != (diff.Count == 0) || !strings.Contains(diff.Error(), c.says) {
				t.Errorf("%v", diff)
			}
		})
	}
}
