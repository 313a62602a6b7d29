package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/local/localtest"
	"jetsam/storage/mem"
)

// A power cut may come after any step of anything that is done with a repository.
// These tests do everything once, on a file system that notes each step, and then
// look at what the disk could hold after each of them: there every promise that
// was made until then must be kept.

// proof reports whether suites run in their long form.
func proof() bool { return os.Getenv("JETSAM_PROOF") != "" }

// files is what a snapshot holds: for each name the contents of its blobs.
type files = map[string][][]byte

// promises are what holds at a moment of a history, whatever happens then.
type promises struct {
	doing  string              // empty: nothing, and then no lock is left
	exists bool                // Init has returned
	there  map[storage.ID]bool // snapshots that must be there, or else must not; of others only that they are whole
	opens  map[string]bool     // passwords that must open it, or else must not
}

// history is what is done with a repository, one thing after another.
type history struct {
	t        *testing.T
	root     string // what is above the repository's directory
	disk     *localtest.Recorder
	wrap     func(storage.Backend) storage.Backend // set if the code is to be broken
	uploads  int                                   // at the same time
	size     int                                   // of each backup: 1 is small
	left     []string                              // harmless notes of what a backup does not tidy up
	be       storage.Backend
	r        *repo.Repo
	rng      *rand.Rand
	contents map[storage.ID]files // of all snapshots ever
	promises promises
}

func newHistory(t *testing.T, rng *rand.Rand) *history {
	t.Helper()
	h := &history{
		t:        t,
		size:     1,
		root:     t.TempDir(),
		disk:     localtest.NewRecorder(local.OS()),
		wrap:     func(be storage.Backend) storage.Backend { return be },
		rng:      rng,
		contents: make(map[storage.ID]files),
		promises: promises{there: make(map[storage.ID]bool), opens: make(map[string]bool)},
	}
	h.disk.Before = func() { time.Sleep(time.Microsecond) } // so that uploads overlap
	return h
}

// mark notes what holds from now on.
func (h *history) mark() {
	p := h.promises
	p.there, p.opens = maps.Clone(p.there), maps.Clone(p.opens)
	h.disk.Mark(p)
}

// do does something, which must succeed, after which it has kept a promise.
func (h *history) do(what string, f func(ctx context.Context) error, kept func(*promises)) {
	h.t.Helper()
	h.promises.doing = what
	h.mark()
	if err := f(h.t.Context()); err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
	kept(&h.promises)
	h.promises.doing = ""
	h.mark()
}

const (
	firstPassword  = repotest.Password
	secondPassword = "second"
	thirdPassword  = "third"
)

// initialise creates the repository. A full layout is hundreds of folders, which
// the steps after it can do without.
func (h *history) initialise(layout bool) {
	h.t.Helper()
	create := local.CreateOn
	dir := filepath.Join(h.root, "repo")
	if !layout {
		create = local.OpenOn
		if err := h.disk.Mkdir(dir, 0o700); err != nil {
			h.t.Fatal(err)
		}
		if err := h.disk.SyncDir(h.root); err != nil {
			h.t.Fatal(err)
		}
	}
	h.do("init", func(ctx context.Context) error {
		be, err := create(dir, h.disk)
		if err != nil {
			return err
		}
		h.t.Cleanup(func() { be.Close() })
		h.be = h.wrap(be)
		h.open(func(o repo.Options) (*repo.Repo, error) {
			return repo.Init(ctx, h.be, secret.New(firstPassword), o)
		})
		return nil
	}, func(p *promises) { p.exists, p.opens[firstPassword] = true, true })
}

func (h *history) open(how func(repo.Options) (*repo.Repo, error)) {
	h.t.Helper()
	o := repotest.Options()
	o.PackSize, o.Uploads = 20_000, h.uploads
	var err error
	if h.r, err = how(o); err != nil {
		h.t.Fatal(err)
	}
}

// backUp makes a snapshot of several packs, the like of which was partly there.
func (h *history) backUp(what string, blobs int) storage.ID {
	h.t.Helper()
	content := files{"same": {bytes.Repeat([]byte("same"), 1000)}, "new": nil}
	for range blobs * h.size {
		content["new"] = append(content["new"], randomBytes(h.rng, 8_000))
	}
	var id storage.ID
	h.do(what, func(ctx context.Context) (err error) {
		id, err = tryBackup(ctx, h.r, content)
		return err
	}, func(p *promises) {
		h.contents[id] = content
		p.there[id] = true
	})
	return id
}

// forget deletes a snapshot with nobody's help.
func (h *history) forget(id storage.ID) {
	h.t.Helper()
	delete(h.promises.there, id)
	h.do("forget", func(ctx context.Context) error {
		return h.be.Remove(ctx, storage.File{Kind: storage.Snapshot, ID: id})
	}, func(p *promises) { p.there[id] = false })
}

// live does all there is to do.
func (h *history) live() {
	h.t.Helper()
	h.initialise(false)
	first := h.backUp("first backup", 6)
	h.backUp("second backup", 12)
	delete(h.promises.opens, firstPassword)
	h.do("key passwd", func(ctx context.Context) error {
		_, err := h.r.ChangePassword(ctx, secret.New(thirdPassword))
		return err
	}, func(p *promises) { p.opens[firstPassword], p.opens[thirdPassword] = false, true })
	var second storage.ID
	h.do("key add", func(ctx context.Context) (err error) {
		second, err = h.r.AddKey(ctx, secret.New(secondPassword))
		return err
	}, func(p *promises) { p.opens[secondPassword] = true })
	h.forget(first)
	delete(h.promises.opens, secondPassword)
	h.do("key remove", func(ctx context.Context) error {
		return h.r.RemoveKey(ctx, second)
	}, func(p *promises) { p.opens[secondPassword] = false })
	h.do("unlock", func(ctx context.Context) error {
		forgotten, err := h.r.Lock(ctx, false)
		if err != nil {
			return err
		}
		if _, err := h.r.Unlock(ctx, true); err != nil {
			return err
		}
		return forgotten.Release()
	}, func(*promises) {})
	h.backUp("third backup", 9)
	h.mergeIndex()
	h.backUp("last backup", 1)
}

// mergeIndex makes backups until one merges index files.
func (h *history) mergeIndex() {
	h.t.Helper()
	for range 2 * piledUp {
		before := count(h.t, h.be, storage.Index)
		h.backUp("one more backup", 1)
		if count(h.t, h.be, storage.Index) < before {
			return
		}
	}
	h.t.Fatal("index files were not merged")
}

// crashes is what was seen in the states of a history.
type crashes struct {
	distinct map[[sha256.Size]byte]bool
	judged   int // states with other promises count again here
	fault    error
}

// judge looks at up to limit states after each step of a history, on a disk that
// does not hear the steps that deaf names, until one of them breaks a promise.
func (h *history) judge(limit int, rng *rand.Rand, deaf func(localtest.Step) bool) crashes {
	h.t.Helper()
	c := crashes{distinct: make(map[[sha256.Size]byte]bool)}
	type seen struct {
		state [sha256.Size]byte
		mark  int
	}
	known := make(map[seen]bool)
	disk := localtest.NewDisk(h.root)
	var now promises
	mark := 0
	for i, s := range h.disk.Steps() {
		if p, ok := s.Mark.(promises); ok {
			now = p
			mark++
		}
		if !deaf(s) {
			disk.Do(s)
		}
		for state := range disk.States(limit, rng) {
			key := state.Key()
			if known[seen{key, mark}] {
				continue
			}
			known[seen{key, mark}] = true
			c.distinct[key] = true
			c.judged++
			if err := h.judgeState(state, now, c.judged%everyReal == 0); err != nil {
				c.fault = fmt.Errorf("step %d, %s %s, of %q: %w", i, s.Op, strings.TrimPrefix(s.Path, h.root), now.doing, err)
				return c
			}
		}
	}
	return c
}

func allHeard(localtest.Step) bool { return false }

// everyReal is how many states are judged in memory for one that is judged in a
// directory, which takes far longer.
const everyReal = 20

// judgeState returns which promise a state breaks.
func (h *history) judgeState(state localtest.State, p promises, inDirectory bool) error {
	place := inMemory
	if inDirectory {
		place = h.inDirectory
	}
	be, err := place(state)
	if !p.exists && errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer be.Close()
	ctx := h.t.Context()
	if !p.exists {
		if begun, err := judgeUnborn(ctx, be); !begun {
			return err
		}
	}
	r, err := openAny(ctx, be, p.opens)
	if err != nil {
		return err
	}
	return h.judgeRepo(ctx, r, p)
}

// inDirectory makes a state real. Close removes it.
func (h *history) inDirectory(state localtest.State) (storage.Backend, error) {
	top, err := os.MkdirTemp(h.root, "crash-")
	if err != nil {
		return nil, err
	}
	if err := state.Write(top); err != nil {
		return nil, err
	}
	// A Recorder is a file system that does not take its time to sync.
	be, err := local.OpenOn(filepath.Join(top, "repo"), localtest.NewRecorder(local.OS()))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(top))
	}
	return temporary{be, top}, nil
}

// temporary is a directory that goes when it is closed.
type temporary struct {
	*local.Backend
	top string
}

func (b temporary) Close() error { return errors.Join(b.Backend.Close(), os.RemoveAll(b.top)) }

// inMemory is inDirectory without a directory: it reads as local does, by names.
func inMemory(state localtest.State) (storage.Backend, error) {
	if !slices.Contains(state.Folders, "repo") {
		return nil, storage.ErrNotExist
	}
	be := mem.New()
	for path, data := range state.Files {
		path = strings.TrimPrefix(filepath.ToSlash(path), "repo/")
		f := storage.File{Kind: storage.Config}
		for _, k := range storage.Kinds() {
			if k != storage.Config && strings.HasPrefix(path, k.Dir()+"/") {
				f.Kind = k
			}
		}
		if f.Kind != storage.Config {
			f.ID, _ = storage.ParseID(path[strings.LastIndexByte(path, '/')+1:])
		}
		if f.Path() != path {
			continue // a temporary file
		}
		if err := be.Save(context.Background(), f, data); err != nil {
			return nil, err
		}
	}
	return be, nil
}

// judgeUnborn looks at a place where a repository was to be created. As long as
// there is none, that is said, and it can be created, or it is said what is in the
// way.
func judgeUnborn(ctx context.Context, be storage.Backend) (born bool, err error) {
	_, err = repo.Open(ctx, be, secret.New(firstPassword), repotest.Options())
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, repo.ErrNoRepository) {
		return false, fmt.Errorf("open while there is none: %w", err)
	}
	_, err = repo.Init(ctx, be, secret.New(firstPassword), repotest.Options())
	if err != nil && (!errors.Is(err, repo.ErrExists) || !strings.Contains(err.Error(), "without its config")) {
		return false, fmt.Errorf("init again: %w", err)
	}
	return false, nil
}

// openAny opens a repository with each password that must open it, and tries those
// that must not. Half an hour has passed.
func openAny(ctx context.Context, be storage.Backend, opens map[string]bool) (r *repo.Repo, err error) {
	o := repotest.Options()
	o.Clock = func() time.Time { return time.Now().Add(31 * time.Minute) }
	for _, password := range []string{firstPassword, secondPassword, thirdPassword} {
		opened, err := repo.Open(ctx, be, secret.New(password), o)
		must, promised := opens[password]
		switch {
		case err == nil && promised && !must:
			return nil, fmt.Errorf("the password %q, which was taken away, opens it", password)
		case err == nil:
			r = opened
		case promised && must:
			return nil, fmt.Errorf("open with the password %q: %w", password, err)
		case !errors.Is(err, repo.ErrWrongPassword):
			return nil, err
		}
	}
	if r == nil {
		return nil, errors.New("no password opens it any more")
	}
	return r, nil
}

// judgeRepo looks at a repository that could be opened.
func (h *history) judgeRepo(ctx context.Context, r *repo.Repo, p promises) error {
	locks, err := r.Locks(ctx)
	if err != nil {
		return err
	}
	if p.doing == "" && len(locks) > 0 {
		return fmt.Errorf("%d locks are left of nobody", len(locks))
	}
	if _, err := r.Unlock(ctx, false); err != nil {
		return err
	}
	if err := checkClean(ctx, r, "unused", "as another index file does"); err != nil {
		return err
	}
	if err := h.judgeSnapshots(ctx, r, p); err != nil {
		return err
	}
	next := files{"same": {bytes.Repeat([]byte("same"), 1000)}, "next": {[]byte("next")}}
	id, err := tryBackup(ctx, r, next)
	if err != nil {
		return fmt.Errorf("next backup: %w", err)
	}
	if err := compare(ctx, r, id, next); err != nil {
		return fmt.Errorf("next backup: %w", err)
	}
	return checkClean(ctx, r, append(h.left, "unused")...)
}

// checkClean wants nothing that is worse than unused, or than what else is harmless.
func checkClean(ctx context.Context, r *repo.Repo, harmless ...string) error {
	report, err := r.Check(ctx, repo.CheckOptions{ReadData: true}, nil)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	for _, f := range report.Findings {
		said := func(what string) bool { return strings.Contains(f.Err.Error(), what) }
		if f.Severity != repo.Note || !slices.ContainsFunc(harmless, said) {
			return fmt.Errorf("check: %v", f)
		}
	}
	return nil
}

// judgeSnapshots wants the snapshots that were promised, and all that are there
// whole.
func (h *history) judgeSnapshots(ctx context.Context, r *repo.Repo, p promises) error {
	there := make(map[storage.ID]bool)
	for sn, err := range r.Snapshots(ctx) {
		if err != nil {
			return err
		}
		there[sn.ID()] = true
		if err := compare(ctx, r, sn.ID(), h.contents[sn.ID()]); err != nil {
			return err
		}
	}
	for id, must := range p.there {
		if there[id] != must {
			return fmt.Errorf("snapshot %v is there: %v, promised: %v", id, there[id], must)
		}
	}
	return nil
}

// compare wants a snapshot to hold these files, byte for byte.
func compare(ctx context.Context, r *repo.Repo, id storage.ID, want files) error {
	if want == nil {
		return fmt.Errorf("snapshot %v was never made", id)
	}
	sn, err := r.Snapshot(ctx, id.String(), snapshot.Filter{})
	if err != nil {
		return err
	}
	got, err := tryReadFiles(ctx, r, sn)
	if err != nil {
		return fmt.Errorf("read snapshot %v: %w", id, err)
	}
	if !equalFiles(want, got) {
		return fmt.Errorf("snapshot %v holds something else", id)
	}
	return nil
}

// tryReadFiles is readFiles without a test to fail.
func tryReadFiles(ctx context.Context, r *repo.Repo, sn *snapshot.Snapshot) (files, error) {
	rd, err := r.LoadIndex(ctx, nil)
	if err != nil {
		return nil, err
	}
	root, err := rd.LoadTree(ctx, sn.Tree)
	if err != nil {
		return nil, err
	}
	dir, err := rd.LoadTree(ctx, root.Find("A").Subtree)
	if err != nil {
		return nil, err
	}
	out := make(files)
	for _, n := range dir.Nodes {
		out[n.Name] = [][]byte{}
		for p, err := range rd.Blobs(ctx, n.Content, 3) {
			if err != nil {
				return nil, err
			}
			out[n.Name] = append(out[n.Name], bytes.Clone(p))
		}
	}
	return out, nil
}

// TestCrashStates looks at what a power cut leaves after each step of a
// repository's life. The long form has to see 2,000 different disks.
func TestCrashStates(t *testing.T) {
	limit, wanted := 12, 250
	if proof() {
		limit, wanted = 48, 2000
	}
	rng := newRand(t)
	h := newHistory(t, rng)
	if proof() {
		h.uploads, h.size = 4, 4
	}
	h.live()
	c := h.judge(limit, rng, allHeard)
	t.Logf("%d steps, %d different disks, %d judgements", len(h.disk.Steps()), len(c.distinct), c.judged)
	if c.fault != nil {
		t.Error(c.fault)
	} else if len(c.distinct) < wanted {
		t.Errorf("%d different disks, wanted %d", len(c.distinct), wanted)
	}
}

// TestCrashDuringInit is about the folders too, of which a new repository has
// hundreds.
func TestCrashDuringInit(t *testing.T) {
	limit := 2
	if proof() {
		limit = 6
	}
	rng := newRand(t)
	h := newHistory(t, rng)
	h.initialise(true)
	c := h.judge(limit, rng, allHeard)
	t.Logf("%d steps, %d different disks", len(h.disk.Steps()), len(c.distinct))
	if c.fault != nil {
		t.Error(c.fault)
	}
}

// mutantLimit is how many states after each step are looked at for a mutant.
const mutantLimit = 8

// TestCrashStatesNeedEverySync takes out the syncs of one sort at a time: a promise
// must break, or TestCrashStates proves nothing.
func TestCrashStatesNeedEverySync(t *testing.T) {
	rng := newRand(t)
	h := newHistory(t, rng)
	h.live()
	in := func(folder string) func(string) bool {
		return func(path string) bool { return strings.HasPrefix(filepath.ToSlash(path), folder) }
	}
	for _, kind := range []string{"config", "keys", "data", "index", "snapshots", "locks"} {
		for _, op := range []localtest.Op{localtest.Sync, localtest.SyncDir} {
			if kind == "config" && op == localtest.SyncDir {
				continue // it has no folder of its own: see below
			}
			t.Run(fmt.Sprintf("%s in %s", op, kind), func(t *testing.T) {
				below := in(filepath.ToSlash(filepath.Join(h.root, "repo", kind)))
				h.wantFault(t, rng, func(s localtest.Step) bool { return s.Op == op && below(s.Path) })
			})
		}
	}
	for name, folder := range map[string]string{"folders": "repo", "folders of packs": filepath.Join("repo", "data")} {
		t.Run("syncdir of "+name, func(t *testing.T) {
			h.wantFault(t, rng, func(s localtest.Step) bool {
				return s.Op == localtest.SyncDir && s.Path == filepath.Join(h.root, folder)
			})
		})
	}
}

// wantFault wants that a broken history is found out.
func (h *history) wantFault(t *testing.T, rng *rand.Rand, deaf func(localtest.Step) bool) {
	t.Helper()
	c := h.judge(mutantLimit, rng, deaf)
	if c.fault == nil {
		t.Errorf("nobody noticed, in %d states", c.judged)
		return
	}
	t.Logf("after %d states: %v", c.judged, c.fault)
}

// late is a Backend on which the files of one kind are stored too late: not before
// something else has been done. Until then it only says that they are.
type late struct {
	storage.Backend
	kind  storage.Kind
	skip  int // files of that kind which are stored in time
	until func(op string, k storage.Kind) bool
	done  bool // once is enough

	mu   sync.Mutex
	held []heldFile
}

type heldFile struct {
	file storage.File
	data []byte
}

func (l *late) Save(ctx context.Context, f storage.File, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.Kind == l.kind && l.skip <= 0 && !l.done {
		l.held = append(l.held, heldFile{f, bytes.Clone(data)})
		return nil
	}
	if f.Kind == l.kind {
		l.skip--
	}
	return l.then(ctx, "save", f.Kind, l.Backend.Save(ctx, f, data))
}

func (l *late) Remove(ctx context.Context, f storage.File) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.then(ctx, "remove", f.Kind, l.Backend.Remove(ctx, f))
}

// then stores what was held if it is time.
func (l *late) then(ctx context.Context, op string, k storage.Kind, err error) error {
	if err != nil || !l.until(op, k) {
		return err
	}
	for _, h := range l.held {
		if err := l.Backend.Save(ctx, h.file, h.data); err != nil {
			return err
		}
	}
	l.done = l.done || len(l.held) > 0
	l.held = nil
	return nil
}

func (l *late) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		if h.file == f && n < 0 {
			return bytes.Clone(h.data[off:]), nil
		}
	}
	return l.Backend.Load(ctx, f, off, n)
}

func (l *late) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		if h.file == f {
			return storage.Info{File: f, Size: int64(len(h.data))}, nil
		}
	}
	return l.Backend.Stat(ctx, f)
}

func (l *late) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range l.Backend.List(ctx, k) {
			if !yield(info, err) {
				return
			}
		}
		l.mu.Lock()
		held := slices.Clone(l.held)
		l.mu.Unlock()
		for _, h := range held {
			if h.file.Kind == k && !yield(storage.Info{File: h.file, Size: int64(len(h.data))}, nil) {
				return
			}
		}
	}
}

// TestCrashStatesNeedTheOrder swaps two steps of the order in which things become
// durable: a promise must break.
func TestCrashStatesNeedTheOrder(t *testing.T) {
	after := func(op string, k storage.Kind) func(string, storage.Kind) bool {
		return func(o string, of storage.Kind) bool { return o == op && of == k }
	}
	for _, tt := range []struct {
		name  string
		kind  storage.Kind
		skip  int
		until func(string, storage.Kind) bool
	}{
		{"pack after its index", storage.Pack, 0, after("save", storage.Index)},
		{"index after the snapshot", storage.Index, 0, after("save", storage.Snapshot)},
		{"pack after the snapshot", storage.Pack, 0, after("save", storage.Snapshot)},
		{"merged index after the removal of the others", storage.Index, piledUp, after("remove", storage.Index)},
		{"snapshot after its acknowledgement", storage.Snapshot, 0, after("save", storage.Lock)},
		{"key after the config", storage.Key, 0, after("save", storage.Config)},
		{"new key after the removal of the old", storage.Key, 1, after("remove", storage.Key)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := newRand(t)
			h := newHistory(t, rng)
			h.wrap = func(be storage.Backend) storage.Backend {
				return &late{Backend: be, kind: tt.kind, skip: tt.skip, until: tt.until}
			}
			h.live()
			h.wantFault(t, rng, allHeard)
		})
	}
}
