package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
)

// damagePage is made of what TestDamageTable sees.
const damagePage = "docs/damage.md"

// updateDamagePage makes TestDamageTable write the page instead of comparing it.
const updateDamagePage = "JETSAM_UPDATE_DAMAGE"

// exhibit is the repository that is damaged: one snapshot of the stream GOOD, then one of GOOD and BAD.
type exhibit struct {
	t      *testing.T
	dir    string
	key    storage.File // that opens it
	old    storage.File // snapshot of GOOD
	latest storage.File // snapshot of both
	data   storage.File // pack of BAD's messages
	trees  storage.File // pack of the trees that only the latest snapshot needs
	index  storage.File // that lists these packs
	lock   []byte       // of somebody elsewhere, an hour ago
	want   map[string]image
	src    *source
}

// damageCase is a row of the table.
type damageCase struct {
	name   string
	do     func(x *exhibit)
	file   func(x *exhibit) storage.File // that a check must name; nil: none
	plain  int                           // exit code of check
	full   int                           // exit code of check --read-data
	before int                           // exit code of a restore of the snapshot before
	mend   []step                        // what mends it, as far as a command does
	advice string                        // what is lost, and what else to do
}

// step is a command that mends something.
type step struct {
	show string                           // as the page has it, without the program's name
	args func(x *exhibit) (more []string) // what it takes besides; nil: nothing
	code int                              // its exit code
}

// The steps of the page.
var (
	repairIndex     = step{"repair index", nil, 0}
	repairAllIndex  = step{"repair index --read-all-packs", nil, 0}
	repairPacks     = step{"repair packs --read-data", keepElsewhere, 0} // where all of it can be read
	salvagePacks    = step{"repair packs --read-data", keepElsewhere, 3}
	repairSnapshots = step{"repair snapshots --forget", nil, 0}
	forgetLatest    = step{"forget SNAPSHOT", func(x *exhibit) []string { return []string{x.latest.ID.Short()} }, 0}
	forgetSealed    = step{"forget SNAPSHOT", func(x *exhibit) []string { return []string{sealedSnapshot(x).ID.Short()} }, 0}
	unlock          = step{"unlock", nil, 0}
	unlockAll       = step{"unlock --remove-all", nil, 0}
	newKey          = step{"key passwd", samePassword, 0}
	removeKey       = step{"key remove ID", func(x *exhibit) []string { return []string{garbageOf(storage.Key)(x).ID.Short()} }, 0}
	removeGarbage   = step{"repair packs PACK", func(x *exhibit) []string { return append(keepElsewhere(x), garbageOf(storage.Pack)(x).ID.Short()) }, 0}
)

func keepElsewhere(x *exhibit) []string { return []string{"--keep", x.t.TempDir()} }

// samePassword is a file with the password that the repository has already.
func samePassword(x *exhibit) []string {
	name := filepath.Join(x.t.TempDir(), "password")
	must(x.t, os.WriteFile(name, []byte(password), 0o600))
	return []string{"--new-password-file", name}
}

// run runs a step.
func (s step) run(x *exhibit) {
	x.t.Helper()
	args := strings.Fields(s.show)
	if s.args != nil {
		args = slices.DeleteFunc(args, func(a string) bool { return a == strings.ToUpper(a) }) // places of what it takes
		args = append(args, s.args(x)...)
	}
	code, out := x.try(args...)
	x.t.Logf("jetsam %v says:\n%s", args, out)
	if code != s.code {
		x.t.Errorf("jetsam %v: exit code %d, want %d", args, code, s.code)
	}
}

// damageGroup is a heading of the page and the rows below it.
type damageGroup struct {
	title string
	text  string
	cases []damageCase
}

func zeroPage(p []byte) []byte { clear(p[:min(len(p), 4<<10)]); return p }
func half(p []byte) []byte     { return p[:len(p)/2] }
func less(p []byte) []byte     { return p[:len(p)-1] }
func more(p []byte) []byte     { return append(p, 0) }
func none([]byte) []byte       { return []byte{} }

// flipAt flips a bit of a byte, counted from the end where i is negative.
func flipAt(i int) func([]byte) []byte {
	return func(p []byte) []byte { p[(i+len(p))%len(p)] ^= 0x10; return p }
}

// flipBehind changes the letter or digit that follows a text into another.
func flipBehind(text string) func([]byte) []byte {
	return func(p []byte) []byte {
		at := bytes.Index(p, []byte(text)) + len(text)
		if p[at] == 'A' {
			p[at] = 'C'
		} else {
			p[at] = 'A'
		}
		return p
	}
}

// rot is what is done to a whole file.
var rot = []struct {
	name string
	edit func([]byte) []byte // nil: it is deleted
}{
	{"a bit flipped", flipAt(40)}, {"its first 4 KiB zeroed", zeroPage}, {"cut to half", half}, {"a byte less", less}, {"a byte more", more}, {"emptied", none}, {"deleted", nil},
}

// rotten gives a case for everything that may become of a file. change sets what differs from the usual.
func rotten(kind string, file func(*exhibit) storage.File, usual damageCase, change func(how string, c *damageCase)) []damageCase {
	var out []damageCase
	for _, r := range rot {
		c := usual
		c.name = kind + ": " + r.name
		c.do = func(x *exhibit) { x.edit(file(x), r.edit) }
		if r.edit != nil {
			c.file = file
		}
		if change != nil {
			change(r.name, &c)
		}
		out = append(out, c)
	}
	return out
}

var damageGroups = []damageGroup{
	{"Config and keys", "The config and at least one key are needed to open the repository. A key may be damaged as long as there is another. Keep a copy of both; they never change unless keys do.", slices.Concat(
		rotten("config", (*exhibit).configFile, damageCase{plain: 1, full: 1, before: 1, advice: "The repository cannot be opened; nothing else is lost. Put the file back from a copy."}, func(how string, c *damageCase) {
			c.file = nil
			if how == "deleted" {
				c.plain, c.full, c.before = 10, 10, 10
			}
		}),
		rotten("the only key", (*exhibit).keyFile, damageCase{plain: 1, full: 1, before: 1, advice: "The repository cannot be opened. Put the file back from a copy; without any key its content is lost."}, func(how string, c *damageCase) {
			c.file = nil
			switch how {
			case "a bit flipped":
				c.name = "the only key: a bit flipped in what only informs"
				c.do = func(x *exhibit) { x.edit(x.key, flipBehind(`"hostname":"`)) }
				c.before, c.file = 0, (*exhibit).keyFile
				c.advice, c.mend = "Nothing; the key still opens the repository.", []step{newKey}
			case "deleted":
				c.plain, c.full, c.before = 12, 12, 12
			}
		}),
		[]damageCase{
			{name: "the only key: a bit flipped in its secret", do: func(x *exhibit) { x.edit(x.key, flipBehind(`"data":"`)) }, plain: 12, full: 12, before: 12,
				advice: "As if the password were wrong; the file is named. Put it back from a copy; without any key the content of the repository is lost."},
			{name: "another key: garbage", do: func(x *exhibit) { x.garbage(storage.Key) }, file: garbageOf(storage.Key), plain: 1, full: 1, mend: []step{removeKey},
				advice: "Nothing is lost but that key. `jetsam key add` makes another for its password."},
		},
	)},
	{"Locks", "A lock that cannot be read may be anybody's, so nothing is deleted while it is there. Readers and backups go on.", []damageCase{
		{name: "lock: garbage", do: func(x *exhibit) { x.garbage(storage.Lock) }, file: garbageOf(storage.Lock), plain: 1, full: 1, mend: []step{unlockAll},
			advice: "Nothing is lost. First see that no other program is at work."},
		{name: "lock: emptied", do: func(x *exhibit) { x.put(storage.Lock, nil) }, advice: "Nothing; it counts as none."},
		{name: "lock: an old one put back", do: func(x *exhibit) { x.put(storage.Lock, x.lock) }, plain: 11, full: 11, mend: []step{unlock},
			advice: "Nothing is lost. Locks that were not renewed for half an hour are removed."},
	}},
	{"Index files", "An index file says which blobs are in which packs. Of two index files here one is damaged.", slices.Concat(
		rotten("index", (*exhibit).indexFile, damageCase{plain: 1, full: 1, mend: []step{repairIndex}, advice: "Nothing: what no other index file lists cannot be found, though it is all there, and is listed anew."}, nil),
		[]damageCase{
			{name: "index: garbage beside the good ones", do: func(x *exhibit) { x.garbage(storage.Index) }, file: garbageOf(storage.Index), plain: 1, full: 1, mend: []step{repairIndex}, advice: "Nothing."},
			{name: "index: two of them swapped", do: func(x *exhibit) { x.swap(storage.Index) }, file: (*exhibit).indexFile, plain: 1, full: 1, before: 1, mend: []step{repairIndex}, advice: "Nothing: both are refused, and what they list is listed anew."},
		},
	)},
	{"Snapshots", "A damaged snapshot concerns nobody but itself: `latest` is then the newest that can be read, with a warning.", slices.Concat(
		rotten("snapshot", (*exhibit).latestFile, damageCase{plain: 1, full: 1, mend: []step{repairSnapshots}, advice: "That snapshot; its data is there, but nothing says what it is. Put the file back from a copy, or let it be removed and back up again."}, func(how string, c *damageCase) {
			if how == "deleted" {
				c.plain, c.full, c.file, c.mend = 0, 0, nil, nil
				c.advice = "That snapshot, **and nothing tells**: this format does not list its snapshots anywhere else. Compare with a list kept elsewhere."
			}
		}),
		[]damageCase{
			{name: "snapshot: garbage beside the good ones", do: func(x *exhibit) { x.garbage(storage.Snapshot) }, file: garbageOf(storage.Snapshot), plain: 1, full: 1, mend: []step{repairSnapshots}, advice: "Nothing."},
			{name: "snapshot: two of them swapped", do: func(x *exhibit) { x.swap(storage.Snapshot) }, file: (*exhibit).latestFile, plain: 1, full: 1, before: 1, advice: "Both are refused, though nothing is lost. Rename them: `jetsam repair snapshots` says how, and does not remove them."},
			{name: "snapshot: it has no tree", do: func(x *exhibit) { x.seal(storage.Snapshot, `{"time":"2026-01-01T00:00:00Z","paths":["/x"]}`) }, file: sealedSnapshot, plain: 1, full: 1, mend: []step{repairSnapshots}, advice: "That snapshot, which was never one."},
			{name: "snapshot: a deleted one put back", do: func(x *exhibit) { x.readBack() }, advice: "Nothing: as long as its data is there it is a snapshot like any other, and it is authentic. If its data is gone, check says so."},
		},
	)},
	{"Packs of trees", "Trees say which blobs a stream consists of. Check reads all of them.", slices.Concat(
		rotten("trees", (*exhibit).treesFile, damageCase{plain: 1, full: 1, mend: []step{salvagePacks, repairSnapshots}, advice: packAdvice}, func(how string, c *damageCase) {
			packChange(how, c)
			switch how {
			case "its first 4 KiB zeroed", "cut to half", "emptied":
				c.mend = []step{salvagePacks, forgetLatest}
			case "deleted":
				c.mend = []step{repairIndex, forgetLatest}
			}
		}),
		[]damageCase{
			{name: "trees: a bit flipped in the header", do: func(x *exhibit) { x.edit(x.trees, flipAt(-50)) }, file: (*exhibit).treesFile, plain: 1, full: 1, mend: []step{repairPacks}, advice: headerAdvice},
			{name: "trees: a bit flipped in the header's length", do: func(x *exhibit) { x.edit(x.trees, flipAt(-2)) }, file: (*exhibit).treesFile, plain: 1, full: 1, mend: []step{repairPacks}, advice: headerAdvice},
		},
	)},
	{"Packs of data", "What is in a message is read only with `--read-data`. Lengths and headers of packs, and what streams say of themselves, are always compared. A stream's file `dead`, where it has one, is data too: it says what of the stored messages had been deleted, so that without it that stream is not restored, not even with `--skip-damaged`.", slices.Concat(
		rotten("data", (*exhibit).dataFile, damageCase{plain: 1, full: 1, mend: []step{salvagePacks, repairSnapshots}, advice: packAdvice}, func(how string, c *damageCase) {
			if how == "a bit flipped" || how == "its first 4 KiB zeroed" {
				c.plain = 0
			}
			packChange(how, c)
		}),
		[]damageCase{
			{name: "data: a bit flipped in the header", do: func(x *exhibit) { x.edit(x.data, flipAt(-50)) }, file: (*exhibit).dataFile, plain: 1, full: 1, mend: []step{repairPacks}, advice: headerAdvice},
			{name: "data: a bit flipped in the header's length", do: func(x *exhibit) { x.edit(x.data, flipAt(-2)) }, file: (*exhibit).dataFile, plain: 1, full: 1, mend: []step{repairPacks}, advice: headerAdvice},
			{name: "data: two packs swapped", do: func(x *exhibit) { x.swap(storage.Pack) }, file: (*exhibit).dataFile, plain: 1, full: 1, before: 1, mend: []step{repairAllIndex, repairPacks}, advice: "Nothing: both are refused, and what they hold is found again."},
			{name: "data: garbage beside the good packs", do: func(x *exhibit) { x.garbage(storage.Pack) }, mend: []step{removeGarbage}, advice: "Nothing; it is noted as unused, and a prune removes it too."},
			{name: "data: a file with another name", do: func(x *exhibit) { x.foreign() }, advice: "Nothing; it is none of the repository's."},
		},
	)},
	{"Made by somebody with the key", "Every blob of these is authentic, and what they claim is wrong.", []damageCase{
		{name: "a directory whose tree is a data blob", do: func(x *exhibit) { x.confuse(true) }, file: (*exhibit).newestFile, plain: 1, full: 1, mend: []step{forgetSealed}, advice: "That snapshot, which was never one."},
		{name: "a file whose content is a tree", do: func(x *exhibit) { x.confuse(false) }, file: (*exhibit).newestFile, plain: 1, full: 1, mend: []step{forgetSealed}, advice: "That snapshot, which was never one."},
	}},
}

const (
	packAdvice   = "What cannot be read of it, of every snapshot that needs it: all three commands name snapshots, streams and messages. Put the file back from a copy, or mend it and back up again, which stores what the server still has."
	headerAdvice = "Nothing, for the index says the same."
)

// packChange says where a damaged pack still gives all of its blobs.
func packChange(how string, c *damageCase) {
	switch how {
	case "a byte less", "a byte more":
		c.advice, c.mend = headerAdvice, []step{repairPacks}
	case "deleted":
		c.mend = []step{repairIndex, repairSnapshots}
	}
}

func (x *exhibit) configFile() storage.File { return storage.File{Kind: storage.Config} }
func (x *exhibit) keyFile() storage.File    { return x.key }
func (x *exhibit) indexFile() storage.File  { return x.index }
func (x *exhibit) latestFile() storage.File { return x.latest }
func (x *exhibit) treesFile() storage.File  { return x.trees }
func (x *exhibit) dataFile() storage.File   { return x.data }

var garbage = []byte("garbage, and enough of it to be taken for something else: ........................................")

func garbageOf(k storage.Kind) func(*exhibit) storage.File {
	return func(*exhibit) storage.File { return storage.File{Kind: k, ID: storage.Sum([]byte("garbage"))} }
}

func (x *exhibit) path(f storage.File) string {
	return filepath.Join(x.dir, filepath.FromSlash(f.Path()))
}

func (x *exhibit) read(f storage.File) []byte {
	x.t.Helper()
	p, err := os.ReadFile(x.path(f))
	must(x.t, err)
	return p
}

func (x *exhibit) write(f storage.File, p []byte) {
	x.t.Helper()
	os.Remove(x.path(f))
	must(x.t, os.MkdirAll(filepath.Dir(x.path(f)), 0o700))
	must(x.t, os.WriteFile(x.path(f), p, 0o600))
}

// edit changes a file, or deletes it where there is no how.
func (x *exhibit) edit(f storage.File, how func([]byte) []byte) {
	x.t.Helper()
	p := x.read(f)
	if how == nil {
		must(x.t, os.Remove(x.path(f)))
		return
	}
	x.write(f, how(p))
}

// garbage stores bytes that mean nothing under a name that a file might have.
func (x *exhibit) garbage(k storage.Kind) { x.write(garbageOf(k)(x), garbage) }

// put stores a file under its right name.
func (x *exhibit) put(k storage.Kind, p []byte) storage.File {
	f := storage.File{Kind: k, ID: storage.Sum(p)}
	x.write(f, p)
	return f
}

// swap exchanges what is in two files of a kind: the damaged one of the table, and one that the snapshot before needs.
func (x *exhibit) swap(k storage.Kind) {
	x.t.Helper()
	a := map[storage.Kind]storage.File{storage.Index: x.index, storage.Snapshot: x.latest, storage.Pack: x.data}[k]
	b := x.old
	switch k {
	case storage.Index:
		b = x.other(k, x.index)
	case storage.Pack:
		b = x.other(k, x.data, x.trees)
	}
	p, q := x.read(a), x.read(b)
	x.write(a, q)
	x.write(b, p)
}

// other is a file of a kind that is none of these.
func (x *exhibit) other(k storage.Kind, not ...storage.File) storage.File {
	x.t.Helper()
	be, err := local.Open(x.dir)
	must(x.t, err)
	defer be.Close()
	for _, f := range filesOf(x.t, be) {
		if f.Kind == k && !slices.Contains(not, f) {
			return f
		}
	}
	x.t.Fatalf("there is no other %v", k)
	return storage.File{}
}

// foreign stores a file whose name is not a hash.
func (x *exhibit) foreign() {
	must(x.t, os.WriteFile(filepath.Join(x.dir, "data", "README"), garbage, 0o600))
}

// readBack deletes a snapshot, and puts it back.
func (x *exhibit) readBack() {
	p := x.read(x.latest)
	must(x.t, os.Remove(x.path(x.latest)))
	x.write(x.latest, p)
}

// seal stores a file as somebody can who has the key. Its ID is in the file sealed.
func (x *exhibit) seal(k storage.Kind, text string) storage.File {
	x.t.Helper()
	f := x.put(k, openMasterKey(x.t, x.read(x.key)).Seal(nil, []byte(text)))
	must(x.t, os.WriteFile(filepath.Join(x.dir, "sealed"), []byte(f.ID.String()), 0o600))
	return f
}

func sealedSnapshot(x *exhibit) storage.File {
	x.t.Helper()
	text, err := os.ReadFile(filepath.Join(x.dir, "sealed"))
	must(x.t, err)
	id, err := storage.ParseID(string(text))
	must(x.t, err)
	return storage.File{Kind: storage.Snapshot, ID: id}
}

// openMasterKey opens a key file.
func openMasterKey(t *testing.T, text []byte) *crypto.Key {
	t.Helper()
	var k struct {
		N, R, P    int
		Salt, Data []byte
	}
	must(t, json.Unmarshal(text, &k))
	wrapping, err := crypto.KDF{N: k.N, R: k.R, P: k.P}.Derive(password, k.Salt)
	must(t, err)
	plain, err := wrapping.Open(nil, k.Data)
	must(t, err)
	key := new(crypto.Key)
	must(t, json.Unmarshal(plain, key))
	return key
}

// confuse makes a snapshot in which a data blob is called a tree, or a tree a file's content.
func (x *exhibit) confuse(dir bool) {
	x.t.Helper()
	r, done := x.open(repo.Options{})
	defer done()
	w, err := r.NewWriter(x.t.Context(), nil)
	must(x.t, err)
	defer w.Abort()
	data, _, err := w.Save(x.t.Context(), blob.Data, []byte(`{"nodes":[]}`))
	must(x.t, err)
	sn, err := r.Snapshot(x.t.Context(), "latest", snapshot.Filter{})
	must(x.t, err)
	node := snapshot.FileNode("f", []blob.ID{sn.Tree}, 12, time.Unix(0, 0))
	if dir {
		node = snapshot.DirNode("d", data, time.Unix(0, 0))
	}
	root, _, err := w.SaveTree(x.t.Context(), &snapshot.Tree{Nodes: []*snapshot.Node{node}})
	must(x.t, err)
	// An old time keeps it from being the latest.
	id, err := w.Commit(x.t.Context(), &snapshot.Snapshot{Paths: []string{"/x"}, Tree: root, Time: time.Unix(1e9, 0)})
	must(x.t, err)
	must(x.t, os.WriteFile(filepath.Join(x.dir, "sealed"), []byte(id.String()), 0o600))
}

func (x *exhibit) newestFile() storage.File { return sealedSnapshot(x) }

func (x *exhibit) open(o repo.Options) (*repo.Repo, func()) {
	x.t.Helper()
	be, err := local.Open(x.dir)
	must(x.t, err)
	o.LockWait = time.Nanosecond
	r, err := repo.Open(x.t.Context(), be, secret.New(password), o)
	must(x.t, err)
	return r, func() { be.Close() }
}

// newExhibit makes the repository.
func newExhibit(t *testing.T) *exhibit {
	t.Helper()
	src := startServer(t, natsd.Options{Name: "exhibit"})
	rng := rand.New(rand.NewPCG(8, 8))
	create := func(name string, n int) {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}})
		src.publish(t, strings.ToLower(name), n, func(int) []byte { return noise(rng, 1000) })
	}
	create("GOOD", 5)
	r, dir := newRepo(t, repo.Options{LockWait: time.Nanosecond, Hostname: "exhibit"})
	x := &exhibit{t: t, dir: dir, key: storage.File{Kind: storage.Key, ID: r.KeyID()}, want: map[string]image{}, src: src}
	backUp(t, src, r, backup.Options{Selection: allStreams})
	before := filesOf(t, r.Backend())
	create("BAD", 30)
	backUp(t, src, r, backup.Options{Selection: allStreams})
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	holds := map[storage.File]blob.Kind{}
	for h, at := range rd.All() {
		holds[storage.File{Kind: storage.Pack, ID: at.Pack}] = h.Kind
	}
	for _, f := range filesOf(t, r.Backend()) {
		isNew := !slices.Contains(before, f)
		switch {
		case f.Kind == storage.Snapshot && isNew:
			x.latest = f
		case f.Kind == storage.Snapshot:
			x.old = f
		case f.Kind == storage.Index && isNew:
			x.index = f
		case f.Kind == storage.Pack && isNew && holds[f] == blob.Tree:
			x.trees = f
		case f.Kind == storage.Pack && isNew:
			x.data = f
		}
	}
	for _, name := range []string{"GOOD", "BAD"} {
		x.want[name] = lookAt(t, src, name)
	}
	x.lock = x.oldLock()
	return x
}

// oldLock returns a lock file of somebody elsewhere, as it was an hour ago.
func (x *exhibit) oldLock() []byte {
	x.t.Helper()
	r, done := x.open(repo.Options{Hostname: "elsewhere", Clock: func() time.Time { return time.Now().Add(-time.Hour) }})
	defer done()
	l, err := r.Lock(x.t.Context(), false)
	must(x.t, err)
	p := x.read(x.other(storage.Lock))
	must(x.t, l.Release())
	return p
}

// copy gives a copy of the repository to damage.
func (x *exhibit) copy(t *testing.T) *exhibit {
	t.Helper()
	c := *x
	c.t, c.dir = t, filepath.Join(t.TempDir(), "repo")
	must(t, os.CopyFS(c.dir, os.DirFS(x.dir)))
	return &c
}

// seen is what the commands did with a damaged repository.
type seen struct {
	plain, full    int
	latest, before string // what a restore did
	mended         string // what a restore of the latest did when it was mended
}

// try runs jetsam, and returns its exit code and what it printed.
func (x *exhibit) try(args ...string) (int, string) {
	x.t.Helper()
	cmd := command{repo: x.dir}.prepare(x.t, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		x.t.Fatalf("jetsam %v: %v", args, err)
	}
	if strings.Contains(string(out), "goroutine ") {
		x.t.Errorf("jetsam %v: panic\n%s", args, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// restore restores a snapshot into dst, and says what came of it. Exit code 0 with anything but what was backed up fails the test.
func (x *exhibit) restore(dst *source, snapshot string, streams ...string) string {
	x.t.Helper()
	found := x.restoreAny(dst, snapshot, streams...)
	if strings.HasPrefix(found, "0") && found != "0: all" {
		x.t.Errorf("restore of %s: %s", snapshot, found)
	}
	return found
}

// restoreAny is restore of a snapshot that may hold less than was backed up.
func (x *exhibit) restoreAny(dst *source, snapshot string, streams ...string) string {
	x.t.Helper()
	code, out := x.try("restore", snapshot, "--server", dst.URL())
	got := map[string]string{}
	for name := range dst.js.StreamNames(x.t.Context()).Name() {
		got[name] = "in part"
		if x.same(lookAt(x.t, dst, name), x.want[name]) {
			got[name] = "whole"
		}
		must(x.t, dst.js.DeleteStream(x.t.Context(), name))
	}
	var words []string
	whole := 0
	for _, s := range streams {
		if got[s] == "" {
			got[s] = "not"
		}
		if got[s] == "whole" {
			whole++
		}
		words = append(words, s+" "+got[s])
	}
	x.t.Logf("restore of %s says:\n%s", snapshot, out)
	switch {
	case len(got) > len(streams):
		x.t.Errorf("restore of %s: %v, want nothing but %v", snapshot, got, streams)
	case whole == len(streams):
		return fmt.Sprintf("%d: all", code)
	case len(got) == len(streams) && strings.Count(strings.Join(words, " "), " not") == len(streams):
		return fmt.Sprintf("%d: nothing", code)
	}
	return fmt.Sprintf("%d: %s", code, strings.Join(words, ", "))
}

func (x *exhibit) same(a, b image) bool {
	return a.digest(x.t) == b.digest(x.t)
}

// damageSample is how many rows of the table there are for each that is tried where time is short. With JETSAM_PROOF=1 all are.
const damageSample = 8

// TestDamageTable damages a repository in the ways of the table, and holds what the commands say against it, and against docs/damage.md.
// With JETSAM_UPDATE_DAMAGE=1 it goes through all of them and writes that page.
func TestDamageTable(t *testing.T) {
	t.Parallel()
	update := os.Getenv(updateDamagePage) != ""
	offset := rand.IntN(damageSample)
	t.Logf("every %dth row from row %d, unless it is all", damageSample, offset)
	whole := newExhibit(t)
	dst := startServer(t, natsd.Options{})
	page := damageIntro
	var seenRows []damageRow
	n := 0
	for _, g := range damageGroups {
		var rows []damageRow
		for _, c := range g.cases {
			if n++; !update && !proof() && n%damageSample != offset {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				s := c.run(t, whole.copy(t), dst)
				rows = append(rows, damageRow{[]string{c.name}, fmt.Sprintf("%d | %d | %s | %s | %s | %s | %s |", s.plain, s.full, s.latest, s.before, c.mends(), s.mended, c.advice)})
			})
		}
		page += fmt.Sprintf("\n## %s\n\n%s\n\n%s%s", g.title, g.text, damageHead, joined(rows))
		seenRows = append(seenRows, rows...)
	}
	t.Logf("%d kinds of damage tried, of %d", len(seenRows), n)
	if t.Failed() {
		return
	}
	path := filepath.Join(root, filepath.FromSlash(damagePage))
	if update {
		must(t, os.WriteFile(path, []byte(page), 0o644))
	}
	text, err := os.ReadFile(path)
	must(t, err)
	how := fmt.Sprintf("%s=1 go test -run TestDamageTable ./tests writes %s", updateDamagePage, damagePage)
	if proof() && string(text) != page {
		t.Errorf("what was seen is not what the page says; %s (-page +seen):\n%s", how, cmp.Diff(string(text), page))
	}
	for _, r := range seenRows {
		if !r.isOn(string(text)) {
			t.Errorf("%s does not say what was seen of %q: %s; %s", damagePage, r.names, r.cells, how)
		}
	}
}

const damageHead = "| damage | `check` | `check --read-data` | restore of that snapshot | of the one before | what mends it | restore of `latest` then | what is lost, what to do |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"

// damageRow is a row of the page: kinds of damage of which the same was seen.
type damageRow struct {
	names []string
	cells string
}

// joined writes the table of rows, and joins those that follow each other and say the same.
func joined(rows []damageRow) string {
	var out []damageRow
	for _, r := range rows {
		if n := len(out); n > 0 && out[n-1].cells == r.cells && subject(out[n-1].names[0]) == subject(r.names[0]) {
			out[n-1].names = append(out[n-1].names, strings.TrimPrefix(r.names[0], subject(r.names[0])+": "))
		} else {
			out = append(out, r)
		}
	}
	var b strings.Builder
	for _, r := range out {
		fmt.Fprintf(&b, "| %s | %s\n", strings.Join(r.names, "; "), r.cells)
	}
	return b.String()
}

// subject is what a kind of damage happens to.
func subject(name string) string {
	s, _, _ := strings.Cut(name, ": ")
	return s
}

// isOn says whether a line of the page says this of a kind of damage.
func (r damageRow) isOn(page string) bool {
	for line := range strings.Lines(page) {
		names, cells, ok := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "| "), " | ")
		if !ok || cells != r.cells || subject(names) != subject(r.names[0]) {
			continue
		}
		if slices.Contains(strings.Split(strings.TrimPrefix(names, subject(names)+": "), "; "), strings.TrimPrefix(r.names[0], subject(r.names[0])+": ")) {
			return true
		}
	}
	return false
}

// run tries one row.
func (c damageCase) run(t *testing.T, x *exhibit, dst *source) (s seen) {
	c.do(x)
	var out string
	for _, full := range []bool{false, true} {
		args, code, want := []string{"check"}, &s.plain, c.plain
		if full {
			args, code, want = []string{"check", "--read-data"}, &s.full, c.full
		}
		*code, out = x.try(args...)
		if *code != want {
			t.Errorf("jetsam %v: exit code %d, want %d\n%s", args, *code, want, out)
		}
		if c.file != nil && want == 1 && !strings.Contains(out, c.file(x).String()) {
			t.Errorf("jetsam %v does not name %v:\n%s", args, c.file(x), out)
		}
	}
	t.Logf("check --read-data says:\n%s", out)
	s.latest = x.restore(dst, x.latest.ID.Short(), "BAD", "GOOD")
	s.before = x.restore(dst, x.old.ID.Short(), "GOOD")
	if want := fmt.Sprint(c.before) + ": "; !strings.HasPrefix(s.before, want) {
		t.Errorf("restore of the snapshot before: %s, want exit code %d", s.before, c.before)
	}
	s.mended = c.heal(x, dst)
	return s
}

// mends is what mends it, as the page has it.
func (c damageCase) mends() string {
	if len(c.mend) == 0 {
		return "–"
	}
	var out []string
	for _, s := range c.mend {
		out = append(out, "`"+s.show+"`")
	}
	return strings.Join(out, ", ")
}

// heal runs the commands that mend it, after which nothing is damaged, and says what a restore does then. After a backup everything is there.
func (c damageCase) heal(x *exhibit, dst *source) string {
	x.t.Helper()
	if len(c.mend) == 0 {
		return "–"
	}
	for _, s := range c.mend {
		s.run(x)
	}
	if code, out := x.try("check", "--read-data"); code != 0 || strings.Contains(out, "damage:") {
		x.t.Errorf("it is not mended: jetsam check --read-data: exit code %d\n%s", code, out)
	}
	if proof() {
		restic(x.t, x.dir, "check", "--read-data")
	}
	found := x.restoreAny(dst, "latest", "BAD", "GOOD")
	command{repo: x.dir}.run(x.t, 0, "backup", "--all", "--server", x.src.URL())
	if again := x.restore(dst, "latest", "BAD", "GOOD"); again != "0: all" {
		x.t.Errorf("mended, and backed up again: restore says %s", again)
	}
	return found
}

const damageIntro = `# Damage

What is found of damage, what becomes of restores, and what to do. A test does all of this to a repository with the built command and writes this page. The numbers
are [exit codes](scripting.md#exit-codes): 0 nothing is wrong, 1 damage, 3 some of it was restored, 10 no repository, 11 locked, 12 no key fits.

The repository has two snapshots, the first of the stream GOOD, the second of GOOD and BAD. The damage is to what only the second needs, where there is such a
thing. Nothing is ever restored that is not what was backed up. Every finding names a file by its kind and the first ten digits of its ID; what is lost is named
by snapshot, stream and messages.

What mends it are commands of jetsam, one after the other, after which a check of every byte finds nothing, and a backup makes a snapshot that is whole. What is
said of the restore is of the newest snapshot right after them, before that backup. [When something is damaged](operations/damaged-repository.md) says more.

Before anything else, make a copy of the repository as it is. Where there is a copy from before the damage, put the files that check names back from it: files
are never changed, so one of the same name is the same file.
`

// TestAdviceHeals does what the page advises: a damaged pack is deleted, or an index file is, and the next snapshot is whole.
func TestAdviceHeals(t *testing.T) {
	whole := newExhibit(t)
	dst := startServer(t, natsd.Options{})
	for _, c := range []struct {
		name string
		file storage.File
		edit func([]byte) []byte
	}{
		{"pack of data", whole.data, nil},
		{"pack of trees", whole.trees, nil},
		{"index file, deleted", whole.index, nil},
		{"index file, left as it is", whole.index, flipAt(40)},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := whole.copy(t)
			x.edit(c.file, c.edit)
			if got := x.restore(dst, x.latest.ID.Short(), "BAD", "GOOD"); strings.HasPrefix(got, "0") {
				t.Fatalf("the damage does no harm: restore says %s", got)
			}
			command{repo: x.dir}.run(t, 0, "backup", "--all", "--server", x.src.URL())
			if got := x.restore(dst, "latest", "BAD", "GOOD"); got != "0: all" {
				t.Errorf("after a backup a restore of it says %s", got)
			}
		})
	}
}
