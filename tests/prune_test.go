package tests

import (
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/storage"
)

// TestKilledPrunes kills prunes at random moments. The next command must succeed without anybody's help, the repository must be whole by jetsam's and by
// restic's word, and every snapshot must hold what the server had.
func TestKilledPrunes(t *testing.T) {
	rounds := 2
	if proof() {
		rounds = 40
	}
	seed := chance.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	src := startServer(t, natsd.Options{})
	event := eventMaker(seed)
	names := []string{"A", "B"}
	images := make(map[int]map[string]image)
	for _, name := range names {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
	}
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	prune := []string{"prune", "--grace", "0", "--max-unused", "0", "--repack-small"}
	var hit int
	for i := range rounds {
		now := make(map[string]image)
		for _, name := range names {
			src.publish(t, name, 300, func(int) []byte { return event(1024) })
			now[name] = lookAt(t, src, name)
		}
		images[300*(i+1)] = now
		for _, name := range names {
			c.run(t, 0, "backup", name, "--mode", "full")
		}
		c.run(t, 0, "forget", "--keep-last", "1", "--group-by", "paths")
		began := time.Now()
		c.run(t, 0, append(prune, "--dry-run")...)
		planned := time.Since(began)
		cmd := c.prepare(t, prune...)
		must(t, cmd.Start())
		after := planned/2 + time.Duration(rng.Int64N(int64(planned)))
		time.Sleep(after)
		must(t, cmd.Process.Signal(syscall.SIGKILL))
		if cmd.Wait() != nil { // or else it was done before the signal came
			hit++
		}
		t.Logf("kill %d after %v: %v", i, after, cmd.ProcessState)
		c.run(t, 0, "check")
		for sn, err := range r.Snapshots(t.Context()) {
			must(t, err)
			wantSnapshot(t, r, sn, images)
		}
	}
	c.run(t, 0, prune...)
	if out := c.run(t, 0, append(prune, "--dry-run")...); !strings.Contains(out, "there is nothing to prune") {
		t.Errorf("after a whole prune:\n%s", out)
	}
	wantClean(t, r)
	restic(t, dir, "check", "--read-data")
	t.Logf("%d of %d prunes were killed", hit, rounds)
}

// TestPruneAmongOthers runs backups, prunes, forgets and checks at the same time, each of which waits for the others as it must. All succeed, and every
// snapshot holds what the server had.
func TestPruneAmongOthers(t *testing.T) {
	rounds := 1
	if proof() {
		rounds = 40
	}
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A", Subjects: []string{"A"}})
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	c.run(t, 0, "backup", "A")
	images := map[int]map[string]image{0: {"A": lookAt(t, src, "A")}}
	for round := range rounds {
		src.publish(t, "A", 20, text)
		images[20*(round+1)] = map[string]image{"A": lookAt(t, src, "A")}
		backup := []string{"backup", "A", "--mode", "full", "--retry-lock", "5m"}
		prune := []string{"prune", "--grace", "0", "--max-unused", "0", "--retry-lock", "5m"}
		runTogether(t,
			c.prepare(t, backup...), c.prepare(t, prune...), c.prepare(t, "forget", "--keep-last", "2", "--retry-lock", "5m"),
			c.prepare(t, backup...), c.prepare(t, prune...), c.prepare(t, "check", "--retry-lock", "5m"),
		)
		for sn, err := range r.Snapshots(t.Context()) {
			must(t, err)
			wantSnapshot(t, r, sn, images)
		}
	}
	wantClean(t, r)
	restic(t, dir, "check", "--read-data")
}

// TestForgetAndPrune: one command forgets and prunes, says what it would do before, and what there is to do later.
func TestForgetAndPrune(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A", Subjects: []string{"A"}})
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	for range 3 {
		src.publish(t, "A", 20, text)
		c.run(t, 0, "backup", "A", "--mode", "full")
	}
	before := c.run(t, 0, "list", "packs")
	args := []string{"forget", "--keep-last", "1", "--prune", "--json", "--quiet"}
	type report struct {
		MessageType string `json:"message_type"`
		Snapshots   any
		Unused      struct{ Count int } `json:"unused_blobs"`
		Delete      struct{ Count int } `json:"delete_now"`
		Later       struct{ Count int } `json:"delete_later"`
		Deleted     struct{ Count int } `json:"packs_deleted"`
		From        *time.Time          `json:"delete_later_from"`
	}
	run := func(args ...string) (out []report) {
		t.Helper()
		for line := range strings.Lines(c.run(t, 0, args...)) {
			var x report
			must(t, json.Unmarshal([]byte(line), &x))
			out = append(out, x)
		}
		return out
	}
	dry := run(append(args, "--dry-run")...)
	plan := dry[len(dry)-1]
	if plan.MessageType != "prune_plan" || plan.Unused.Count == 0 || plan.Later.Count == 0 || plan.Delete.Count != 0 {
		t.Errorf("dry run: %+v", plan)
	}
	if n := count(t, r, storage.Snapshot); n != 3 || c.run(t, 0, "list", "packs") != before {
		t.Errorf("the dry run left %d snapshots of 3, and the packs %s", n, c.run(t, 0, "list", "packs"))
	}
	done := run(args...)
	pruned := done[len(done)-1]
	if pruned.MessageType != "pruned" || pruned.Later != plan.Later || pruned.Deleted.Count != 0 || pruned.From == nil || time.Until(*pruned.From) < 55*time.Minute {
		t.Errorf("forget --prune: %+v", pruned)
	}
	before = c.run(t, 0, "list", "packs")
	if out := c.run(t, 0, "prune"); !strings.Contains(out, "can be deleted from") || c.run(t, 0, "list", "packs") != before {
		t.Errorf("a prune too early:\n%s", out)
	}
	later := run("prune", "--grace", "0", "--json", "--quiet")
	if got := later[len(later)-1]; got.Deleted != pruned.Later {
		t.Errorf("prune --grace 0: %+v, want %+v deleted", got, pruned.Later)
	}
	wantClean(t, r)

	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"prune", "--max-unused", "much"}, "--max-unused"},
		{[]string{"prune", "--max-repack-size", "-1"}, "--max-repack-size"},
		{[]string{"prune", "--grace", "-1h"}, "--grace"},
		{[]string{"prune", "snapshot"}, "snapshot"},
		{[]string{"forget", "--keep-last", "1", "--repack-small"}, "is for --prune"},
	} {
		if out := c.run(t, 1, tt.args...); !strings.Contains(out, tt.want) {
			t.Errorf("%v: %s", tt.args, out)
		}
	}
	c.run(t, 0, "forget", "latest")
	if out := c.run(t, 1, "prune"); !strings.Contains(out, "--unsafe-allow-remove-all") {
		t.Errorf("without snapshots: %s", out)
	}
	c.run(t, 0, "prune", "--unsafe-allow-remove-all", "--grace", "0")
	if got := c.run(t, 0, "list", "packs"); got != "" {
		t.Errorf("packs that are left: %s", got)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "index", "*")); err != nil || len(left) > 0 {
		t.Errorf("index files that are left: %v, %v", left, err)
	}
}

func count(t testing.TB, r *repo.Repo, k storage.Kind) (n int) {
	t.Helper()
	for _, err := range r.Backend().List(t.Context(), k) {
		must(t, err)
		n++
	}
	return n
}
