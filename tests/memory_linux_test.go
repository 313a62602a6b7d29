package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

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
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("jetsam %v: %v\n%s", args, err, out)
		}
		return float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
	}
	run("init")
	for b.Loop() {
		b.ReportMetric(run("backup", "--all", "--server", s.URL()), "backup-MiB")
		b.ReportMetric(run("restore", "latest", "--server", dst.URL()), "restore-MiB")
	}
	b.ReportMetric(0, "ns/op")
}
