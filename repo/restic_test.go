package repo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
)

// resticRepo is a repository that restic made of the files below a directory,
// which is returned too.
func resticRepo(t testing.TB, init ...string) (be storage.Backend, source string) {
	t.Helper()
	repotest.RequireRestic(t)
	dir := t.TempDir()
	repotest.Restic(t, dir, repotest.Password, append([]string{"init"}, init...)...)
	source = sourceFiles(t)
	repotest.Restic(t, dir, repotest.Password, "backup", "--tag", "one,two", "--host", "elsewhere", source)
	be, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	return be, source
}

// oldRepository is one of format version 1.
func oldRepository(t testing.TB) storage.Backend {
	t.Helper()
	be, _ := resticRepo(t, "--repository-version", "1")
	return be
}

const oddName = "q\"uo\te\n é\x01"

// sourceFiles makes ordinary files, and some less so.
func sourceFiles(t testing.TB) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	dir := filepath.Join(t.TempDir(), "source")
	files := map[string][]byte{
		"empty":           {},
		"text":            jsonEvents(rng, 3<<20),
		"sub/noise":       randomBytes(rng, 2<<20),
		"sub/deep/er/f":   []byte("x"),
		"sub/" + oddName:  []byte("odd"),
		"invalid-\xff-é":  []byte("not UTF-8"),
		"sub/same as one": []byte("x"),
	}
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("text", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// readTree returns the contents of all files below a tree, by path.
func readTree(t testing.TB, rd *repo.Reader, id blob.ID, path string, out map[string]string) {
	t.Helper()
	tree, err := rd.LoadTree(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range tree.Nodes {
		switch n.Type {
		case snapshot.TypeDir:
			readTree(t, rd, n.Subtree, path+"/"+n.Name, out)
		case snapshot.TypeSymlink:
			out[path+"/"+n.Name] = "-> " + n.LinkTarget
		case snapshot.TypeFile:
			var content strings.Builder
			for p, err := range rd.Blobs(t.Context(), n.Content, 4) {
				if err != nil {
					t.Fatal(err)
				}
				content.Write(p)
			}
			out[path+"/"+n.Name] = content.String()
		}
	}
}

// readDir is readTree for a directory on disk.
func readDir(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			out[name] = "-> " + target
			return err
		}
		data, err := os.ReadFile(path)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameFiles(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %q differs: %d bytes, want %d", what, name, len(got[name]), len(want[name]))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: there is also %q", what, name)
		}
	}
}

// A repository that restic made of ordinary files is opened, checked, listed and
// read, whatever its format version.
func TestReadsResticRepository(t *testing.T) {
	for _, version := range []string{"1", "2"} {
		t.Run("version "+version, func(t *testing.T) {
			be, source := resticRepo(t, "--repository-version", version)
			r := repotest.Open(t, be)
			if report := check(t, r, true); len(report.Findings) > 0 || report.Files < 7 {
				t.Errorf("check: %+v", report)
			}
			sn, err := r.Snapshot(t.Context(), snapshot.Latest, snapshot.Filter{Hosts: []string{"elsewhere"}, Tags: [][]string{{"two"}}})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(sn.Tags, []string{"one", "two"}) || !slices.Equal(sn.Paths, []string{source}) || time.Since(sn.Time) > time.Hour {
				t.Errorf("snapshot %+v", sn)
			}
			got := make(map[string]string)
			readTree(t, loadIndex(t, r), sn.Tree, "", got)
			want := make(map[string]string)
			for name, content := range readDir(t, source) {
				want[source+name] = content
			}
			sameFiles(t, "read", got, want)
		})
	}
}

// Both write into one repository, each uses what the other stored, and neither
// finds fault with it, even after restic removed and repacked.
func TestSharesRepositoryWithRestic(t *testing.T) {
	rng := newRand(t)
	be, source := resticRepo(t)
	r := repotest.Open(t, be)
	files := map[string][][]byte{"json": {jsonEvents(rng, 1<<20)}, "x": {[]byte("x")}, "noise": {randomBytes(rng, 1<<20)}}
	ours, stats := backup(t, r, files)
	if stats.Data.Known != 1 {
		t.Errorf("stats %+v, want the blob that restic stored known", stats)
	}
	repotest.Verify(t, be)
	repotest.Restic(t, be.Location(), repotest.Password, "backup", source)
	backup(t, r, map[string][][]byte{"gone": {jsonEvents(rng, 1<<20), randomBytes(rng, 1<<20)}})
	repotest.Restic(t, be.Location(), repotest.Password, "forget", "--prune", "--max-unused", "0", "--group-by", "", "--keep-tag", "one")
	if _, err := r.Snapshot(t.Context(), ours.ID().String(), snapshot.Filter{}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("forgotten snapshot: %v", err)
	}
	again, stats := backup(t, r, files)
	if stats.Data.New != 2 || stats.Data.Known != 1 {
		t.Errorf("stats %+v, want pruned blobs stored again", stats)
	}
	if !equalFiles(files, readFiles(t, r, again)) {
		t.Error("files differ")
	}
	repotest.Verify(t, be)
}

// What is written here, restic checks, lists, and restores to the byte.
func TestResticReadsOurRepository(t *testing.T) {
	repotest.RequireRestic(t)
	rng := newRand(t)
	r := repotest.New(t)
	dir := r.Backend().Location()
	w := newWriter(t, r, nil)
	files := map[string][][]byte{
		"json":           {jsonEvents(rng, 1<<20), jsonEvents(rng, 1<<20)},
		"noise":          {randomBytes(rng, 1<<20)},
		"empty":          {},
		"one byte":       {[]byte("x")},
		oddName:          {[]byte("odd")},
		"invalid-\xff-é": {[]byte("not UTF-8")},
	}
	root := saveFiles(t, w, files)
	id, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tags: []string{"t1", "t2"}, Tree: root})
	if err != nil {
		t.Fatal(err)
	}
	restic := func(args ...string) string { return repotest.Restic(t, dir, repotest.Password, args...) }
	restic("check", "--read-data")

	var listed []struct {
		ID                 string
		Hostname, Username string
		Tags, Paths        []string
	}
	if err := json.Unmarshal([]byte(restic("snapshots", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed) != 1 || listed[0].ID != id.String() || listed[0].Hostname != "repotest" || listed[0].Username != "tester" ||
		!slices.Equal(listed[0].Tags, []string{"t1", "t2"}) || !slices.Equal(listed[0].Paths, []string{"/A"}) {
		t.Errorf("restic lists %+v", listed)
	}
	ls := restic("ls", "latest")
	for name := range files {
		if !strings.Contains(ls, "/A/"+name+"\n") {
			t.Errorf("restic ls lacks %q: %s", name, ls)
		}
	}
	var stats struct {
		TotalSize  uint64 `json:"total_size"`
		TotalFiles int    `json:"total_file_count"`
	}
	if err := json.Unmarshal([]byte(restic("stats", "--json", "latest")), &stats); err != nil {
		t.Fatal(err)
	}
	if want := uint64(3<<20 + 1 + 3 + 9); stats.TotalSize != want {
		t.Errorf("restic counts %d bytes, want %d", stats.TotalSize, want)
	}
	if dump := restic("dump", "latest", "/A/one byte"); dump != "x" {
		t.Errorf("restic dump: %q", dump)
	}

	target := t.TempDir()
	restic("restore", "latest", "--target", target)
	want := make(map[string]string)
	for name, contents := range files {
		want["/A/"+name] = string(bytes.Join(contents, nil))
	}
	sameFiles(t, "restored", readDir(t, target), want)
	info, err := os.Stat(filepath.Join(target, "A", "json"))
	if err != nil || info.Mode() != 0o600 || !info.ModTime().Equal(time.Unix(1_800_000_000, 0)) {
		t.Errorf("restored file: %v, %v", info, err)
	}
}

// restic opens what is written here with every password that it should, and no
// other, and it can change them too.
func TestResticAfterKeyChanges(t *testing.T) {
	repotest.RequireRestic(t)
	r := repotest.New(t)
	dir := r.Backend().Location()
	opens := func(password string) bool {
		cmd := exec.Command("restic", "-r", dir, "--no-cache", "cat", "config")
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password)
		return cmd.Run() == nil
	}
	backup(t, r, map[string][][]byte{"f": {[]byte("x")}})
	if _, err := r.AddKey(t.Context(), secret.New("zweites Paßwort")); err != nil {
		t.Fatal(err)
	}
	if !opens(repotest.Password) || !opens("zweites Paßwort") || opens("drittes") {
		t.Error("restic opens it with other passwords after AddKey")
	}
	id, err := r.ChangePassword(t.Context(), secret.New("drittes"))
	if err != nil {
		t.Fatal(err)
	}
	if opens(repotest.Password) || !opens("zweites Paßwort") || !opens("drittes") {
		t.Error("restic opens it with other passwords after ChangePassword")
	}
	repotest.Restic(t, dir, "drittes", "check", "--read-data")

	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(repotest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	repotest.Restic(t, dir, "drittes", "key", "add", "--new-password-file", file)
	repotest.Restic(t, dir, repotest.Password, "key", "remove", id.String())
	again := repotest.Open(t, r.Backend())
	keys, err := again.Keys(t.Context())
	if err != nil || len(keys) != 2 {
		t.Errorf("keys %+v, %v", keys, err)
	}
	if _, err := repo.Open(t.Context(), r.Backend(), secret.New("drittes"), repotest.Options()); !errors.Is(err, repo.ErrWrongPassword) {
		t.Errorf("with a key that restic removed: %v", err)
	}
}

// Each respects the other's locks.
func TestLocksWithRestic(t *testing.T) {
	repotest.RequireRestic(t)
	r := repotest.New(t)
	backup(t, r, map[string][][]byte{"f": {[]byte("x")}})
	dir := r.Backend().Location()
	run := func(args ...string) (string, error) {
		cmd := exec.Command("restic", append([]string{"-r", dir, "--no-cache"}, args...)...)
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+repotest.Password)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, exclusive := range []bool{false, true} {
		l, err := r.Lock(t.Context(), exclusive)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := run("snapshots"); (err != nil) != exclusive {
			t.Errorf("restic snapshots under a lock, exclusive %v: %v\n%s", exclusive, err, out)
		}
		if out, err := run("prune"); err == nil || !strings.Contains(out, fmt.Sprintf("PID %d on repotest by tester", os.Getpid())) {
			t.Errorf("restic prune under a lock, exclusive %v: %v\n%s", exclusive, err, out)
		}
		if out, err := run("unlock"); err != nil {
			t.Errorf("restic unlock: %v\n%s", err, out)
		}
		// restic takes a lock for stale if its host is its own and its process is
		// gone; ours is neither.
		if n := count(t, r.Backend(), storage.Lock); n != 1 {
			t.Errorf("%d locks after restic unlock, want 1", n)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}

	cmd := exec.Command("restic", "-r", dir, "--no-cache", "backup", "--stdin", "--quiet")
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+repotest.Password)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); cmd.Wait() }()
	waitForLock(t, r.Backend())
	w := newWriter(t, r, nil)
	w.Abort()
	var locked *repo.LockedError
	if _, err := r.Check(t.Context(), repo.CheckOptions{}, nil); !errors.As(err, &locked) || locked.Lock.PID != cmd.Process.Pid {
		t.Errorf("Check while restic works: %v, want its lock", err)
	}
	stdin.Write([]byte("content"))
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if report := check(t, r, true); report.Damaged() || report.Snapshots != 2 {
		t.Errorf("%+v", report)
	}
}

func waitForLock(t testing.TB, be storage.Backend) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for count(t, be, storage.Lock) == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("restic takes no lock")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
