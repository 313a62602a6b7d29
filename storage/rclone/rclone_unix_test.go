//go:build unix

package rclone_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"jetsam/internal/testserver"
	"jetsam/storage"
	"jetsam/storage/rclone"
	"jetsam/storage/retry"
	"jetsam/storage/storagetest"
)

func requireRclone(t testing.TB) {
	t.Helper()
	testserver.Program(t, "rclone", "rclone")
}

// TestBackend runs what every backend must do on a real rclone, which keeps the files in a directory.
func TestBackend(t *testing.T) {
	requireRclone(t)
	storagetest.RunHashed(t, func(t *testing.T) storage.Backend {
		be := rclone.Open(t.TempDir()+"/repository", "rclone", rclone.Options{Warn: func(err error) { t.Log(err) }})
		if err := be.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		return be
	})
}

// TestNotInstalled: it is said how to get it, and nobody waits for it to appear.
func TestNotInstalled(t *testing.T) {
	be := rclone.Open("remote:path", "rclone", rclone.Options{Program: "no-such-rclone"})
	defer be.Close()
	_, err := be.Stat(t.Context(), storage.File{})
	if err == nil || !storage.IsPermanent(err) || !strings.Contains(err.Error(), "no-such-rclone is not installed") {
		t.Errorf("%v (permanent: %v)", err, storage.IsPermanent(err))
	}
}

// TestWhatItSays: an error tells what rclone said before it ended. A remote that it does not know is not waited for.
func TestWhatItSays(t *testing.T) {
	requireRclone(t)
	var mu sync.Mutex
	var said []string
	be := rclone.Open("no-such-remote:path", "rclone", rclone.Options{Warn: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, err.Error())
	}})
	defer be.Close()
	_, err := be.Stat(t.Context(), storage.File{})
	if !errors.Is(err, storage.ErrUnreachable) || !strings.Contains(err.Error(), "didn't find section in config file") {
		t.Errorf("%v", err)
	}
	if !storage.IsPermanent(err) || !strings.Contains(err.Error(), "rclone listremotes") {
		t.Errorf("%v (permanent: %v)", err, storage.IsPermanent(err))
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(strings.Join(said, "\n"), "rclone: ") {
		t.Errorf("warned of %q", said)
	}
}

// TestHidesSettings: what stands in the place of a remote's name, or behind it, is told as the location is, however rclone repeats it.
func TestHidesSettings(t *testing.T) {
	requireRclone(t)
	for _, settings := range []string{"key=hunter2", `key="hunter2`, "key=" + strings.Repeat("hunter2", 200)} {
		for _, name := range []string{":nothing", "no-such-remote"} {
			var mu sync.Mutex
			var said []string
			be := rclone.Open(name+","+settings+":path", "rclone:"+name+",…:path", rclone.Options{Warn: func(err error) {
				mu.Lock()
				defer mu.Unlock()
				said = append(said, err.Error())
			}})
			_, err := be.Stat(t.Context(), storage.File{})
			be.Close()
			mu.Lock()
			told := strings.Join(append(said, fmt.Sprint(err)), "\n")
			mu.Unlock()
			if err == nil || strings.Contains(told, "hunter2") || strings.Count(told, name+",…:path") < 2 {
				t.Errorf("of %s,%.30s it says\n%s", name, settings, told)
			}
		}
	}
}

// TestKilled: an rclone that is killed is started again, and the last one ends with the backend.
func TestKilled(t *testing.T) {
	requireRclone(t)
	pids := filepath.Join(t.TempDir(), "pids")
	be := rclone.Open(t.TempDir(), "rclone", rclone.Options{Program: recorded(t, pids)})
	again := retry.New(be, retry.Options{Limit: time.Minute})
	f, data := storagetest.RandomFile(storage.Snapshot, 1000)
	if err := again.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		kill(t, pids)
		if got, err := again.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := last(t, pids).Signal(syscall.Signal(0)); err == nil {
		t.Error("rclone is still there")
	}
}

// last is the process that was started last.
func last(t testing.TB, pids string) *os.Process {
	t.Helper()
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Fields(string(text))
	pid, err := strconv.Atoi(all[len(all)-1])
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func kill(t testing.TB, pids string) {
	t.Helper()
	if err := last(t, pids).Kill(); err != nil {
		t.Fatal(err)
	}
}

// TestFrozen: an rclone that answers nothing any more is ended, and another takes its place.
func TestFrozen(t *testing.T) {
	if os.Getenv("JETSAM_PROOF") == "" {
		t.Skip("takes some minutes; only with JETSAM_PROOF")
	}
	requireRclone(t)
	pids := filepath.Join(t.TempDir(), "pids")
	be := rclone.Open(t.TempDir(), "rclone", rclone.Options{Program: recorded(t, pids)})
	again := retry.New(be, retry.Options{Limit: 10 * time.Minute})
	defer again.Close()
	f, data := storagetest.RandomFile(storage.Snapshot, 1000)
	if err := again.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	if err := last(t, pids).Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// recorded is a program that writes down its process, and becomes rclone.
func recorded(t testing.TB, pids string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "rclone")
	script := "#!/bin/sh\necho $$ >> '" + pids + "'\nexec rclone \"$@\"\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return program
}
