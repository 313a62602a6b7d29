package tests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage/local"
)

// resticSource makes a repository with restic, and backs these directories up into one snapshot.
func resticSource(t testing.TB, init, save []string, dirs ...string) string {
	t.Helper()
	repoDir := filepath.Join(t.TempDir(), "source")
	restic(t, repoDir, append([]string{"init"}, init...)...)
	restic(t, repoDir, slices.Concat([]string{"backup"}, save, dirs)...)
	return repoDir
}

// openSource opens a repository to import from, with its newest snapshot.
func openSource(t testing.TB, dir string) (*repo.Repo, *repo.Reader, *snapshot.Snapshot) {
	t.Helper()
	be, err := local.Open(dir)
	must(t, err)
	t.Cleanup(func() { be.Close() })
	r, err := repo.Open(t.Context(), be, secret.New(password), repo.Options{})
	must(t, err)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := r.Snapshot(t.Context(), snapshot.Latest, snapshot.Filter{})
	must(t, err)
	return r, rd, sn
}

// importSource imports the newest snapshot of a repository.
func importSource(t testing.TB, r *repo.Repo, dir string, paths ...string) (*backup.Result, error) {
	t.Helper()
	_, rd, sn := openSource(t, dir)
	dumps, err := backup.FindDumpsIn(t.Context(), rd, sn, paths)
	must(t, err)
	return backup.Import(t.Context(), r, dumps, backup.ImportOptions{Time: sn.Time})
}

// subtrees are what a repository's newest snapshot holds: of each stream the ID of its directory, which is that of all its bytes.
func subtrees(t testing.TB, r *repo.Repo) map[string]blob.ID {
	t.Helper()
	out := map[string]blob.ID{}
	_, held := newestStreams(t, r)
	for _, s := range held {
		out[s.Name] = s.Node().Subtree
	}
	return out
}

// TestImportFromRestic: what is imported out of a repository that restic wrote is, to the byte, what is imported from the directories themselves: archives of
// messages, and files of older servers, which are read twice.
func TestImportFromRestic(t *testing.T) {
	t.Parallel()
	src, want := filled(t)
	dir := dumpAll(t, src, sortedKeys(want)...)
	src.Shutdown()
	old := t.TempDir()
	unpack(t, filepath.Join(dumpsDir, "2.14.9.tar.gz"), old)
	oldest := t.TempDir()
	unpack(t, filepath.Join(dumpsDir, "2.9.25.tar.gz"), oldest)
	for name, c := range map[string]struct {
		init, save []string
		version    int
		dir        string
	}{
		"version 1":                      {[]string{"--repository-version", "1"}, nil, 1, dir},
		"version 2, compressed":          {nil, []string{"--compression", "max"}, 2, dir},
		"version 2, not compressed":      {nil, []string{"--compression", "off"}, 2, dir},
		"version 1, files":               {[]string{"--repository-version", "1"}, nil, 1, old},
		"version 2, files of old server": {nil, nil, 2, oldest},
	} {
		t.Run(name, func(t *testing.T) {
			source := resticSource(t, c.init, c.save, c.dir)
			if r, _, _ := openSource(t, source); r.FormatVersion() != c.version {
				t.Fatalf("restic made a repository of version %d", r.FormatVersion())
			}
			r, repoDir := newRepo(t, repo.Options{})
			res, err := importSource(t, r, source)
			must(t, err)
			for _, s := range res.Failed() {
				t.Errorf("directory %s: %v %s", s.Dir, s.Err, s.Torn)
			}
			direct, _ := newRepo(t, repo.Options{})
			importAll(t, direct, backup.ImportOptions{}, c.dir)
			got, want := subtrees(t, r), subtrees(t, direct)
			if len(want) == 0 || !slices.Equal(sortedKeys(got), sortedKeys(want)) {
				t.Fatalf("streams %q, want %q", sortedKeys(got), sortedKeys(want))
			}
			for name := range want {
				if got[name] != want[name] {
					t.Errorf("stream %s differs from what its directory holds", name)
				}
			}
			restic(t, source, "check", "--read-data")
			restic(t, repoDir, "check", "--read-data")
		})
	}
	t.Run("restored", func(t *testing.T) {
		r, _ := newRepo(t, repo.Options{})
		_, err := importSource(t, r, resticSource(t, nil, nil, dir))
		must(t, err)
		dst := startServer(t, wide)
		restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
		for name, im := range want {
			t.Run(name, func(t *testing.T) { sameImage(t, im, lookAt(t, dst, name)) })
		}
	})
}

// fewStreams makes dumps of small streams A, B and C.
func fewStreams(t testing.TB) string {
	t.Helper()
	src := startServer(t, natsd.Options{})
	names := []string{"A", "B", "C"}
	for _, name := range names {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
		src.publish(t, name+".x", 100, func(i int) []byte { return fmt.Appendf(nil, "%s %d", name, i) })
	}
	return dumpAll(t, src, names...)
}

// TestImportFromADamagedRepository: whichever blob of the source is damaged, streams that need it are named, or their directory is, and the others are what they were.
func TestImportFromADamagedRepository(t *testing.T) {
	t.Parallel()
	dir := fewStreams(t)
	whole, _ := newRepo(t, repo.Options{})
	importAll(t, whole, backup.ImportOptions{}, dir)
	want := subtrees(t, whole)
	source := resticSource(t, nil, nil, dir)
	_, rd, sn := openSource(t, source)
	lost, kept := 0, 0
	for h, l := range rd.All() {
		pack := filepath.Join(source, "data", l.Pack.String()[:2], l.Pack.String())
		data, err := os.ReadFile(pack)
		must(t, err)
		must(t, os.Chmod(pack, 0o600))
		flipped := slices.Clone(data)
		flipped[l.Offset+l.Length/2] ^= 1
		must(t, os.WriteFile(pack, flipped, 0o600))
		r, _ := newRepo(t, repo.Options{})
		res, err := importSource(t, r, source)
		must(t, os.WriteFile(pack, data, 0o600))
		var theirs *backup.SourceError
		if err != nil {
			if !errors.As(err, &theirs) || !errors.Is(err, repo.ErrCorrupt) {
				t.Errorf("%v damaged: %v", h, err)
			}
			continue
		}
		for _, s := range res.Failed() {
			lost++
			if !errors.As(s.Err, &theirs) || !errors.Is(s.Err, repo.ErrCorrupt) {
				t.Errorf("%v damaged: directory %s: %v", h, s.Dir, s.Err)
			}
		}
		if len(res.Failed()) == 0 {
			t.Errorf("%v of snapshot %s is damaged, and nobody says so", h, sn.ID().Short())
		}
		for name, id := range subtrees(t, r) {
			if kept++; id != want[name] {
				t.Errorf("%v damaged: stream %s differs", h, name)
			}
		}
	}
	if lost < 6 || kept < 6 {
		t.Errorf("%d directories were lost and %d streams kept", lost, kept)
	}
}

// TestImportFromOddDirectories: links and pipes that restic saved are not followed and not taken for what they lead to, and names may hold anything.
func TestImportFromOddDirectories(t *testing.T) {
	t.Parallel()
	dir := fewStreams(t)
	must(t, os.Symlink(filepath.Join(dir, "A"), filepath.Join(dir, "LINK"))) // to a directory: no dump
	must(t, os.Rename(filepath.Join(dir, "B", "stream.arc.s2"), filepath.Join(dir, "B", "elsewhere")))
	must(t, os.Symlink("elsewhere", filepath.Join(dir, "B", "stream.arc.s2")))
	odd := filepath.Join(dir, "odd\x1b[31m \\x00 …")
	must(t, os.Mkdir(odd, 0o700))
	must(t, os.Rename(filepath.Join(dir, "C"), filepath.Join(odd, "C")))
	must(t, os.Mkdir(filepath.Join(dir, "backup.json"), 0o700))
	source := resticSource(t, nil, nil, dir)
	r, _ := newRepo(t, repo.Options{})
	res, err := importSource(t, r, source)
	must(t, err)
	if failed := res.Failed(); len(failed) != 1 || failed[0].Name != "B" || !strings.Contains(failed[0].Err.Error(), "stream.arc.s2 is not a regular file") {
		t.Errorf("failed: %+v", failed)
	}
	if names := sortedKeys(subtrees(t, r)); !slices.Equal(names, []string{"A", "C"}) {
		t.Errorf("imported are %q", names)
	}

	r, _ = newRepo(t, repo.Options{})
	_, err = importSource(t, r, source, odd+"/")
	must(t, err)
	if names := sortedKeys(subtrees(t, r)); !slices.Equal(names, []string{"C"}) {
		t.Errorf("imported of one directory are %q", names)
	}
}

// TestImportFromOurOwn: a snapshot of jetsam's has files with the names that dumps have, and is not taken for any.
func TestImportFromOurOwn(t *testing.T) {
	r, dir := newRepo(t, repo.Options{})
	importAll(t, r, backup.ImportOptions{}, fewStreams(t))
	_, rd, sn := openSource(t, dir)
	if dumps, err := backup.FindDumpsIn(t.Context(), rd, sn, nil); !errors.Is(err, backup.ErrNoDumps) || !strings.Contains(err.Error(), "it is one of jetsam's") {
		t.Errorf("%d dumps, %v", len(dumps), err)
	}
}

// TestImportFromAHostileRepository: directories without end, and files that are not as long as they say, are errors, soon.
func TestImportFromAHostileRepository(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	dumped := filepath.Join(fewStreams(t), "A")
	ctx := t.Context()
	for name, c := range map[string]struct {
		make func(t *testing.T, w *repo.Writer) blob.ID
		says string
	}{
		"directories that are in themselves many times": {func(t *testing.T, w *repo.Writer) blob.ID {
			id := saveTree(t, w)
			for range 40 {
				id = saveTree(t, w, snapshot.DirNode("a", id, at), snapshot.DirNode("b", id, at))
			}
			return id
		}, "more than the 131072 directories that are looked at"},
		"directories too deep": {func(t *testing.T, w *repo.Writer) blob.ID {
			id := saveTree(t, w)
			for range snapshot.MaxDepth + 2 {
				id = saveTree(t, w, snapshot.DirNode("a", id, at))
			}
			return id
		}, "nest deeper than 1000 levels"},
		"names without end": {func(t *testing.T, w *repo.Writer) blob.ID {
			id := saveTree(t, w)
			for range 30 {
				nodes := []*snapshot.Node{snapshot.DirNode("!", id, at)}
				for i := range 800 {
					nodes = append(nodes, snapshot.DirNode(fmt.Sprintf("%04d%s", i, strings.Repeat("x", 4000)), id, at))
				}
				id = saveTree(t, w, nodes...)
			}
			return id
		}, "have more than 67108864 bytes"},
		"a file that is shorter than it says": {func(t *testing.T, w *repo.Writer) blob.ID { return saveDump(t, w, dumped, +1) }, "its blobs are shorter than it is"},
		"a file that is longer than it says":  {func(t *testing.T, w *repo.Writer) blob.ID { return saveDump(t, w, dumped, -1) }, "its blobs are longer than it is"},
	} {
		t.Run(name, func(t *testing.T) {
			source, dir := newRepo(t, repo.Options{})
			w, err := source.NewWriter(ctx, nil)
			must(t, err)
			defer w.Abort()
			_, err = w.Commit(ctx, &snapshot.Snapshot{Time: at, Paths: []string{"/"}, Tree: c.make(t, w)})
			must(t, err)
			_, rd, sn := openSource(t, dir)
			dumps, err := backup.FindDumpsIn(ctx, rd, sn, nil)
			if err == nil {
				r, _ := newRepo(t, repo.Options{})
				_, err = backup.Import(ctx, r, dumps, backup.ImportOptions{})
			}
			var theirs *backup.SourceError
			if !errors.As(err, &theirs) || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000 {
				t.Errorf("error %.500v, want %q", err, c.says)
			}
		})
	}
}

func saveTree(t *testing.T, w *repo.Writer, nodes ...*snapshot.Node) blob.ID {
	t.Helper()
	id, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: nodes})
	must(t, err)
	return id
}

// saveDump saves a dump as restic would, but that its archive says that it is so much longer.
func saveDump(t *testing.T, w *repo.Writer, dir string, longer int) blob.ID {
	t.Helper()
	var nodes []*snapshot.Node
	for _, name := range []string{"backup.json", "stream.arc.s2"} {
		p, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		id, _, err := w.Save(t.Context(), blob.Data, p)
		must(t, err)
		nodes = append(nodes, snapshot.FileNode(name, []blob.ID{id}, uint64(len(p)), time.Unix(1, 0)))
	}
	nodes[1].Size += uint64(longer)
	return saveTree(t, w, nodes...)
}

// TestImportedIsRemembered: what was imported of a snapshot is known by its tag, for the same host, account and streams.
func TestImportedIsRemembered(t *testing.T) {
	t.Parallel()
	dir := fewStreams(t)
	source, rd, sn := openSource(t, resticSource(t, nil, nil, dir))
	find := func(paths ...string) []*backup.Dump {
		dumps, err := backup.FindDumpsIn(t.Context(), rd, sn, paths)
		must(t, err)
		return dumps
	}
	tag := backup.SourceTag(source, sn)
	r, _ := newRepo(t, repo.Options{})
	o := backup.ImportOptions{Host: "east", Account: "SHOP", Tags: []string{tag}}
	res, err := backup.Import(t.Context(), r, find(dir+"/A", dir+"/B"), o)
	must(t, err)
	all := []*snapshot.Snapshot{res.Snapshot}
	for name, c := range map[string]struct {
		tag   string
		dumps []*backup.Dump
		o     backup.ImportOptions
		want  bool
	}{
		"the same":                  {tag, find(dir+"/A", dir+"/B"), o, true},
		"some of it":                {tag, find(dir + "/B"), o, true},
		"more than that":            {tag, find(), o, false},
		"as another account's":      {tag, find(dir + "/A"), backup.ImportOptions{Host: "east"}, false},
		"as of another host":        {tag, find(dir + "/A"), backup.ImportOptions{Account: "SHOP"}, false},
		"of another snapshot":       {tag[:len(tag)-1] + "x", find(dir + "/A"), o, false},
		"what nobody knows by name": {tag, []*backup.Dump{{Dir: "x", Err: errors.New("unreadable")}}, o, false},
	} {
		if got := backup.Imported(all, c.tag, c.dumps, c.o); (got != nil) != c.want {
			t.Errorf("%s: found %v", name, got)
		}
	}
	if !strings.HasPrefix(tag, "from-"+source.ID()[:8]+"-") || len(tag) != len("from-")+8+1+8 {
		t.Errorf("the tag is %s", tag)
	}
}
