package restore

import (
	"fmt"
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
			p.checkLimits(c.account, nil)
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

// TestReservedRoom counts what max_bytes of the streams that are there, and of the plan's, sets aside of the account's limit.
func TestReservedRoom(t *testing.T) {
	account := func(limit int64) jetstream.AccountInfo {
		return jetstream.AccountInfo{Limits: jetstream.Limits{MaxMemory: -1, MaxStore: limit, MaxStreams: -1, MaxConsumers: -1}}
	}
	tiers := func(limit int64, used uint64) jetstream.AccountInfo {
		return jetstream.AccountInfo{Tiers: map[string]jetstream.Tier{"R3": {Store: used, Limits: account(limit).Limits}, "R1": {Limits: account(-1).Limits}}}
	}
	file := func(maxBytes int64, replicas int) jetstream.StreamSettings {
		return jetstream.StreamSettings{Storage: "file", MaxBytes: maxBytes, Replicas: replicas}
	}
	info := func(s jetstream.StreamSettings) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{StreamSettings: s}
	}
	there := []*jetstream.StreamInfo{info(file(300, 1)), info(file(-1, 1)), info(jetstream.StreamSettings{Storage: "memory", MaxBytes: 10_000})}
	for _, c := range []struct {
		name    string
		account jetstream.AccountInfo
		there   []*jetstream.StreamInfo
		streams []*StreamPlan     // each has 100 bytes
		before  jetstream.Release // of an older server
		want    string            // a part of the last one's conflict; empty: there is none
	}{
		{"room", account(1000), there, []*StreamPlan{{config: file(300, 1)}, {config: file(400, 1)}}, jetstream.Release{}, ""},
		{"another of the plan", account(1000), nil, []*StreamPlan{{config: file(600, 1)}, {config: file(500, 1)}}, jetstream.Release{}, "600 of them are set aside by max_bytes of other streams, and this one needs 500"},
		{"one that is there", account(1000), there, []*StreamPlan{{config: file(800, 1)}}, jetstream.Release{}, "300 of them"},
		{"without max_bytes", account(1000), there, []*StreamPlan{{config: file(650, 1)}, {config: file(-1, 1)}}, jetstream.Release{}, "950 of them are set aside by max_bytes of other streams, and this one needs 100"},
		{"no limit", account(-1), there, []*StreamPlan{{config: file(1<<62, 1)}, {config: file(1<<62, 1)}}, jetstream.Release{}, ""},
		{"replicas", account(1000), nil, []*StreamPlan{{config: file(200, 3)}, {config: file(200, 3)}}, jetstream.Release{}, "needs 600, counted in 3 replicas"},
		{"messages in replicas", account(250), nil, []*StreamPlan{{config: file(-1, 3)}}, jetstream.Release{}, "the plan needs 300 more, counted in 3 replicas"},
		{"a tier", tiers(400, 600), []*jetstream.StreamInfo{info(file(200, 3)), info(file(1000, 1))}, []*StreamPlan{{config: file(200, 3)}}, jetstream.Release{}, ""},
		{"a tier that is full", tiers(299, 600), nil, []*StreamPlan{{config: file(-1, 3)}}, jetstream.Release{}, "may store 299 bytes in file storage, it stores 200 and the plan needs 100 more"},
		{"a tier that is set aside", tiers(400, 0), []*jetstream.StreamInfo{info(file(300, 3))}, []*StreamPlan{{config: file(200, 3)}}, jetstream.Release{}, "300 of them"},
		{"before 2.15", account(1000), nil, []*StreamPlan{{config: file(950, 1)}}, jetstream.Release{Major: 2, Minor: 14}, "needs 1050"},
		{"before 2.10", account(1000), nil, []*StreamPlan{{config: file(950, 1)}}, jetstream.Release{Major: 2, Minor: 9}, ""},
		{"in the place of one", account(1000), there, []*StreamPlan{{config: file(350, 1), Action: Replace, live: there[0]}}, jetstream.Release{}, ""},
		{"the copy with what was there", account(1000), there, []*StreamPlan{{config: file(750, 1), Action: Replace, live: info(file(300, 1))}}, jetstream.Release{}, "750 of them are set aside by max_bytes of other streams and of the copy"},
		{"the copy with what comes", account(1000), there, []*StreamPlan{{config: file(600, 1), Action: Replace, live: there[0]}}, jetstream.Release{}, "600 of them are set aside"},
		{"a leftover", account(1000), there, []*StreamPlan{{config: file(900, 1), Leftover: &Leftover{info: there[0]}}}, jetstream.Release{}, ""},
		{"a leftover that is whole", account(100), there, []*StreamPlan{{config: file(90, 1), Leftover: &Leftover{Whole: true, info: there[0]}}}, jetstream.Release{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Plan{Streams: c.streams, older: c.before != (jetstream.Release{}), release: c.before}
			for _, s := range p.Streams {
				s.state.Bytes = 100
			}
			p.checkLimits(c.account, c.there)
			for i, s := range p.Streams {
				want := ""
				if i == len(p.Streams)-1 {
					want = c.want
				}
				if got := fmt.Sprint(s.Conflicts); (want == "") != (len(s.Conflicts) == 0) || !strings.Contains(got, want) {
					t.Errorf("stream %d: %s, want %q", i, got, want)
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
		if n.add(s, 0); n.file.bytes != c.want || n.streams != 1 {
			t.Errorf("in place of %+v: %+v", c, n)
		}
	}
}
