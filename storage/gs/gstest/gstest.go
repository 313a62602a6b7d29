// Package gstest starts fake-gcs-server, which speaks as Google Cloud Storage does, for tests.
package gstest

import (
	"bytes"
	"cmp"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Token is what opens the servers, which do not look at it.
const Token = "a token of these tests"

// environment holds the credentials, and none from elsewhere.
var environment = map[string]string{"GOOGLE_ACCESS_TOKEN": Token, "GOOGLE_PROJECT_ID": "jetsam-tests", "GOOGLE_APPLICATION_CREDENTIALS": ""}

// Main runs a package's tests with the credentials in the environment.
func Main(m *testing.M) {
	for name, value := range environment {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// Setenv puts the credentials into the environment of one test.
func Setenv(t *testing.T) {
	for name, value := range environment {
		t.Setenv(name, value)
	}
}

// Server starts fake-gcs-server, and returns its address. Where it is not installed
// the test is skipped, but not in `make backends`.
func Server(t testing.TB) string {
	t.Helper()
	return start(t, "")
}

// start is Server for a server that takes itself for another host, unless that is "".
func start(t testing.TB, public string) string {
	t.Helper()
	dir := os.Getenv("JETSAM_OLD_SERVERS")
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".cache", "jetsam-servers")
	}
	program := filepath.Join(dir, "fake-gcs-server-1.56.1")
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("JETSAM_BACKENDS") != "" {
			t.Fatalf("%v: `make backends` gets it", err)
		}
		t.Skipf("%v: `make backends` gets it, and runs this", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	host, port, _ := net.SplitHostPort(address)
	l.Close()
	cmd := exec.Command(program, "-scheme", "http", "-host", host, "-port", port, "-public-host", cmp.Or(public, address),
		"-backend", "filesystem", "-filesystem-root", t.TempDir(), "-log-level", "error")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return "http://" + address
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("nobody listens on %s", address)
	return ""
}
