package sftp_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"jetsam/internal/child"
	"jetsam/internal/testserver"
	"jetsam/storage"
	"jetsam/storage/location"
	"jetsam/storage/sftp"
	"jetsam/storage/storagetest"
)

// TestFullDisk: a server whose disk is full, and which only says that it failed.
func TestFullDisk(t *testing.T) {
	requireServer(t)
	dir := t.TempDir()
	be := sftp.New(filepath.Join(dir, "repository"), "sftp", sftp.Options{Dial: func() (sftp.Conn, error) {
		return child.Start("unshare", []string{"-m", "sh", "-c", `mount -t tmpfs -o size=4m none "$0" && exec ` + openSSH, dir}, func(line string) { t.Log(line) })
	}})
	defer be.Close()
	if err := be.Create(t.Context()); err != nil {
		testserver.Unable(t, "not permitted here: %v", err)
	}
	first, firstData := storagetest.RandomFile(storage.Pack, 2<<20)
	if err := be.Save(t.Context(), first, firstData); err != nil {
		t.Fatal(err)
	}
	second, data := storagetest.RandomFile(storage.Pack, 3<<20)
	if err := be.Save(t.Context(), second, data); !errors.Is(err, storage.ErrFull) || !storage.IsPermanent(err) {
		t.Errorf("save: %v", err)
	}
	if _, err := be.Stat(t.Context(), second); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("what had no room: %v", err)
	}
	if got, err := be.Load(t.Context(), first, 0, -1); err != nil || !bytes.Equal(got, firstData) {
		t.Errorf("what was there: %v", err)
	}
	third, data := storagetest.RandomFile(storage.Pack, 1<<20) // for which what was begun must be gone
	if err := be.Save(t.Context(), third, data); err != nil {
		t.Errorf("save what there is room for: %v", err)
	}
}

// sshd is a real server, with keys of its own, on a port of this machine.
type sshd struct {
	port, user string
	dir        string // keys and configurations
}

func startSSHD(t testing.TB) *sshd {
	t.Helper()
	program := testserver.Program(t, "/usr/sbin/sshd", "openssh-server")
	if os.Geteuid() == 0 { // it wants this directory then
		if os.Mkdir("/run/sshd", 0o755) == nil {
			t.Cleanup(func() { os.Remove("/run/sshd") })
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &sshd{port: strconv.Itoa(testserver.FreePorts(t, 1)[0]), user: me.Username, dir: t.TempDir()}
	for _, key := range []string{"host", "other", "mine", "stranger"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.file(key)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	mine, err := os.ReadFile(s.file("mine.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "authorized", string(mine))
	s.know(t, "host")
	s.write(t, "config", fmt.Sprintf(`ListenAddress 127.0.0.1
Port %s
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
`, s.port, s.file("host"), s.file("authorized")))
	cmd := exec.Command(program, "-D", "-e", "-f", s.file("config"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	for range 400 {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			_ = c.Close()
			return s
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("sshd does not start")
	return nil
}

func (s *sshd) file(name string) string { return filepath.Join(s.dir, name) }

func (s *sshd) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// know makes a key the one that the server is known by.
func (s *sshd) know(t testing.TB, key string) {
	t.Helper()
	text, err := os.ReadFile(s.file(key + ".pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "known", fmt.Sprintf("[127.0.0.1]:%s %s", s.port, text))
}

// options are those that connect with a key.
func (s *sshd) options(key string) location.Options {
	return location.Options{"sftp.args": fmt.Sprintf("-F none -i '%s' -o IdentitiesOnly=yes -o IdentityAgent=none -o UserKnownHostsFile='%s'", s.file(key), s.file("known"))}
}

// TestSSH is a life over ssh: what is saved is there after the connection is lost, and what ssh says of one that does
// not come to be is told.
func TestSSH(t *testing.T) {
	s := startSSHD(t)
	dir := filepath.Join(t.TempDir(), "some", "where")
	l, err := location.Parse(fmt.Sprintf("sftp://%s@127.0.0.1:%s/%s", s.user, s.port, dir))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var warned []string
	l = l.Warning(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		warned = append(warned, err.Error())
	})
	if _, err := l.Open(t.Context(), s.options("mine")); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open what is not there: %v", err)
	}
	be, err := l.Create(t.Context(), s.options("mine"))
	if err != nil {
		t.Fatal(err)
	}
	f, data := storagetest.RandomFile(storage.Pack, 3<<20)
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	if len(warned) != 0 {
		t.Errorf("warned of %q", warned)
	}
	be, err = l.Open(t.Context(), s.options("mine"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := be.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	fails := func(name, key, says string) {
		t.Helper()
		_, err := l.Open(t.Context(), s.options(key))
		if !errors.Is(err, storage.ErrUnreachable) || !storage.IsPermanent(err) || !strings.Contains(err.Error(), "ssh: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fails("another user's key", "stranger", "Permission denied (publickey)")
	s.know(t, "other")
	fails("another host key", "mine", "Host key verification failed")
	s.write(t, "known", "")
	fails("a host that is not known", "mine", "Host key verification failed")
}
