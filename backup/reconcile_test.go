package backup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"jetsam/internal/chance"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// taken is a capture that brought these sequences, of a stream with the state.
func taken(state archive.State, seqs []uint64) (*streamlog.Messages, *gaps) {
	g, m := newGaps(state.FirstSeq), &streamlog.Messages{Count: uint64(len(seqs))}
	for _, seq := range seqs {
		g.saw(seq)
	}
	g.end(state.LastSeq)
	if len(seqs) > 0 {
		m.First, m.Last = seqs[0], seqs[len(seqs)-1]
	}
	return m, g
}

// through lists the sequences from first to last, but for those left out.
func through(first, last uint64, without ...uint64) (seqs []uint64) {
	for seq := first; seq <= last; seq++ {
		if !slices.Contains(without, seq) {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

func TestReconcile(t *testing.T) {
	state := archive.State{Messages: 100, FirstSeq: 1, LastSeq: 100}
	holed := archive.State{Messages: 90, FirstSeq: 1, LastSeq: 100}
	now := func(messages, first, last uint64) archive.State {
		return archive.State{Messages: messages, FirstSeq: first, LastSeq: last}
	}
	history := jetstream.StreamSettings{MaxMessagesOfSubject: 1}
	log := jetstream.StreamSettings{MaxMessagesOfSubject: 1000}
	bucket := jetstream.StreamSettings{MaxMessagesOfSubject: 10, AllowRollup: true}
	queue := jetstream.StreamSettings{Retention: "workqueue"}
	for _, c := range []struct {
		name     string
		state    archive.State
		came     []uint64
		now      archive.State
		deleted  []uint64
		holes    []uint64 // of those, which the stream had not from the beginning
		settings jetstream.StreamSettings
		removed  uint64
		torn     string // a part of it
	}{
		{name: "whole", state: state, came: through(1, 100), now: now(100, 1, 100)},
		{name: "whole, purged afterwards", state: state, came: through(1, 100), now: now(0, 101, 100)},
		{name: "the oldest expired before they were read", state: state, came: through(11, 100), now: now(90, 11, 100), removed: 10},
		{name: "and more of them later", state: state, came: through(11, 100), now: now(70, 31, 120), removed: 10},
		{name: "purged before anything was read", state: state, now: now(0, 101, 100), removed: 100},
		{name: "some deleted before they were read", state: state, came: through(1, 100, 50, 60), now: now(98, 1, 100), deleted: []uint64{50, 60}, removed: 2},
		{name: "one deleted after, one before it was read", state: state, came: through(1, 100, 60), now: now(98, 1, 100), deleted: []uint64{50, 60}, removed: 1, torn: "1 message purged"},
		{name: "one deleted before, one after it was read", state: state, came: through(1, 100, 50), now: now(98, 1, 100), deleted: []uint64{50, 60}, removed: 1},
		{name: "purged in the middle", state: state, came: through(1, 40), now: now(0, 101, 100), removed: 60, torn: "60 messages purged"},
		{name: "purged in the middle while others came", state: state, came: through(1, 40), now: now(20, 101, 120), removed: 60, torn: "60 messages purged"},
		{name: "purged in the middle but for ten", state: state, came: append(through(1, 40), through(91, 100)...), now: now(10, 91, 100), removed: 50, torn: "50 messages purged"},
		{name: "one left out", state: state, came: through(1, 100, 70), now: now(100, 1, 100), torn: "1 message that the stream still counts did not come, at sequence 70:"},
		{name: "a block left out, and some expired", state: state, came: append(through(11, 40), through(61, 100)...), now: now(85, 16, 100), removed: 10, torn: "20 messages that the stream still counts did not come, at sequence 41 to 60:"},
		{name: "the end left out", state: state, came: through(1, 99), now: now(120, 1, 120), torn: "at sequence 100:"},
		{name: "as many left out as expired later", state: state, came: through(1, 100, 70, 71, 72), now: now(97, 4, 100), torn: "3 messages that the stream still counts"},
		{name: "went back", state: state, came: through(1, 80), now: now(50, 1, 50), torn: "went back from 100 to 50"},
		{name: "old holes", state: holed, came: through(1, 100, 1, 2, 3, 20, 21, 22, 90, 91, 92, 93), now: now(90, 1, 100), deleted: []uint64{20, 21, 22, 90, 91, 92, 93}, holes: []uint64{1, 2, 3, 20, 21, 22, 90, 91, 92, 93}},
		{name: "old holes, and the oldest expired", state: archive.State{Messages: 95, FirstSeq: 1, LastSeq: 100}, came: through(11, 100, 50, 51, 52, 53, 54), now: now(75, 21, 100), deleted: []uint64{50, 51, 52, 53, 54}, holes: []uint64{50, 51, 52, 53, 54}, removed: 10},
		{name: "old holes, and two more behind one that came", state: archive.State{Messages: 95, FirstSeq: 1, LastSeq: 100}, came: through(1, 100, 20, 21, 22, 23, 24, 90, 91), now: now(92, 1, 100), deleted: []uint64{20, 21, 22, 23, 24, 70, 90, 91}, holes: []uint64{20, 21, 22, 23, 24}, removed: 2, torn: "2 messages purged"},
		{name: "keys overwritten", state: state, came: through(1, 100, 60), now: now(100, 1, 102), deleted: []uint64{50, 60}, settings: history, removed: 1},
		{name: "keys purged, not overwritten", state: state, came: through(1, 40), now: now(1, 101, 101), settings: history, removed: 60, torn: "60 messages purged"},
		{name: "the oldest of a subject pushed out", state: state, came: through(1, 100, 60), now: now(100, 1, 102), deleted: []uint64{50, 60}, settings: log, removed: 1},
		{name: "purged in the middle while one came, and a subject keeps many", state: state, came: through(1, 40), now: now(1, 101, 101), settings: log, removed: 60, torn: "60 messages purged"},
		{name: "keys of ten values purged", state: state, came: append(through(1, 45), through(51, 100)...), now: now(92, 1, 101), deleted: through(41, 50), settings: bucket, removed: 5},
		{name: "jobs done", state: state, came: through(1, 100, 60), now: now(98, 1, 100), deleted: []uint64{50, 60}, settings: queue, removed: 1, torn: "1 message purged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, g := taken(c.state, c.came)
			v := reconcile(c.state, m, g, c.now, dead{c.state.FirstSeq, c.holes}, dead{c.now.FirstSeq, c.deleted}, c.settings)
			if v.removed != c.removed {
				t.Errorf("removed %d, want %d", v.removed, c.removed)
			}
			if c.torn == "" && v.torn != "" || !strings.Contains(v.torn, c.torn) {
				t.Errorf("torn %q, want %q", v.torn, c.torn)
			}
			if want := c.torn != "" && c.settings.Retention == "workqueue"; v.usual != want {
				t.Errorf("usual %v, want %v", v.usual, want)
			}
		})
	}
}

// TestReconcileMissesNothing plays random lives of a stream: a capture that lacks a message which is alive must never be taken for whole,
// and one that lacks none must never be said to lack any.
func TestReconcileMissesNothing(t *testing.T) {
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		first := 1 + r.Uint64N(3)
		last := first + r.Uint64N(12)
		state := archive.State{FirstSeq: first, LastSeq: last}
		var came, deleted []uint64
		hidden := uint64(0)
		nowFirst := first
		if r.IntN(2) == 0 {
			nowFirst += r.Uint64N(last - first + 2)
		}
		for seq := first; seq <= last; seq++ {
			if r.IntN(5) == 0 { // dead from the beginning
				if seq >= nowFirst {
					deleted = append(deleted, seq)
				}
				continue
			}
			state.Messages++
			died := seq < nowFirst
			if !died && r.IntN(6) == 0 {
				died = true
				deleted = append(deleted, seq)
			}
			switch {
			case died && r.IntN(2) == 0: // before it was read
			case !died && r.IntN(20) == 0:
				hidden++
			default:
				came = append(came, seq)
			}
		}
		alive := uint64(0)
		for seq := nowFirst; seq <= last; seq++ {
			if !slices.Contains(deleted, seq) {
				alive++
			}
		}
		m, g := taken(state, came)
		v := reconcile(state, m, g, archive.State{Messages: alive, FirstSeq: nowFirst, LastSeq: last}, dead{first, nil}, dead{nowFirst, deleted}, jetstream.StreamSettings{})
		what := fmt.Sprintf("stream %d to %d with %d messages, came %v, now from %d without %v", first, last, state.Messages, came, nowFirst, deleted)
		if says := strings.HasPrefix(v.torn, messages(hidden)+" that the stream still counts did not come"); hidden > 0 && !says {
			t.Fatalf("%s: %d are missing: %+v", what, hidden, v)
		}
		if hidden == 0 && strings.Contains(v.torn, "did not come") {
			t.Fatalf("%s: none is missing: %+v", what, v)
		}
		if v.removed+hidden != state.Messages-m.Count {
			t.Fatalf("%s: removed %d and %d hidden of %d missing", what, v.removed, hidden, state.Messages-m.Count)
		}
	}
}

func TestReconcileCounts(t *testing.T) {
	state := archive.State{Messages: 100, FirstSeq: 1, LastSeq: 100}
	for _, c := range []struct {
		name    string
		count   uint64
		now     archive.State
		removed uint64
		torn    string // a part of it
	}{
		{"whole", 100, archive.State{Messages: 100, FirstSeq: 1, LastSeq: 100}, 0, ""},
		{"ten removed", 90, archive.State{Messages: 90, FirstSeq: 11, LastSeq: 100}, 10, ""},
		{"ten removed while twenty came", 90, archive.State{Messages: 110, FirstSeq: 11, LastSeq: 120}, 10, ""},
		{"missing without a cause", 90, archive.State{Messages: 100, FirstSeq: 1, LastSeq: 100}, 0, "10 messages missing"},
		{"more missing than removed", 80, archive.State{Messages: 90, FirstSeq: 11, LastSeq: 100}, 10, "20 messages missing, of which the stream lost at most 10"},
		{"went back", 80, archive.State{Messages: 50, FirstSeq: 1, LastSeq: 50}, 0, "went back from 100 to 50"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := reconcileCounts(state, &streamlog.Messages{Count: c.count}, c.now)
			if v.removed != c.removed || c.torn == "" && v.torn != "" || !strings.Contains(v.torn, c.torn) {
				t.Errorf("%+v, want %d removed and torn %q", v, c.removed, c.torn)
			}
		})
	}
}

func TestImpossibleCaptures(t *testing.T) {
	state := archive.State{Messages: 100, FirstSeq: 1, LastSeq: 100}
	for _, m := range []streamlog.Messages{{Count: 101, Last: 100}, {Count: 100, Last: 101}} {
		if err := possible(state, &m); err == nil || !strings.Contains(err.Error(), "received") {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

// TestGapsAtTheEdges wants no overflow at the highest sequence that there is.
func TestGapsAtTheEdges(t *testing.T) {
	const top = ^uint64(0)
	g := newGaps(top - 2)
	g.saw(top - 2)
	g.saw(top)
	g.end(top)
	if len(g.runs) != 1 || g.runs[0] != (span{top - 1, top - 1}) {
		t.Errorf("gaps %v", g.runs)
	}
	g = newGaps(0)
	if g.end(0); len(g.runs) > 0 {
		t.Errorf("gaps of a stream that was never used: %v", g.runs)
	}
}
