package restore

import (
	"strings"
	"testing"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

func TestCheckLimits(t *testing.T) {
	none := jetstream.Limits{MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1}
	with := func(change func(*jetstream.Limits)) jetstream.Limits {
		l := none
		change(&l)
		return l
	}
	file := jetstream.StreamSettings{Storage: "file", MaxBytes: -1, Replicas: 1}
	for _, c := range []struct {
		name    string
		account jetstream.AccountInfo
		configs []jetstream.StreamSettings
		want    []string // a part of the conflict of each stream, empty: none
	}{
		{"no limits", jetstream.AccountInfo{Limits: none, Store: 1 << 40, Streams: 1000}, []jetstream.StreamSettings{file}, []string{""}},
		{"streams", jetstream.AccountInfo{Limits: with(func(l *jetstream.Limits) { l.MaxStreams = 3 }), Streams: 2}, []jetstream.StreamSettings{file, file}, []string{"", "may have 3 streams, it has 2 and the plan needs 2 more"}},
		{"room for one", jetstream.AccountInfo{Limits: with(func(l *jetstream.Limits) { l.MaxStore = 250 }), Store: 100}, []jetstream.StreamSettings{file, file}, []string{"", "may store 250 bytes in file storage, it stores 100 and the plan needs 200 more"}},
		{"memory is full, file is not", jetstream.AccountInfo{Limits: with(func(l *jetstream.Limits) { l.MaxMemory = 10 })}, []jetstream.StreamSettings{file, {Storage: "memory", MaxBytes: -1}}, []string{"", "10 bytes in memory storage"}},
		{"max_bytes required", jetstream.AccountInfo{Limits: with(func(l *jetstream.Limits) { l.MaxBytesNeeded = true })}, []jetstream.StreamSettings{file, {Storage: "file", MaxBytes: 5}}, []string{"requires max_bytes", ""}},
		{"largest stream", jetstream.AccountInfo{Limits: with(func(l *jetstream.Limits) { l.MaxStreamStore = 1000 })}, []jetstream.StreamSettings{{Storage: "file", MaxBytes: 1001}}, []string{"may reserve 1000 bytes"}},
		{"tier without room", jetstream.AccountInfo{Tiers: map[string]jetstream.Tier{"R1": {Limits: none}, "R3": {Limits: with(func(l *jetstream.Limits) { l.MaxStore = 10 })}}},
			[]jetstream.StreamSettings{file, {Storage: "file", MaxBytes: -1, Replicas: 3}}, []string{"", "may store 10 bytes"}},
		{"tier that is not allowed", jetstream.AccountInfo{Tiers: map[string]jetstream.Tier{"R1": {Limits: none}}}, []jetstream.StreamSettings{{Storage: "file", MaxBytes: -1, Replicas: 3}}, []string{"no limits for streams of 3 replicas (tier R3)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Plan{}
			for _, config := range c.configs {
				p.Streams = append(p.Streams, &StreamPlan{Name: "S", config: config, state: archive.State{Bytes: 100}})
			}
			p.checkLimits(c.account)
			for i, s := range p.Streams {
				var reasons []string
				for _, x := range s.Conflicts {
					reasons = append(reasons, x.Reason)
				}
				got := strings.Join(reasons, "; ")
				if c.want[i] == "" && got != "" || !strings.Contains(got, c.want[i]) {
					t.Errorf("stream %d: %q, want %q", i, got, c.want[i])
				}
			}
		})
	}
}

// TestReplaceNeedsRoom counts a copy besides, and that what is replaced makes room only where it is kept as the new one will be.
func TestReplaceNeedsRoom(t *testing.T) {
	for _, c := range []struct {
		storage  string
		replicas int
		bytes    uint64
		want     uint64
	}{{"file", 1, 100, 100}, {"file", 1, 30, 170}, {"file", 1, 500, 100}, {"memory", 1, 100, 200}, {"file", 3, 100, 200}} {
		s := &StreamPlan{Action: Replace, config: jetstream.StreamSettings{Storage: "file", Replicas: 1}, state: archive.State{Bytes: 100}, live: &jetstream.StreamInfo{
			StreamSettings: jetstream.StreamSettings{Storage: c.storage, Replicas: c.replicas}, StreamState: jetstream.StreamState{Bytes: c.bytes}}}
		n := &need{}
		if n.add(s); n.file != c.want || n.streams != 1 {
			t.Errorf("in place of %+v: %+v", c, n)
		}
	}
}
