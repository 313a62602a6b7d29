package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExportFullDisk exports to a disk that has no room, or room for one of two streams: what is there is whole, and the exit code says it.
func TestExportFullDisk(t *testing.T) {
	src := drillServer(t)
	d := newDrill(t, src, filepath.Join(t.TempDir(), "repo"))
	d.run(t, 0, "backup", "--all")
	top := t.TempDir()
	mountTmpfs(t, top, "size=24m")
	for _, left := range []int64{0, 200 << 10} {
		out := filepath.Join(top, fmt.Sprint("out", left))
		ballast := fill(t, top, left)
		text := d.run(t, 24, "export", "latest", "--target", out, "--no-progress")
		if !strings.Contains(text, "no space left on device") || !strings.Contains(text, "make room there, or name another directory with --target") {
			t.Errorf("it is not said what to do:\n%s", text)
		}
		_, err := os.Stat(out)
		switch {
		case left > 0:
			wantDirectories(t, out, "SMALL")
			sameMessages(t, lookAt(t, src, "SMALL"), readDump(t, filepath.Join(out, "SMALL")))
			if !strings.Contains(text, "1 of 2 streams were not exported: BIG") {
				t.Errorf("it is not said of which stream:\n%s", text)
			}
		case !errors.Is(err, fs.ErrNotExist):
			t.Errorf("something is left: %v", err)
		}
		must(t, os.Remove(ballast))
	}
	d.run(t, 0, "export", "latest", "--target", filepath.Join(top, "out"))
	wantDirectories(t, filepath.Join(top, "out"), "BIG", "SMALL")
	must(t, unix.Mount("", top, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if text := d.run(t, 24, "export", "latest", "--target", filepath.Join(top, "more")); !strings.Contains(text, "read-only file system") {
		t.Errorf("a disk that cannot be written to:\n%s", text)
	}
}
