package nats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// start starts a server that ends with the test.
func start(t *testing.T, o natsd.Options) *natsd.Server {
	t.Helper()
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	if o.Port == 0 { // one that it can have again
		o.Port = testserver.FreePorts(t, 1)[0]
	}
	s, err := natsd.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

var streams atomic.Int64

// create makes a stream for a repository that no other test uses.
func create(t *testing.T, servers string, o Options) *Backend {
	t.Helper()
	b, err := Create(t.Context(), Place{Servers: servers, Stream: fmt.Sprintf("REPO_%d", streams.Add(1))}, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// open opens the stream of b by a connection of its own.
func open(t *testing.T, b *Backend) *Backend {
	t.Helper()
	again, err := Open(t.Context(), b.place, b.o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

// messages is how many messages a stream holds.
func messages(t *testing.T, b *Backend) uint64 {
	t.Helper()
	info, err := b.info(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Messages
}

func TestBackend(t *testing.T) {
	s := start(t, natsd.Options{})
	storagetest.Run(t, func(t *testing.T) storage.Backend { return create(t, s.URL(), Options{}) })
}

// TestSmallMessages: a server that takes small messages only holds files of any length.
func TestSmallMessages(t *testing.T) {
	s := start(t, natsd.Options{MaxPayload: 16 << 10})
	b := create(t, s.URL(), Options{})
	defer b.Close()
	f, data := storagetest.RandomFile(storage.Pack, 300_001)
	if err := b.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int{{0, -1}, {0, 1}, {12_287, 2}, {12_288, 12_288}, {299_999, 2}, {100_000, 77_777}, {300_001, 0}} {
		got, err := b.Load(t.Context(), f, int64(r[0]), r[1])
		if want := data[r[0]:]; err != nil || r[1] >= 0 && !bytes.Equal(got, want[:r[1]]) || r[1] < 0 && !bytes.Equal(got, want) {
			t.Errorf("%d bytes from %d: %d, %v", r[1], r[0], len(got), err)
		}
	}
}

// TestRemoveLeavesNothing: nothing of a file is left in the stream when it is removed, also of chunks that were stored twice.
func TestRemoveLeavesNothing(t *testing.T) {
	b := create(t, start(t, natsd.Options{}).URL(), Options{})
	defer b.Close()
	for _, size := range []int{0, 100, chunkSize, chunkSize + 1, 5 * chunkSize} {
		f, data := storagetest.RandomFile(storage.Pack, size)
		if err := errors.Join(b.Save(t.Context(), f, data), b.Remove(t.Context(), f)); err != nil {
			t.Fatal(err)
		}
		if n := messages(t, b); n != 0 {
			t.Errorf("%d messages are left of a file of %d bytes", n, size)
		}
	}
}

// TestInterruptedUpload: chunks without a head are no file and in nobody's way, and are swept when they are old; those of files are not.
func TestInterruptedUpload(t *testing.T) {
	b := create(t, start(t, natsd.Options{}).URL(), Options{})
	defer b.Close()
	f, data := storagetest.RandomFile(storage.Pack, 3*chunkSize)
	whole, wholeData := storagetest.RandomFile(storage.Pack, 3*chunkSize)
	other, otherData := storagetest.RandomFile(storage.Pack, 10)
	if _, err := b.saveChunks(t.Context(), b.chunkSubject(f, "CRASHED"), data); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stat(t.Context(), f); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("stat of chunks without a head: %v", err)
	}
	if _, err := b.Load(t.Context(), f, 0, 1); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("load of chunks without a head: %v", err)
	}
	for _, err := range []error{b.Save(t.Context(), whole, wholeData), b.Save(t.Context(), other, otherData), b.Remove(t.Context(), other)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := messages(t, b); n != 3+4 {
		t.Errorf("%d messages: what is a moment old was swept", n)
	}
	if err := b.sweep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if n := messages(t, b); n != 4 {
		t.Errorf("%d messages after the sweep", n)
	}
	if got, err := open(t, b).Load(t.Context(), whole, 0, -1); err != nil || !bytes.Equal(got, wholeData) {
		t.Errorf("the other file: %v", err)
	}
	if err := b.Save(t.Context(), f, data); err != nil {
		t.Errorf("save what was interrupted: %v", err)
	}
}

// TestSweepAsksTheServersClock: how old chunks are is told by what was stored since, however late it is here.
func TestSweepAsksTheServersClock(t *testing.T) {
	b := create(t, start(t, natsd.Options{}).URL(), Options{})
	defer b.Close()
	f, data := storagetest.RandomFile(storage.Pack, 3*chunkSize)
	if _, err := b.saveChunks(t.Context(), b.chunkSubject(f, "CRASHED"), data[:chunkSize]); err != nil {
		t.Fatal(err)
	}
	for _, want := range []uint64{1, 0} {
		if err := b.sweep(t.Context(), time.Nanosecond); err != nil {
			t.Fatal(err)
		}
		left, err := b.subjects(t.Context(), b.chunkSubject(f, "*"))
		if err != nil || uint64(len(left)) != want {
			t.Errorf("subjects of chunks %v, %v; want %d", left, err, want)
		}
		other, otherData := storagetest.RandomFile(storage.Pack, 10)
		if err := b.Save(t.Context(), other, otherData); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFull: a stream that has reached its limit says so, and nothing of the file is left.
func TestFull(t *testing.T) {
	b := create(t, start(t, natsd.Options{}).URL(), Options{MaxBytes: 2 << 20})
	defer b.Close()
	small, smallData := storagetest.RandomFile(storage.Snapshot, 100_000)
	if err := b.Save(t.Context(), small, smallData); err != nil {
		t.Fatal(err)
	}
	f, data := storagetest.RandomFile(storage.Pack, 4<<20)
	if err := b.Save(t.Context(), f, data); !errors.Is(err, storage.ErrFull) {
		t.Errorf("save: %v, want ErrFull", err)
	}
	if n := messages(t, b); n != 1 {
		t.Errorf("%d messages are left", n)
	}
	if got, err := b.Load(t.Context(), small, 0, -1); err != nil || !bytes.Equal(got, smallData) {
		t.Errorf("the earlier file: %v", err)
	}
	if err := b.Remove(t.Context(), small); err != nil {
		t.Errorf("remove from a full stream: %v", err)
	}
}

// TestRestart: a server that restarts in the middle is waited for.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, natsd.Options{StoreDir: dir})
	b := create(t, s.URL(), Options{})
	defer b.Close()
	var port int
	if _, err := fmt.Sscanf(s.URL(), "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	f, data := storagetest.RandomFile(storage.Pack, 8<<20)
	done := make(chan error, 1)
	go func() { done <- b.Save(t.Context(), f, data) }()
	for messages(t, b) < 5 { // it has begun
		time.Sleep(time.Millisecond)
	}
	s.Shutdown()
	start(t, natsd.Options{StoreDir: dir, Port: port})
	if err := <-done; err != nil {
		t.Fatalf("save: %v", err)
	}
	if got, err := b.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("load: %d bytes, %v", len(got), err)
	}
}

// TestGone: a server that is gone is not waited for longer than patience, or than the caller.
func TestGone(t *testing.T) {
	s := start(t, natsd.Options{})
	b := create(t, s.URL(), Options{Patience: 300 * time.Millisecond})
	defer b.Close()
	s.Shutdown()
	f, data := storagetest.RandomFile(storage.Pack, 100)
	if err := b.Save(t.Context(), f, data); !errors.Is(err, ErrUnreachable) || !errors.Is(err, storage.ErrUnreachable) {
		t.Errorf("save: %v", err)
	}
	if _, err := Open(t.Context(), b.place, b.o); !errors.Is(err, ErrUnreachable) {
		t.Errorf("open: %v", err)
	}
	for _, err := range b.List(t.Context(), storage.Pack) {
		if err == nil {
			t.Error("a list of a server that is gone")
		}
	}
	patient := Backend{nc: b.nc, o: b.o, place: b.place, api: b.api, chunk: b.chunk, patience: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := patient.Stat(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("stat: %v", err)
	}
}

// TestUnfit: a stream that would lose what it holds is refused, and so is what is no stream for a repository.
func TestUnfit(t *testing.T) {
	s := start(t, natsd.Options{})
	nc, err := natsgo.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	// A server removes the directory of an account whose last stream is deleted, also while it makes the next one.
	if _, err := js.AddStream(&natsgo.StreamConfig{Name: "OTHER", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	fitting := natsgo.StreamConfig{Subjects: []string{"jetsam.S.>"}, Discard: natsgo.DiscardNew, AllowDirect: true}
	for name, change := range map[string]func(*natsgo.StreamConfig){
		"max_age":              func(c *natsgo.StreamConfig) { c.MaxAge = time.Hour },
		"max_msgs":             func(c *natsgo.StreamConfig) { c.MaxMsgs = 10 },
		"max_msgs_per_subject": func(c *natsgo.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"discard old":          func(c *natsgo.StreamConfig) { c.Discard = natsgo.DiscardOld },
		"work queue":           func(c *natsgo.StreamConfig) { c.Retention = natsgo.WorkQueuePolicy },
		"memory":               func(c *natsgo.StreamConfig) { c.Storage = natsgo.MemoryStorage },
		"no direct gets":       func(c *natsgo.StreamConfig) { c.AllowDirect = false },
		"":                     func(*natsgo.StreamConfig) {},
	} {
		c := fitting
		c.Name = "S"
		change(&c)
		if _, err := js.AddStream(&c); err != nil {
			t.Fatal(err)
		}
		b, err := Create(t.Context(), Place{Servers: s.URL(), Stream: "S"}, Options{})
		if (err == nil) != (name == "") {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			b.Close()
		}
		if err := js.DeleteStream("S"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", "a.b", "a b", "*", "a>"} {
		if _, err := Create(t.Context(), Place{Servers: s.URL(), Stream: name}, Options{}); err == nil {
			t.Errorf("stream %q was made", name)
		}
	}
	if _, err := Open(t.Context(), Place{Servers: s.URL(), Stream: "S"}, Options{}); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open what is not there: %v", err)
	}
}

// TestPermissions: what docs/storage/nats.md lists is enough, and what is refused is said to be.
func TestPermissions(t *testing.T) {
	publish := []string{
		"jetsam.S.>", "$JS.API.STREAM.INFO.S", "$JS.API.STREAM.MSG.GET.S", "$JS.API.DIRECT.GET.S", "$JS.API.STREAM.PURGE.S", "$JS.API.STREAM.CREATE.S",
	}
	s := start(t, natsd.Options{Users: []natsd.User{
		{Name: "keeper", Password: "x", Publish: publish, Subscribe: []string{"_INBOX.>"}},
		{Name: "reader", Password: "x", Publish: publish[1:4], Subscribe: []string{"_INBOX.>"}},
	}})
	as := func(user string) Place {
		return Place{Servers: strings.Replace(s.URL(), "://", "://"+user+":x@", 1), Stream: "S"}
	}
	b, err := Create(t.Context(), as("keeper"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f, data := storagetest.RandomFile(storage.Pack, 2*chunkSize)
	gone, goneData := storagetest.RandomFile(storage.Pack, 2*chunkSize)
	for _, err := range []error{b.Save(t.Context(), f, data), b.Save(t.Context(), gone, goneData), b.Remove(t.Context(), gone)} {
		if err != nil {
			t.Error(err)
		}
	}
	reader, err := Open(t.Context(), as("reader"), Options{Patience: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if got, err := reader.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("load: %v", err)
	}
	for _, err := range []error{reader.Save(t.Context(), gone, goneData), reader.Remove(t.Context(), f)} {
		if !errors.Is(err, storage.ErrReadOnly) {
			t.Errorf("what is not permitted: %v", err)
		}
	}
}

// TestLongList: more files than a server lists at once are all listed.
func TestLongList(t *testing.T) {
	if os.Getenv("JETSAM_PROOF") == "" {
		t.Skip("it stores 100,500 files; set JETSAM_PROOF=1")
	}
	b := create(t, start(t, natsd.Options{}).URL(), Options{})
	defer b.Close()
	want := make(map[storage.File]bool)
	for i := range 100_500 {
		f := storage.File{Kind: storage.Pack, ID: storage.Sum(fmt.Append(nil, i))}
		want[f] = true
		if err := b.nc.Publish(b.headSubject(f, "0"), nil); err != nil { // without waiting for each
			t.Fatal(err)
		}
	}
	for messages(t, b) < uint64(len(want)) {
		time.Sleep(10 * time.Millisecond)
	}
	for info, err := range b.List(t.Context(), storage.Pack) {
		if err != nil {
			t.Fatal(err)
		}
		delete(want, info.File)
	}
	if len(want) > 0 {
		t.Errorf("%d files are not listed", len(want))
	}
}

// TestShares: the server that holds the repository is known.
func TestShares(t *testing.T) {
	b := create(t, start(t, natsd.Options{}).URL(), Options{SameCluster: true})
	defer b.Close()
	if stream, allowed := b.Shares(b.nc.ConnectedServerId(), ""); stream != b.place.Stream || !allowed {
		t.Errorf("itself: %q, %v", stream, allowed)
	}
	for _, cluster := range []string{"", "C"} {
		if stream, _ := b.Shares("another", cluster); stream != "" {
			t.Errorf("another of cluster %q: %q", cluster, stream)
		}
	}
}

// TestDamage: of a file that lost a chunk, or whose head is not what was stored, nothing is given; what is gone reads as cut short, as of any place.
func TestDamage(t *testing.T) {
	s := start(t, natsd.Options{})
	b := create(t, s.URL(), Options{})
	defer b.Close()
	f, data := storagetest.RandomFile(storage.Pack, 3*chunkSize)
	if err := b.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	h, err := b.headAtLeader(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.call(t.Context(), "STREAM.MSG.DELETE", map[string]any{"seq": h.at[1]}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(t.Context(), f, 0, -1); !errors.Is(err, errChunk) {
		t.Errorf("load: %v", err)
	}
	if got, err := b.Load(t.Context(), f, 10, 100); err != nil || !bytes.Equal(got, data[10:110]) {
		t.Errorf("load of what is whole: %v", err)
	}
	for name, m := range map[string]*message{
		"no chunks":   {subject: b.headSubject(f, "100"), header: natsgo.Header{uploadHeader: {"x"}, chunkHeader: {"10"}}},
		"zero":        {subject: b.headSubject(f, "100"), header: natsgo.Header{uploadHeader: {"x"}, chunkHeader: {"0"}}},
		"no upload":   {subject: b.headSubject(f, "8"), header: natsgo.Header{chunkHeader: {"8"}}, data: make([]byte, 8)},
		"other size":  {subject: b.headSubject(f, "100"), data: make([]byte, 99)},
		"huge":        {subject: b.headSubject(f, "9223372036854775807"), header: natsgo.Header{uploadHeader: {"x"}, chunkHeader: {"1"}}},
		"other file":  {subject: b.headSubject(storage.File{Kind: storage.Pack}, "0")},
		"no size":     {subject: b.headSubject(f, "x")},
		"no subjects": {},
	} {
		if h, err := b.parseHead(f, m); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

// TestNotTriedAgain: a context or a file that does not exist will not do so in a minute either, and who is refused is refused.
func TestNotTriedAgain(t *testing.T) {
	guarded := start(t, natsd.Options{Users: []natsd.User{{Name: "vault", Password: "secret"}}})
	for _, c := range []struct {
		place Place
		o     Options
		want  string
	}{
		{Place{Context: "nowhere", Stream: "REPO"}, Options{}, "context not found"},
		{Place{Servers: "nats://127.0.0.1:1", Stream: "REPO"}, Options{Creds: "/nonexistent/file"}, "/nonexistent/file"},
		{Place{Servers: guarded.URL(), Stream: "REPO"}, Options{}, "Authorization Violation"},
	} {
		if _, err := Open(t.Context(), c.place, c.o); !storage.IsPermanent(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want a permanent error with %q", c.place, err, c.want)
		}
	}
}

// TestClock: what the server says of the stream tells its clock, which is this machine's here.
func TestClock(t *testing.T) {
	b := open(t, create(t, start(t, natsd.Options{}).URL(), Options{}))
	if at, known := b.Clock(); !known || time.Until(at).Abs() > 10*time.Minute {
		t.Errorf("%v, %v", at, known)
	}
}
