package backup

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"

	"jetsam/internal/chance"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// TestBury: what came and died since becomes a gap, once, whatever gaps there are.
func TestBury(t *testing.T) {
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 500 {
		const highest = 60
		from, last := 1+r.Uint64N(20), 1+r.Uint64N(highest)
		g, there, dead := newGaps(from), map[uint64]bool{}, map[uint64]bool{}
		for seq := from; seq <= last; seq++ {
			if r.IntN(3) > 0 {
				g.saw(seq)
				there[seq] = true
			}
		}
		for range 3 {
			for seq := range uint64(highest + 1) {
				if seq > 0 && r.IntN(6) == 0 {
					dead[seq] = true
				}
			}
			var want uint64
			for seq := range there {
				if dead[seq] {
					delete(there, seq)
					want++
				}
			}
			died := streamlog.NewDead(func(yield func(streamlog.Run) bool) {
				for seq := range uint64(highest + 1) {
					if dead[seq] && !yield(streamlog.Run{First: seq, Last: seq}) {
						return
					}
				}
			})
			if got := g.bury(from, died); got != want {
				t.Fatalf("seed %d, round %d: %d were buried, want %d", seed, round, got, want)
			}
			for seq := from; seq < g.next; seq++ {
				if g.has(seq) == there[seq] {
					t.Fatalf("seed %d, round %d: sequence %d is a gap: %v", seed, round, seq, g.has(seq))
				}
			}
		}
	}
}

// TestMemory knows the last messages, the newest first.
func TestMemory(t *testing.T) {
	known := &memory{seed: maphash.MakeSeed()}
	for n := range remembered + 300 {
		known.add(archive.NewMessage("s", int64(n), uint64(n+1), nil, []byte("payload")))
		if n != 10 && n != remembered+299 {
			continue
		}
		want := uint64(n + 1)
		for seq, sum := range known.newest {
			if seq != want || sum != known.sum(archive.NewMessage("s", int64(seq-1), seq, nil, []byte("payload"))) {
				t.Fatalf("message %d, want %d", seq, want)
			}
			want--
		}
		if found := uint64(n+1) - want; found != min(uint64(n+1), remembered) {
			t.Errorf("of %d messages %d are known", n+1, found)
		}
	}
}

// TestBreaksAreBounded: a capture that gets nothing is given up soon, one that gets on later.
func TestBreaksAreBounded(t *testing.T) {
	var barren, fruitful breaks
	for n := range maxBarren {
		if _, ok := barren.another(7); !ok {
			t.Errorf("break %d without a message: %v", n, ok)
		}
	}
	if pause, ok := barren.another(7); ok || pause <= firstPause {
		t.Errorf("one more: %v, after %v", ok, pause)
	}
	for n := range maxBreaks {
		if pause, ok := fruitful.another(uint64(n + 1)); !ok || pause != firstPause {
			t.Errorf("break %d: %v, after %v", n, ok, pause)
		}
	}
	if _, ok := fruitful.another(1000); ok {
		t.Error("there is no end to it")
	}
}

// TestWhatIsGoneOnWith: ways break off. What a server refuses, or does not have, another way does not bring either.
func TestWhatIsGoneOnWith(t *testing.T) {
	for _, err := range []error{
		jetstream.ErrConnectionLost, jetstream.ErrTimeout, jetstream.ErrConsumerNotFound, jetstream.ErrSlowReader, jetstream.ErrNoJetStream,
		&jetstream.StatusError{Code: jetstream.StatusTimeout},
	} {
		if !broke(fmt.Errorf("fetch: %w", err)) {
			t.Errorf("%v is not gone on with", err)
		}
	}
	for _, err := range []error{
		&jetstream.StatusError{Code: 500}, jetstream.ErrStreamNotFound, jetstream.ErrProtocol, &jetstream.PermissionError{}, errRecreated, errors.New("sequences"),
	} {
		if broke(err) {
			t.Errorf("%v is gone on with", err)
		}
	}
}
