package tests

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/storage/local"
)

// landedDir holds a repository of each version that was released, and what each of its streams must be after a restore.
// What stands there is never changed: a version that cannot read it has broken somebody's backups.
const landedDir = "testdata/repositories"

// landedStreams are the fixtures that go into such a repository: all but the large ones, and those that time changes,
// such as messages that wait for an acknowledgement.
var landedStreams = []string{"PLAIN", "HEADERS", "DELETES", "PURGED", "EMPTIED", "NEVER_USED", "KV_users", "INTEREST", "FIRST_SEQ", "MEMORY", "UNICODE", "Ünï:code%"}

// TestLandedRepositories restores what earlier versions wrote.
func TestLandedRepositories(t *testing.T) {
	archives, err := filepath.Glob(filepath.Join(landedDir, "*.tar.gz"))
	must(t, err)
	if len(archives) == 0 {
		t.Fatalf("there is no repository in %s", landedDir)
	}
	for _, path := range archives {
		version := strings.TrimSuffix(filepath.Base(path), ".tar.gz")
		t.Run(version, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(landedDir, version+".json"))
			must(t, err)
			var want map[string]string
			must(t, json.Unmarshal(text, &want))
			dir := t.TempDir()
			unpack(t, path, dir)
			be, err := local.Open(dir)
			must(t, err)
			defer be.Close()
			r, err := repo.Open(t.Context(), be, secret.New(password), repo.Options{})
			must(t, err)
			dst := startServer(t, natsd.Options{})
			restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
			got := map[string]string{}
			for name := range dst.js.StreamNames(t.Context()).Name() {
				got[name] = lookAt(t, dst, name).digest(t)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("digests of the restored streams (-want +got):\n%s", d)
			}
			if out := (command{repo: dir}).run(t, 0, "check", "--read-data"); !strings.Contains(out, "no damage") {
				t.Errorf("check: %s", out)
			}
		})
	}
}

// TestWriteLanded writes the repository of a version that is about to be released: JETSAM_WRITE_LANDED=0.1.0.
func TestWriteLanded(t *testing.T) {
	version := os.Getenv("JETSAM_WRITE_LANDED")
	if version == "" {
		t.Skip("JETSAM_WRITE_LANDED does not name a version")
	}
	src := startServer(t, natsd.Options{Name: "fixture"})
	want := map[string]string{}
	for _, f := range fixtures() {
		if slices.Contains(landedStreams, f.stream) {
			f.fill(t, src)
			want[f.stream] = lookAt(t, src, f.stream).digest(t)
		}
	}
	src.create(t, jetstream.StreamConfig{Name: "PAYLOADS", Subjects: []string{"payloads"}})
	for _, size := range []int{128<<10 - 1, 128 << 10, 900 << 10} {
		_, err := src.js.Publish(t.Context(), "payloads", []byte(strings.Repeat("jetsam! ", size/8+1)[:size]))
		must(t, err)
	}
	want["PAYLOADS"] = lookAt(t, src, "PAYLOADS").digest(t)
	r, dir := newRepo(t, repo.Options{Version: "jetsam " + version, Hostname: "fixture", Username: "fixture"})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	must(t, os.MkdirAll(landedDir, 0o755))
	text, err := json.MarshalIndent(want, "", "  ")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(landedDir, version+".json"), append(text, '\n'), 0o644))
	packUp(t, dir, filepath.Join(landedDir, version+".tar.gz"))
}

// digest is a hash of all that a restore carries over.
func (im image) digest(t testing.TB) string {
	t.Helper()
	h := sha256.New()
	must(t, json.NewEncoder(h).Encode([]any{im.Config, withoutWhatRestoresLose(im.State, im.Messages), im.Consumers}))
	for _, m := range im.Messages {
		fmt.Fprintln(h, m)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// unpack extracts a gzipped tar file of plain files into dir.
func unpack(t testing.TB, path, dir string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		p, err := io.ReadAll(in)
		must(t, err)
		must(t, root.MkdirAll(filepath.Dir(h.Name), 0o700))
		must(t, root.WriteFile(h.Name, p, 0o600))
	}
}

// packUp writes the files below dir into a gzipped tar file.
func packUp(t testing.TB, dir, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	z := gzip.NewWriter(f)
	out := tar.NewWriter(z)
	must(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(p))}); err != nil {
			return err
		}
		_, err = out.Write(p)
		return err
	}))
	must(t, out.Close())
	must(t, z.Close())
	must(t, f.Close())
}
