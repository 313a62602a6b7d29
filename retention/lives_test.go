package retention

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/snapshot"
)

// TestLastOfLives: each case lists what snapshots of successive days hold, as STREAMlife; those with - are to be forgotten.
func TestLastOfLives(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, days string
		span       Span
		held, read string
	}{
		{"one life", "-A1 -A1 A1", Unlimited, "", "0 1 2"},
		{"two lives", "-A1 -A1 -A2 A2", Unlimited, "1:A", "0 1 2 3"},
		{"the last of a life is kept anyway", "-A1 A1 A2 A2", Unlimited, "", "0 1"},
		{"the next is far away", "-A1 B1 B1 A2 A2", Unlimited, "0:A", "0 1 2 3"},
		{"a stream that is gone for good", "-A1,B1 -B1 B1", Unlimited, "", "0 1 2"},
		{"several streams", "-A1,B1,C1 A2,B2,C1", Unlimited, "0:A+B", "0 1"},
		{"what is not known is no life", "-A1 A0 A1", Unlimited, "", "0 1 2"},
		{"nothing goes", "A1 A2", Unlimited, "", ""},
		{"too old", "-A1 -A2 -A3 A4", Span{Days: 2}, "2:A", "2 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []*snapshot.Snapshot
			days := strings.Fields(c.days)
			day := make(map[*snapshot.Snapshot]int)
			for i := range days {
				s := &snapshot.Snapshot{Time: start.AddDate(0, 0, i)}
				day[s], all = i, append(all, s)
			}
			var read []string
			held, err := LastOfLives(all, func(s *snapshot.Snapshot) bool { return days[day[s]][0] == '-' }, start.AddDate(1, 0, 0), c.span,
				func(s *snapshot.Snapshot) (out []Stream, err error) {
					read = append(read, fmt.Sprint(day[s]))
					for x := range strings.SplitSeq(strings.TrimPrefix(days[day[s]], "-"), ",") {
						var life time.Time
						if x[1] != '0' {
							life = start.Add(time.Duration(x[1]))
						}
						out = append(out, Stream{x[:1], life})
					}
					return out, nil
				})
			var got []string
			for s := range maps.Keys(held) {
				got = append(got, fmt.Sprintf("%d:%s", day[s], strings.Join(held[s], "+")))
			}
			slices.Sort(got)
			if g := strings.Join(got, " "); err != nil || g != c.held {
				t.Errorf("held are %q, not %q; %v", g, c.held, err)
			}
			if r := strings.Join(read, " "); c.read != r {
				t.Errorf("read are %q, not %q", r, c.read)
			}
		})
	}
	broken := errors.New("broken")
	if _, err := LastOfLives([]*snapshot.Snapshot{{Time: start}}, func(*snapshot.Snapshot) bool { return true }, start, Unlimited,
		func(*snapshot.Snapshot) ([]Stream, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("what cannot be read: %v", err)
	}
}
