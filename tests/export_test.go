package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jsm.go"
	jsmbackup "github.com/nats-io/jsm.go/backup"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

// What jetsam exports is judged by other people's code: the nats CLI's library validates the directories and restores them into a server.

// planExport plans an export of the newest snapshot.
func planExport(t testing.TB, r *repo.Repo, dir string, o restore.Options) (*restore.Export, error) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := r.Snapshot(t.Context(), "latest", snapshot.Filter{})
	must(t, err)
	return restore.NewExport(t.Context(), rd, sn, dir, o)
}

// exported exports streams of the newest snapshot, all of which must succeed, and returns the directory above theirs.
func exported(t testing.TB, r *repo.Repo, o restore.Options) (string, *restore.Export, *restore.Result) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	x, err := planExport(t, r, dir, o)
	must(t, err)
	res, err := x.Run(t.Context())
	must(t, err)
	for _, f := range res.Failed() {
		t.Fatal(f.Err)
	}
	return dir, x, res
}

// restoreStock restores a directory as `nats stream restore` does.
func restoreStock(t testing.TB, dst *source, stream, dir string) {
	t.Helper()
	report, err := jsmbackup.Verify(dir)
	if err != nil || !report.Complete {
		t.Fatalf("%s: the nats CLI finds it incomplete: %+v, %v", dir, report, err)
	}
	mgr, err := jsm.New(dst.nc)
	must(t, err)
	if _, _, err := mgr.RestoreSnapshotFromDirectory(t.Context(), stream, dir); err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
}

// wantDirectories wants those directories below dir, private and of two files each, and nothing else.
func wantDirectories(t testing.TB, dir string, names ...string) {
	t.Helper()
	var want, got []string
	for _, name := range names {
		want = append(want, name+" 0700", name+"/backup.json 0600", name+"/stream.arc.s2 0600")
	}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		must(t, err)
		rel, err := filepath.Rel(dir, path)
		must(t, err)
		mode := info.Mode().Perm()
		if runtime.GOOS == "windows" {
			mode = 0o600
			if e.IsDir() {
				mode = 0o700
			}
		}
		got = append(got, fmt.Sprintf("%s %04o", filepath.ToSlash(rel), mode))
		return nil
	}))
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Fatalf("in %s there is %q, want %q", dir, got, want)
	}
}

// TestExport exports an account of every kind of stream, restores it by the nats CLI's library, and lets that say whether anything differs.
func TestExport(t *testing.T) {
	src, want := filled(t)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	src.Shutdown()

	dir, x, res := exported(t, r, restore.Options{Selection: allStreams})
	dst := startServer(t, wide)
	var names []string
	for i, s := range x.Streams {
		names = append(names, streamlog.EscapeName(s.Name))
		im := want[s.Name]
		if got := res.Streams[i]; got.Dir != filepath.Join(dir, names[i]) || !got.Verified || got.Messages != uint64(len(im.Messages)) || got.Consumers != len(im.Consumers) {
			t.Errorf("%s: %+v", s.Name, got)
		}
		t.Run(s.Name, func(t *testing.T) {
			restoreStock(t, dst, s.Name, filepath.Join(dir, names[i]))
			sameImage(t, im, lookAt(t, dst, s.Name))
		})
	}
	if len(names) != len(want) {
		t.Errorf("%d streams were exported, want %d", len(names), len(want))
	}
	wantDirectories(t, dir, names...)
	document, err := os.ReadFile(filepath.Join(dir, "PLAIN", "backup.json"))
	must(t, err)
	if bytes.Contains(document, []byte("jetsam")) {
		t.Errorf("the document speaks of jetsam: %s", document)
	}
	packed, err := os.Stat(filepath.Join(dir, "PLAIN", "stream.arc.s2"))
	must(t, err)
	if plain := int64(res.Streams[slices.Index(names, "PLAIN")].Bytes); packed.Size() > plain/2 {
		t.Errorf("%d bytes of messages became a file of %d: it is not compressed", plain, packed.Size())
	}
}

// TestExportCuts exports parts of a stream whose log has dead messages in it, under its own name and another, and wants of the nats CLI's
// library what jetsam restores of the same.
func TestExportCuts(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	ends := entries(t, x.image)
	middle := ends[len(ends)/2]
	for name, o := range map[string]restore.Options{
		"whole":     {},
		"until":     {Cut: restore.Cut{UntilSeq: middle.seq}},
		"window":    {Cut: restore.Cut{FromSeq: 700, UntilSeq: 1800}},
		"since":     {Cut: restore.Cut{Since: time.Unix(0, middle.at)}},
		"at":        {Cut: restore.Cut{At: time.Unix(0, middle.at)}},
		"subject":   {Cut: restore.Cut{Subjects: []string{"orders.eu.*"}}},
		"as":        {Target: restore.Target{As: "COPY", Storage: "memory"}, Cut: restore.Cut{UntilSeq: middle.seq, KeepLastSeq: true}},
		"consumers": {NoConsumers: true},
	} {
		o.Selection = allStreams
		stream := "ORDERS"
		if o.Target.As != "" {
			stream = o.Target.As
		}
		dir, _, res := exported(t, x.r, o)
		wantDirectories(t, dir, stream)
		restoreStock(t, x.dst, stream, filepath.Join(dir, stream))
		got := lookAt(t, x.dst, stream)
		emptyServer(t, x.dst)
		o.Verify = true
		restoreInto(t, x.dst, x.r, o)
		want := lookAt(t, x.dst, stream)
		emptyServer(t, x.dst)
		if len(want.Messages) == 0 || res.Streams[0].Messages != uint64(len(want.Messages)) {
			t.Errorf("%s: %d messages, reported are %d", name, len(want.Messages), res.Streams[0].Messages)
		}
		if !t.Run(name, func(t *testing.T) { sameImage(t, want, got) }) {
			break
		}
	}
}

// TestExportAt exports streams as they were between two snapshots.
func TestExportAt(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "LOG", Subjects: []string{"log"}})
	kv, err := src.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b", History: 1})
	must(t, err)
	put := func(n, from int) {
		src.publish(t, "log", n, text)
		for i := range n {
			_, err := kv.Put(t.Context(), fmt.Sprint("key", from+i%7), text(i))
			must(t, err)
		}
	}
	put(100, 0)
	remove(t, st, 5, 6)
	backUp(t, src, r, backUpOptions)
	put(50, 4)
	want := map[string]image{"LOG": lookAt(t, src, "LOG"), "KV_b": lookAt(t, src, "KV_b")}
	at := time.Now()
	time.Sleep(2 * time.Millisecond)
	put(30, 11) // other keys: what was replaced between two snapshots is in neither
	backUp(t, src, r, backUpOptions)

	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	dir := filepath.Join(t.TempDir(), "out")
	x, err := restore.NewExportAt(t.Context(), rd, snapshotsOf(t, r), dir, restore.Options{Selection: allStreams, Cut: restore.Cut{At: at}})
	must(t, err)
	res, err := x.Run(t.Context())
	must(t, err)
	for _, s := range res.Streams {
		must(t, s.Err)
		restoreStock(t, dst, s.Name, s.Dir)
		got := lookAt(t, dst, s.Name)
		got.State["bytes"] = want[s.Name].State["bytes"] // between two snapshots it is an estimate
		sameImage(t, want[s.Name], got)
	}
	wantDirectories(t, dir, "KV_b", "LOG")
}

// TestExportRenamed exports a bucket as another bucket: clients find the keys in it.
func TestExportRenamed(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	fillKV(t, src)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backUpOptions)
	dir, _, _ := exported(t, r, restore.Options{Selection: allStreams, Target: restore.Target{Rename: map[string]string{"KV_users": "KV_then"}}})
	restoreStock(t, dst, "KV_then", filepath.Join(dir, "KV_then"))
	was, err := src.js.KeyValue(t.Context(), "users")
	must(t, err)
	is, err := dst.js.KeyValue(t.Context(), "then")
	must(t, err)
	for i := range 40 {
		key := fmt.Sprintf("user.%d", i)
		want, werr := was.Get(t.Context(), key)
		got, gerr := is.Get(t.Context(), key)
		if (werr == nil) != (gerr == nil) || werr == nil && !bytes.Equal(want.Value(), got.Value()) {
			t.Errorf("%s: %v, %v", key, werr, gerr)
		}
	}
}

// TestExportRefuses: where something is in the way, or nothing would come of it, nothing is written.
func TestExportRefuses(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	p := w.admit(t)
	o := restore.Options{Selection: streamlog.Selection{Names: []string{"ORDERS"}}}

	occupied := t.TempDir()
	must(t, os.WriteFile(filepath.Join(occupied, "mine"), nil, 0o600))
	if x, err := planExport(t, p.repo, occupied, o); x != nil || !errors.Is(err, storage.ErrExist) || !strings.Contains(err.Error(), "mine") {
		t.Errorf("into a directory that is not empty: %v", err)
	}
	vacant := filepath.Join(t.TempDir(), "vacant")
	x, err := planExport(t, p.repo, vacant, o)
	must(t, err)
	must(t, os.Mkdir(vacant, 0o700))
	must(t, os.WriteFile(filepath.Join(vacant, "came"), nil, 0o600))
	if _, err := x.Run(t.Context()); !errors.Is(err, storage.ErrExist) {
		t.Errorf("into a directory that was filled meanwhile: %v", err)
	}
	wantEntries(t, vacant, "came")

	nothing := o
	nothing.Cut.Subjects = []string{"nobody.says.this"}
	var request *restore.RequestError
	if _, err := planExport(t, p.repo, filepath.Join(t.TempDir(), "out"), nothing); !errors.As(err, &request) {
		t.Errorf("a cut that leaves nothing: %v", err)
	}

	// Damage that a plan knows of, and damage that only reading finds.
	must(t, os.Remove(p.pack(p.messagePack(t).Pack)))
	p.reopen(t)
	var lost *restore.DamageError
	if _, err := planExport(t, p.repo, filepath.Join(t.TempDir(), "out"), o); !errors.As(err, &lost) {
		t.Errorf("a pack is gone: %v", err)
	}
	p = w.admit(t)
	_, ids := p.groups(t, "ORDERS")
	p.rot(t, data(ids[2][0]))
	p.reopen(t)
	out := filepath.Join(t.TempDir(), "above", "out")
	x, err = planExport(t, p.repo, out, o)
	must(t, err)
	res, err := x.Run(t.Context())
	must(t, err)
	if s := res.Streams[0]; !errors.As(s.Err, &lost) || s.Dir != "" || s.Lost == nil {
		t.Errorf("a flipped bit: %+v", s)
	}
	if _, err := os.Stat(filepath.Dir(out)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left of it: %v", err)
	}
}

func wantEntries(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		t.Errorf("in %s there is %q, want %q", dir, got, names)
	}
}

// TestExportSkipsDamage exports what is whole of a stream, and says what is not.
func TestExportSkipsDamage(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	p := w.admit(t)
	groups, ids := p.groups(t, "ORDERS")
	p.rot(t, data(ids[2][0]))
	p.reopen(t)
	dst := startServer(t, natsd.Options{})
	dir, _, res := exported(t, p.repo, restore.Options{Selection: allStreams, SkipDamaged: true})
	for _, s := range res.Streams {
		restoreStock(t, dst, s.Name, filepath.Join(dir, s.Name))
		want, got := w.images[s.Name], lookAt(t, dst, s.Name)
		if s.Name != "ORDERS" {
			sameImage(t, want, got)
			continue
		}
		hole := spanOf(groups[2])
		if spans := spansOf(s.Lost); !slices.Equal(spans, []span{hole}) || s.Verified {
			t.Errorf("lost: %v, want %v, verified %v", spans, hole, s.Verified)
		}
		var left []string
		for _, e := range entries(t, want) {
			if e.seq < hole.First || e.seq > hole.Last {
				left = append(left, e.text)
			}
		}
		if !slices.Equal(left, got.Messages) {
			t.Errorf("%d messages, want %d", len(got.Messages), len(left))
		}
	}
}

// TestExportWarns: what a server may make of the directory is told, and max_age that has passed is held.
func TestExportWarns(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, wide), startServer(t, wide)
	ctx := t.Context()
	create := func(name string, c jetstream.StreamConfig) {
		c.Name, c.Subjects = name, []string{strings.ToLower(name)}
		src.create(t, c)
		src.publish(t, c.Subjects[0], 3, text)
	}
	create("AGED", jetstream.StreamConfig{MaxAge: 9 * time.Minute}) // less than the margin for which restores hold it
	create("YOUNG", jetstream.StreamConfig{MaxAge: 1000 * time.Hour})
	create("LARGE", jetstream.StreamConfig{})
	_, err := src.js.Publish(ctx, "large", make([]byte, 3<<20))
	must(t, err)
	create("PUSHED", jetstream.StreamConfig{})
	_, err = src.js.CreatePushConsumer(ctx, "PUSHED", jetstream.ConsumerConfig{Durable: "p", DeliverSubject: "deliver", AckPolicy: jetstream.AckNonePolicy})
	must(t, err)
	r, _ := newRepo(t, repo.Options{})
	create("TTL", jetstream.StreamConfig{AllowMsgTTL: true})
	for seconds, captured := 2, uint64(0); captured != 4; seconds *= 2 { // a slow machine takes a while
		src.waitMessages(t, "TTL", 3)
		_, err = src.js.PublishMsg(ctx, &nats.Msg{Subject: "ttl", Header: nats.Header{"Nats-TTL": {fmt.Sprint(seconds, "s")}}})
		must(t, err)
		res := backUp(t, src, r, backUpOptions)
		captured = res.Streams[slices.IndexFunc(res.Streams, func(s backup.StreamResult) bool { return s.Name == "TTL" })].Messages
	}
	src.waitMessages(t, "TTL", 3) // the server has removed that message, and the snapshot has it

	warned := func(o restore.Options) (string, map[string]string) {
		t.Helper()
		dir, x, res := exported(t, r, o)
		text := map[string]string{}
		for i, s := range x.Streams {
			text[s.Source] = strings.Join(append(s.Warnings, res.Streams[i].Notes...), "\n")
		}
		return dir, text
	}
	dir, got := warned(restore.Options{Selection: allStreams, Target: restore.Target{Rename: map[string]string{"PUSHED": "LARGE_ALSO"}}})
	for stream, want := range map[string]string{
		"AGED":   "without max_age",
		"YOUNG":  "its max_age is 1000h0m0s: what is older by the time that the directory is restored",
		"LARGE":  "a message of 3,145,728 bytes: a server takes it only if its max_payload",
		"TTL":    "1 messages whose Nats-TTL has passed, or soon will have, have that field called Jetsam-TTL",
		"PUSHED": "push consumers, which deliver to the same subjects as those of stream PUSHED",
	} {
		if !strings.Contains(got[stream], want) {
			t.Errorf("of %s it is said: %s", stream, got[stream])
		}
	}
	restoreStock(t, dst, "AGED", filepath.Join(dir, "AGED"))
	if age := lookAt(t, dst, "AGED").Config["max_age"]; fmt.Sprint(age) != "0" {
		t.Errorf("max_age is %v", age)
	}
	restoreStock(t, dst, "TTL", filepath.Join(dir, "TTL"))
	if n := dst.messages(t, "TTL"); n != 4 {
		t.Errorf("the stream with times to live has %d messages, want all 4", n)
	}
	emptyServer(t, dst)

	dir, got = warned(restore.Options{Selection: streamlog.Selection{Names: []string{"AGED", "PUSHED", "YOUNG"}}, Target: restore.Target{ApplyLimits: true, Rename: map[string]string{"PUSHED": "aged"}}})
	if strings.Contains(got["AGED"], "without max_age") || !strings.Contains(got["AGED"], "its max_age is 9m0s") {
		t.Errorf("with the limits applied: %s", got["AGED"])
	}
	if want := `its subject "aged" overlaps "aged" of stream AGED`; !strings.Contains(got["PUSHED"], want) {
		t.Errorf("of overlapping subjects: %s", got["PUSHED"])
	}
	restoreStock(t, dst, "AGED", filepath.Join(dir, "AGED"))
	if age := lookAt(t, dst, "AGED").Config["max_age"]; fmt.Sprint(age) != fmt.Sprint(int64(9*time.Minute)) {
		t.Errorf("max_age is %v", age)
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	folded := map[string]bool{}
	for _, e := range entries {
		folded[strings.ToLower(e.Name())] = true
	}
	if len(folded) != 3 {
		t.Errorf("%d directories, some the same in upper and lower case: %v", len(folded), entries)
	}
}

// TestExportOfUnfinishedRestore: no mark of a restore gets into a directory.
func TestExportOfUnfinishedRestore(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Metadata: map[string]string{"jetsam-restore": "RUN 0123456789 2026-01-01T00:00:00Z", "team": "orders"}})
	src.publish(t, "s", 3, text)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backUpOptions)
	dir, _, _ := exported(t, r, restore.Options{Selection: allStreams})
	raw, err := os.ReadFile(filepath.Join(dir, "S", "backup.json"))
	must(t, err)
	var document struct {
		Config struct{ Metadata map[string]string }
	}
	must(t, json.Unmarshal(raw, &document))
	if got := document.Config.Metadata; got["team"] != "orders" || got["jetsam-restore"] != "" {
		t.Errorf("metadata is %v", got)
	}
}

// TestExportCancelled cancels an export at each of its reports: a stream that succeeded is there and whole, and of the others nothing is.
func TestExportCancelled(t *testing.T) {
	w := newWorld(t)
	r := openWith(t, w.both, nil)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := r.Snapshot(t.Context(), "latest", snapshot.Filter{})
	must(t, err)
	images := w.images[1]
	done := map[int]int{}
	n := cancelAt(t, func(ctx context.Context, report func()) {
		dir := filepath.Join(t.TempDir(), "out")
		x, err := restore.NewExport(t.Context(), rd, sn, dir, restore.Options{Selection: allStreams, Progress: func(restore.Progress) { report() }})
		must(t, err)
		res, err := x.Run(ctx)
		var names []string
		for _, s := range res.Streams {
			if s.Err == nil {
				names = append(names, s.Name)
				sameMessages(t, images[s.Name], readDump(t, s.Dir))
			} else if !errors.Is(s.Err, context.Canceled) || err == nil {
				t.Errorf("stream %s failed: %v; the run: %v", s.Name, s.Err, err)
			}
		}
		done[len(names)]++
		if len(names) > 0 {
			wantDirectories(t, dir, names...)
		} else if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("something is left: %v", err)
		}
	})
	t.Logf("%d reports; so often so many streams were exported: %v", n, done)
	if done[0] == 0 || done[len(images)] == 0 {
		t.Errorf("it was never cancelled, or always")
	}
}

// sameMessages wants all messages of one image in another.
func sameMessages(t testing.TB, want, got image) {
	t.Helper()
	if !slices.Equal(want.Messages, got.Messages) {
		t.Errorf("%d messages, want %d, or others", len(got.Messages), len(want.Messages))
	}
}

// TestExportKilled kills exports while they write: whatever is there under the name of a stream is whole.
func TestExportKilled(t *testing.T) {
	src := startServer(t, natsd.Options{})
	seed := chance.Seed(t)
	event := eventMaker(seed)
	images := map[string]image{}
	for i, name := range []string{"A", "B", "C"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		src.publish(t, name, 100+6000*i, func(int) []byte { return event(1000) })
		images[name] = lookAt(t, src, name)
	}
	r, repository := newRepo(t, repo.Options{})
	backUp(t, src, r, backUpOptions)
	src.Shutdown()
	c := command{repo: repository}
	unfinished, whole := 0, 0
	for round := range kills(t) {
		dir := filepath.Join(t.TempDir(), "out")
		cmd := c.prepare(t, "export", "latest", "--target", dir, "--no-progress")
		must(t, cmd.Start())
		done := make(chan struct{})
		go func() {
			_ = cmd.Wait() // killed, or done before
			close(done)
		}()
		for before, i := "", 0; i <= round%6; i++ { // several changes are seen while it runs
			before = waitForChange(dir, before, done)
		}
		_ = cmd.Process.Kill()
		<-done
		left, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range left {
			if strings.HasPrefix(e.Name(), "unfinished-tmp-") {
				unfinished++
				continue
			}
			whole++
			sameMessages(t, images[e.Name()], readDump(t, filepath.Join(dir, e.Name())))
		}
	}
	t.Logf("%d directories were left unfinished, %d whole", unfinished, whole)
	if unfinished == 0 || whole == 0 {
		t.Error("the kills came all too late, or all too early")
	}
}
