package tests

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"jetsam/internal/chance"
	"jetsam/repo"
	"jetsam/retention"
	"jetsam/snapshot"
)

// manySnapshots stores snapshots of random times, by clocks of several zones, with random tags, of two hosts.
func manySnapshots(t *testing.T, r *repo.Repo, rnd *rand.Rand, n int) []*snapshot.Snapshot {
	t.Helper()
	w, err := r.NewWriter(t.Context(), nil)
	must(t, err)
	root, _, err := w.SaveTree(t.Context(), &snapshot.Tree{})
	must(t, err)
	at := time.Date(2024, 2, 27, 0, 0, 0, 0, time.UTC)
	for range n {
		if w == nil {
			w, err = r.NewWriter(t.Context(), nil)
			must(t, err)
		}
		at = at.Add(time.Duration(rnd.Int64N(int64(time.Hour) << rnd.IntN(10))))
		s := &snapshot.Snapshot{
			Time: at.In(time.FixedZone("", 1800*(rnd.IntN(20)-10))), Tree: root, Paths: []string{"/A"}, Hostname: fmt.Sprintf("h%d", rnd.IntN(2)),
		}
		for _, tag := range []string{"a", "b"} {
			if rnd.IntN(8) == 0 {
				s.Tags = append(s.Tags, tag)
			}
		}
		_, err = w.Commit(t.Context(), s)
		must(t, err)
		w = nil
	}
	var all []*snapshot.Snapshot
	for s, err := range r.Snapshots(t.Context()) {
		must(t, err)
		all = append(all, s)
	}
	return all
}

// randomPolicy is a policy, and what tells restic of it.
func randomPolicy(t *testing.T, rnd *rand.Rand) (p retention.Policy, args []string) {
	t.Helper()
	for name, n := range map[string]*int{"last": &p.Last, "hourly": &p.Hourly, "daily": &p.Daily, "weekly": &p.Weekly, "monthly": &p.Monthly, "yearly": &p.Yearly} {
		if rnd.IntN(3) == 0 {
			*n = 1 + rnd.IntN(6)
			args = append(args, fmt.Sprintf("--keep-%s=%d", name, *n))
		}
	}
	for name, span := range map[string]*retention.Span{
		"": &p.Within, "-hourly": &p.WithinHourly, "-daily": &p.WithinDaily, "-weekly": &p.WithinWeekly, "-monthly": &p.WithinMonthly, "-yearly": &p.WithinYearly,
	} {
		if rnd.IntN(4) == 0 {
			*span = retention.Span{Months: rnd.IntN(3), Days: rnd.IntN(20), Hours: 1 + rnd.IntN(30)}
			args = append(args, fmt.Sprintf("--keep-within%s=%v", name, span))
		}
	}
	if rnd.IntN(2) == 0 || p.Empty() {
		p.Tags = [][]string{{"a", "b"}, {"b"}}
		args = append(args, "--keep-tag=a,b", "--keep-tag=b")
	}
	return p, args
}

// resticForgets are the snapshots that restic would keep and those that it would forget.
func resticForgets(t *testing.T, dir string, policy []string, env ...string) (keep, forget map[string]bool) {
	t.Helper()
	out := resticWith(t, env, dir, append([]string{"forget", "--dry-run", "--json", "--no-lock"}, policy...)...)
	type named []struct{ ID string }
	var groups []struct{ Keep, Remove named }
	must(t, json.Unmarshal([]byte(out[strings.Index(out, "["):]), &groups))
	keep, forget = map[string]bool{}, map[string]bool{}
	for _, g := range groups {
		for _, s := range g.Keep {
			keep[s.ID] = true
		}
		for _, s := range g.Remove {
			forget[s.ID] = true
		}
	}
	return keep, forget
}

// TestForgetAsRestic lets restic and the same policy here decide about the same snapshots. Restic before 0.16 does not keep the oldest snapshot
// only because it is the oldest.
func TestForgetAsRestic(t *testing.T) {
	t.Parallel()
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	r, dir := newRepo(t, repo.Options{})
	all := manySnapshots(t, r, rnd, 60)
	policies := 6
	if proof() {
		policies = 100
	}
	for range policies {
		policy, args := randomPolicy(t, rnd)
		keep, forget := resticForgets(t, dir, args)
		if len(keep)+len(forget) != len(all) {
			t.Fatalf("restic decides about %d snapshots of %d", len(keep)+len(forget), len(all))
		}
		for _, g := range snapshot.Groups(all, snapshot.GroupBy{Host: true, Paths: true}) {
			for _, v := range policy.Apply(g.Snapshots, time.Now()) {
				if id := v.Snapshot.ID().String(); v.Keep() != keep[id] && !onlyOldest(v.Reasons) {
					t.Errorf("%v: %s is kept: %v %q; by restic: %v", args, id[:8], v.Keep(), v.Reasons, keep[id])
				}
			}
		}
	}
}
