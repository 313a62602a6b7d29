package retention

import (
	"slices"
	"time"

	"jetsam/snapshot"
)

// Stream is a stream as a snapshot holds it.
type Stream struct {
	Name string    // with all that tells it from others of one host
	Life time.Time // the same in snapshots of one stream that only went on; zero: not known
}

// LastOfLives returns those of the snapshots that forget tells which hold a stream
// of which the next snapshot that has one of its name holds another life, and these
// streams. Those are left out that are older than span, counted back from the newest.
// All snapshots of a host, or more, are given, the oldest first, since the next one
// may be one that is kept.
//
// Streams says what a snapshot holds. It is asked about those that forget tells, and
// about those that follow until their streams have been seen again: mostly one.
func LastOfLives(all []*snapshot.Snapshot, forget func(*snapshot.Snapshot) bool, now time.Time, span Span,
	streams func(*snapshot.Snapshot) ([]Stream, error)) (map[*snapshot.Snapshot][]string, error) {
	begin := span.Before(newestUntil(all, now))
	held := make(map[*snapshot.Snapshot][]string)
	type holder struct {
		s    *snapshot.Snapshot
		life time.Time
	}
	last := make(map[string]holder) // of each stream, by its name, where the next one is looked for
	for _, s := range all {
		goes := forget(s) && s.Time.After(begin)
		if !goes && len(last) == 0 {
			continue
		}
		has, err := streams(s)
		if err != nil {
			return nil, err
		}
		for _, x := range has {
			if x.Life.IsZero() {
				continue
			}
			if was, ok := last[x.Name]; ok && !was.life.Equal(x.Life) {
				held[was.s] = append(held[was.s], x.Name)
			}
			delete(last, x.Name)
			if goes {
				last[x.Name] = holder{s, x.Life}
			}
		}
	}
	for _, names := range held {
		slices.Sort(names)
	}
	return held, nil
}
