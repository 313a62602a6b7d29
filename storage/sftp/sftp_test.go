package sftp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"

	"jetsam/internal/child"
	"jetsam/internal/testserver"
	"jetsam/storage"
	"jetsam/storage/retry"
	"jetsam/storage/sftp"
	"jetsam/storage/storagetest"
)

// openSSH is where OpenSSH's SFTP server is, which is spoken to over pipes.
const openSSH = "/usr/lib/openssh/sftp-server"

func requireServer(t testing.TB) {
	t.Helper()
	testserver.Program(t, openSSH, "openssh-sftp-server")
}

// dialer starts OpenSSH's server, and keeps what it started.
type dialer struct {
	mu      sync.Mutex
	started []*child.Process
	args    []string
}

func (d *dialer) dial() (sftp.Conn, error) {
	p, err := child.Start(openSSH, d.args, func(string) {})
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.started = append(d.started, p)
	return p, nil
}

func (d *dialer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.started)
}

func (d *dialer) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.started[len(d.started)-1].Kill()
}

// create makes a place for a repository in a new directory.
func create(t testing.TB, o sftp.Options) (*sftp.Backend, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "some", "repository")
	be := sftp.New(dir, "sftp", o)
	if err := be.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return be, dir
}

// TestBackend runs what every backend must do on OpenSSH's server.
func TestBackend(t *testing.T) {
	requireServer(t)
	storagetest.Run(t, func(t *testing.T) storage.Backend {
		be, _ := create(t, sftp.Options{Dial: new(dialer).dial, Warn: func(err error) { t.Error(err) }})
		return be
	})
}

// conn is a connection to a server in this process.
type conn struct{ net.Conn }

func (c conn) Kill()      { _ = c.Close() }
func (c conn) Err() error { return nil }

// inProcess connects to pkg/sftp's server, whose rename replaces files, and which cannot sync.
func inProcess() (sftp.Conn, error) {
	ours, theirs := net.Pipe()
	server, err := pkgsftp.NewServer(theirs)
	if err != nil {
		return nil, err
	}
	go func() {
		_ = server.Serve()
		_ = theirs.Close()
	}()
	return conn{ours}, nil
}

// TestOtherServer runs it on a server that replaces files with a plain rename, with and without hard links. That it
// cannot sync is told once.
func TestOtherServer(t *testing.T) {
	for name, extensions := range map[string][]string{
		"with links":    {"hardlink@openssh.com", "posix-rename@openssh.com", "statvfs@openssh.com"},
		"without links": {"posix-rename@openssh.com"},
		"bare":          {},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "without links" && os.Getenv("JETSAM_PROOF") == "" {
				t.Skip("only with JETSAM_PROOF")
			}
			if err := pkgsftp.SetSFTPExtensions(extensions...); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			warned := 0
			storagetest.Run(t, func(t *testing.T) storage.Backend {
				warned = 0
				t.Cleanup(func() {
					if warned > 1 {
						t.Errorf("warned %d times", warned)
					}
				})
				be, _ := create(t, sftp.Options{Dial: inProcess, Warn: func(err error) {
					mu.Lock()
					defer mu.Unlock()
					warned++
					if !strings.Contains(err.Error(), "cannot sync files (fsync@openssh.com)") {
						t.Errorf("warned: %v", err)
					}
				}})
				return be
			})
		})
	}
}

// TestLayout: what is there looks like a directory of package local, and nothing else is left.
func TestLayout(t *testing.T) {
	requireServer(t)
	be, dir := create(t, sftp.Options{Dial: new(dialer).dial})
	defer be.Close()
	for _, k := range storage.Kinds() {
		f, data := storagetest.RandomFile(k, 100)
		if err := be.Save(t.Context(), f, data); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.Path())))
		if err != nil || info.Mode() != 0o400 || info.Size() != 100 {
			t.Errorf("%v: %v, %v", f, info, err)
		}
	}
	files, folders := 0, 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.IsDir():
			files++
		default:
			folders++
			if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
		return nil
	})
	if want := 1 + 5 + 256; err != nil || files != 6 || folders != want {
		t.Errorf("%d files and %d folders (%v), want 6 and %d", files, folders, err, want)
	}
}

// TestPlaces: what is not there, what is there already, and what is gone.
func TestPlaces(t *testing.T) {
	requireServer(t)
	d := new(dialer)
	be, dir := create(t, sftp.Options{Dial: d.dial})
	defer be.Close()
	absent := sftp.New(dir+"-not", "sftp", sftp.Options{Dial: d.dial})
	defer absent.Close()
	if err := absent.Open(t.Context()); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open what is not there: %v", err)
	}
	if err := be.Open(t.Context()); err != nil {
		t.Error(err)
	}
	f, data := storagetest.RandomFile(storage.Config, 10)
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	if err := be.Create(t.Context()); !errors.Is(err, storage.ErrExist) {
		t.Errorf("create what is there: %v", err)
	}
	lists := func() (failed error) {
		for _, err := range be.List(t.Context(), storage.Lock) {
			failed = err
		}
		return failed
	}
	if err := os.Remove(filepath.Join(dir, "locks")); err != nil {
		t.Fatal(err)
	}
	if err := lists(); err != nil {
		t.Errorf("a folder that is missing in a repository: %v", err)
	}
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	if err := lists(); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("list what is gone: %v", err)
	}
	pack, data := storagetest.RandomFile(storage.Pack, 10)
	if err := be.Save(t.Context(), pack, data); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("save where the place is gone: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made anew: %v", err)
	}
}

// TestKilledServer: a server that is killed is started again by the next request.
func TestKilledServer(t *testing.T) {
	requireServer(t)
	d := new(dialer)
	be, _ := create(t, sftp.Options{Dial: d.dial})
	again := retry.New(be, retry.Options{Limit: time.Minute})
	defer again.Close()
	f, data := storagetest.RandomFile(storage.Pack, 3<<20)
	for range 3 {
		d.kill()
		if err := again.Save(t.Context(), f, data); err != nil {
			t.Fatal(err)
		}
		d.kill()
		if got, err := again.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if err := again.Remove(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if d.count() < 7 {
		t.Errorf("%d servers were started", d.count())
	}
}

// frozen is a connection over which nothing moves any more, once it is told so.
type frozen struct {
	sftp.Conn
	now  chan struct{} // closed to freeze it
	dead chan struct{}
	once *sync.Once
}

func (f frozen) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	select {
	case <-f.now:
		<-f.dead
		return 0, io.EOF
	default:
		return n, err
	}
}

func (f frozen) Kill() {
	f.once.Do(func() { close(f.dead) })
	f.Conn.Kill()
}

// TestFrozenServer: a server that answers no more is given up; so it is, sooner, when who asked is no longer there.
func TestFrozenServer(t *testing.T) {
	requireServer(t)
	for _, cancelled := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelled %v", cancelled), func(t *testing.T) {
			now := make(chan struct{})
			idle := 400 * time.Millisecond
			if cancelled {
				idle = time.Hour
			}
			be, _ := create(t, sftp.Options{Idle: idle, Dial: func() (sftp.Conn, error) {
				c, err := new(dialer).dial()
				return frozen{c, now, make(chan struct{}), new(sync.Once)}, err
			}})
			defer be.Close()
			close(now)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			cause := errors.New("the lock is lost")
			if cancelled {
				time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
			}
			_, err := be.Stat(ctx, storage.File{})
			if cancelled && (!errors.Is(err, cause) || !errors.Is(err, context.Canceled)) {
				t.Errorf("stat: %v", err)
			}
			if !cancelled && (!errors.Is(err, storage.ErrUnreachable) || !strings.Contains(err.Error(), "nothing came or went for 400ms")) {
				t.Errorf("stat: %v", err)
			}
		})
	}
}

// TestReadOnlyServer: what the server refuses is not tried again.
func TestReadOnlyServer(t *testing.T) {
	requireServer(t)
	be, dir := create(t, sftp.Options{Dial: new(dialer).dial})
	f, data := storagetest.RandomFile(storage.Snapshot, 10)
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	be = sftp.New(dir, "sftp", sftp.Options{Dial: (&dialer{args: []string{"-R"}}).dial})
	defer be.Close()
	if got, err := be.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("load: %v", err)
	}
	if err := be.Remove(t.Context(), f); !errors.Is(err, storage.ErrReadOnly) || !storage.IsPermanent(err) {
		t.Errorf("remove: %v", err)
	}
	other, data := storagetest.RandomFile(storage.Snapshot, 10)
	if err := be.Save(t.Context(), other, data); !errors.Is(err, storage.ErrReadOnly) || !storage.IsPermanent(err) {
		t.Errorf("save: %v", err)
	}
}

// TestOddFiles: what only looks like a file of a repository is none.
func TestOddFiles(t *testing.T) {
	requireServer(t)
	be, dir := create(t, sftp.Options{Dial: new(dialer).dial})
	defer be.Close()
	id := storage.Sum([]byte("x")).String()
	for name, make := range map[string]func(string) error{
		"snapshots/" + id:            func(p string) error { return os.Mkdir(p, 0o700) },
		"snapshots/" + id + "-tmp-1": func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"snapshots/short":            func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"data/" + id:                 func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"data/00/" + id:              func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"data/zz":                    func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"keys/" + id:                 func(p string) error { return os.Symlink("nowhere", p) },
	} {
		if err := make(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range storage.Kinds() {
		for info, err := range be.List(t.Context(), k) {
			t.Errorf("lists %v (%v)", info, err)
		}
	}
}

// TestClock: what is saved tells the server's clock, which is this machine's here.
func TestClock(t *testing.T) {
	be, _ := create(t, sftp.Options{Dial: inProcess})
	defer be.Close()
	if at, known := be.Clock(); known {
		t.Errorf("%v, before it told", at)
	}
	f, data := storagetest.RandomFile(storage.Lock, 100)
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	if at, known := be.Clock(); !known || time.Until(at).Abs() > 10*time.Minute {
		t.Errorf("%v, %v", at, known)
	}
}
