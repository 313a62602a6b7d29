package repo

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/mem"
)

// byKind keeps the files of each kind in a place of their own, so that a list takes no longer for the others.
type byKind struct {
	storage.Backend
	places map[storage.Kind]storage.Backend
}

func newByKind() *byKind {
	b := &byKind{mem.New(), make(map[storage.Kind]storage.Backend)}
	for _, k := range storage.Kinds() {
		b.places[k] = mem.New()
	}
	return b
}

func (b *byKind) Save(ctx context.Context, f storage.File, data []byte) error {
	return b.places[f.Kind].Save(ctx, f, data)
}

func (b *byKind) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	return b.places[f.Kind].Load(ctx, f, off, n)
}

func (b *byKind) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	return b.places[f.Kind].Stat(ctx, f)
}

func (b *byKind) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return b.places[k].List(ctx, k)
}

func (b *byKind) Remove(ctx context.Context, f storage.File) error {
	return b.places[f.Kind].Remove(ctx, f)
}

// write writes all files into a directory.
func (b *byKind) write(dir string) error {
	ctx := context.Background()
	for _, k := range storage.Kinds() {
		for info, err := range b.List(ctx, k) {
			if err != nil {
				return err
			}
			data, err := b.Load(ctx, info.File, 0, -1)
			if err != nil {
				return err
			}
			path := filepath.Join(dir, filepath.FromSlash(info.File.Path()))
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(path, data, 0o400); err != nil {
				return err
			}
		}
	}
	return nil
}

// manyIncrements makes so many small backups in a directory.
func manyIncrements(b *testing.B, dir string, n int) {
	b.Helper()
	be := newByKind()
	r, err := Init(b.Context(), be, secret.New(testPassword), testOptions(nil))
	if err != nil {
		b.Fatal(err)
	}
	rd, err := r.LoadIndex(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if err := saveIncrement(b.Context(), trustingWriter(b, rd), i); err != nil {
			b.Fatal(err)
		}
	}
	if err := be.write(dir); err != nil {
		b.Fatal(err)
	}
}

// trustingWriter is NewWriter that neither looks for what others stored nor lists
// the packs, which takes the longer the more there are.
func trustingWriter(b *testing.B, rd *Reader) *Writer {
	b.Helper()
	w := &Writer{repo: rd.repo, rd: rd, known: rd.index.Load(), ownLock: true, kept: func() error { return nil }}
	var err error
	if w.lock, err = w.repo.lockFile(b.Context(), false); err != nil {
		b.Fatal(err)
	}
	rd.writing.Store(true)
	w.start(w.lock.Context())
	return w
}

// saveIncrement ends a writer with a snapshot of three files in a directory.
func saveIncrement(ctx context.Context, w *Writer, i int) error {
	at := time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC)
	dir := new(snapshot.Tree)
	for _, name := range []string{"dead", "head", "messages"} {
		id, saved, err := w.Save(ctx, blob.Data, fmt.Appendf(nil, "%s %d", name, i))
		if err != nil {
			return err
		}
		dir.Nodes = append(dir.Nodes, snapshot.FileNode(name, []blob.ID{id}, uint64(saved.Plain), at))
	}
	id, _, err := w.SaveTree(ctx, dir)
	if err != nil {
		return err
	}
	root, _, err := w.SaveTree(ctx, &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.DirNode("A", id, at)}})
	if err != nil {
		return err
	}
	_, err = w.Commit(ctx, &snapshot.Snapshot{
		Time: at, Tree: root, Paths: []string{"/$G"}, Hostname: "cluster", Tags: []string{"hourly"},
		Summary: &snapshot.Summary{BackupStart: at, BackupEnd: at, DataBlobs: 3, TreeBlobs: 2, DataAdded: 1000, DataAddedPacked: 900},
	})
	return err
}

// BenchmarkOpen measures what a backup does before it asks the server anything, on a repository of 10,000 increments in a local
// directory: find the key, load the index (which compares it with the list of packs), and read all snapshots. The wait for other
// locks, 200 ms, is left out.
func BenchmarkOpen(b *testing.B) {
	const increments = 10_000
	dir := b.TempDir()
	manyIncrements(b, dir, increments)
	be, err := local.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer be.Close()
	var keys, index, snapshots time.Duration
	for b.Loop() {
		start := time.Now()
		r := reopen(b, be, testOptions(nil))
		opened := time.Now()
		w, err := r.NewWriter(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		loaded := time.Now()
		var n int
		for _, err := range r.Snapshots(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		keys, index, snapshots = keys+opened.Sub(start), index+loaded.Sub(opened), snapshots+time.Since(loaded)
		w.Abort()
		if first := (blob.Handle{ID: blob.Sum([]byte("head 0"))}); n != increments || !w.Has(first) {
			b.Fatalf("%d snapshots, first backup in the index: %v", n, w.Has(first))
		}
	}
	b.ReportMetric(float64(len(listIDs(b, be, storage.Index))), "index-files")
	for unit, d := range map[string]time.Duration{"keys-s": keys, "index-s": index, "snapshots-s": snapshots} {
		b.ReportMetric(d.Seconds()/float64(b.N), unit)
	}
}
