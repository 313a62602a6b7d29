package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/local"

	conn "jetsam/jetstream"
)

// slowVariable makes of a copy of this test program a backup into slow storage: it holds a slowOptions as JSON.
const slowVariable = "JETSAM_TEST_SLOW"

// slowOptions says how slow the storage is.
type slowOptions struct {
	Server, Repo string
	Rate         int           // bytes a second, of all that is saved
	Stall        time.Duration // how long one pack takes besides
}

// slowStorage saves one file at a time, and each takes as long as its bytes do at a rate.
type slowStorage struct {
	storage.Backend
	o     slowOptions
	mu    sync.Mutex
	packs int
}

func (s *slowStorage) Save(ctx context.Context, f storage.File, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	time.Sleep(time.Duration(len(data)) * time.Second / time.Duration(s.o.Rate))
	if f.Kind == storage.Pack {
		if s.packs++; s.packs == 3 {
			time.Sleep(s.o.Stall)
		}
	}
	return s.Backend.Save(ctx, f, data)
}

// TestSlowBackupProcess is a backup into slow storage, in the copy of this program that TestSlowStorage starts.
func TestSlowBackupProcess(t *testing.T) {
	text := os.Getenv(slowVariable)
	if text == "" {
		t.Skip("is run by another test")
	}
	var o slowOptions
	must(t, json.Unmarshal([]byte(text), &o))
	be, err := local.Open(o.Repo)
	must(t, err)
	defer be.Close()
	slow := &slowStorage{Backend: be, o: o}
	r, err := repo.Open(t.Context(), slow, secret.New(password), repo.Options{PackSize: 4 << 20})
	must(t, err)
	c, err := conn.Connect(t.Context(), conn.Config{Servers: o.Server})
	must(t, err)
	defer c.Close()
	res, err := backup.Run(t.Context(), c, r, backup.Options{Selection: allStreams})
	must(t, err)
	for _, s := range res.Streams {
		if s.Err != nil || s.Torn != "" || s.Retried != "" { // a server that gave up would have been asked again
			t.Errorf("stream %s: error %v, torn %q, retried %q", s.Name, s.Err, s.Torn, s.Retried)
		}
	}
	if slow.packs < 4 {
		t.Errorf("%d packs were saved, of which none was slow", slow.packs)
	}
}

// TestSlowStorage backs up into storage on which a pack takes 12 s, longer than a server waits for its client: the server does not give up, and what it
// has sent meanwhile is not gathered in memory. In the full form also into storage that takes 100 KiB a second all the time.
func TestSlowStorage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		messages int // of 64 KiB
		slowOptions
	}{
		"stalls":           {3000, slowOptions{Rate: 32 << 20, Stall: time.Duration(sized(12, 30)) * time.Second}},
		"100 KiB a second": {600, slowOptions{Rate: 100 << 10}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.Stall == 0 && !proof() {
				t.Skip("takes six minutes")
			}
			t.Parallel()
			src := startServer(t, natsd.Options{})
			src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
			random := rand.NewChaCha8([32]byte{12})
			src.publish(t, "s", c.messages, func(int) []byte {
				p := make([]byte, 64<<10)
				random.Read(p)
				return p
			})
			r, dir := newRepo(t, repo.Options{})
			c.Server, c.Repo = src.URL(), dir
			text, err := json.Marshal(c.slowOptions)
			must(t, err)
			cmd := exec.Command(os.Args[0], "-test.run=^TestSlowBackupProcess$", "-test.v", "-test.timeout=30m")
			cmd.Env = append(os.Environ(), slowVariable+"="+string(text), "GOGC=50") // as the program sets it
			out, peak := runMeasured(t, cmd)
			t.Logf("%d MiB of memory for %d MiB\n%s", peak>>10, c.messages>>4, out)
			if limit := 256 << 10; peak > limit || peak == 0 {
				t.Errorf("it took %d KiB of memory, more than %d", peak, limit)
			}
			if doc := document(t, r, "S").Jetsam; doc.Messages != uint64(c.messages) {
				t.Errorf("%d messages in the snapshot, want %d", doc.Messages, c.messages)
			}
			command{repo: dir}.run(t, 0, "check", "--read-data")
		})
	}
}

// runMeasured runs a command to its end, which must be a good one, and returns what it printed and its peak resident memory in KiB.
func runMeasured(t testing.TB, cmd *exec.Cmd) (string, int) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	peak := watchPeak(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out.String())
	}
	return out.String(), <-peak
}
