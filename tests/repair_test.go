package tests

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/storage"
)

// repaired is what `jetsam repair snapshots --json` prints of a snapshot.
type repaired struct {
	ID      string `json:"id"`
	NewID   string `json:"new_id"`
	Whole   bool
	Streams []struct {
		Name     string
		Messages uint64
		Lost     []struct {
			First, Last, Messages uint64
			From, To              time.Time
			Reason                string
		}
		LostConsumers []string `json:"lost_consumers"`
		HeadError     string   `json:"head_error"`
		Error         string
	}
	Error string
}

// repairSnapshotsOf repairs the snapshots of a repository, and returns what is said of one of them.
func repairSnapshotsOf(t *testing.T, dir, id string) repaired {
	t.Helper()
	out := command{repo: dir}.run(t, 0, "repair", "snapshots", "--json", "--quiet", "--no-progress", "--forget")
	for line := range strings.Lines(out) {
		var r repaired
		must(t, json.Unmarshal([]byte(line), &r))
		if r.ID == id && (r.NewID != "") != r.Whole && r.Error == "" {
			return r
		}
	}
	t.Fatalf("snapshot %s is not repaired:\n%s", id, out)
	return repaired{}
}

// damage is what a repaired snapshot says of a stream, as a restore would.
func (r repaired) damage(stream string, messages int, left uint64) *restore.DamageError {
	for _, s := range r.Streams {
		if s.Name != stream || s.HeadError == "" && len(s.Lost) == 0 {
			continue
		}
		d := &restore.DamageError{Messages: uint64(messages) - left, Consumers: s.LostConsumers}
		for _, l := range s.Lost {
			d.Lost = append(d.Lost, restore.Loss{First: l.First, Last: l.Last, Messages: l.Messages, From: l.From, To: l.To, Reason: errors.New(l.Reason)})
		}
		if s.HeadError != "" {
			d.Head = errors.New(s.HeadError)
		}
		return d
	}
	return nil
}

// repairs hurts a repository in the ways that cost a stream something, or where time is short, in one of them, and does what the page on damage says:
// repair packs, repair snapshots. Then the repository is without damage, as restic sees it too, and the snapshot restores and verifies like any other, less
// exactly what is said to be lost.
func (w *ward) repairs(t *testing.T, all []injury) {
	t.Helper()
	if !proof() {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:1]
	}
	for _, in := range all {
		t.Run(strings.ReplaceAll(in.name, " ", "-"), func(t *testing.T) { w.repair(t, in) })
	}
}

func (w *ward) repair(t *testing.T, in injury) {
	p := w.admit(t)
	sn, err := p.repo.Snapshot(t.Context(), "latest", snapshot.Filter{})
	must(t, err)
	lost := in.hurt(t, p)
	jetsam := command{repo: p.dir}
	t.Log(jetsam.run(t, 3, "repair", "packs", "--read-data", "--keep", t.TempDir()))
	t.Log(jetsam.run(t, 0, "repair", "snapshots", "--dry-run"))
	before := snapshotFiles(t, p.dir)
	r := repairSnapshotsOf(t, p.dir, sn.ID().String())
	switch after := snapshotFiles(t, p.dir); {
	case r.Whole && !slices.Equal(before, after):
		t.Errorf("nothing takes the place of %s, but snapshots %v became %v", r.ID, before, after)
	case !r.Whole && (len(after) != len(before) || slices.Contains(after, r.ID) || !slices.Contains(after, r.NewID) || slices.Contains(before, r.NewID)):
		t.Errorf("snapshots %v became %v, %s is said to be %s", before, after, r.ID, r.NewID)
	}
	t.Log(jetsam.run(t, 0, "check", "--read-data"))
	restic(t, p.dir, "check", "--read-data")
	w.restoresRepaired(t, p, in, r, lost)
	if out := jetsam.run(t, 0, "repair", "index", "--read-all-packs"); !strings.Contains(out, "nothing to repair") {
		t.Errorf("the index is not in order:\n%s", out)
	}
	if out := jetsam.run(t, 0, "repair", "snapshots"); !strings.Contains(out, "of which 0 miss something") {
		t.Errorf("a second repair finds something to do:\n%s", out)
	}
}

func snapshotFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(dir, storage.Snapshot.Dir()))
	must(t, err)
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// restoresRepaired restores the repaired snapshot as any other, and compares what came with what was.
func (w *ward) restoresRepaired(t *testing.T, p *patient, in injury, r repaired, lost []span) {
	t.Helper()
	dst := startServer(t, natsd.Options{})
	code := 0
	if in.when == hopeless {
		code = 3 // it is named as one that is not there
	}
	out := command{repo: p.dir}.run(t, code, "restore", "latest", "--verify", "--server", dst.URL())
	t.Log(out)
	if strings.Contains(out, "the source counted") {
		t.Error("what is left of a stream is held against what its source counted")
	}
	for name, want := range w.images {
		if name == in.stream && in.when == hopeless {
			if _, err := dst.js.Stream(t.Context(), name); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("stream %s, which is lost: %v", name, err)
			}
			continue
		}
		got := lookAt(t, dst, name)
		d := r.damage(name, len(want.Messages), uint64(len(got.Messages)))
		if d == nil {
			sameImage(t, want, got)
			if name == in.stream && in.when != harmless {
				t.Errorf("nothing is said to be lost of stream %s", name)
			}
			continue
		}
		if diff := cmp.Diff(lost, spansOf(d)); diff != "" {
			t.Errorf("stream %s: lost (-want +said):\n%s", name, diff)
		}
		sameButLost(t, want, got, d, w.bounds)
	}
}

// TestBackupAfterRepair damages the backup of a live server, repairs it, and backs up again: no message that the repair left out is taken for one that
// the server lost, and what was whole is gone on with.
func TestBackupAfterRepair(t *testing.T) {
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r := rand.New(rand.NewPCG(17, 17))
	s := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	publish := func(n int) {
		src.publish(t, "s", n, func(int) []byte { return letters(r, 1000) })
		src.publish(t, "s", 1, func(int) []byte { return letters(r, endsGroup) })
	}
	publish(300)
	publish(300)
	publish(300)
	src.create(t, jetstream.StreamConfig{Name: "WHOLE", Subjects: []string{"whole"}})
	src.publish(t, "whole", 100, text)
	rp, dir := newRepo(t, repo.Options{PackSize: 1 << 20})
	backUp(t, src, rp, backup.Options{Selection: allStreams})

	for _, gone := range []bool{false, true} { // whether the server loses messages meanwhile, too
		p := admitted(t, dir, "latest")
		groups, blobs := p.groups(t, "S")
		p.rot(t, data(blobs[1][0]))
		jetsam := command{repo: dir}
		jetsam.run(t, 3, "repair", "packs", "--read-data", "--no-keep")
		jetsam.run(t, 0, "repair", "snapshots")
		publish(10)
		src.publish(t, "whole", 10, text)
		if gone {
			remove(t, s, 5, groups[1].First+1, groups[1].Last-1)
		}
		want := map[string]image{"S": lookAt(t, src, "S"), "WHOLE": lookAt(t, src, "WHOLE")}
		for _, x := range backUp(t, src, rp, backup.Options{Selection: allStreams}).Streams {
			if whole := x.Whole != ""; whole != (x.Name == "S") {
				t.Errorf("stream %s: read whole %v (%s), by %s", x.Name, whole, x.Whole, x.Way)
			}
		}
		restoreInto(t, dst, rp, restore.Options{Selection: allStreams, Verify: true})
		for name, im := range want {
			sameImage(t, im, lookAt(t, dst, name))
		}
		emptyServer(t, dst)
	}
}

// killRepairs kills repairs of a damaged repository at random moments. Whoever runs them again needs nobody's help, and loses nothing more.
func (w *ward) killRepairs(t *testing.T) {
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	p := w.admit(t)
	groups, blobs := p.groups(t, "ORDERS")
	p.rot(t, data(blobs[1][0]))
	p.rot(t, data(p.node(t, "SHELVES", "messages", "#0", "#0", "chunks.json").Content[0]))
	indexes, err := filepath.Glob(filepath.Join(p.dir, "index", "*"))
	must(t, err)
	must(t, os.Remove(indexes[0]))

	repairs := [][]string{{"repair", "index", "--read-all-packs"}, {"repair", "packs", "--read-data", "--no-keep"}, {"repair", "snapshots", "--forget"}}
	c := command{repo: p.dir}
	c.run(t, 0, "version") // builds it
	began := time.Now()
	c.run(t, 0, "version")
	most := int64(10 * time.Since(began)) // about what a repair takes
	for i := range kills(t) / 3 {
		for _, args := range repairs {
			cmd := c.prepare(t, args...)
			must(t, cmd.Start())
			after := time.Duration(r.Int64N(most))
			time.Sleep(after)
			must(t, cmd.Process.Kill())
			_ = cmd.Wait() // killed, or done before the signal came
			t.Logf("kill %d of %v after %v: %v", i, args, after, cmd.ProcessState)
		}
	}
	c.run(t, 0, repairs[0]...)
	packs := c.prepare(t, repairs[1]...)
	out, _ := packs.CombinedOutput()
	if code := packs.ProcessState.ExitCode(); code != 0 && code != 3 {
		t.Fatalf("repair packs: exit code %d\n%s", code, out)
	}
	c.run(t, 0, repairs[2]...)
	c.run(t, 0, "check", "--read-data")
	restic(t, p.dir, "check", "--read-data")
	dst := startServer(t, natsd.Options{})
	c.run(t, 0, "restore", "latest", "--verify", "--server", dst.URL())
	lost := restore.Loss{First: groups[1].First, Last: groups[1].Last, Messages: groups[1].Messages}
	sameButLost(t, w.images["ORDERS"], lookAt(t, dst, "ORDERS"), &restore.DamageError{Lost: []restore.Loss{lost}, Messages: lost.Messages}, false)
	for _, name := range []string{"SHELVES", "WHOLE"} {
		sameImage(t, w.images[name], lookAt(t, dst, name))
	}
}
