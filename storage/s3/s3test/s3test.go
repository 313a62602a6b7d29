// Package s3test starts servers that speak as Amazon's S3 does, for tests.
package s3test

import (
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// The credentials of the servers.
const (
	Key    = "testkey"
	Secret = "testsecret"
)

// environment holds the credentials, and none from elsewhere.
var environment = map[string]string{
	"AWS_ACCESS_KEY_ID": Key, "AWS_SECRET_ACCESS_KEY": Secret, "AWS_SESSION_TOKEN": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
}

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

// Fake starts a small server in this process that keeps objects in memory. It knows
// conditions and ranges, and neither versions under a lock nor who may do what.
// It returns its address, http://127.0.0.1:PORT.
func Fake(t testing.TB) string {
	t.Helper()
	srv := httptest.NewServer(gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(srv.Close)
	return srv.URL
}

// Where the program is looked for.
const (
	dirVariable = "JETSAM_OLD_SERVERS"
	mustHave    = "JETSAM_BACKENDS" // set by `make backends`: then it has to be there
	program     = "versitygw-1.8.0"
)

// Program is where versitygw is looked for.
func Program() string {
	dir := os.Getenv(dirVariable)
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".cache", "jetsam-servers")
	}
	return filepath.Join(dir, program)
}

// Versity starts a versitygw that keeps objects, and their versions, in files. It
// returns its address. Where the program is not installed the test is skipped.
func Versity(t testing.TB, flags ...string) string {
	t.Helper()
	path := Program()
	if _, err := os.Stat(path); err != nil {
		if os.Getenv(mustHave) != "" {
			t.Fatalf("%v: `make backends` gets it", err)
		}
		t.Skipf("%v: `make backends` gets it, and runs this", err)
	}
	address := freeAddress(t)
	objects, versions := t.TempDir(), t.TempDir()
	said, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	args := append([]string{"--port", address, "--quiet"}, flags...)
	cmd := exec.Command(path, append(args, "posix", "--versioning-dir", versions, objects)...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+Key, "ROOT_SECRET_KEY="+Secret)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waitFor(t, address, said.Name())
	return "http://" + address
}

// freeAddress returns an address of this machine on which nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitFor waits until somebody listens.
func waitFor(t testing.TB, address, logFile string) {
	t.Helper()
	for range 600 {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(logFile)
	t.Fatalf("nobody listens on %s:\n%s", address, text)
}
