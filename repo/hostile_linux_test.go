package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
)

// What reading any repository may cost.
const (
	hostileMemory = 512 << 20        // bytes, resident
	hostileTime   = 30 * time.Second // of a processor: the machine may be busy with other things
	hostileHang   = 5 * time.Minute
)

// hostileDir names, to the process that reads it, the repository of a hostile case.
const hostileDir = "JETSAM_HOSTILE_DIR"

// hostile is a repository that somebody made who has the password, or a program
// with a fault.
type hostile struct {
	name  string
	craft func(t *testing.T, h *crafter)
	want  []string // parts of what must be said
	clean bool     // nothing may be said
	large bool     // takes seconds, so it is for JETSAM_PROOF=1
}

// TestHostileRepositories makes each repository in a directory, and has a process of
// its own read all of it, whose peak memory and time are measured.
func TestHostileRepositories(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes several times the memory and time")
	}
	for _, tt := range hostiles() {
		t.Run(tt.name, func(t *testing.T) {
			if tt.large && !proof() {
				t.Skip("JETSAM_PROOF=1 runs it")
			}
			dir := t.TempDir() + "/repo"
			be, err := local.Create(dir)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Init(t.Context(), be, secret.New(testPassword), testOptions(nil))
			if err != nil {
				t.Fatal(err)
			}
			tt.craft(t, &crafter{t: t, r: r, be: be})
			debug.FreeOSMemory()
			said, peak, took := readApart(t, dir)
			t.Logf("%d MiB, %v", peak>>20, took.Round(time.Millisecond))
			if peak > hostileMemory {
				t.Errorf("it took %d MiB of memory, more than %d", peak>>20, hostileMemory>>20)
			}
			if took > hostileTime {
				t.Errorf("it took %v, more than %v", took, hostileTime)
			}
			for _, want := range tt.want {
				if !strings.Contains(said, want) {
					t.Errorf("nobody says %q:\n%.4000s", want, said)
				}
			}
			if len(said) > 1<<20 {
				t.Errorf("%d bytes were said", len(said))
			}
			if (said == "") != tt.clean {
				t.Errorf("said: %.1000s", said)
			}
		})
	}
}

// readApart reads the repository in dir in another process, and returns what that
// said, its peak resident memory in bytes, and how much time of a
// processor it took.
func readApart(t *testing.T, dir string) (said string, peak int64, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hostileHang)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestReadHostile$", "-test.count=1")
	cmd.Env = append(os.Environ(), hostileDir+"="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("it was not read within %v", hostileHang)
	}
	took = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	said, rest, found := strings.Cut(out.String(), peakMark)
	if err != nil || !found {
		t.Fatalf("%v\n%.4000s", err, out.String())
	}
	if _, err := fmt.Sscan(rest, &peak); err != nil {
		t.Fatal(err)
	}
	return said, peak, took
}

const peakMark = "peak resident memory in bytes: "

// TestReadHostile is the process that reads a hostile repository.
func TestReadHostile(t *testing.T) {
	dir := os.Getenv(hostileDir)
	if dir == "" {
		t.Skip("TestHostileRepositories runs it")
	}
	debug.SetMemoryLimit(hostileMemory * 7 / 8) // what the runtime does not count needs room, too
	readAll(t.Context(), dir, func(err error) { fmt.Println(err) })
	fmt.Println(peakMark, peakMemory(t))
}

// peakMemory returns the peak resident memory of this process in bytes.
func peakMemory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); !found || err != nil {
		t.Fatal("no VmHWM in /proc/self/status")
	}
	return kib << 10
}

// readAll does with a repository all that reads: it lists keys, locks and
// snapshots, reads trees and the beginnings of files, checks everything, and makes
// a small backup.
func readAll(ctx context.Context, dir string, say func(error)) {
	be, err := local.Open(dir)
	if err != nil {
		say(err)
		return
	}
	o := testOptions(nil)
	o.Warn = func(err error) { say(fmt.Errorf("warning: %w", err)) }
	if _, err := Open(ctx, be, secret.New("wrong"), testOptions(nil)); !errors.Is(err, ErrWrongPassword) {
		say(fmt.Errorf("with the wrong password: %w", err))
	}
	r, err := Open(ctx, be, secret.New(testPassword), o)
	if err != nil {
		say(fmt.Errorf("open: %w", err))
		return
	}
	var trees []blob.ID
	for s, err := range r.Snapshots(ctx) {
		if err != nil {
			say(err)
			break
		}
		trees = append(trees, s.Tree)
	}
	rd, err := r.LoadIndex(ctx, nil)
	if err != nil {
		say(err)
		return
	}
	for _, id := range trees {
		readTree(ctx, rd, id, say)
	}
	rd = nil
	report, err := r.Check(ctx, CheckOptions{ReadData: true}, nil)
	if err != nil {
		say(err)
		return
	}
	for _, f := range report.Findings {
		say(fmt.Errorf("check: %v", f))
	}
}

// readTree goes down the first directories of a tree, and reads some blobs of files.
func readTree(ctx context.Context, rd *Reader, id blob.ID, say func(error)) {
	for range snapshot.MaxDepth {
		t, err := rd.LoadTree(ctx, id)
		if err != nil {
			say(err)
			return
		}
		var next blob.ID
		for _, n := range t.Nodes[:min(len(t.Nodes), 10)] {
			if n.Type == snapshot.TypeDir && next.IsZero() {
				next = n.Subtree
			}
			for _, id := range n.Content[:min(len(n.Content), 3)] {
				if _, err := rd.Load(ctx, blob.Handle{Kind: blob.Data, ID: id}, nil); err != nil {
					say(err)
				}
			}
		}
		if next.IsZero() {
			return
		}
		id = next
	}
}

// storeRaw stores an unpacked file of which the plaintext is given.
func (h *crafter) storeRaw(k storage.Kind, plain []byte) storage.File {
	return put(h.t, h.be, k, h.r.key.Seal(nil, plain))
}
