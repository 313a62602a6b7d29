package tests

import (
	"bytes"
	"context"
	varint "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/jsm.go/api"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
	"jetsam/streamlog"
)

// world is a server, what it held at two times, and a repository with a snapshot of each.
type world struct {
	src    *source
	conn   *conn.Conn
	before storage.Backend    // the repository with the first snapshot
	both   storage.Backend    // with both
	images []map[string]image // of the first and the second
	ids    []storage.ID

	between time.Time // of the two snapshots
}

// newWorld makes one whose streams are small and of which every blob is in a pack of its own.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{src: startServer(t, natsd.Options{}), before: mem.New()}
	w.conn = connect(t, w.src)
	_, err := repo.Init(t.Context(), w.before, secret.New(password), faultOptions(nil))
	must(t, err)
	st := w.src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}})
	w.src.create(t, jetstream.StreamConfig{Name: "QUEUE", Subjects: []string{"queue"}, Retention: jetstream.WorkQueuePolicy})
	_, err = st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	must(t, err)
	random := rand.New(rand.NewPCG(5, 5))
	for _, subject := range []string{"orders.a", "orders.b"} {
		w.src.publish(t, subject, 40, text)
		w.src.publish(t, "queue", 3, text)
		_, err = w.src.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: nats.Header{"Content-Type": {"x"}}, Data: noise(random, 130<<10)})
		must(t, err)
		last := uint64(len(w.images)+1) * 41
		remove(t, st, last-7, last-20)
		w.images = append(w.images, w.look(t, w.src))
		be := w.both
		if be == nil {
			be = w.before
		}
		r := openWith(t, be, nil)
		w.ids = append(w.ids, backUp(t, w.src, r, backup.Options{Selection: allStreams}).ID)
		if w.both == nil {
			w.both = cloneStorage(t, w.before)
			w.between = now()
		}
	}
	return w
}

func (w *world) look(t testing.TB, s *source) map[string]image {
	t.Helper()
	return map[string]image{"ORDERS": lookAt(t, s, "ORDERS"), "QUEUE": lookAt(t, s, "QUEUE")}
}

func faultOptions(warn func(error)) repo.Options {
	return repo.Options{KDF: cheapKDF, LockWait: time.Nanosecond, PackSize: 1, Hostname: "here", Username: "me", Warn: warn}
}

func openWith(t testing.TB, be storage.Backend, warn func(error)) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), be, secret.New(password), faultOptions(warn))
	must(t, err)
	return r
}

// cloneStorage copies all files.
func cloneStorage(t testing.TB, from storage.Backend) storage.Backend {
	t.Helper()
	to := mem.New()
	copyStorage(t, from, to)
	return to
}

func copyStorage(t testing.TB, from, to storage.Backend) {
	t.Helper()
	for _, k := range storage.Kinds() {
		for info, err := range from.List(t.Context(), k) {
			must(t, err)
			data, err := from.Load(t.Context(), info.File, 0, -1)
			must(t, err)
			must(t, to.Save(t.Context(), info.File, data))
		}
	}
}

// resticCheck lets the real restic read a copy of the repository on disk.
func resticCheck(t *testing.T, be storage.Backend) {
	t.Helper()
	t.Run("restic", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "repo")
		disk, err := local.Create(dir)
		must(t, err)
		copyStorage(t, be, disk)
		must(t, disk.Close())
		restic(t, dir, "check", "--read-data")
	})
}

// imagesOf reads the streams of a snapshot with the server's own archive package. An error says that something of it cannot be read.
func imagesOf(ctx context.Context, r *repo.Repo, id storage.ID) (map[string]image, error) {
	sn, err := r.Snapshot(ctx, id.String(), snapshot.Filter{})
	if err != nil {
		return nil, err
	}
	rd, err := r.LoadIndex(ctx, nil)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	if err := readTree(ctx, rd, sn.Tree, "", files); err != nil {
		return nil, err
	}
	var account streamlog.Account
	if err := json.Unmarshal(files["/$G/account.json"], &account); err != nil {
		return nil, err
	}
	images := make(map[string]image)
	for _, s := range account.Captured {
		if images[s.Name], err = imageOf(files, "/$G/"+s.Name); err != nil {
			return nil, fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	return images, nil
}

func readTree(ctx context.Context, rd *repo.Reader, id blob.ID, path string, files map[string][]byte) error {
	t, err := rd.LoadTree(ctx, id)
	if err != nil {
		return err
	}
	for _, n := range t.Nodes {
		name := path + "/" + n.Name
		if n.Type == snapshot.TypeDir {
			if err := readTree(ctx, rd, n.Subtree, name, files); err != nil {
				return err
			}
			continue
		}
		for _, id := range n.Content {
			if files[name], err = rd.Load(ctx, blob.Handle{Kind: blob.Data, ID: id}, files[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// imageOf joins what a stream's directory holds, as docs/without-jetsam.md says, and leaves out what is dead, as docs/format/stream.md says.
func imageOf(files map[string][]byte, dir string) (im image, err error) {
	if im.Config, err = configOf(files[dir+"/backup.json"]); err != nil {
		return im, err
	}
	im.Consumers = make(map[string]any)
	joined := slices.Clone(files[dir+"/head.arc.s2"])
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(name, dir+"/messages/") && strings.HasSuffix(name, "/arc.s2") {
			joined = append(joined, files[name]...)
		}
	}
	joined = append(joined, files[dir+"/end.arc.s2"]...)
	dead, err := deadIn(files[dir+"/dead"])
	if err != nil {
		return im, err
	}
	in := archive.NewReader(s2.NewReader(bytes.NewReader(joined)))
	for {
		h, err := in.Next()
		if err != nil {
			return im, fmt.Errorf("archive ends without its mark: %w", err)
		}
		body, err := io.ReadAll(io.LimitReader(in, h.HeaderSize+h.PayloadSize))
		if err != nil && !errors.Is(err, io.EOF) {
			return im, err
		}
		if h.Name == "" && h.Sequence == 0 {
			break
		}
		if dead[uint64(h.Sequence)] {
			continue
		}
		if err := im.take(h.Name, h.Sequence, h.Timestamp, body, h.HeaderSize); err != nil {
			return im, err
		}
	}
	if len(dead) > 0 { // the state in the archive is that of the log
		var doc struct{ State json.RawMessage }
		if err := json.Unmarshal(files[dir+"/backup.json"], &doc); err != nil {
			return im, err
		}
		im.State = nil
		return im, decodeNumbers(doc.State, &im.State)
	}
	return im, nil
}

// deadIn are the sequences in the segments of a file of the dead.
func deadIn(file []byte) (map[uint64]bool, error) {
	dead := map[uint64]bool{}
	number := func() uint64 {
		v, n := varint.Uvarint(file)
		file = file[max(n, 0):]
		return v
	}
	for len(file) > 0 {
		segment := file
		if !bytes.HasPrefix(file, []byte("JSDEAD01")) {
			return nil, errors.New("a segment of the dead does not begin as one")
		}
		file = file[8:]
		next := uint64(1) // the lowest first sequence that the next run may have
		for runs := number(); runs > 0; runs-- {
			first := next + number()
			last := first + number()
			for seq := first; seq <= last; seq++ {
				dead[seq] = true
			}
			next = last + 2
		}
		sum := crc32.Checksum(segment[:len(segment)-len(file)], crc32.MakeTable(crc32.Castagnoli))
		if len(file) < 4 || varint.LittleEndian.Uint32(file) != sum {
			return nil, errors.New("a segment of the dead has another checksum")
		}
		file = file[4:]
	}
	return dead, nil
}

// configOf is the configuration in backup.json as the nats CLI's library would write it.
func configOf(text []byte) (config map[string]any, err error) {
	var doc struct{ Config api.StreamConfig }
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	p, err := json.Marshal(doc.Config)
	if err != nil {
		return nil, err
	}
	return config, decodeNumbers(p, &config)
}

// take adds one entry of an archive.
func (im *image) take(name string, seq uint64, at int64, body []byte, header int64) error {
	if seq > 0 {
		im.Messages = append(im.Messages, fmt.Sprintf("%d %d %q %q %q", seq, at, name, body[:header], body[header:]))
		return nil
	}
	if consumer, ok := strings.CutPrefix(name, "consumers/"); ok {
		var v any
		err := decodeNumbers(body, &v)
		im.Consumers[consumer] = v
		return err
	}
	return decodeNumbers(body, &im.State)
}

func decodeNumbers(p []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	return d.Decode(v)
}

// sameImages compares a snapshot's streams with what the server had.
func sameImages(t testing.TB, want, got map[string]image) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%d streams, want %d", len(got), len(want))
	}
	for name, im := range want {
		sameImage(t, im, got[name])
	}
}

// injections returns every fault of every call that a run makes, each for that call alone and for it and all that follow. Without JETSAM_PROOF
// it is a sample of that many, no two of which are the same fault of the same kind of call.
func injections(t *testing.T, calls map[storagetest.Call]int, sample int) []storagetest.Injection {
	t.Helper()
	seed := chance.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	var out []storagetest.Injection
	total := 0
	for _, c := range slices.SortedFunc(maps.Keys(calls), func(a, b storagetest.Call) int { return strings.Compare(a.String(), b.String()) }) {
		for _, f := range storagetest.Faults(c.Op) {
			var all []storagetest.Injection
			for n := 1; n <= calls[c]; n++ {
				all = append(all, storagetest.Injection{Call: c, N: n, Fault: f})
				if f != storagetest.Cancels && f != storagetest.CancelsLate && n < calls[c] {
					all = append(all, storagetest.Injection{Call: c, N: n, Fault: f, Always: true})
				}
			}
			total += len(all)
			if !proof() {
				all = []storagetest.Injection{all[random.IntN(len(all))]}
			}
			out = append(out, all...)
		}
	}
	if !proof() && len(out) > sample {
		random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		out = out[:sample]
	}
	t.Logf("%d kinds of call, %d calls, %d faults of them, %d tried (sampled with seed %d)", len(calls), sum(calls), total, len(out), seed)
	return out
}

func sum(calls map[storagetest.Call]int) (n int) {
	for _, c := range calls {
		n += c
	}
	return n
}

// faultRun is one run under a fault: what the run was told of, besides its result.
type faultRun struct {
	be     *storagetest.Injector
	ctx    context.Context
	mu     sync.Mutex
	warned []error
}

func newFaultRun(t *testing.T, be storage.Backend, plan storagetest.Injection) *faultRun {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return &faultRun{be: &storagetest.Injector{Backend: be, Plan: plan, Cancel: cancel}, ctx: ctx}
}

func (f *faultRun) warn(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.warned = append(f.warned, err)
}

func (f *faultRun) open() (*repo.Repo, error) {
	return repo.Open(f.ctx, f.be, secret.New(password), faultOptions(f.warn))
}

// wantNamed wants an error to tell what it is about: that the run was cancelled, or the file or the kind of files that the fault hit.
func (f *faultRun) wantNamed(t *testing.T, err error) {
	t.Helper()
	t.Logf("it says: %v", err)
	plan := f.be.Plan
	if plan.Fault == storagetest.Cancels || plan.Fault == storagetest.CancelsLate {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v, want that it was cancelled", err)
		}
		return
	}
	told := errors.Join(append([]error{err}, f.warned...)...).Error()
	for _, file := range f.be.Hit() {
		name := file.String()
		if plan.Op == storagetest.OpList {
			name = file.Kind.String()
		}
		if strings.Contains(told, name) {
			return
		}
	}
	if plan.Op == storagetest.OpList && plan.Fault != storagetest.Fails && plan.Fault != storagetest.BreaksOff {
		return // who is not told that a list is short can only say what is missing
	}
	t.Errorf("none of %v is named: %s", f.be.Hit(), told)
}

func (f *faultRun) wantHit(t *testing.T) {
	t.Helper()
	if len(f.be.Hit()) == 0 {
		t.Fatalf("the call did not come: %v", f.be.Calls())
	}
}

// TestFaultAtEveryCallOfBackup lets every call that a backup makes of its storage go wrong in every way. Who is told that all is well must find
// all of it in the repository, and whatever else happened, the earlier snapshot is whole and the next run succeeds.
func TestFaultAtEveryCallOfBackup(t *testing.T) {
	w := newWorld(t)
	dry := newFaultRun(t, cloneStorage(t, w.before), storagetest.Injection{})
	_, err := dry.backup(w)
	must(t, err)
	var last storage.Backend
	outcomes := make(map[string]int)
	for _, plan := range injections(t, dry.be.Calls(), 40) {
		t.Run(plan.String(), func(t *testing.T) {
			be := cloneStorage(t, w.before)
			f := newFaultRun(t, be, plan)
			res, err := f.backup(w)
			f.wantHit(t)
			outcomes[f.judgeBackup(t, w, be, res, err)]++
			last = be
		})
	}
	t.Logf("outcomes: %v", outcomes)
	resticCheck(t, last)
}

func (f *faultRun) backup(w *world) (*backup.Result, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	return backup.Run(f.ctx, w.conn, r, backup.Options{Selection: allStreams, Concurrency: 1})
}

func (f *faultRun) judgeBackup(t *testing.T, w *world, be storage.Backend, res *backup.Result, err error) (outcome string) {
	t.Helper()
	plan := f.be.Plan
	lied := plan.Op == storagetest.OpSave && plan.Fault.Silent()
	r := openWith(t, be, nil)
	_, unlockErr := r.Unlock(t.Context(), true) // of a lock that could not be released
	must(t, unlockErr)
	switch {
	case err != nil:
		outcome = "error"
		f.wantNamed(t, err)
	case len(res.Failed()) > 0:
		t.Errorf("a fault of the storage is laid at a stream's door: %+v", res.Failed())
	case lied:
		outcome = "lie found later"
		f.wantLieFound(t, w, r, res)
	default:
		outcome = "right"
		got, err := imagesOf(t.Context(), r, res.ID)
		must(t, err)
		sameImages(t, w.images[1], got)
	}
	if !lied {
		wantClean(t, r)
	}
	got, err := imagesOf(t.Context(), r, w.ids[0])
	must(t, err)
	sameImages(t, w.images[0], got)
	if lied && plan.Fault == storagetest.Flips {
		return outcome // nothing but --read-data sees it, so the next run builds on it
	}
	again := backUp(t, w.src, r, backup.Options{Selection: allStreams})
	got, err = imagesOf(t.Context(), r, again.ID)
	must(t, err)
	sameImages(t, w.images[1], got)
	return outcome
}

// wantLieFound judges a backup whose storage said that it had saved what it had not. Only a flipped bit in a pack may go unnoticed until
// every byte is read.
func (f *faultRun) wantLieFound(t *testing.T, w *world, r *repo.Repo, res *backup.Result) {
	t.Helper()
	plan := f.be.Plan
	if plan.Kind == storage.Lock {
		got, err := imagesOf(t.Context(), r, res.ID)
		must(t, err)
		sameImages(t, w.images[1], got)
		return
	}
	if plan.Kind != storage.Pack || plan.Fault != storagetest.Flips {
		t.Errorf("the backup says that all is well")
	}
	report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true}, nil)
	must(t, err)
	if !report.Damaged() || !strings.Contains(fmt.Sprint(report.Findings), f.be.Hit()[0].String()) {
		t.Errorf("check --read-data finds %v", report.Findings)
	}
	if got, err := imagesOf(t.Context(), r, res.ID); err == nil {
		sameImages(t, w.images[1], got)
		t.Error("the snapshot reads as if nothing had happened")
	} else if !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("the snapshot does not read: %v, want ErrCorrupt", err)
	}
}

func wantClean(t *testing.T, r *repo.Repo) {
	t.Helper()
	report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true}, nil)
	must(t, err)
	if report.Damaged() {
		t.Errorf("check finds %v", report.Findings)
	}
}

// TestFaultAtEveryCallOfRestore lets every call that a restore makes of its storage go wrong in every way. A stream that is said to be restored
// must be equal, and one that is not must not be on the server.
func TestFaultAtEveryCallOfRestore(t *testing.T) {
	w := newWorld(t)
	dst := startServer(t, natsd.Options{})
	c := connect(t, dst)
	dry := newFaultRun(t, w.both, storagetest.Injection{})
	_, _, err := dry.restore(c)
	must(t, err)
	emptyServer(t, dst)
	outcomes := make(map[string]int)
	for _, plan := range injections(t, dry.be.Calls(), 60) {
		t.Run(plan.String(), func(t *testing.T) {
			f := newFaultRun(t, cloneStorage(t, w.both), plan)
			id, res, err := f.restore(c)
			f.wantHit(t)
			outcomes[f.judgeRestore(t, w, dst, id, res, err)]++
			emptyServer(t, dst)
		})
	}
	t.Logf("outcomes: %v", outcomes)
}

// restore restores the latest snapshot as the command does, and returns which one that was.
func (f *faultRun) restore(c *conn.Conn) (id storage.ID, res *restore.Result, err error) {
	r, err := f.open()
	if err != nil {
		return id, nil, err
	}
	lock, err := r.Lock(f.ctx, false)
	if err != nil {
		return id, nil, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	ctx := lock.Context()
	sn, err := r.Snapshot(ctx, "latest", snapshot.Filter{})
	if err != nil {
		return id, nil, err
	}
	rd, err := r.LoadIndex(ctx, nil)
	if err != nil {
		return id, nil, err
	}
	plan, err := restore.NewPlan(ctx, rd, sn, c, restore.Options{Selection: allStreams, Concurrency: 1})
	if err != nil {
		return id, nil, err
	}
	res, err = plan.Run(ctx)
	return sn.ID(), res, err
}

func (f *faultRun) judgeRestore(t *testing.T, w *world, dst *source, id storage.ID, res *restore.Result, err error) string {
	t.Helper()
	var failures []error
	restored := make(map[string]bool)
	if res != nil {
		for _, s := range res.Streams {
			if s.Err != nil {
				failures = append(failures, s.Err)
				continue
			}
			restored[s.Name] = true
		}
	}
	if all := errors.Join(append(failures, err)...); all != nil {
		f.wantNamed(t, all)
	}
	f.wantLatest(t, w, id)
	for name := range dst.js.StreamNames(t.Context()).Name() {
		if !restored[name] {
			t.Errorf("stream %s is on the server, but not in the result: %v", name, failures)
		}
	}
	if len(restored) == 0 {
		return "error"
	}
	images := w.images[slices.Index(w.ids, id)]
	for name := range restored {
		sameImage(t, images[name], lookAt(t, dst, name))
	}
	if len(restored) < len(images) {
		return "in part"
	}
	return "right"
}

// wantLatest wants that the newest snapshot was taken. Where a list did not name it, nobody could.
func (f *faultRun) wantLatest(t *testing.T, w *world, id storage.ID) {
	t.Helper()
	plan := f.be.Plan
	short := plan.Op == storagetest.OpList && (plan.Fault == storagetest.Halves || plan.Fault == storagetest.Empties)
	if id.IsZero() || id == w.ids[1] || short {
		return
	}
	told := errors.Join(f.warned...)
	if told == nil || !strings.Contains(told.Error(), f.be.Hit()[0].String()) {
		t.Errorf("an older snapshot than the latest was taken, without a word: %v", told)
	}
	if plan.Fault == storagetest.Fails || plan.Fault == storagetest.Denies && !plan.Always {
		t.Errorf("an older snapshot was taken for the latest because the newer one could not be read now: %v", told)
	}
}

// emptyServer removes all streams.
func emptyServer(t *testing.T, s *source) {
	t.Helper()
	for name := range s.js.StreamNames(t.Context()).Name() {
		must(t, s.js.DeleteStream(t.Context(), name))
	}
}

// TestFaultAtEveryCallOfCheck lets every call that a check makes of its storage go wrong in every way. Of a damaged repository no fault may make
// a sound one, and what is said of a sound one names what was hit.
func TestFaultAtEveryCallOfCheck(t *testing.T) {
	w := newWorld(t)
	flipped, missing := cloneStorage(t, w.both), cloneStorage(t, w.both)
	pack := lastDataPack(t, w)
	data, err := flipped.Load(t.Context(), pack, 0, -1)
	must(t, err)
	data[len(data)/3] ^= 1
	must(t, flipped.Remove(t.Context(), pack))
	must(t, flipped.Save(t.Context(), pack, data))
	must(t, missing.Remove(t.Context(), pack))
	for _, c := range []struct {
		name    string
		be      storage.Backend
		o       repo.CheckOptions
		damaged bool
	}{
		{"sound", w.both, repo.CheckOptions{}, false},
		{"sound, every byte", w.both, repo.CheckOptions{ReadData: true}, false},
		{"a pack is missing", missing, repo.CheckOptions{}, true},
		{"a bit is flipped", flipped, repo.CheckOptions{ReadData: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dry := newFaultRun(t, cloneStorage(t, c.be), storagetest.Injection{})
			_, err := dry.check(c.o)
			must(t, err)
			outcomes := make(map[string]int)
			for _, plan := range injections(t, dry.be.Calls(), 60) {
				f := newFaultRun(t, cloneStorage(t, c.be), plan)
				report, err := f.check(c.o)
				t.Run(plan.String(), func(t *testing.T) {
					f.wantHit(t)
					outcomes[f.judgeCheck(t, report, err, c.damaged)]++
				})
			}
			t.Logf("outcomes: %v", outcomes)
		})
	}
}

// lastDataPack returns the pack with the last blob of the second snapshot's messages.
func lastDataPack(t *testing.T, w *world) storage.File {
	t.Helper()
	return storage.File{Kind: storage.Pack, ID: locate(t, openWith(t, w.both, nil), "ORDERS").Pack}
}

func (f *faultRun) check(o repo.CheckOptions) (*repo.Report, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	return r.Check(f.ctx, o, nil)
}

func (f *faultRun) judgeCheck(t *testing.T, report *repo.Report, err error, damaged bool) string {
	t.Helper()
	switch {
	case err != nil && report == nil:
		f.wantNamed(t, err)
		return "error"
	case err != nil:
		t.Errorf("a report together with the error %v", err)
	case damaged && !report.Damaged():
		t.Errorf("a damaged repository is called sound; warned of %v", f.warned)
	case !damaged && report.Damaged():
		f.wantNamed(t, errors.New(fmt.Sprint(report.Findings)))
		return "findings"
	}
	return "right"
}
