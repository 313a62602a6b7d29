// Package azuretest starts Azurite, which speaks as Azure Blob Storage does, for tests.
package azuretest

import (
	"bytes"
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Account is the account of the servers.
const Account = "jetsamtests"

var key = base64.StdEncoding.EncodeToString([]byte("a key of these tests"))

// environment holds the credentials, and none from elsewhere.
var environment = map[string]string{"AZURE_ACCOUNT_NAME": Account, "AZURE_ACCOUNT_KEY": key, "AZURE_ACCOUNT_SAS": "", "AZURE_ENDPOINT_SUFFIX": ""}

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

// Azurite starts Azurite, and returns its account's address. Where it is not
// installed the test is skipped, but not in `make backends`.
func Azurite(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("JETSAM_OLD_SERVERS")
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".cache", "jetsam-servers")
	}
	program := filepath.Join(dir, "azurite-3.35.0", "node_modules", ".bin", "azurite-blob")
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
	cmd := exec.Command(program, "--blobHost", host, "--blobPort", port, "-l", t.TempDir(), "--silent", "--skipApiVersionCheck", "--disableTelemetry")
	cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+Account+":"+key)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 1200 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return "http://" + address + "/" + Account
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("nobody listens on %s", address)
	return ""
}
