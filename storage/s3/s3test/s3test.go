// Package s3test starts servers that speak as Amazon's S3 does, for tests.
package s3test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"jetsam/internal/testserver"
)

// The credentials of the servers.
const (
	Key    = "testkey"
	Secret = "testsecret"
)

// Environment holds the credentials.
var Environment = testserver.Environment{
	"AWS_ACCESS_KEY_ID": Key, "AWS_SECRET_ACCESS_KEY": Secret, "AWS_SESSION_TOKEN": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
}

// Fake starts a small server in this process that keeps objects in memory. It knows
// conditions and ranges, and neither versions under a lock nor who may do what.
// It returns its address, http://127.0.0.1:PORT.
func Fake(t testing.TB) string {
	t.Helper()
	srv := httptest.NewServer(gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(srv.Close)
	return srv.URL
}

// Program returns the path of versitygw. Where it is not installed the test is
// skipped.
func Program(t testing.TB) string {
	t.Helper()
	return testserver.ObjectStore(t, "versitygw-1.8.0")
}

// Versity starts a versitygw that keeps objects, and their versions, in files. It
// returns its address. Where the program is not installed the test is skipped.
func Versity(t testing.TB, flags ...string) string {
	t.Helper()
	program, address := Program(t), testserver.FreeAddress(t)
	objects, versions := t.TempDir(), t.TempDir()
	args := append([]string{"--port", address, "--quiet"}, flags...)
	cmd := exec.Command(program, append(args, "posix", "--versioning-dir", versions, objects)...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+Key, "ROOT_SECRET_KEY="+Secret)
	testserver.Start(t, cmd, address)
	return "http://" + address
}
