package repo_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/storage"
)

// dated is a storage with a clock, which tells nothing if it is zero.
type dated struct {
	storage.Backend
	at time.Time
}

func (d *dated) Clock() (time.Time, bool) { return d.at, !d.at.IsZero() }

const year = 365 * 24 * time.Hour

// A prune by any machine, whatever its clock shows, deletes what has waited for the grace, and nothing else. Where the storage tells the time,
// that is when it has, and where not, what is hard to believe waits for one more grace.
func TestPruneByClocksThatDiffer(t *testing.T) {
	type step struct {
		machine, storage time.Duration // what their clocks show, after a start
		deletes          bool
		warns            string
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name  string
		told  bool // by the storage, what time it is
		steps []step
	}{
		{"the storage tells, and machines are a year ahead", true, []step{
			{0, 0, false, ""}, {year, time.Minute, false, "behind"}, {year, time.Hour - time.Second, false, "8759h0m1s behind this machine's"}, {year, time.Hour, true, "behind"},
		}},
		{"the storage tells, and machines are a year behind", true, []step{
			{-year, 0, false, "8760h0m0s ahead of this machine's"}, {0, time.Minute, false, ""}, {-year, time.Hour - time.Second, false, "ahead of"}, {-year, time.Hour, true, "ahead of"},
		}},
		{"the storage tells, and was not asked for long", true, []step{{0, 0, false, ""}, {30 * day, 30 * day, true, ""}}},
		{"a machine is a year ahead", false, []step{
			{0, 0, false, ""}, {year, 0, false, "365 days"}, {time.Minute, 0, false, ""}, {time.Hour, 0, true, ""},
		}},
		{"a machine is a year ahead for an hour", false, []step{{0, 0, false, ""}, {year, 0, false, "365 days"}, {year + time.Hour, 0, true, ""}}},
		{"the clock began to be set right", false, []step{
			{-20 * year, 0, false, ""}, {0, 0, false, "7300 days"}, {time.Hour - time.Second, 0, false, ""}, {time.Hour, 0, true, ""},
		}},
		{"the first was a year ahead", false, []step{
			{year, 0, false, ""}, {0, 0, false, "still to come"}, {time.Minute, 0, false, ""}, {time.Hour, 0, true, ""},
		}},
		{"a prune every quarter", false, []step{{0, 0, false, ""}, {90 * day, 0, false, "90 days"}, {180 * day, 0, true, ""}}},
		{"a prune every month", false, []step{{0, 0, false, ""}, {31 * day, 0, true, ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, be := faultyRepo(t, repotest.Options())
			forget(t, r, increments(t, r, 0, 2)[0])
			place := &dated{Backend: be}
			start := time.Now().Truncate(time.Second)
			o := thorough(t)
			o.Grace = time.Hour
			for i, s := range tt.steps {
				if tt.told {
					place.at = start.Add(s.storage)
				}
				var warned []string
				ro := repotest.Options()
				ro.Clock = func() time.Time { return start.Add(s.machine) }
				ro.Warn = func(err error) { warned = append(warned, err.Error()) }
				r, err := repo.Open(t.Context(), place, secret.New(repotest.Password), ro)
				if err != nil {
					t.Fatal(err)
				}
				plan, result := prune(t, r, o)
				if (result.Deleted.Count > 0) != s.deletes || plan.Later.Count+result.Deleted.Count == 0 {
					t.Errorf("step %d: %+v deleted; %+v", i, result.Deleted, plan.PruneFacts)
				}
				if got := fmt.Sprint(warned); !strings.Contains(got, s.warns) || s.warns == "" && len(warned) > 0 {
					t.Errorf("step %d: warnings are %s, want %q", i, got, s.warns)
				}
			}
			wantTidy(t, repotest.Open(t, be))
		})
	}
}

// Who says so deletes at once, whatever a clock shows, and is not told that something stays.
func TestPruneNowInSpiteOfClocks(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	forget(t, r, increments(t, r, 0, 2)[0])
	o := thorough(t)
	o.Grace = time.Hour
	plan, _ := prune(t, r, o)
	o.Grace = 0
	ro := repotest.Options()
	ro.Clock = func() time.Time { return time.Now().Add(year) }
	ro.Warn = func(err error) { t.Errorf("warned: %v", err) }
	ahead, err := repo.Open(t.Context(), be, secret.New(repotest.Password), ro)
	if err != nil {
		t.Fatal(err)
	}
	if _, result := prune(t, ahead, o); result.Deleted != plan.Later {
		t.Errorf("deleted %+v of %+v", result.Deleted, plan.Later)
	}
	wantTidy(t, r)
}
