package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jetsam/internal/natsd"
)

// BenchmarkMemory reports the peak resident memory of the built command in a full backup and a restore.
func BenchmarkMemory(b *testing.B) {
	bin := filepath.Join(b.TempDir(), "jetsam")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "jetsam/cmd/jetsam")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	s := startServer(b, natsd.Options{})
	s.load(b, 1024, benchSize(b))
	dst := startServer(b, natsd.Options{})
	dir := filepath.Join(b.TempDir(), "repo")
	run := func(args ...string) float64 {
		cmd := exec.Command(bin, append(args, "--repo", dir)...)
		cmd.Env = append(os.Environ(), "JETSAM_PASSWORD="+password)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		must(b, cmd.Start())
		peak := watchPeak(cmd.Process.Pid)
		if err := cmd.Wait(); err != nil {
			b.Fatalf("jetsam %v: %v\n%s", args, err, out.String())
		}
		return float64(<-peak) / 1024
	}
	run("init")
	for b.Loop() {
		b.ReportMetric(run("backup", "--all", "--server", s.URL()), "backup-MiB")
		b.ReportMetric(run("restore", "latest", "--server", dst.URL()), "restore-MiB")
	}
	b.ReportMetric(0, "ns/op")
}

// watchPeak looks at a process until it ends and then sends its peak resident memory in KiB. What wait4 reports would be this
// process's own: a child begins with the memory of its parent.
func watchPeak(pid int) <-chan int {
	peak := make(chan int, 1)
	go func() {
		most := 0
		for {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, rest, found := strings.Cut(string(text), "VmHWM:")
			if err != nil || !found {
				peak <- most
				return
			}
			var kib int
			fmt.Sscan(rest, &kib)
			most = max(most, kib)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return peak
}
