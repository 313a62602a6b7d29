// Package testserver finds the programs of others, and starts their servers, for tests.
package testserver

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// dirVariable names the directory of the programs, and backendsVariable is set where
// those of object stores have to be there.
const (
	dirVariable      = "JETSAM_OLD_SERVERS"
	backendsVariable = "JETSAM_BACKENDS"
)

// Dir is the directory that `make servers` and `make backends` put programs in.
func Dir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(dirVariable); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, ".cache", "jetsam-servers")
}

// ObjectStore returns the path of a program below Dir that `make backends` gets. Where
// it is not there the test is skipped, but not in `make backends`.
func ObjectStore(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Dir(t), filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		if os.Getenv(backendsVariable) != "" {
			t.Fatalf("%v: `make backends` gets it", err)
		}
		t.Skipf("%v: `make backends` gets it, and runs this", err)
	}
	return path
}

// Program returns the path of a program that Debian's package of that name has. Where
// it is not installed the test is skipped, but not in CI.
func Program(t testing.TB, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Unable(t, "%s is not installed: apt-get install %s", filepath.Base(name), debian)
	}
	return path
}

// Unable skips a test of what cannot be done here. In CI, where the variable of that
// name is set, it must be possible.
func Unable(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// FreeAddress returns an address of this machine, host and port, on which nobody
// listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePorts(t, 1)[0]))
}

// Ports that FreePorts chooses from: none that a system gives to who connects to
// another (Linux: from 32768 on), so that nobody has it by the time that a server
// listens there, or listens there again.
const (
	firstPort = 10_000
	endPort   = 32_768
)

// given are the ports that FreePorts has returned. A server may not listen there yet.
var given sync.Map

// FreePorts returns n ports of this machine on which nobody listens. They are
// different from each other, and from all that it returned before.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		port := firstPort + rand.IntN(endPort-firstPort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		switch {
		case err != nil && tries > 1000:
			t.Fatal(err)
		case err != nil:
			continue
		}
		_ = l.Close()
		if _, taken := given.LoadOrStore(port, true); !taken {
			ports = append(ports, port)
		}
	}
	return ports
}

// Start starts a server that ends with the test, and waits until it listens on an
// address. What it says is told if it does not.
func Start(t testing.TB, cmd *exec.Cmd, address string) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	if !listens(address) {
		stop() // and so nobody writes to what is read now
		t.Fatalf("nobody listens on %s:\n%s", address, said.Bytes())
	}
}

// listens waits until somebody listens on an address, a minute at most.
func listens(address string) bool {
	for range 1200 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// Environment is what a server's clients find in the environment: its credentials,
// and none from elsewhere.
type Environment map[string]string

// Main runs a package's tests in the environment, and ends the process.
func (e Environment) Main(m *testing.M) {
	for name, value := range e {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// Set makes it the environment of one test.
func (e Environment) Set(t testing.TB) {
	t.Helper()
	for name, value := range e {
		t.Setenv(name, value)
	}
}
