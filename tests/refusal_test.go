package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/repo"
)

// TestRefusals: a server that does not want this user is told from one that cannot be reached, by the exit code; no secret is printed, and nothing is saved.
func TestRefusals(t *testing.T) {
	t.Parallel()
	o, other := startOperated(t, "n", "A"), startOperated(t, "n", "A")
	certificate, key := selfSigned(t)
	tls := func(verify bool) string {
		s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Config: fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: %v }", certificate, key, certificate, verify)})
		must(t, err)
		t.Cleanup(s.Shutdown)
		return s.URL()
	}
	full := startServer(t, natsd.Options{Config: "max_connections: 1"}) // its client is one
	plain := startServer(t, natsd.Options{})
	r, dir := newRepo(t, repo.Options{})
	for _, c := range []struct {
		name  string
		args  []string
		exit  int
		says  string
		creds string
	}{
		{"a user of nobody that the server knows", []string{"--server", o.srv.URL()}, 21, "Authorization Violation", other.creds["A"]},
		{"expired", []string{"--server", o.srv.URL()}, 21, "", credentials(t, o.accounts["A"], time.Now().Add(-time.Hour))},
		{"a certificate of nobody that is known", []string{"--server", tls(false)}, 20, "certificate", ""},
		{"a certificate is wanted", []string{"--server", tls(true), "--tlsca", certificate}, 20, "tls", ""},
		{"no TLS there", []string{"--server", strings.Replace(plain.address(), "nats:", "tls:", 1)}, 20, "", ""},
		{"as many connections as may be", []string{"--server", full.address()}, 21, "maximum connections exceeded", ""},
	} {
		args := append([]string{"backup", "--all"}, c.args...)
		if c.creds != "" {
			args = append(args, "--creds", c.creds)
		}
		out := command{repo: dir}.run(t, c.exit, args...)
		if !strings.Contains(out, c.says) {
			t.Errorf("%s: %q is not in\n%s", c.name, c.says, out)
		}
		hasNoSecret(t, out, c.creds)
	}
	noSnapshot(t, r)
}

// hasNoSecret wants nothing of a credentials file in what was printed.
func hasNoSecret(t *testing.T, out, creds string) {
	t.Helper()
	if creds == "" {
		return
	}
	text, err := os.ReadFile(creds)
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); len(line) > 20 && !strings.ContainsAny(line, " *") && strings.Contains(out, line) {
			t.Errorf("%.10s… of the credentials is printed:\n%s", line, out)
		}
	}
}

// TestRefusedInMidCapture: the server wants a user no longer while a backup is at work, because the credentials expire or are revoked. It ends at once, with
// the exit code of a refusal.
func TestRefusedInMidCapture(t *testing.T) {
	t.Parallel()
	o := startOperated(t, "n", "A")
	s := o.as(t, "A")
	s.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	s.fillNoise(t, "s", 4000)
	system, err := nats.Connect(o.srv.URL(), nats.UserCredentials(o.creds["SYS"]))
	must(t, err)
	t.Cleanup(system.Close)
	revoke := func() {
		claims := o.claims["A"]
		claims.RevokeAt(jwt.All, time.Now())
		token, err := claims.Encode(o.operator)
		if err == nil {
			_, err = system.Request("$SYS.REQ.ACCOUNT."+claims.Subject+".CLAIMS.UPDATE", []byte(token), 5*time.Second)
		}
		if err != nil {
			t.Error(err)
		}
	}
	_, err = binary() // before the time runs
	must(t, err)
	for _, c := range []struct {
		name, creds string
		half        func()
	}{
		{"expires", credentials(t, o.accounts["A"], time.Now().Add(5*time.Second)), func() { time.Sleep(6 * time.Second) }},
		{"is revoked", credentials(t, o.accounts["A"]), revoke},
	} {
		r, dir := newRepo(t, repo.Options{})
		k := &link{}
		var once sync.Once
		k.chunk = func(_ string, index int) {
			if index == 3 {
				once.Do(c.half)
			}
		}
		began := time.Now()
		out := command{repo: dir}.run(t, 21, "backup", "--all", "--server", k.open(t, o.srv.URL()).url(), "--creds", c.creds)
		t.Logf("%s: after %v:\n%s", c.name, time.Since(began), out)
		if !strings.Contains(out, "refused the connection") {
			t.Errorf("%s:\n%s", c.name, out)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s: it took %v", c.name, took)
		}
		hasNoSecret(t, out, c.creds)
		noSnapshot(t, r)
	}
}

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t testing.TB) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return file
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}
