package repo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/local"
)

// holdVariable makes the test binary lock the repository in that directory and
// wait to be killed.
const holdVariable = "JETSAM_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		if err := hold(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func hold(dir string) error {
	be, err := local.Open(dir)
	if err != nil {
		return err
	}
	r, err := Open(context.Background(), be, secret.New(testPassword), testOptions(nil))
	if err != nil {
		return err
	}
	if _, err := r.Lock(context.Background(), true); err != nil {
		return err
	}
	fmt.Println("locked")
	time.Sleep(time.Hour)
	return errors.New("nobody killed this process")
}

// startHolder starts a process that holds an exclusive lock.
func startHolder(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("holder says %q, %v", line, err)
	}
	return cmd
}

// A process that was killed leaves its lock behind. The next one on this machine
// goes on without anybody's help.
func TestKilledHolder(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux a process is known well enough")
	}
	for _, reaped := range []bool{true, false} {
		t.Run(fmt.Sprintf("reaped %v", reaped), func(t *testing.T) {
			dir := t.TempDir()
			be, err := local.Create(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer be.Close()
			r, err := Init(t.Context(), be, secret.New(testPassword), testOptions(nil))
			if err != nil {
				t.Fatal(err)
			}
			cmd := startHolder(t, dir)
			var locked *LockedError
			if _, err := r.Lock(t.Context(), false); !errors.As(err, &locked) || locked.Lock.PID != cmd.Process.Pid {
				t.Fatalf("while it lives: %v, want its lock", err)
			}
			if n, err := r.Unlock(t.Context(), false); n != 0 || err != nil {
				t.Fatalf("while it lives: Unlock removed %d, %v", n, err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if reaped {
				cmd.Wait()
			} else {
				waitForZombie(t, cmd.Process.Pid)
			}
			l, err := r.Lock(t.Context(), true)
			if err != nil {
				t.Fatalf("after it was killed: %v", err)
			}
			if n := len(listIDs(t, be, storage.Lock)); n != 1 {
				t.Errorf("%d lock files, want the dead one's removed", n)
			}
			release(t, l)
		})
	}
}

// waitForZombie waits until a killed process is gone but for its entry in the
// table of processes.
func waitForZombie(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !lookAt(pid).gone; {
		if time.Now().After(end) {
			t.Fatal("the process does not die")
		}
		time.Sleep(time.Millisecond)
	}
}

// Where the lock of a dead process cannot be removed it does not count either.
func TestUnlockRemovesDead(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux a process is known well enough")
	}
	r, be, w := testRepo(t)
	dead := func(l *LockInfo) {
		l.Exclusive, l.holder, l.PID = true, thisProcess(), os.Getpid()
		l.ProcessStart += "0" // as of an earlier process of this ID
	}
	otherLock(t, r, dead)
	locks, err := r.Locks(t.Context())
	if err != nil || len(locks) != 1 || !locks[0].Dead {
		t.Fatalf("Locks: %+v, %v", locks, err)
	}
	if n, err := r.Unlock(t.Context(), false); n != 1 || err != nil {
		t.Errorf("Unlock removed %d, %v", n, err)
	}

	f := storage.File{Kind: storage.Lock, ID: otherLock(t, r, dead).ID}
	be.Before = failOn(t, "remove", f, storage.ErrReadOnly)
	l, err := r.Lock(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	release(t, l)
	if errs := w.take(); len(errs) == 0 || !errors.Is(errs[0], storage.ErrReadOnly) {
		t.Errorf("warned of %v", errs)
	}
}

func TestHolderDead(t *testing.T) {
	self := holder{BootID: "boot", PIDNamespace: "pid:[1]", ProcessStart: "time:[1] 100"}
	with := func(change func(*holder)) holder {
		h := self
		change(&h)
		return h
	}
	gone := processState{gone: true}
	tests := []struct {
		name string
		lock holder
		self holder
		pid  int
		now  processState
		want bool
	}{
		{"gone", self, self, 7, gone, true},
		{"alive", self, self, 7, processState{start: "time:[1] 100"}, false},
		{"another process has the ID", self, self, 7, processState{start: "time:[1] 101"}, true},
		{"cannot be seen", self, self, 7, processState{}, false},
		{"another time namespace", self, self, 7, processState{start: "time:[2] 101"}, false},
		{"another boot", with(func(h *holder) { h.BootID = "other" }), self, 7, gone, false},
		{"another PID namespace", with(func(h *holder) { h.PIDNamespace = "pid:[2]" }), self, 7, gone, false},
		{"restic's", holder{}, self, 7, gone, false},
		{"no boot ID", with(func(h *holder) { h.BootID = "" }), self, 7, gone, false},
		{"no start", with(func(h *holder) { h.ProcessStart = "" }), self, 7, gone, false},
		{"neither is known", holder{}, holder{}, 7, gone, false},
		{"self is not known", self, holder{BootID: "boot", PIDNamespace: "pid:[1]"}, 7, gone, false},
		{"process ID 0", self, self, 0, gone, false},
		{"process group", self, self, -7, gone, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			look := func(pid int) processState {
				if pid != tt.pid {
					t.Errorf("looked at process %d", pid)
				}
				return tt.now
			}
			if runtime.GOOS != "linux" && tt.now.start != "" {
				t.Skip("starts are not known here")
			}
			if got := tt.lock.dead(tt.pid, tt.self, look); got != tt.want {
				t.Errorf("dead = %v, want %v", got, tt.want)
			}
		})
	}
}
