package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // for systems that have none

	"jetsam/repo"
	"jetsam/snapshot"
)

// clockChanges are times at which the clocks of zones are set forward or back, by an hour, by half of one, at midnight, and by a day.
var clockChanges = []struct{ zone, at string }{
	{"Europe/Berlin", "2025-03-30T01:00:00Z"},
	{"Europe/Berlin", "2025-10-26T01:00:00Z"},
	{"America/Sao_Paulo", "2018-02-18T02:00:00Z"},
	{"America/Sao_Paulo", "2018-11-04T03:00:00Z"},
	{"Australia/Lord_Howe", "2025-04-05T15:00:00Z"},
	{"Australia/Lord_Howe", "2025-10-04T15:30:00Z"},
	{"Pacific/Apia", "2011-12-30T10:00:00Z"},
}

// oddDays are leap days, days of a week that is in another year or the 53rd of one, the end of 32 bits of seconds, and a year that is no leap year. Some
// have not come yet.
var oddDays = []string{
	"2019-12-31T23:59:59Z", "2020-02-28T12:00:00Z", "2020-02-29T12:00:00Z", "2020-12-27T12:00:00Z", "2020-12-28T12:00:00Z", "2020-12-31T12:00:00Z",
	"2021-01-01T12:00:00Z", "2021-01-03T12:00:00Z", "2021-01-04T12:00:00Z", "2024-02-29T00:00:00Z",
	"2038-01-19T03:14:07Z", "2038-01-19T03:14:08Z", "2038-02-28T12:00:00Z", "2100-02-28T23:59:59Z", "2100-03-01T00:00:00Z",
}

// storeOddTimes stores snapshots around each of clockChanges, by the clock of the zone, and of oddDays by clocks of two, each as of a host of its own.
func storeOddTimes(t *testing.T, r *repo.Repo) (n int) {
	t.Helper()
	w, err := r.NewWriter(t.Context(), nil)
	must(t, err)
	root, _, err := w.SaveTree(t.Context(), &snapshot.Tree{})
	must(t, err)
	store := func(host string, at time.Time) {
		t.Helper()
		if w == nil {
			w, err = r.NewWriter(t.Context(), nil)
			must(t, err)
		}
		_, err = w.Commit(t.Context(), &snapshot.Snapshot{Time: at, Tree: root, Paths: []string{"/A"}, Hostname: host})
		must(t, err)
		w = nil
		n++
	}
	for i, c := range clockChanges {
		zone, err := time.LoadLocation(c.zone)
		must(t, err)
		change, err := time.Parse(time.RFC3339, c.at)
		must(t, err)
		for _, by := range []time.Duration{
			-25 * time.Hour, -24 * time.Hour, -90 * time.Minute, -31 * time.Minute, -time.Second, 0, 29 * time.Minute, 61 * time.Minute, 24 * time.Hour,
		} {
			store(fmt.Sprint("change", i), change.Add(by).In(zone))
		}
	}
	for i, text := range oddDays {
		at, err := time.Parse(time.RFC3339, text)
		must(t, err)
		store("calendar", at.In(time.FixedZone("", 13*3600*(i%2)))) // which are a day apart sometimes
	}
	return n
}

// TestForgetAsResticWhereClocksChange lets restic and jetsam decide about the same snapshots of odd times, on machines of several zones.
func TestForgetAsResticWhereClocksChange(t *testing.T) {
	t.Parallel()
	r, dir := newRepo(t, repo.Options{})
	n := storeOddTimes(t, r)
	zones := []string{"Europe/Berlin", "Australia/Lord_Howe"}
	if proof() {
		zones = append(zones, "America/Sao_Paulo", "Pacific/Apia", "UTC")
	}
	for _, zone := range zones {
		c := command{repo: dir, env: []string{"TZ=" + zone}}
		for _, policy := range []string{
			"--keep-hourly=6", "--keep-daily=2", "--keep-weekly=5 --keep-yearly=3", "--keep-within=1d", "--keep-within=25h", "--keep-within=4y", "--keep-monthly=3 --keep-within-hourly=2d",
			"--keep-within-weekly=1y --keep-within-daily=1m",
		} {
			args := strings.Fields(policy)
			keep, forget := resticForgets(t, dir, args, c.env...)
			if len(keep)+len(forget) != n {
				t.Fatalf("restic decides about %d snapshots of %d", len(keep)+len(forget), n)
			}
			decided := 0
			for line := range strings.Lines(c.run(t, 0, append([]string{"forget", "--dry-run", "--json", "--quiet", "--no-lock", "--keep-earlier-lives", "none"}, args...)...)) {
				var group struct {
					Snapshots []struct {
						ID      string
						Time    string
						Keep    bool
						Reasons []string
					}
				}
				must(t, json.Unmarshal([]byte(line), &group))
				for _, s := range group.Snapshots {
					decided++
					if s.Keep != keep[s.ID] && !onlyOldest(s.Reasons) {
						t.Errorf("%s in %s: the snapshot of %s is kept: %v %q; by restic: %v", policy, zone, s.Time, s.Keep, s.Reasons, keep[s.ID])
					}
				}
			}
			if decided != n {
				t.Errorf("jetsam decides about %d snapshots of %d", decided, n)
			}
		}
	}
}

// onlyOldest reports whether a snapshot is kept because it is the oldest, and for nothing else: restic before 0.16 does not know that.
func onlyOldest(reasons []string) bool {
	for _, r := range reasons {
		if !strings.HasPrefix(r, "oldest ") {
			return false
		}
	}
	return len(reasons) > 0
}
