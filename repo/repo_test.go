package repo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/internal/chance"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/mem"
)

func TestInitAndOpen(t *testing.T) {
	r := repotest.New(t)
	if id, err := storage.ParseID(r.ID()); err != nil || id.IsZero() {
		t.Errorf("ID %q: %v", r.ID(), err)
	}
	if p := r.Polynomial(); p>>53 != 1 || p&1 != 1 {
		t.Errorf("polynomial %x is not of degree 53", p)
	}
	again := repotest.Open(t, r.Backend())
	if again.ID() != r.ID() || again.Polynomial() != r.Polynomial() || again.KeyID() != r.KeyID() || again.FormatVersion() != 2 {
		t.Errorf("opened %s %x %s, created %s %x %s", again.ID(), again.Polynomial(), again.KeyID(), r.ID(), r.Polynomial(), r.KeyID())
	}
}

func TestInitRefuses(t *testing.T) {
	key, keyBytes := storage.File{Kind: storage.Key, ID: storage.Sum([]byte("k"))}, []byte("k")
	snap, snapBytes := storage.File{Kind: storage.Snapshot, ID: storage.Sum([]byte("s"))}, []byte("s")
	tests := []struct {
		name string
		file storage.File
		data []byte
	}{
		{"config", storage.File{Kind: storage.Config}, []byte("c")},
		{"empty config", storage.File{Kind: storage.Config}, nil},
		{"key only", key, keyBytes},
		{"snapshot only", snap, snapBytes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			be := mem.New()
			if err := be.Save(t.Context(), tt.file, tt.data); err != nil {
				t.Fatal(err)
			}
			_, err := repo.Init(t.Context(), be, secret.New("x"), repotest.Options())
			if !errors.Is(err, repo.ErrExists) {
				t.Errorf("Init: %v, want ErrExists", err)
			}
			for _, k := range storage.Kinds() {
				for info := range be.List(t.Context(), k) {
					if info.File != tt.file {
						t.Errorf("Init left %v", info.File)
					}
				}
			}
		})
	}
}

// overwritten is storage on which somebody stores a config over one that was just stored.
type overwritten struct {
	storage.Backend
	with []byte
}

func (o overwritten) Save(ctx context.Context, f storage.File, data []byte) error {
	if f.Kind == storage.Config {
		data = o.with
	}
	return o.Backend.Save(ctx, f, data)
}

// TestInitAtTheSameTime: of two who make a repository where files can be overwritten, the one whose config is gone is told, and leaves no key.
func TestInitAtTheSameTime(t *testing.T) {
	other := repotest.New(t).Backend()
	config, err := other.Load(t.Context(), storage.File{Kind: storage.Config}, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	be := mem.New()
	if _, err := repo.Init(t.Context(), overwritten{be, config}, secret.New("x"), repotest.Options()); !errors.Is(err, repo.ErrExists) {
		t.Errorf("Init: %v, want ErrExists", err)
	}
	for info := range be.List(t.Context(), storage.Key) {
		t.Errorf("Init left %v", info.File)
	}
}

func TestOpenRefuses(t *testing.T) {
	be := mem.New()
	open := func() error {
		_, err := repo.Open(t.Context(), be, secret.New("wrong"), repotest.Options())
		return err
	}
	if err := open(); !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("empty place: %v, want ErrNoRepository", err)
	}
	if _, err := repo.Init(t.Context(), be, secret.New("right"), repotest.Options()); err != nil {
		t.Fatal(err)
	}
	if err := open(); !errors.Is(err, repo.ErrWrongPassword) {
		t.Errorf("wrong password: %v, want ErrWrongPassword", err)
	}
	if err := be.Remove(t.Context(), storage.File{Kind: storage.Config}); err != nil {
		t.Fatal(err)
	}
	err := open()
	if !errors.Is(err, repo.ErrNoRepository) || !strings.Contains(err.Error(), "no config") {
		t.Errorf("keys without config: %v, want ErrNoRepository that says so", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]repo.Options{
		"negative pack size":  {PackSize: -1},
		"pack size too large": {PackSize: 129 << 20},
		"compression":         {Compression: 9},
	} {
		if _, err := repo.Init(t.Context(), mem.New(), secret.New("x"), o); err == nil {
			t.Errorf("%s: Init accepted it", name)
		}
	}
}

func TestParseCompression(t *testing.T) {
	for _, name := range []string{"auto", "off", "fastest", "better", "max"} {
		c, err := repo.ParseCompression(name)
		if err != nil || c.String() != name {
			t.Errorf("ParseCompression(%q) = %v, %v", name, c, err)
		}
	}
	if _, err := repo.ParseCompression("extreme"); err == nil {
		t.Error("ParseCompression accepted a way that there is not")
	}
}

// jsonEvents returns about n bytes of lines of JSON, such as streams hold.
func jsonEvents(rng *rand.Rand, n int) []byte {
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, `{"order_id":"%016x","customer":"cust-%05d","status":%q,"amount":%d.%02d,"currency":"EUR","at":"2026-11-%02dT%02d:%02d:%02d.%09dZ","items":[{"sku":"SKU-%06d","qty":%d}]}`+"\n",
			rng.Uint64(), rng.IntN(100000), []string{"created", "paid", "shipped"}[rng.IntN(3)], rng.IntN(1000), rng.IntN(100),
			1+rng.IntN(28), rng.IntN(24), rng.IntN(60), rng.IntN(60), rng.IntN(1e9), rng.IntN(1e6), 1+rng.IntN(9))
	}
	return b.Bytes()[:n]
}

func randomBytes(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := chance.Seed(t)
	return rand.New(rand.NewPCG(seed, 0))
}

// backup stores files as a snapshot in one go.
func backup(t testing.TB, r *repo.Repo, files map[string][][]byte) (*snapshot.Snapshot, repo.WriteStats) {
	t.Helper()
	w, err := r.NewWriter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	sn := &snapshot.Snapshot{Paths: []string{"/A"}, Tree: saveFiles(t, w, files)}
	id, err := w.Commit(t.Context(), sn)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := r.Snapshot(t.Context(), id.String(), snapshot.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return stored, w.Stats()
}

// saveFiles saves files, each given as the contents of its blobs, in a directory
// "A" below the root, whose ID it returns.
func saveFiles(t testing.TB, w *repo.Writer, files map[string][][]byte) blob.ID {
	t.Helper()
	at := time.Unix(1_800_000_000, 0)
	var nodes []*snapshot.Node
	for name, contents := range files {
		var ids []blob.ID
		var size uint64
		for _, p := range contents {
			id, saved, err := w.Save(t.Context(), blob.Data, p)
			if err != nil {
				t.Fatal(err)
			}
			if id != blob.Sum(p) || saved.Plain != len(p) {
				t.Fatalf("Save: %s, %+v", id, saved)
			}
			ids = append(ids, id)
			size += uint64(len(p))
		}
		nodes = append(nodes, snapshot.FileNode(name, ids, size, at))
	}
	slices.SortFunc(nodes, func(a, b *snapshot.Node) int { return strings.Compare(a.Name, b.Name) })
	sub, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	root, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.DirNode("A", sub, at)}})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// readFiles reads what saveFiles saved.
func readFiles(t testing.TB, r *repo.Repo, sn *snapshot.Snapshot) map[string][][]byte {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := rd.LoadTree(t.Context(), sn.Tree)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := rd.LoadTree(t.Context(), root.Find("A").Subtree)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][][]byte)
	for _, n := range dir.Nodes {
		out[n.Name] = [][]byte{}
		for p, err := range rd.Blobs(t.Context(), n.Content, 3) {
			if err != nil {
				t.Fatal(err)
			}
			out[n.Name] = append(out[n.Name], bytes.Clone(p))
		}
	}
	return out
}

func equalFiles(a, b map[string][][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if !slices.EqualFunc(a[name], b[name], bytes.Equal) {
			return false
		}
	}
	return true
}

func TestRoundTrip(t *testing.T) {
	rng := newRand(t)
	files := map[string][][]byte{
		"empty":  {},
		"one":    {[]byte("x")},
		"json":   {jsonEvents(rng, 1<<20), jsonEvents(rng, 300_000)},
		"random": {randomBytes(rng, 1<<20), randomBytes(rng, 31)},
		"zeros":  {make([]byte, 3<<20)},
		"twice":  {[]byte("x"), []byte("x"), []byte("x")},
	}
	for _, c := range []repo.Compression{repo.CompressionAuto, repo.CompressionOff, repo.CompressionFastest, repo.CompressionBetter, repo.CompressionMax} {
		t.Run(c.String(), func(t *testing.T) {
			o := repotest.Options()
			o.Compression = c
			o.PackSize = 1 << 20
			r := repotest.NewWith(t, o)
			sn, stats := backup(t, r, files)
			if !equalFiles(files, readFiles(t, repotest.Open(t, r.Backend()), sn)) {
				t.Error("files differ after a round trip")
			}
			if stats.Data.New != 6 || stats.Data.Known != 3 || stats.Tree.New != 2 {
				t.Errorf("stats %+v", stats)
			}
			// Zeros shrink to nothing, unless compression is off.
			if small := stats.Data.NewStored < 2<<20; small != (c != repo.CompressionOff) {
				t.Errorf("%d bytes stored", stats.Data.NewStored)
			}
			if got := storedBytes(t, r.Backend(), storage.Pack, storage.Index, storage.Snapshot); uint64(got) != stats.AddedBytes() {
				t.Errorf("AddedBytes is %d, files have %d", stats.AddedBytes(), got)
			}
		})
	}
}

func storedBytes(t testing.TB, be storage.Backend, kinds ...storage.Kind) (n int64) {
	t.Helper()
	for _, k := range kinds {
		for info, err := range be.List(t.Context(), k) {
			if err != nil {
				t.Fatal(err)
			}
			n += info.Size
		}
	}
	return n
}

func TestSecondBackupAddsLittle(t *testing.T) {
	rng := newRand(t)
	r := repotest.New(t)
	files := map[string][][]byte{"json": {jsonEvents(rng, 1<<20), randomBytes(rng, 1<<20)}}
	first, _ := backup(t, r, files)
	again, stats := backup(t, r, files)
	if stats.Data.New != 0 || stats.Tree.New != 0 || stats.Packs != 0 {
		t.Errorf("the same files again: %+v", stats)
	}
	if stats.AddedBytes() > 1000 {
		t.Errorf("%d bytes were added, want a snapshot's", stats.AddedBytes())
	}
	if first.Tree != again.Tree || first.ID() == again.ID() {
		t.Errorf("snapshots %s and %s of trees %s and %s", first.ID(), again.ID(), first.Tree, again.Tree)
	}
	files["new"] = [][]byte{randomBytes(rng, 5000)}
	if _, stats = backup(t, r, files); stats.Data.New != 1 || stats.Data.Known != 2 {
		t.Errorf("one more file: %+v", stats)
	}
}

func TestCommitFillsIn(t *testing.T) {
	now := time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC)
	o := repotest.Options()
	o.Clock = func() time.Time { return now }
	r := repotest.NewWith(t, o)
	sn, _ := backup(t, r, nil)
	if !sn.Time.Equal(now) || sn.Hostname != o.Hostname || sn.Username != o.Username || sn.ProgramVersion != o.Version {
		t.Errorf("%+v", sn)
	}
}

func TestSnapshots(t *testing.T) {
	r := repotest.New(t)
	if _, err := r.Snapshot(t.Context(), snapshot.Latest, snapshot.Filter{}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("latest of none: %v, want ErrNotFound", err)
	}
	var made []*snapshot.Snapshot
	for i := range 20 {
		w, err := r.NewWriter(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		sn := &snapshot.Snapshot{
			Time: time.Unix(int64(100-i), 0), Paths: []string{"/A"}, Tags: []string{fmt.Sprint("t", i%2)},
			Tree: saveFiles(t, w, map[string][][]byte{"f": {[]byte{byte(i)}}}),
		}
		id, err := w.Commit(t.Context(), sn)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := r.Snapshot(t.Context(), id.String()[:20], snapshot.Filter{})
		if err != nil || stored.ID() != id || stored.Tree != sn.Tree {
			t.Fatalf("Snapshot(%s): %+v, %v", id.Short(), stored, err)
		}
		made = append(made, stored)
	}
	var all []*snapshot.Snapshot
	for s, err := range r.Snapshots(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	snapshot.Sort(all)
	slices.Reverse(made)
	if !slices.EqualFunc(all, made, func(a, b *snapshot.Snapshot) bool { return a.ID() == b.ID() && a.Time.Equal(b.Time) }) {
		t.Errorf("Snapshots yields %v, want %v", all, made)
	}
	newest, err := r.Snapshot(t.Context(), snapshot.Latest, snapshot.Filter{Tags: [][]string{{"t1"}}})
	if err != nil || !newest.Time.Equal(time.Unix(99, 0)) {
		t.Errorf("latest with tag t1: %v, %v", newest, err)
	}
	if _, err := r.Snapshot(t.Context(), "zz", snapshot.Filter{}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("unknown: %v, want ErrNotFound", err)
	}
	// Twenty IDs share one of sixteen first digits.
	var ambiguous bool
	for _, digit := range "0123456789abcdef" {
		_, err := r.Snapshot(t.Context(), string(digit), snapshot.Filter{})
		ambiguous = ambiguous || errors.Is(err, repo.ErrAmbiguous)
	}
	if !ambiguous {
		t.Error("no single digit is ambiguous among 20 snapshots")
	}
}

func TestLoadUnpacked(t *testing.T) {
	r := repotest.New(t)
	sn, _ := backup(t, r, map[string][][]byte{"f": {[]byte("f")}})
	find := func(k storage.Kind) storage.File {
		id, err := r.Find(t.Context(), k, firstID(t, r.Backend(), k).String()[:16])
		if err != nil {
			t.Fatal(err)
		}
		return storage.File{Kind: k, ID: id}
	}
	tests := []struct {
		file storage.File
		want string
	}{
		{storage.File{Kind: storage.Config}, r.ID()},
		{find(storage.Key), `"kdf":"scrypt"`},
		{find(storage.Snapshot), sn.Tree.String()},
		{find(storage.Index), `"packs":[`},
	}
	for _, tt := range tests {
		text, err := r.LoadUnpacked(t.Context(), tt.file)
		if err != nil || !json.Valid(text) || !strings.Contains(string(text), tt.want) {
			t.Errorf("LoadUnpacked(%v): %s, %v", tt.file, text, err)
		}
	}
	if _, err := r.LoadUnpacked(t.Context(), find(storage.Pack)); err == nil {
		t.Error("LoadUnpacked returned a pack")
	}
	gone := storage.File{Kind: storage.Snapshot, ID: storage.Sum(nil)}
	if _, err := r.LoadUnpacked(t.Context(), gone); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("LoadUnpacked of nothing: %v", err)
	}
}

func firstID(t testing.TB, be storage.Backend, k storage.Kind) storage.ID {
	t.Helper()
	for info, err := range be.List(t.Context(), k) {
		if err != nil {
			t.Fatal(err)
		}
		return info.File.ID
	}
	t.Fatalf("no %v file", k)
	return storage.ID{}
}

// A repository whose directory vanishes under a backup is not begun anew there.
func TestDirectoryVanishes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	be, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	r, err := repo.Init(t.Context(), be, secret.New("x"), repotest.Options())
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.NewWriter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	root := saveFiles(t, w, map[string][][]byte{"f": {[]byte("f")}})
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root}); err == nil {
		t.Error("Commit succeeded without a repository")
	}
	w.Abort()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is there again: %v", err)
	}
}

// packsIn returns the IDs of the packs that an index file lists.
func packsIn(t testing.TB, text []byte) map[storage.ID]bool {
	t.Helper()
	f, err := index.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[storage.ID]bool)
	for _, p := range f.Packs {
		ids[p.ID] = true
	}
	return ids
}
