// Package azuretest starts Azurite, which speaks as Azure Blob Storage does, for tests.
package azuretest

import (
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"testing"

	"jetsam/internal/testserver"
)

// Account is the account of the servers.
const Account = "jetsamtests"

var key = base64.StdEncoding.EncodeToString([]byte("a key of these tests"))

// Environment holds the credentials.
var Environment = testserver.Environment{"AZURE_ACCOUNT_NAME": Account, "AZURE_ACCOUNT_KEY": key, "AZURE_ACCOUNT_SAS": "", "AZURE_ENDPOINT_SUFFIX": ""}

// Azurite starts Azurite, and returns its account's address. Where it is not
// installed the test is skipped, but not in `make backends`.
func Azurite(t testing.TB) string {
	t.Helper()
	program := testserver.ObjectStore(t, "azurite-3.35.0/node_modules/.bin/azurite-blob")
	address := testserver.FreeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(program, "--blobHost", host, "--blobPort", port, "-l", t.TempDir(), "--silent", "--skipApiVersionCheck", "--disableTelemetry")
	cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+Account+":"+key)
	testserver.Start(t, cmd, address)
	return "http://" + address + "/" + Account
}
