package tests

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jsm.go"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// TestExportForOldServers: what is exported for older servers, the nats CLI's library restores into each of them, and into a new one, and it can be
// imported again.
func TestExportForOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	src := startServer(t, natsd.Options{})
	var names []string
	for _, f := range oldStreams() {
		if f.stream != "COMPRESSED" { // of which 2.9 knows nothing
			f.fill(t, src)
			names = append(names, f.stream)
		}
	}
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dir, _, _ := exported(t, r, restore.Options{Selection: allStreams, Form: restore.Files})
	into := map[string]*source{"2.15": startServer(t, natsd.Options{})}
	for version, program := range servers {
		into[version] = startOld(t, program, "")
	}
	for version, dst := range into {
		mgr, err := jsm.New(dst.nc)
		must(t, err)
		for _, name := range names {
			if _, _, err := mgr.RestoreSnapshotFromDirectory(t.Context(), name, filepath.Join(dir, name)); err != nil {
				t.Errorf("%s, %s: %v", version, name, err)
				continue
			}
			if want, got := asked(t, src, name), asked(t, dst, name); want != got {
				t.Errorf("%s, %s: (-want +got)\n%.2000s", version, name, cmp.Diff(want, got))
			}
			if d := cmp.Diff(reported(t, src, name), reported(t, dst, name)); d != "" {
				t.Errorf("%s, %s: consumers (-want +got)\n%.2000s", version, name, d)
			}
			st, err := dst.js.Stream(t.Context(), name)
			must(t, err)
			was, err := src.js.Stream(t.Context(), name)
			must(t, err)
			if got, want := st.CachedInfo().Created, was.CachedInfo().Created; version != "2.15" && !got.Equal(want) {
				t.Errorf("%s, %s: created %v, was %v", version, name, got, want)
			}
		}
	}
	again, _ := newRepo(t, repo.Options{})
	for _, s := range importAll(t, again, backup.ImportOptions{}, dir).Streams {
		if want := src.messages(t, s.Name); s.Err != nil || s.Messages != want || s.Torn != "" {
			t.Errorf("import of %s: %d messages of %d, torn: %s, %v", s.Name, s.Messages, want, s.Torn, s.Err)
		}
	}
}

// TestExportForOldServersWarns: what an older server will make of a directory is said when that is written.
func TestExportForOldServersWarns(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	for _, f := range fixtures() {
		if slices.Contains([]string{"PLAIN", "MEMORY", "TTL"}, f.stream) {
			f.fill(t, src)
		}
	}
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dir, x, _ := exported(t, r, restore.Options{Selection: allStreams, Form: restore.Files})
	for _, s := range x.Streams {
		want := map[string]string{
			"PLAIN": "metadata (since 2.10)", "MEMORY": "export it with --storage file", "TTL": "allow_msg_ttl (since 2.11), subject_delete_marker_ttl (since 2.11)",
		}[s.Name]
		if !strings.Contains(strings.Join(s.Warnings, "\n"), want) {
			t.Errorf("%s: warnings %q, want %q", s.Name, s.Warnings, want)
		}
		entries, err := os.ReadDir(filepath.Join(dir, s.Name))
		must(t, err)
		if len(entries) != 2 || entries[0].Name() != "backup.json" || entries[1].Name() != "stream.tar.s2" {
			t.Errorf("%s: %v", s.Name, entries)
		}
	}
}

// TestOldServersCutInSilence: a server that finds a record whose checksum does not match drops it and what stands behind it in its block, and reports
// success. That is why what it reports is compared.
func TestOldServersCutInSilence(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	src := startServer(t, natsd.Options{})
	oldStreams()[0].fill(t, src)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dir, _, _ := exported(t, r, restore.Options{Selection: allStreams, Form: restore.Files})
	path := filepath.Join(dir, "PLAIN", "stream.tar.s2")
	packed, err := os.ReadFile(path)
	must(t, err)
	changed := reframed(func(plain []byte) []byte { return bytes.Replace(plain, text(20), bytes.ToUpper(text(20)), 1) })(packed)
	must(t, os.WriteFile(path, changed, 0o600))
	for version, program := range servers {
		dst := startOld(t, program, "")
		mgr, err := jsm.New(dst.nc)
		must(t, err)
		if _, _, err := mgr.RestoreSnapshotFromDirectory(t.Context(), "PLAIN", filepath.Join(dir, "PLAIN")); err != nil {
			t.Errorf("%s: %v", version, err)
		}
		if got, want := dst.messages(t, "PLAIN"), src.messages(t, "PLAIN"); got >= want {
			t.Errorf("%s: %d of %d messages", version, got, want)
		}
	}
}
