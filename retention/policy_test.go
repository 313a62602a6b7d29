package retention_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // for systems that have none

	"jetsam/blob"
	"jetsam/retention"
	"jetsam/snapshot"
	"jetsam/storage"
)

// taken is a snapshot of a time, with tags.
func taken(t testing.TB, at string, tags ...string) *snapshot.Snapshot {
	t.Helper()
	when, err := time.Parse("2006-01-02 15:04 MST", at+" UTC")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(&snapshot.Snapshot{Time: when, Tree: blob.Sum([]byte("t")), Paths: []string{"/A"}, Tags: tags})
	if err != nil {
		t.Fatal(err)
	}
	s, err := snapshot.Decode(storage.Sum(text), text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func series(t testing.TB, at ...string) (out []*snapshot.Snapshot) {
	t.Helper()
	for _, when := range at {
		out = append(out, taken(t, when))
	}
	return out
}

// kept are lines of the times that are kept, and why.
func kept(verdicts []retention.Verdict) (out []string) {
	for _, v := range verdicts {
		if v.Keep() {
			out = append(out, v.Snapshot.Time.UTC().Format("2006-01-02 15:04")+" "+strings.Join(v.Reasons, ", "))
		}
	}
	return out
}

func span(t testing.TB, text string) retention.Span {
	t.Helper()
	s, err := retention.ParseSpan(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestApply(t *testing.T) {
	times := []string{
		"2023-12-31 23:00",
		"2024-02-28 10:00", "2024-02-29 10:00", // a leap year
		"2024-12-29 10:00", // Sunday
		"2024-12-30 10:00", // Monday, of the first week of 2025
		"2024-12-31 10:00",
		"2025-01-01 09:00", "2025-01-01 09:59", "2025-01-01 10:00", "2025-01-01 10:30",
	}
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) // long after: spans do not count back from here
	for _, tt := range []struct {
		name   string
		policy retention.Policy
		want   []string
	}{
		{"last", retention.Policy{Last: 2}, []string{"2025-01-01 10:00 last", "2025-01-01 10:30 last"}},
		{"hourly", retention.Policy{Hourly: 3}, []string{"2024-12-31 10:00 hourly", "2025-01-01 09:59 hourly", "2025-01-01 10:30 hourly"}},
		{"daily", retention.Policy{Daily: 2}, []string{"2024-12-31 10:00 daily", "2025-01-01 10:30 daily"}},
		{"weekly", retention.Policy{Weekly: 3}, []string{"2024-02-29 10:00 weekly", "2024-12-29 10:00 weekly", "2025-01-01 10:30 weekly"}},
		{"monthly", retention.Policy{Monthly: 3}, []string{"2024-02-29 10:00 monthly", "2024-12-31 10:00 monthly", "2025-01-01 10:30 monthly"}},
		{"yearly", retention.Policy{Yearly: 9}, []string{"2023-12-31 23:00 yearly", "2024-12-31 10:00 yearly", "2025-01-01 10:30 yearly"}},
		{"all yearly", retention.Policy{Yearly: retention.All}, []string{"2023-12-31 23:00 yearly", "2024-12-31 10:00 yearly", "2025-01-01 10:30 yearly"}},
		{"several", retention.Policy{Last: 1, Daily: 2}, []string{"2024-12-31 10:00 daily", "2025-01-01 10:30 last, daily"}},
		{"within", retention.Policy{Within: span(t, "1d12h")}, []string{
			"2024-12-31 10:00 within 1d12h", "2025-01-01 09:00 within 1d12h", "2025-01-01 09:59 within 1d12h", "2025-01-01 10:00 within 1d12h", "2025-01-01 10:30 within 1d12h",
		}},
		{"within, of each day", retention.Policy{WithinDaily: span(t, "2d12h")}, []string{
			"2024-12-30 10:00 daily within 2d12h", "2024-12-31 10:00 daily within 2d12h", "2025-01-01 10:30 daily within 2d12h",
		}},
		{"within a year and a month", retention.Policy{WithinYearly: span(t, "1y1m")}, []string{
			"2023-12-31 23:00 yearly within 1y1m", "2024-12-31 10:00 yearly within 1y1m", "2025-01-01 10:30 yearly within 1y1m",
		}},
		{"any second", retention.Policy{PITR: span(t, "1h")}, []string{
			"2025-01-01 09:00 any second within 1h", "2025-01-01 09:59 any second within 1h", "2025-01-01 10:00 any second within 1h", "2025-01-01 10:30 any second within 1h",
		}},
		{"nothing", retention.Policy{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			snapshots := series(t, times...)
			slices.Reverse(snapshots)
			if tt.policy.Empty() != (tt.want == nil) {
				t.Errorf("Empty is %v", tt.policy.Empty())
			}
			got := tt.policy.Apply(snapshots, now)
			if len(got) != len(times) {
				t.Errorf("%d verdicts on %d snapshots", len(got), len(times))
			}
			if got := kept(got); !slices.Equal(got, tt.want) {
				t.Errorf("kept\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// TestOldestOfAPeriod: while there are fewer periods than are to be kept, the oldest snapshot of all is the one that will be missed.
func TestOldestOfAPeriod(t *testing.T) {
	snapshots := series(t, "2025-01-01 01:00", "2025-01-01 02:00", "2025-01-01 03:00")
	for n, want := range map[int][]string{
		1: {"2025-01-01 03:00 daily"},
		2: {"2025-01-01 01:00 oldest daily", "2025-01-01 03:00 daily"},
	} {
		if got := kept((&retention.Policy{Daily: n}).Apply(snapshots, time.Now())); !slices.Equal(got, want) {
			t.Errorf("%d daily: kept %q, want %q", n, got, want)
		}
	}
}

func TestTags(t *testing.T) {
	snapshots := []*snapshot.Snapshot{
		taken(t, "2025-01-01 01:00", "protected"),
		taken(t, "2025-01-01 02:00", "a", "b"),
		taken(t, "2025-01-01 03:00", "a"),
		taken(t, "2025-01-01 04:00"),
	}
	for _, tt := range []struct {
		tags [][]string
		want []string
	}{
		{nil, []string{"2025-01-01 01:00 protected"}},
		{[][]string{{"a", "b"}}, []string{"2025-01-01 01:00 protected", "2025-01-01 02:00 tags"}},
		{[][]string{{"b"}, {}}, []string{"2025-01-01 01:00 protected", "2025-01-01 02:00 tags", "2025-01-01 04:00 tags"}},
	} {
		if got := kept((&retention.Policy{Tags: tt.tags}).Apply(snapshots, time.Now())); !slices.Equal(got, tt.want) {
			t.Errorf("tags %q: kept %q, want %q", tt.tags, got, tt.want)
		}
	}
}

// TestFuture: a snapshot that a wrong clock dated into the future makes no span begin there.
func TestFuture(t *testing.T) {
	snapshots := series(t, "2025-01-01 01:00", "2025-01-05 01:00", "2031-01-01 00:00")
	p := retention.Policy{Within: span(t, "7d")}
	now := time.Date(2025, 1, 6, 0, 0, 0, 0, time.UTC)
	if got := kept(p.Apply(snapshots, now)); len(got) != 3 {
		t.Errorf("kept %q, want all", got)
	}
	if got := kept(p.Apply(snapshots[2:], now)); len(got) != 1 {
		t.Errorf("kept %q, want the one that there is", got)
	}
	if got := p.Apply(nil, now); len(got) != 0 {
		t.Errorf("%d verdicts on nothing", len(got))
	}
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]retention.Span{
		"7d":       {Days: 7},
		"2y5m7d3h": {Years: 2, Months: 5, Days: 7, Hours: 3},
		"3h1y":     {Years: 1, Hours: 3},
		"0y36h":    {Hours: 36},
		"1000000d": {Days: 1_000_000},
	} {
		got, err := retention.ParseSpan(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
		again, err := retention.ParseSpan(got.String())
		if err != nil || again != got {
			t.Errorf("%q: written %q, which is %v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "7", "d", "7x", "-7d", "7d7d", "0d", "1.5d", "7 d", "1000001h", strings.Repeat("9", 40) + "d"} {
		if got, err := retention.ParseSpan(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("%q: %v does not name it", text, err)
		}
	}
}

func FuzzParseSpan(f *testing.F) {
	f.Add("2y5m7d3h")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := retention.ParseSpan(text)
		if err != nil {
			return
		}
		if again, err := retention.ParseSpan(s.String()); err != nil || again != s {
			t.Errorf("%q is %v, written %q, which is %v, %v", text, s, s.String(), again, err)
		}
		if now := time.Now(); !s.Before(now).Before(now) {
			t.Errorf("%v before now is %v", s, s.Before(now))
		}
	})
}

// TestPITRWhereClocksChange: a day before a moment is the same time of the clock a day before, be that 23 hours, 25, or a day that there was not; an hour
// is always as long. The snapshot before the span is kept too.
func TestPITRWhereClocksChange(t *testing.T) {
	for _, tt := range []struct {
		name, zone, newest, span string
		first                    time.Duration // from the begin of the span to the newest
	}{
		{"a day of 23 hours", "Europe/Berlin", "2026-03-29T12:00:00+02:00", "1d", 23 * time.Hour},
		{"a day of 25 hours", "Europe/Berlin", "2026-10-25T12:00:00+01:00", "1d", 25 * time.Hour},
		{"24 hours are 24 hours", "Europe/Berlin", "2026-03-29T12:00:00+02:00", "24h", 24 * time.Hour},
		{"by a clock that is never changed", "", "2026-03-29T12:00:00+02:00", "1d", 24 * time.Hour},
		{"half an hour less", "Australia/Lord_Howe", "2026-10-04T12:00:00+11:00", "1d", 23*time.Hour + 30*time.Minute},
		{"half an hour more", "Australia/Lord_Howe", "2026-04-05T12:00:00+10:30", "1d", 24*time.Hour + 30*time.Minute},
		{"two days, of which there was one", "Pacific/Apia", "2011-12-31T12:00:00+14:00", "2d", 24 * time.Hour},
		{"a year before a leap day ends on the first of March", "", "2028-02-29T12:00:00Z", "1y", 365 * 24 * time.Hour},
		{"a month before the last of March is the third", "", "2026-03-31T12:00:00Z", "1m", 28 * 24 * time.Hour},
		{"after 32 bits of seconds", "Europe/Berlin", "2038-03-28T12:00:00+02:00", "1d", 23 * time.Hour},
		{"a century that has no leap day", "", "2100-03-01T12:00:00Z", "1y", 365 * 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			newest, err := time.Parse(time.RFC3339, tt.newest)
			if err != nil {
				t.Fatal(err)
			}
			if tt.zone != "" {
				zone, err := time.LoadLocation(tt.zone)
				if err != nil {
					t.Fatal(err)
				}
				newest = newest.In(zone)
			}
			at := func(before time.Duration) *snapshot.Snapshot {
				s := taken(t, "2000-01-01 00:00")
				s.Time = newest.Add(-before)
				return s
			}
			within, edge, before := at(tt.first-time.Second), at(tt.first), at(tt.first+time.Second)
			p := retention.Policy{PITR: span(t, tt.span)}
			var got []time.Duration
			for _, v := range p.Apply([]*snapshot.Snapshot{at(0), within, edge, before}, newest) {
				if v.Keep() {
					got = append(got, newest.Sub(v.Snapshot.Time))
				}
			}
			if want := []time.Duration{tt.first, tt.first - time.Second, 0}; !slices.Equal(got, want) {
				t.Errorf("kept are those of %v before the newest, want %v", got, want)
			}
		})
	}
}

// TestClockBehind: where the clock of the machine that forgets is behind, spans begin at an earlier snapshot, so that more is kept, not less.
func TestClockBehind(t *testing.T) {
	snapshots := series(t, "2025-01-01 01:00", "2025-01-05 01:00", "2025-02-01 00:00")
	p := retention.Policy{Within: span(t, "7d")}
	for now, want := range map[string]int{"2025-02-02": 1, "2025-01-06": 3, "1970-01-01": 1} {
		at, err := time.Parse(time.DateOnly, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := kept(p.Apply(snapshots, at)); len(got) != want {
			t.Errorf("on %s kept %q, want %d", now, got, want)
		}
	}
}
