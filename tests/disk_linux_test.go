package tests

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"
	"jetsam/streamlog"
)

// What goes wrong with disks, done to the built command. Whatever it is, the exit code is as docs/scripting.md has it, the
// text says what it is, the earlier snapshot is whole, and with the fault gone the next backup needs nobody's help.

// drill is a repository with one snapshot, of a small stream, and a server that has a larger one besides.
type drill struct {
	command
	src *source
}

// newDrill makes the repository in dir, which must be there and empty.
func newDrill(t *testing.T, src *source, dir string) drill {
	t.Helper()
	r := newRepoIn(t, dir, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: streamlog.Selection{Names: []string{"SMALL"}}})
	return drill{command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}, src}
}

// drillServer has a small stream and one that fills more than one pack.
func drillServer(t *testing.T) *source {
	t.Helper()
	src := startServer(t, natsd.Options{})
	event := eventMaker(1)
	for name, n := range map[string]int{"SMALL": 10, "BIG": 3000} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}})
		src.publish(t, strings.ToLower(name), n, func(int) []byte { return event(1024) })
	}
	return src
}

// backupWith runs a backup of everything under a fault and returns its exit code and what it said.
func (d drill) backupWith(t *testing.T, change func(*exec.Cmd)) (int, string) {
	t.Helper()
	cmd := d.prepare(t, "backup", "--all", "--no-progress")
	change(cmd)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	text := string(out)
	if strings.Contains(text, "goroutine ") || strings.Contains(text, "panic") {
		t.Errorf("a panic:\n%s", text)
	}
	return cmd.ProcessState.ExitCode(), text
}

// snapshots returns how many there are.
func (d drill) snapshots(t *testing.T) int {
	t.Helper()
	return strings.Count(d.run(t, 0, "snapshots", "--json"), `"message_type":"snapshot"`)
}

// whole wants the repository without damage by two programs, the number of snapshots, and no temporary files.
func (d drill) whole(t *testing.T, snapshots int) {
	t.Helper()
	d.run(t, 0, "check", "--read-data")
	if got := d.snapshots(t); got != snapshots {
		t.Errorf("%d snapshots, want %d", got, snapshots)
	}
	restic(t, d.repo, "check", "--read-data")
}

// recovers wants the repository whole after a backup that ended so, and the next one to succeed.
func (d drill) recovers(t *testing.T, code int) {
	t.Helper()
	before := 1
	if code == 0 {
		before = 2
	}
	d.whole(t, before)
	d.run(t, 0, "backup", "--all")
	d.run(t, 0, "check", "--read-data")
	if proof() {
		d.whole(t, before+1)
	}
}

// temporaries returns the unfinished files in a repository.
func (d drill) temporaries(t *testing.T) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(d.repo, func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(filepath.Base(path), "-tmp-") {
			names = append(names, path)
		}
		return err
	}))
	return names
}

// mountTmpfs mounts a file system of that size on dir until the test ends.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		testserver.Unable(t, "cannot mount a tmpfs (%v): run as root, or in a namespace of your own: unshare -Urm", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// free returns how many bytes a file system has left.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var s unix.Statfs_t
	must(t, unix.Statfs(dir, &s))
	return int64(s.Bavail) * s.Bsize
}

// fill writes ballast until that many bytes are left.
func fill(t *testing.T, dir string, left int64) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, max(0, free(t, dir)-left)), 0o600))
	return ballast
}

// TestFullDisk lets the disk be full at different moments: for the lock, a pack, the index and the snapshot.
func TestFullDisk(t *testing.T) {
	src := drillServer(t)
	top := t.TempDir()
	mountTmpfs(t, top, "size=24m")
	n := 0
	fresh := func() drill {
		n++
		dir := filepath.Join(top, fmt.Sprint("repo", n))
		return newDrill(t, src, dir)
	}
	d := fresh()
	start := free(t, top)
	d.run(t, 0, "backup", "--all")
	need := start - free(t, top)
	must(t, os.RemoveAll(d.repo))

	full := make(map[string]bool) // kinds of files for which there was no room
	kind := regexp.MustCompile(`save (lock|pack|index|snapshot)/`)
	const page = 4096
	// How many pages a backup needs differs by a few from run to run: try until each kind has had its turn.
	lefts := []int64{0, need / 2}
	for range 4 {
		for pages := int64(0); pages < 3; pages++ {
			lefts = append(lefts, need-pages*page)
		}
	}
	for i, left := range lefts {
		if i >= 2 && full["index"] && full["snapshot"] && !proof() {
			break
		}
		d := fresh()
		ballast := fill(t, top, left)
		code, text := d.backupWith(t, func(*exec.Cmd) {})
		names := d.temporaries(t)
		must(t, os.Remove(ballast))
		switch {
		case code == 24 && strings.Contains(text, "no space left on device") && strings.Contains(text, "make room"):
			if m := kind.FindStringSubmatch(text); m != nil {
				full[m[1]] = true
			}
		case code == 0 && left > page:
		default:
			t.Errorf("%d bytes left: exit code %d\n%s", left, code, text)
		}
		if len(names) > 0 {
			t.Errorf("%d bytes left: left behind: %v", left, names)
		}
		t.Logf("%d bytes left of %d: exit code %d: %s", left, need, code, lastLines(text, 2))
		d.recovers(t, code)
		must(t, os.RemoveAll(d.repo))
	}
	for _, k := range []string{"lock", "pack", "index", "snapshot"} {
		if !full[k] {
			t.Errorf("the disk was never full for a %s: %v", k, full)
		}
	}
}

// lastLines returns the end of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " / ")
}

// TestReadOnlyDisk: a place that cannot be written to is said to be that, and can be read.
func TestReadOnlyDisk(t *testing.T) {
	src := drillServer(t)
	top := t.TempDir()
	mountTmpfs(t, top, "size=24m")
	d := newDrill(t, src, filepath.Join(top, "repo"))
	must(t, unix.Mount("", top, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	code, text := d.backupWith(t, func(*exec.Cmd) {})
	t.Logf("exit code %d: %s", code, lastLines(text, 2))
	if code != 24 || !strings.Contains(text, "read-only file system") {
		t.Errorf("exit code %d\n%s", code, text)
	}
	if text := d.run(t, 24, "snapshots"); !strings.Contains(text, "--no-lock") {
		t.Errorf("no way out is told:\n%s", text)
	}
	d.run(t, 0, "snapshots", "--no-lock")
	d.run(t, 24, "key", "add", "--new-password-file", passwordFile(t, "x"))
	command{repo: filepath.Join(top, "new")}.run(t, 24, "init")
	must(t, unix.Mount("", top, "", unix.MS_REMOUNT, ""))
	d.recovers(t, code)
}

// TestForeignRepository: a repository of another user, which may be read, or not even that.
func TestForeignRepository(t *testing.T) {
	if os.Getuid() != 0 {
		testserver.Unable(t, "cannot become another user: run as root")
	}
	src := drillServer(t)
	const nobody = 65534
	for name, private := range map[string]bool{"readable": false, "private": true} {
		t.Run(name, func(t *testing.T) {
			d := newDrill(t, src, filepath.Join(t.TempDir(), "repo"))
			if !private {
				must(t, filepath.WalkDir(d.repo, func(path string, e fs.DirEntry, err error) error {
					must(t, err)
					mode := fs.FileMode(0o444)
					if e.IsDir() {
						mode = 0o755
					}
					return os.Chmod(path, mode)
				}))
			}
			for dir := filepath.Dir(d.repo); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				must(t, os.Chmod(dir, 0o755))
			}
			code, text := d.backupWith(t, func(cmd *exec.Cmd) {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			})
			t.Logf("exit code %d: %s", code, lastLines(text, 2))
			if code != 24 || !strings.Contains(text, "permission denied") {
				t.Errorf("exit code %d\n%s", code, text)
			}
			d.recovers(t, code)
		})
	}
}

// TestRepositoryVanishes takes the repository's directory away during a backup, and puts an empty one in its place: neither
// becomes a repository.
func TestRepositoryVanishes(t *testing.T) {
	src := drillServer(t)
	for name, replace := range map[string]bool{"removed": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			d := newDrill(t, src, filepath.Join(t.TempDir(), "repo"))
			before := listing(d.repo)
			var text bytes.Buffer
			cmd := d.prepare(t, "backup", "--all", "--no-progress")
			cmd.Stdout, cmd.Stderr = &text, &text
			must(t, cmd.Start())
			waitForChange(d.repo, before, t.Context().Done()) // its lock, behind which it waits a moment
			must(t, cmd.Process.Signal(syscall.SIGSTOP))
			must(t, os.Rename(d.repo, d.repo+"-away"))
			if replace {
				must(t, os.Mkdir(d.repo, 0o700))
			}
			must(t, cmd.Process.Signal(syscall.SIGCONT))
			_ = cmd.Wait() // the exit code says it
			code := cmd.ProcessState.ExitCode()
			t.Logf("exit code %d: %s", code, lastLines(text.String(), 2))
			if code != 24 || !strings.Contains(text.String(), "removed or replaced") {
				t.Errorf("exit code %d\n%s", code, text.String())
			}
			entries, err := os.ReadDir(d.repo)
			if replace && (err != nil || len(entries) > 0) || !replace && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("in its place there is %v, %v", entries, err)
			}
			must(t, os.RemoveAll(d.repo))
			must(t, os.Rename(d.repo+"-away", d.repo))
			d.recovers(t, code)
		})
	}
}

// TestForeignFiles: what is none of ours is left alone, and in nobody's way.
func TestForeignFiles(t *testing.T) {
	d := newDrill(t, drillServer(t), filepath.Join(t.TempDir(), "repo"))
	id := strings.Repeat("ab", 32)
	dirs := []string{filepath.Join("data", "ab", id), filepath.Join("index", id), filepath.Join("keys", id), filepath.Join("locks", id), filepath.Join("snapshots", id)}
	for _, dir := range dirs {
		must(t, os.Mkdir(filepath.Join(d.repo, dir), 0o700))
	}
	for _, file := range []string{"README", filepath.Join("data", "lost+found"), filepath.Join("data", "ab", "notes"), filepath.Join("data", "ab", id+"-tmp-0123456789abcdef"), filepath.Join("locks", id+"-tmp-0123456789abcdef"), filepath.Join("snapshots", "latest")} {
		must(t, os.WriteFile(filepath.Join(d.repo, file), []byte("none of yours"), 0o600))
	}
	d.run(t, 0, "check", "--read-data")
	d.run(t, 0, "backup", "--all")
	if text := d.run(t, 0, "check", "--read-data"); strings.Contains(text, id[:10]) {
		t.Errorf("check talks of what is no file of ours:\n%s", text)
	}
	if n := d.snapshots(t); n != 2 {
		t.Errorf("%d snapshots", n)
	}
	for _, dir := range dirs {
		must(t, os.Remove(filepath.Join(d.repo, dir))) // at which restic would stop
	}
	must(t, os.Remove(filepath.Join(d.repo, "snapshots", "latest")))
	restic(t, d.repo, "check", "--read-data")
}

// TestTemporaryDirectory: a backup needs none, and what does says which it is.
func TestTemporaryDirectory(t *testing.T) {
	d := newDrill(t, drillServer(t), filepath.Join(t.TempDir(), "repo"))
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	d.env = append(d.env, "TMPDIR="+nowhere)
	d.run(t, 0, "backup", "--all")
	d.run(t, 0, "check", "--read-data")
	if text := d.run(t, 1, "demo"); !strings.Contains(text, nowhere) {
		t.Errorf("it is not said where:\n%s", text)
	}
	restic(t, d.repo, "check", "--read-data")
}

// TestLimits runs backups with little of what a process may have.
func TestLimits(t *testing.T) {
	src := drillServer(t)
	for _, tt := range []struct {
		limit string
		codes []int
		want  string // in the text of a failure
		long  bool   // only in the long form
	}{
		{"-f 0", []int{24}, "file too large", true},
		{"-f 100", []int{24}, "file too large", false},
		{"-n 8", []int{0, 1, 20}, "too many open files", false},
		{"-n 32", []int{0}, "", true},
		{"-v 4000000", []int{0}, "", true},
	} {
		if tt.long && !proof() {
			continue
		}
		t.Run("ulimit "+tt.limit, func(t *testing.T) {
			d := newDrill(t, src, filepath.Join(t.TempDir(), "repo"))
			code, text := d.backupWith(t, func(cmd *exec.Cmd) {
				args := append([]string{"sh", "-c", "ulimit " + tt.limit + ` && exec "$@"`, "sh"}, cmd.Args...)
				sh, err := exec.LookPath("sh")
				must(t, err)
				cmd.Path, cmd.Args = sh, args
			})
			t.Logf("exit code %d: %s", code, lastLines(text, 2))
			allowed := false
			for _, c := range tt.codes {
				allowed = allowed || c == code
			}
			if !allowed || code != 0 && !strings.Contains(text, tt.want) {
				t.Errorf("exit code %d\n%s", code, text)
			}
			d.recovers(t, code)
		})
	}
}

// injection is a system call that fails: when as strace counts it.
type injection struct{ call, errno, when string }

// failingCalls are a few, and in the long form each call up to the last.
func failingCalls() (all []injection) {
	if !proof() {
		return []injection{
			{"fsync", "EIO", "1"}, // strace counts for each thread: others may never come
			{"linkat", "ENOSPC", "1"},
			{"unlinkat", "EIO", "1+"},
			{"getdents64", "EIO", "1"},
		}
	}
	for _, call := range []string{"fsync", "linkat", "unlinkat", "pread64", "getdents64", "fchmod"} {
		for k := range 20 {
			all = append(all, injection{call, "EIO", fmt.Sprint(k + 1)})
		}
		all = append(all, injection{call, "EIO", "1+"})
	}
	for _, call := range []string{"fsync", "linkat"} {
		for k := range 10 {
			all = append(all, injection{call, "ENOSPC", fmt.Sprint(k + 1)})
		}
	}
	return all
}

// TestInputOutputErrors lets system calls on a repository fail, by strace.
func TestInputOutputErrors(t *testing.T) {
	strace := testserver.Program(t, "strace", "strace")
	src := drillServer(t)
	hits := make(map[string]int)
	for _, in := range failingCalls() {
		if in.straced(t, strace, src) {
			hits[in.call]++
		}
	}
	t.Logf("runs with a fault, by call: %v", hits)
	for _, call := range []string{"fsync", "linkat", "unlinkat", "getdents64"} {
		if hits[call] == 0 {
			t.Errorf("%s never failed", call)
		}
	}
}

// straced runs a backup with a system call that fails, and reports whether it came to that.
func (in injection) straced(t *testing.T, strace string, src *source) (hit bool) {
	t.Helper()
	d := newDrill(t, src, filepath.Join(t.TempDir(), "repo"))
	log := filepath.Join(t.TempDir(), "strace")
	code, text := d.backupWith(t, func(cmd *exec.Cmd) {
		inject := "inject=" + in.call + ":error=" + in.errno + ":when=" + in.when
		cmd.Args = append([]string{strace, "-f", "-qq", "-o", log, "-e", "trace=" + in.call, "-e", inject}, cmd.Args...)
		cmd.Path = strace
	})
	calls, err := os.ReadFile(log)
	must(t, err)
	hit = bytes.Contains(calls, []byte("(INJECTED)"))
	if !hit && code != 0 {
		testserver.Unable(t, "strace cannot trace here: allow ptrace (docker run --cap-add SYS_PTRACE)\n%s", text)
	}
	if strings.Contains(text, "shared libraries") {
		return false // it was the system's loader that could not read
	}
	in.judge(t, code, text)
	if hit {
		d.recovers(t, code)
	}
	return hit
}

// judge wants the exit code and the text that belong to a fault.
func (in injection) judge(t *testing.T, code int, text string) {
	t.Helper()
	t.Logf("%v: exit code %d: %s", in, code, lastLines(text, 2))
	failed, why := 1, "input/output error"
	if in.errno == "ENOSPC" {
		failed, why = 24, "no space left on device"
	}
	if code != 0 && code != failed {
		t.Errorf("%v: exit code %d\n%s", in, code, text)
	}
	if code != 0 && !strings.Contains(text, why) {
		t.Errorf("%v: the text does not say why\n%s", in, text)
	}
}
