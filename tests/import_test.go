package tests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	upstream "github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// dumpAll runs what `nats account backup` runs for these streams, and returns the directory.
func dumpAll(t testing.TB, s *source, streams ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range streams {
		dump(t, s, name, filepath.Join(dir, name))
	}
	return dir
}

// importAll imports what is in the directories. What becomes of each of them is in the result.
func importAll(t testing.TB, r *repo.Repo, o backup.ImportOptions, dirs ...string) *backup.Result {
	t.Helper()
	dumps, err := backup.FindDumps(t.Context(), dirs)
	must(t, err)
	res, err := backup.Import(t.Context(), r, dumps, o)
	must(t, err)
	return res
}

// TestImport imports an account of every kind of stream from the nats CLI's directories, restores it, and compares with what the server had.
func TestImport(t *testing.T) {
	src, want := filled(t)
	dir := dumpAll(t, src, sortedKeys(want)...)
	src.Shutdown()
	r, repoDir := newRepo(t, repo.Options{})
	res := importAll(t, r, backup.ImportOptions{Tags: []string{"old"}}, dir)
	for _, s := range res.Failed() {
		t.Errorf("directory %s: %v %s", s.Dir, s.Err, s.Torn)
	}
	if len(res.Streams) != len(want) || res.Snapshot.Hostname != backup.ImportHost || !slices.Equal(res.Snapshot.Tags, []string{"old"}) {
		t.Errorf("%d streams of %q with tags %q", len(res.Streams), res.Snapshot.Hostname, res.Snapshot.Tags)
	}
	dst := startServer(t, wide)
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	for name, im := range want {
		t.Run(name, func(t *testing.T) { sameImage(t, im, lookAt(t, dst, name)) })
	}
	restic(t, repoDir, "check", "--read-data")
}

// TestImportOfWhatIsThere: a stream that was backed up is not stored again when its dump is imported, nor the other way round.
func TestImportOfWhatIsThere(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	fill := func(i int) []byte { return bytes.Repeat(text(i), 100) }
	src.publish(t, "orders", 5000, fill)
	dir := dumpAll(t, src, "ORDERS")

	after, _ := newRepo(t, repo.Options{})
	first := backUp(t, src, after, backup.Options{Selection: allStreams}).Stats.AddedBytes()
	if added := importAll(t, after, backup.ImportOptions{}, dir).Stats.AddedBytes(); added > first/10 {
		t.Errorf("the backup added %d bytes, the import of the same %d", first, added)
	}
	before, _ := newRepo(t, repo.Options{})
	first = importAll(t, before, backup.ImportOptions{}, dir).Stats.AddedBytes()
	if added := backUp(t, src, before, backup.Options{Selection: allStreams}).Stats.AddedBytes(); added > first/10 {
		t.Errorf("the import added %d bytes, the backup of the same %d", first, added)
	}
	if again := importAll(t, before, backup.ImportOptions{}, dir); again.Streams[0].NewBytes != 0 {
		t.Errorf("the same import again added %d bytes of the stream", again.Streams[0].NewBytes)
	}
}

// TestImportIsDated: a snapshot is of the time when the last file was written, unless it is told.
func TestImportIsDated(t *testing.T) {
	src := startServer(t, natsd.Options{})
	for _, name := range []string{"A", "B"} {
		src.create(t, jetstream.StreamConfig{Name: name})
		src.publish(t, name, 3, text)
	}
	dir := dumpAll(t, src, "A", "B")
	old := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	for i, file := range []string{"A/backup.json", "A/stream.arc.s2", "B/backup.json", "B/stream.arc.s2"} {
		at := old.Add(time.Duration(i%3) * time.Hour)
		must(t, os.Chtimes(filepath.Join(dir, file), at, at))
	}
	r, _ := newRepo(t, repo.Options{})
	if at := importAll(t, r, backup.ImportOptions{}, dir).Snapshot.Time; !at.Equal(old.Add(2 * time.Hour)) {
		t.Errorf("the snapshot is of %v", at)
	}
	told := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	if at := importAll(t, r, backup.ImportOptions{Time: told}, dir).Snapshot.Time; !at.Equal(told) {
		t.Errorf("the snapshot is of %v", at)
	}
}

// damagedDumps are ways in which a directory is not, or not any more, a dump that can be taken, and what is said of it.
func damagedDumps() map[string]struct {
	damage func(t testing.TB, dir string)
	says   string
} {
	type way = struct {
		damage func(t testing.TB, dir string)
		says   string
	}
	edit := func(name string, change func([]byte) []byte) func(testing.TB, string) {
		return func(t testing.TB, dir string) {
			t.Helper()
			p, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, name), change(p), 0o600))
		}
	}
	replaced := func(old, new string) func([]byte) []byte {
		return func(p []byte) []byte { return bytes.ReplaceAll(p, []byte(old), []byte(new)) }
	}
	const document, data = "backup.json", "stream.arc.s2"
	return map[string]way{
		"cut short":           {edit(data, func(p []byte) []byte { return p[:len(p)/2] }), "archive is cut short"},
		"without its end":     {edit(data, reframed(func(p []byte) []byte { return p[:len(p)-5] })), "archive is cut short"},
		"more behind the end": {edit(data, reframed(func(p []byte) []byte { return append(p, 0) })), "bytes behind the end mark"},
		"a flipped bit":       {edit(data, func(p []byte) []byte { p[len(p)/2] ^= 1; return p }), "archive is malformed"},
		"empty archive":       {edit(data, func([]byte) []byte { return nil }), "it is empty, or ends at once"},
		"no archive at all":   {edit(data, func([]byte) []byte { return []byte("something else altogether") }), "archive is malformed"},
		"archive gone":        {func(t testing.TB, dir string) { must(t, os.Remove(filepath.Join(dir, data))) }, "there is backup.json, but no archive beside it"},
		"two archives": {func(t testing.TB, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "stream.tar.s2"), nil, 0o600))
		}, "it holds stream.arc.s2 and stream.tar.s2, and which of them backup.json belongs to is not known"},
		"archive is a directory of that name": {func(t testing.TB, dir string) {
			must(t, os.Remove(filepath.Join(dir, data)))
			must(t, os.Mkdir(filepath.Join(dir, data), 0o700))
		}, "no archive beside it"},
		"document gone":            {func(t testing.TB, dir string) { must(t, os.Remove(filepath.Join(dir, document))) }, "there is an archive, but no backup.json beside it"},
		"unfinished":               {edit(document, func([]byte) []byte { return nil }), "backup.json is empty: the backup that began to write this directory did not finish"},
		"no JSON":                  {edit(document, func(p []byte) []byte { return p[:len(p)-1] }), "not valid JSON"},
		"nested without end":       {edit(document, func([]byte) []byte { return bytes.Repeat([]byte("["), 1<<20) }), "decode backup.json"},
		"large":                    {edit(document, func([]byte) []byte { return bytes.Repeat([]byte(" "), 9<<20) }), "more than the 8388608 bytes that are read"},
		"without a state":          {edit(document, replaced(`"state"`, `"stat"`)), "config or state is missing"},
		"a name that is a path":    {edit(document, replaced(`"name": "BAD"`, `"name": "../BAD"`)), "is not a stream name"},
		"a name of many bytes":     {edit(document, replaced(`"BAD"`, `"`+strings.Repeat("B", 300)+`"`)), "it has 300 bytes, and servers take 255"},
		"no name":                  {edit(document, replaced(`"name": "BAD"`, `"name": ""`)), "without a name"},
		"impossible state":         {edit(document, replaced(`"last_seq": 200`, `"last_seq": 20`)), "200 messages between first_seq 1 and last_seq 20"},
		"the state of another":     {edit(document, replaced(`"messages": 200`, `"messages": 199`)), "backup.json is not of this archive"},
		"more than its state says": {edit(data, reframed(messageAdded)), "received 201 messages up to sequence 201 of a stream that had 200 up to 200"},
	}
}

// reframed changes what is in an archive's S2 framing.
func reframed(change func([]byte) []byte) func([]byte) []byte {
	return func(p []byte) []byte {
		var plain, out bytes.Buffer
		if _, err := plain.ReadFrom(s2.NewReader(bytes.NewReader(p))); err != nil {
			panic(err)
		}
		w := s2.NewWriter(&out)
		if _, err := w.Write(change(plain.Bytes())); err != nil {
			panic(err)
		}
		if err := w.Close(); err != nil {
			panic(err)
		}
		return out.Bytes()
	}
}

// messageAdded puts message 201 before an archive's end mark, as the server's own package writes it.
func messageAdded(p []byte) []byte {
	var b bytes.Buffer
	w := upstream.NewWriter(&b)
	if err := w.WriteHeader(&upstream.Header{Name: "bad", Timestamp: 1, Sequence: 201, PayloadSize: 1}); err != nil {
		panic(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	entry := bytes.TrimPrefix(b.Bytes(), p[:len("NATSARC1")])
	return slices.Concat(p[:len(p)-5], entry, p[len(p)-5:])
}

// TestImportOfDamagedDumps: one directory that cannot be taken costs no other, is named with the reason, and nothing of it is in the snapshot.
func TestImportOfDamagedDumps(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	for _, name := range []string{"GOOD", "BAD"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}})
		src.publish(t, strings.ToLower(name), 200, text)
	}
	for name, way := range damagedDumps() {
		t.Run(name, func(t *testing.T) {
			dir := dumpAll(t, src, "GOOD", "BAD")
			way.damage(t, filepath.Join(dir, "BAD"))
			r, _ := newRepo(t, repo.Options{})
			res := importAll(t, r, backup.ImportOptions{}, dir)
			failed := res.Failed()
			if len(failed) != 1 || failed[0].Dir != filepath.Join(dir, "BAD") || !strings.Contains(fmt.Sprint(failed[0].Err), way.says) {
				t.Fatalf("failed: %+v, want %q", failed, way.says)
			}
			rd, held := newestStreams(t, r)
			account, err := streamlog.OpenAccount(t.Context(), rd, res.Snapshot.Tree)
			must(t, err)
			if named := len(account.Failed) == 1; named != (failed[0].Name == "BAD") {
				t.Errorf("account.json names %+v", account.Failed)
			}
			if len(held) != 1 || held[0].Name != "GOOD" || held[0].Document.Jetsam.Messages != 200 {
				t.Errorf("the snapshot holds %d streams", len(held))
			}
		})
	}
}

// TestImportOfNothing: where no directory can be taken, and where there is none, there is no snapshot.
func TestImportOfNothing(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A"})
	dir := dumpAll(t, src, "A")
	must(t, os.Truncate(filepath.Join(dir, "A", "stream.arc.s2"), 10))
	r, _ := newRepo(t, repo.Options{})
	dumps, err := backup.FindDumps(t.Context(), []string{dir})
	must(t, err)
	if res, err := backup.Import(t.Context(), r, dumps, backup.ImportOptions{}); err == nil || len(res.Failed()) != 1 || res.Snapshot != nil {
		t.Errorf("%v, %+v", err, res)
	}
	for _, s := range []string{t.TempDir(), filepath.Join(dir, "nowhere"), filepath.Join(dir, "A", "backup.json")} {
		if dumps, err := backup.FindDumps(t.Context(), []string{dir, s}); err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %v, %v", s, dumps, err)
		}
	}
	for _, err := range r.Snapshots(t.Context()) {
		t.Errorf("there is a snapshot (%v)", err)
	}
}

// TestImportOfOneStreamTwice: two directories of one stream are refused, and both are named; the same directory given twice is one.
func TestImportOfOneStreamTwice(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A"})
	one, two := dumpAll(t, src, "A"), dumpAll(t, src, "A")
	_, err := backup.FindDumps(t.Context(), []string{one, two})
	if err == nil || !strings.Contains(err.Error(), "stream A is in "+filepath.Join(one, "A")+" and in "+filepath.Join(two, "A")) {
		t.Errorf("error %v", err)
	}
	dumps, err := backup.FindDumps(t.Context(), []string{one, filepath.Join(one, "A"), one + "/."})
	if err != nil || len(dumps) != 1 {
		t.Errorf("%d dumps, %v", len(dumps), err)
	}
}

// TestImportByContent: what an archive is does not follow from its name, and a dump of nothing but links is one.
func TestImportByContent(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A"})
	src.publish(t, "A", 10, text)
	want := lookAt(t, src, "A")
	dir := filepath.Join(dumpAll(t, src, "A"), "A")
	must(t, os.Rename(filepath.Join(dir, "stream.arc.s2"), filepath.Join(dir, "stream.tar.s2")))
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(dir, link))
	r, _ := newRepo(t, repo.Options{})
	importAll(t, r, backup.ImportOptions{}, link)
	dst := startServer(t, natsd.Options{})
	restoreInto(t, dst, r, restore.Options{Selection: allStreams})
	sameImage(t, want, lookAt(t, dst, "A"))
}

// TestImportOfABusyStream: a dump that lacks messages of its state, as one of a stream does from which some were removed meanwhile, is kept and marked.
func TestImportOfABusyStream(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A"})
	src.publish(t, "A", 10, text)
	dir := filepath.Join(dumpAll(t, src, "A"), "A")
	edit := func(name string, change func([]byte) []byte) {
		p, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), change(p), 0o600))
	}
	edit("backup.json", func(p []byte) []byte {
		return bytes.Replace(bytes.Replace(p, []byte(`"messages": 10`), []byte(`"messages": 12`), 1), []byte(`"last_seq": 10`), []byte(`"last_seq": 12`), 1)
	})
	edit("stream.arc.s2", reframed(func(p []byte) []byte {
		return bytes.Replace(bytes.Replace(p, []byte(`"messages":10`), []byte(`"messages":12`), 1), []byte(`"last_seq":10`), []byte(`"last_seq":12`), 1)
	}))
	r, _ := newRepo(t, repo.Options{})
	res := importAll(t, r, backup.ImportOptions{}, dir)
	const says = "2 messages of the 12 that the stream had when its backup began are not there"
	if s := res.Streams[0]; s.Err != nil || !strings.HasPrefix(s.Torn, says) || s.Messages != 10 || len(res.Failed()) != 1 {
		t.Errorf("%+v", s)
	}
	_, held := newestStreams(t, r)
	if torn := held[0].Document.Jetsam.Torn; !strings.HasPrefix(torn, says) {
		t.Errorf("the repository says %q", torn)
	}
}

// TestImportCancelled: an import that is interrupted leaves no snapshot.
func TestImportCancelled(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A"})
	src.publish(t, "A", 5000, text)
	dir := dumpAll(t, src, "A")
	r, _ := newRepo(t, repo.Options{})
	dumps, err := backup.FindDumps(t.Context(), []string{dir})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = backup.Import(ctx, r, dumps, backup.ImportOptions{Progress: func(backup.Progress) { cancel() }})
	if err == nil || ctx.Err() == nil {
		t.Errorf("error %v", err)
	}
	for range r.Snapshots(t.Context()) {
		t.Error("there is a snapshot")
	}
}

// TestImportsAreJoinedWithCare: when an imported stream was created is not known. So it is not taken to be the one in an earlier import unless that
// one's last message is still there, and no moment in between is put together of both.
func TestImportsAreJoinedWithCare(t *testing.T) {
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "A"})
	r, _ := newRepo(t, repo.Options{})
	dumped := func() {
		importAll(t, r, backup.ImportOptions{Time: time.Now()}, dumpAll(t, src, "A"))
	}
	src.publish(t, "A", 10, text)
	dumped()
	src.publish(t, "A", 3, text)
	grown := time.Now()
	dumped()
	remove(t, st, 12, 13)
	src.publish(t, "A", 2, text)
	anew := time.Now()
	dumped()
	for at, want := range map[time.Time]uint64{grown: 13, anew: 13} {
		dst := startServer(t, natsd.Options{})
		restoreAt(t, dst, r, allStreams, at)
		if n := dst.messages(t, "A"); n != want {
			t.Errorf("as of %v: %d messages, want %d", at, n, want)
		}
	}
}
