package tests

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/jsm.go"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/restore"
)

// TestImportOfOldDumps imports what older servers dumped of streams of many kinds.
func TestImportOfOldDumps(t *testing.T) {
	archives, err := filepath.Glob(filepath.Join(dumpsDir, "*.tar.gz"))
	must(t, err)
	if len(archives) < 3 {
		t.Fatalf("there are only the dumps %q", archives)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".tar.gz"), func(t *testing.T) {
			dir := t.TempDir()
			unpack(t, path, dir)
			importOld(t, dir)
		})
	}
}

// importOld imports dumps of an older server, restores them, and compares: the messages with what the server said of them, and everything with what
// a server of today makes of the same dumps.
func importOld(t *testing.T, dir string) {
	t.Helper()
	r, _ := newRepo(t, repo.Options{})
	res := importAll(t, r, backup.ImportOptions{}, dir)
	for _, s := range res.Failed() {
		if !strings.HasSuffix(s.Torn, "as the server's files say, but the server counted 54") { // PURGED, of 2.9.10
			t.Errorf("directory %s: %v %s", s.Dir, s.Err, s.Torn)
		}
	}
	ours, theirs := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	restoreInto(t, ours, r, restore.Options{Selection: allStreams, Verify: true})
	mgr, err := jsm.New(theirs.nc)
	must(t, err)
	for _, s := range res.Streams {
		t.Run(s.Name, func(t *testing.T) {
			if s.Removed > 0 || s.Created.IsZero() {
				t.Errorf("%d messages removed, created %v", s.Removed, s.Created)
			}
			got := lookAt(t, ours, s.Name)
			said, err := os.ReadFile(filepath.Join(s.Dir, messagesFile))
			must(t, err)
			sameLines(t, string(said), strings.Join(append(got.Messages, ""), "\n"))
			if s.Torn != "" {
				return // where only N.idx tells what was purged, a server of today brings it back
			}
			if _, _, err := mgr.RestoreSnapshotFromDirectory(t.Context(), s.Name, s.Dir); err != nil {
				t.Fatal(err)
			}
			sameImage(t, withoutLevel(lookAt(t, theirs, s.Name)), withoutLevel(got))
		})
	}
}

func sameLines(t testing.TB, want, got string) {
	t.Helper()
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			t.Fatalf("message %d differs:\n want %.200s\n  got %.200s", i, w[i], g[i])
		}
	}
	if len(w) != len(g) {
		t.Fatalf("%d messages, want %d", len(g)-1, len(w)-1)
	}
}

// withoutLevel drops what a server notes of itself in the configuration of a stream that it restores from an archive, and not of one from files.
func withoutLevel(im image) image {
	metadata, _ := im.Config["metadata"].(map[string]any)
	if delete(metadata, "_nats.req.level"); len(metadata) == 0 {
		delete(im.Config, "metadata")
	}
	return im
}

// oldDump unpacks a dump of one stream of an older server.
func oldDump(t testing.TB, stream string) string {
	t.Helper()
	dir := t.TempDir()
	unpack(t, filepath.Join(dumpsDir, "2.14.9.tar.gz"), dir)
	return filepath.Join(dir, stream)
}

// editTar changes the files in the tar of a dump: change gives what becomes of each; nil: it is left out.
func editTar(t testing.TB, dir string, change func(h *tar.Header, data []byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, "stream.tar.s2")
	p, err := os.ReadFile(path)
	must(t, err)
	var out bytes.Buffer
	framed := s2.NewWriter(&out)
	w, in := tar.NewWriter(framed), tar.NewReader(s2.NewReader(bytes.NewReader(p)))
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		data, err := io.ReadAll(in)
		must(t, err)
		if data = change(h, data); data == nil {
			continue
		}
		h.Size = int64(len(data))
		must(t, w.WriteHeader(h))
		_, err = w.Write(data)
		must(t, err)
	}
	must(t, w.Close())
	must(t, framed.Close())
	must(t, os.WriteFile(path, out.Bytes(), 0o600))
}

func editFile(t testing.TB, path, old, new string) {
	t.Helper()
	p, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(p), old) {
		t.Fatalf("%s does not hold %q: %s", path, old, p)
	}
	must(t, os.WriteFile(path, bytes.Replace(p, []byte(old), []byte(new), 1), 0o600))
}

// TestImportOfFilesThatDiffer: what a dump of files holds is compared with what its index says, and with the state that it began with.
func TestImportOfFilesThatDiffer(t *testing.T) {
	for name, c := range map[string]struct {
		stream string
		damage func(t testing.TB, dir string)
		err    string // why it cannot be imported
		torn   string // why it is marked
		gone   uint64 // messages that were removed while it was made
	}{
		"a block is missing": {stream: "BLOCKS", torn: "messages are there of the", damage: func(t testing.TB, dir string) {
			blocks := 0
			editTar(t, dir, func(h *tar.Header, data []byte) []byte {
				if strings.HasSuffix(h.Name, ".blk") {
					if blocks++; blocks == 2 {
						return nil
					}
				}
				return data
			})
		}},
		"messages were removed meanwhile": {stream: "DELETES", gone: 2, damage: func(t testing.TB, dir string) {
			editFile(t, filepath.Join(dir, "backup.json"), `"messages": 189`, `"messages": 191`)
		}},
		"there are more than its state says": {stream: "DELETES", torn: "189 messages are there, as the server's files say, but the server counted 188", damage: func(t testing.TB, dir string) {
			editFile(t, filepath.Join(dir, "backup.json"), `"messages": 189`, `"messages": 188`)
		}},
		"the index is missing, and the blocks do not tell all": {stream: "LIMITED", damage: func(t testing.TB, dir string) {
			editTar(t, dir, func(h *tar.Header, data []byte) []byte {
				if h.Name == "msgs/index.db" {
					return nil
				}
				return data
			})
			editFile(t, filepath.Join(dir, "backup.json"), `"messages": 30`, `"messages": 29`)
		}, err: "received 30 messages up to sequence 100 of a stream that had 29"},
		"it is of another stream": {stream: "PLAIN", err: "its checksum does not match", damage: func(t testing.TB, dir string) {
			editFile(t, filepath.Join(dir, "backup.json"), `"name": "PLAIN"`, `"name": "OTHER"`)
		}},
		"the server failed": {stream: "PLAIN", err: "the server could not make this snapshot", damage: func(t testing.TB, dir string) {
			editTar(t, dir, func(h *tar.Header, data []byte) []byte {
				if h.Name == "msgs/index.db" {
					h.Name = "errors.txt"
				}
				return data
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := oldDump(t, c.stream)
			c.damage(t, dir)
			r, _ := newRepo(t, repo.Options{})
			dumps, err := backup.FindDumps(t.Context(), []string{dir})
			must(t, err)
			res, err := backup.Import(t.Context(), r, dumps, backup.ImportOptions{})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			must(t, err)
			if s := res.Streams[0]; s.Removed != c.gone || (s.Torn == "") != (c.torn == "") || !strings.Contains(s.Torn, c.torn) {
				t.Errorf("%d removed, torn: %s", s.Removed, s.Torn)
			}
		})
	}
}

// TestImportOfABusyOldStream: what an older server wrote behind the state that it told, of messages and of consumers, is not in the snapshot.
func TestImportOfABusyOldStream(t *testing.T) {
	dir := oldDump(t, "CONSUMED")
	editFile(t, filepath.Join(dir, "backup.json"), `"messages": 60`, `"messages": 20`)
	editFile(t, filepath.Join(dir, "backup.json"), `"last_seq": 60`, `"last_seq": 20`)
	r, _ := newRepo(t, repo.Options{})
	if s := importAll(t, r, backup.ImportOptions{}, dir).Streams[0]; s.Err != nil || s.Torn != "" || s.Messages != 20 || s.LastSeq != 20 || s.Removed != 0 {
		t.Errorf("%+v", s)
	}
	_, held := newestStreams(t, r)
	head, err := held[0].Head(t.Context())
	must(t, err)
	for _, c := range head.Consumers {
		state, err := archive.ParseConsumer(c.JSON)
		must(t, err)
		if state.Delivered.Stream > 20 || state.AckPending > 20 {
			t.Errorf("consumer %s: %+v", c.Name, state)
		}
	}
}

// TestImportOfGzip: versions of the nats CLI long ago wrote the tar with gzip.
func TestImportOfGzip(t *testing.T) {
	dir := oldDump(t, "CONSUMED")
	p, err := os.ReadFile(filepath.Join(dir, "stream.tar.s2"))
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, "stream.tar.s2")))
	f, err := os.Create(filepath.Join(dir, "stream.tgz"))
	must(t, err)
	z := gzip.NewWriter(f)
	_, err = io.Copy(z, s2.NewReader(bytes.NewReader(p)))
	must(t, err)
	must(t, z.Close())
	must(t, f.Close())
	r, _ := newRepo(t, repo.Options{})
	if s := importAll(t, r, backup.ImportOptions{}, dir).Streams[0]; s.Err != nil || s.Messages != 60 || s.Consumers != 5 {
		t.Errorf("%+v", s)
	}
}

// TestImportOfFilesOfWhatIsThere: a stream is stored once, whether its messages came as an archive or as files of an older server.
func TestImportOfFilesOfWhatIsThere(t *testing.T) {
	dir := oldDump(t, "BLOCKS")
	s := startServer(t, natsd.Options{})
	mgr, err := jsm.New(s.nc)
	must(t, err)
	_, _, err = mgr.RestoreSnapshotFromDirectory(t.Context(), "BLOCKS", dir)
	must(t, err)
	r, _ := newRepo(t, repo.Options{})
	first := importAll(t, r, backup.ImportOptions{}, dir).Streams[0].NewBytes
	if added := backUp(t, s, r, backup.Options{Selection: allStreams}).Streams[0].NewBytes; added > first/2 {
		t.Errorf("the import added %d bytes, the backup of the same stream %d", first, added)
	}
}
