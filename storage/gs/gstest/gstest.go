// Package gstest starts fake-gcs-server, which speaks as Google Cloud Storage does, for tests.
package gstest

import (
	"cmp"
	"net"
	"os/exec"
	"testing"

	"jetsam/internal/testserver"
)

// Token is what opens the servers, which do not look at it.
const Token = "a token of these tests"

// Environment holds the credentials.
var Environment = testserver.Environment{"GOOGLE_ACCESS_TOKEN": Token, "GOOGLE_PROJECT_ID": "jetsam-tests", "GOOGLE_APPLICATION_CREDENTIALS": ""}

// Server starts fake-gcs-server, and returns its address. Where it is not installed
// the test is skipped, but not in `make backends`.
func Server(t testing.TB) string {
	t.Helper()
	return start(t, "")
}

// start is Server for a server that takes itself for another host, unless that is "".
func start(t testing.TB, public string) string {
	t.Helper()
	program := testserver.ObjectStore(t, "fake-gcs-server-1.56.1")
	address := testserver.FreeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(program, "-scheme", "http", "-host", host, "-port", port, "-public-host", cmp.Or(public, address),
		"-backend", "filesystem", "-filesystem-root", t.TempDir(), "-log-level", "error")
	testserver.Start(t, cmd, address)
	return "http://" + address
}
