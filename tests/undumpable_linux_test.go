package tests

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

// nobody is the ID of a user without rights, as whom commands run where the tests run as root.
const nobody = 65534

// asOrdinaryUser lets a command run as a user who may not look into every process.
func asOrdinaryUser(cmd *exec.Cmd) *exec.Cmd {
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// giveAway makes dir and all in it, and the way there, the ordinary user's.
func giveAway(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	must(t, filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, nobody, nobody)
	}))
	for up := filepath.Dir(dir); up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
		must(t, os.Chmod(up, 0o711))
	}
}

// TestUndumpable: other processes of an ordinary user cannot read the memory or the environment of jetsam, and still the next
// jetsam of that user sees whether the holder of a lock lives.
func TestUndumpable(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	giveAway(t, dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()

	c := command{repo: dir}
	holder := asOrdinaryUser(c.prepare(t, "restore", "latest", "--timeout", "5m", "--server", "nats://"+l.Addr().String()))
	must(t, holder.Start())
	defer holder.Process.Kill()
	must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)))
	conn, err := l.Accept() // it has the lock, and waits for a word of the server
	must(t, err)
	defer conn.Close()

	for _, file := range []string{"environ", "mem", "maps"} {
		info, err := os.Stat(fmt.Sprintf("/proc/%d/%s", holder.Process.Pid, file))
		must(t, err)
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
			t.Errorf("%s of the process belongs to user %d, so that the user's other processes can read it", file, uid)
		}
	}
	unlock := func() (answer struct{ Removed, Left int }) {
		t.Helper()
		out, err := asOrdinaryUser(c.prepare(t, "unlock", "--json")).Output()
		if err != nil {
			t.Fatalf("unlock: %v", err)
		}
		must(t, json.Unmarshal(out, &answer))
		return answer
	}
	if got := unlock(); got.Removed != 0 || got.Left != 1 {
		t.Errorf("of a holder that lives, unlock says %+v", got)
	}
	must(t, holder.Process.Kill())
	_ = holder.Wait()
	if got := unlock(); got.Removed != 1 || got.Left != 0 {
		t.Errorf("of a holder that was killed, unlock says %+v", got)
	}
}
