package tests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// copyLine is a line that copy prints with --json.
type copyLine struct {
	MessageType string `json:"message_type"`
	Source      string `json:"source"`
	Outcome     string `json:"outcome"`
	ID          string `json:"id"`
	Error       string `json:"error"`
	Copied      int    `json:"copied"`
	Known       int    `json:"known"`
	Failed      int    `json:"failed"`
	Blobs       int    `json:"blobs"`
}

// copyLines are what copy printed: of each snapshot, and in all.
func copyLines(t testing.TB, out string) (snapshots []copyLine, sum copyLine) {
	t.Helper()
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		var l copyLine
		if json.Unmarshal(s.Bytes(), &l) != nil {
			continue
		}
		switch l.MessageType {
		case "copied_snapshot":
			snapshots = append(snapshots, l)
		case "copy":
			sum = l
		}
	}
	return snapshots, sum
}

// copying returns the command on a repository, with the password of the one that it copies from in the environment.
func copying(dir string) command {
	return command{repo: dir, env: []string{"JETSAM_FROM_PASSWORD=" + password}}
}

// fewSnapshots makes a repository of three snapshots, of streams A, B and C that grow.
func fewSnapshots(t testing.TB) (dir string, src *source) {
	t.Helper()
	src = startServer(t, natsd.Options{})
	r, dir := newRepo(t, repo.Options{})
	for i, name := range []string{"A", "B", "C"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
		for _, grown := range []string{"A", "B", "C"}[:i+1] {
			src.publish(t, grown+".x", 300, func(n int) []byte { return fmt.Appendf(nil, "%s %d %d %s", grown, i, n, strings.Repeat("x", n)) })
		}
		backUp(t, src, r, backUpOptions)
	}
	return dir, src
}

// TestCopyAndRestic: restic copies what jetsam wrote and jetsam what restic wrote, and each knows what the other copied. Both find the copies without
// fault, and what is restored of them is what was backed up.
func TestCopyAndRestic(t *testing.T) {
	ours, src := fewSnapshots(t)
	want := map[string]image{}
	for _, name := range []string{"A", "B", "C"} {
		want[name] = lookAt(t, src, name)
	}
	src.Shutdown()
	dir := t.TempDir()
	theirs, mine := filepath.Join(dir, "theirs"), filepath.Join(dir, "mine")
	t.Setenv("RESTIC_FROM_PASSWORD", password)
	restic(t, theirs, "init", "--from-repo", ours, "--copy-chunker-params")
	restic(t, theirs, "copy", "--from-repo", ours)

	// Of a copy that restic made, and one that restic's own backup is beside.
	plain := t.TempDir()
	must(t, os.WriteFile(filepath.Join(plain, "file"), []byte(strings.Repeat("restic ", 400_000)), 0o600))
	restic(t, theirs, "backup", plain)
	c := copying(mine)
	if out := c.run(t, 0, "init", "--from-repo", theirs, "--copy-chunker-params"); !strings.Contains(out, "created") {
		t.Errorf("init: %s", out)
	}
	snapshots, sum := copyLines(t, c.run(t, 0, "copy", "--from-repo", theirs, "--json"))
	if len(snapshots) != 4 || sum.Copied != 4 || sum.Failed != 0 {
		t.Fatalf("%+v, %+v", snapshots, sum)
	}
	if _, sum := copyLines(t, c.run(t, 0, "copy", "--from-repo", ours, "--json")); sum.Known != 3 || sum.Copied != 0 || sum.Blobs != 0 {
		t.Errorf("what came by way of restic is copied again: %+v", sum)
	}
	restic(t, theirs, "copy", "--from-repo", mine)
	if n := strings.Count(restic(t, theirs, "snapshots", "--json"), `"short_id"`); n != 4 {
		t.Errorf("restic does not know what jetsam copied: %d snapshots", n)
	}
	for _, dir := range []string{theirs, mine} {
		command{repo: dir}.run(t, 0, "check", "--read-data")
		restic(t, dir, "check", "--read-data")
	}
	out := t.TempDir()
	restic(t, mine, "restore", "latest", "--target", out)
	got, err := os.ReadFile(filepath.Join(out, plain, "file"))
	must(t, err)
	if string(got) != strings.Repeat("restic ", 400_000) {
		t.Error("what restic backed up differs in the copy")
	}
	dst := startServer(t, natsd.Options{})
	c.env = append(c.env, "NATS_URL="+dst.URL())
	c.run(t, 0, "restore", snapshots[2].ID[:12], "--verify")
	for name, im := range want {
		sameImage(t, im, lookAt(t, dst, name))
	}
}

// TestCopyCommand: what copy is told, what it refuses, and how it says so.
func TestCopyCommand(t *testing.T) {
	ours, src := fewSnapshots(t)
	src.Shutdown()
	_, mine := newRepo(t, repo.Options{})
	c := copying(mine)
	refused := func(code int, want string, args ...string) {
		t.Helper()
		if out := c.run(t, code, args...); !strings.Contains(out, want) {
			t.Errorf("jetsam %q: %s, want %q", args, out, want)
		}
	}
	refused(1, "copy from where", "copy")
	refused(1, "are the same repository", "copy", "--from-repo", mine)
	refused(10, "--from-repo names", "copy", "--from-repo", filepath.Join(mine, "nothing"))
	refused(12, "--from-password-file", "copy", "--from-repo", ours, "--from-password-command", "echo wrong")
	refused(1, "no snapshot found", "copy", "--from-repo", ours, "ffffffff")
	refused(1, "of which repository", "init", "--copy-chunker-params", "--repo", mine+"2")
	refused(1, "without --copy-chunker-params", "init", "--from-repo", ours, "--repo", mine+"2")
	refused(0, "no snapshots", "copy", "--from-repo", ours, "--tag", "none")

	refused(0, "cut data in different places", "copy", "--from-repo", ours, "--dry-run")
	dry, sum := copyLines(t, c.run(t, 0, "copy", "--from-repo", ours, "--dry-run", "--json"))
	if len(dry) != 3 || sum.Copied != 3 || dry[0].Outcome != "would be copied" || dry[0].ID != "" {
		t.Errorf("dry run: %+v, %+v", dry, sum)
	}
	if out := c.run(t, 0, "snapshots"); !strings.Contains(out, "no snapshots") {
		t.Errorf("a dry run wrote: %s", out)
	}
	one, _ := copyLines(t, c.run(t, 0, "copy", "--from-repo", ours, "--json", "latest"))
	if len(one) != 1 || one[0].Source != dry[2].Source {
		t.Errorf("latest: %+v", one)
	}
	all, sum := copyLines(t, c.run(t, 0, "copy", "--from-repo", ours, "--json"))
	if len(all) != 3 || sum.Copied != 2 || sum.Known != 1 || all[2].Outcome != "known" || all[2].ID != one[0].ID {
		t.Errorf("all: %+v, %+v", all, sum)
	}
	refused(0, "3 known before", "copy", "--from-repo", ours)

	// A clone has the same ID, and everything already.
	clone := filepath.Join(t.TempDir(), "clone")
	must(t, os.CopyFS(clone, os.DirFS(mine)))
	out := c.run(t, 0, "copy", "--from-repo", clone)
	if !strings.Contains(out, "one is a clone") || !strings.Contains(out, "3 known before") {
		t.Errorf("from a clone: %s", out)
	}
}

// TestCopyOfADamagedRepository: a snapshot that has lost a blob is named and not copied, and the exit code is 3.
func TestCopyOfADamagedRepository(t *testing.T) {
	ours, src := fewSnapshots(t)
	src.Shutdown()
	_, rd, sn := openSource(t, ours)
	for h, l := range rd.All() {
		if h.ID == sn.Tree {
			must(t, os.Remove(filepath.Join(ours, "data", l.Pack.String()[:2], l.Pack.String())))
		}
	}
	_, mine := newRepo(t, repo.Options{})
	c := copying(mine)
	out := c.run(t, 3, "copy", "--from-repo", ours, "--json")
	snapshots, sum := copyLines(t, out)
	if sum.Copied != 2 || sum.Failed != 1 || len(snapshots) != 3 || snapshots[2].Outcome != "failed" || snapshots[2].Error == "" {
		t.Errorf("%s", out)
	}
	if !strings.Contains(out, "snapshot "+sn.ID().Short()) {
		t.Errorf("the snapshot is not named: %s", out)
	}
	if out := c.run(t, 1, "copy", "--from-repo", ours, "latest"); !strings.Contains(out, "none of 1 snapshot was copied") || !strings.Contains(out, "--from-repo names") {
		t.Errorf("of one that is damaged: %s", out)
	}
	c.run(t, 0, "check", "--read-data")
}

// TestKillCopy: a copy that is killed at any moment leaves a sound repository, and the next one needs nobody's help and copies the rest.
func TestKillCopy(t *testing.T) {
	t.Parallel()
	k := newKiller(t)
	src := startServer(t, natsd.Options{})
	ours, dir := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events"}})
	event := eventMaker(chance.Seed(t))
	for range 4 {
		src.publish(t, "events", 5000, func(int) []byte { return event(1024) })
		backUp(t, src, ours, backUpOptions)
	}
	want := lookAt(t, src, "EVENTS")
	src.Shutdown()
	for range rounds() {
		_, mine := newRepo(t, repo.Options{})
		c := copying(mine)
		for range 3 {
			k.kill(c.prepare(t, "copy", "--from-repo", dir, "--pack-size", "4"), c.repo, time.Second)
			c.run(t, 0, "check")
		}
		_, sum := copyLines(t, c.run(t, 0, "copy", "--from-repo", dir, "--json"))
		if sum.Copied+sum.Known != 4 {
			t.Errorf("%+v", sum)
		}
		c.run(t, 0, "check", "--read-data")
		restic(t, c.repo, "check", "--read-data")
		dst := startServer(t, natsd.Options{})
		r, _, _ := openSource(t, c.repo)
		restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
		sameImage(t, want, lookAt(t, dst, "EVENTS"))
	}
}
