package jetstream_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
	"jetsam/secret"
)

// useContexts saves contexts of the nats command line, by name, and selects one unless selected is empty.
func useContexts(t *testing.T, selected string, contexts map[string]map[string]string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	folder := filepath.Join(dir, "nats", "context")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, settings := range contexts {
		text, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(folder, name+".json"), text)
	}
	if selected != "" {
		writeFile(t, filepath.Join(dir, "nats", "context.txt"), []byte(selected))
	}
}

func writeFile(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// accountsConfig gives users a and b an account each, with JetStream, and user none one without.
const accountsConfig = `
	accounts {
		A { jetstream: enabled, users: [ {user: a, password: "pw-a"} ] }
		B { jetstream: enabled, users: [ {user: b, password: "pw-b"} ] }
		NONE { users: [ {user: none, password: "pw-none"} ] }
	}`

func TestConnectChoosesServerAndUser(t *testing.T) {
	server := serve(t, natsd.Options{Config: accountsConfig})
	withUser := strings.Replace(server.URL(), "://", "://a:pw-a@", 1)
	a := map[string]string{"url": server.URL(), "user": "a", "password": "pw-a"}
	elsewhere := map[string]string{"url": "nats://127.0.0.1:1", "user": "a", "password": "pw-a"}

	for _, c := range []struct {
		name     string
		config   jetstream.Config
		selected string
		contexts map[string]map[string]string
		account  string
	}{
		{"flags", jetstream.Config{Servers: server.URL(), User: "b", Password: secret.New("pw-b")}, "", nil, "B"},
		{"credentials in the URL", jetstream.Config{Servers: withUser}, "", nil, "A"},
		{"named context", jetstream.Config{Context: "a"}, "x", map[string]map[string]string{"a": a, "x": elsewhere}, "A"},
		{"selected context", jetstream.Config{}, "a", map[string]map[string]string{"a": a, "x": elsewhere}, "A"},
		{"server over context", jetstream.Config{Context: "x", Servers: server.URL()}, "", map[string]map[string]string{"x": elsewhere}, "A"},
		{
			"user over context",
			jetstream.Config{Context: "a", User: "b", Password: secret.New("pw-b")}, "", map[string]map[string]string{"a": a}, "B",
		},
		{
			"user over credentials in the context's URL",
			jetstream.Config{User: "b", Password: secret.New("pw-b")}, "url", map[string]map[string]string{"url": {"url": withUser}}, "B",
		},
		{
			"server leaves the selected context alone",
			jetstream.Config{Servers: server.URL(), User: "b", Password: secret.New("pw-b")}, "a", map[string]map[string]string{"a": a}, "B",
		},
		{
			"several servers, the first away",
			jetstream.Config{Servers: "nats://127.0.0.1:1, " + server.URL(), User: "a", Password: secret.New("pw-a")}, "", nil, "A",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			useContexts(t, c.selected, c.contexts)
			account, err := connect(t, c.config).Account(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if account.Name != c.account {
				t.Errorf("connected to account %q, want %q", account.Name, c.account)
			}
		})
	}
}

func TestConnectWithAToken(t *testing.T) {
	useContexts(t, "", nil)
	server := serve(t, natsd.Options{Config: `authorization { token: "s3cret" }`})
	for name, c := range map[string]jetstream.Config{
		"as such":    {Servers: server.URL(), Token: secret.New("s3cret")},
		"in the URL": {Servers: strings.Replace(server.URL(), "://", "://s3cret@", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, c)
			if err := conn.CheckJetStream(t.Context()); err != nil {
				t.Error(err)
			}
			if u := conn.Server().URL; u != server.URL() {
				t.Errorf("connected to %s", u)
			}
		})
	}
	_, err := jetstream.Connect(t.Context(), jetstream.Config{Servers: server.URL(), Token: secret.New("other")})
	wantError(t, err, jetstream.ErrAuthentication)
}

func TestConnectRefuses(t *testing.T) {
	server := serve(t, natsd.Options{Config: accountsConfig})
	nkeys := serve(t, natsd.Options{Config: "authorization { users: [ { nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4 } ] }"})
	file := func(text string) string { return writeFile(t, filepath.Join(t.TempDir(), "file"), []byte(text)) }
	missing := filepath.Join(t.TempDir(), "missing")

	for _, c := range []struct {
		name    string
		config  jetstream.Config
		is      error // one of the sentinels, or nil for none of them
		says    string
		refused bool // whether it is a PermissionError
	}{
		{"wrong password", jetstream.Config{Servers: server.URL(), User: "a", Password: secret.New("hunter2")}, jetstream.ErrAuthentication, "Authorization Violation", true},
		{"wrong password in the URL", jetstream.Config{Servers: strings.Replace(server.URL(), "://", "://a:hunter2@", 1)}, jetstream.ErrAuthentication, "Authorization Violation", true},
		{"no user", jetstream.Config{Servers: server.URL()}, jetstream.ErrAuthentication, "Authorization Violation", true},
		{"nobody listens", jetstream.Config{Servers: "nats://a:hunter2@127.0.0.1:1"}, jetstream.ErrUnreachable, "127.0.0.1:1", false},
		{"several, nobody listens", jetstream.Config{Servers: "nats://a:hunter2@127.0.0.1:1,nats://x:hunter2@127.0.0.1:2"}, jetstream.ErrUnreachable, "xxxxx@127.0.0.1:2", false},
		{"no such host", jetstream.Config{Servers: "nats://a:hunter2@host.invalid:4222"}, jetstream.ErrUnreachable, "host.invalid", false},
		{"URL that does not parse", jetstream.Config{Servers: "nats://a:hunter2@[::1"}, nil, "[::1", false},
		{"URL with a password that is not escaped", jetstream.Config{Servers: "nats://a:hun/ter%2@host:1"}, nil, "@host:1", false},
		{"no such context", jetstream.Config{Context: "nowhere"}, nil, `context not found: "nowhere"`, false},
		{"credentials file missing", jetstream.Config{Servers: server.URL(), Creds: missing}, nil, missing, false},
		{"seed file missing", jetstream.Config{Servers: server.URL(), NKey: missing}, nil, missing, false},
		{"seed file of another kind", jetstream.Config{Servers: server.URL(), NKey: file("hunter2")}, nil, "nkey", false},
		{"credentials file without a seed that is whole", jetstream.Config{Servers: nkeys.URL(), Creds: file("-----BEGIN NATS USER JWT-----\nhunter2\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\nSUACSSL3UAHUDXKFSNVUZRF5\n")}, nil, "error signing nonce", false},
		{"certificate authority missing", jetstream.Config{Servers: server.URL(), TLSCA: missing}, nil, missing, false},
		{"certificate without key", jetstream.Config{Servers: server.URL(), TLSCert: missing}, nil, "key", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkLeaks(t)
			useContexts(t, "", nil)
			conn, err := jetstream.Connect(t.Context(), c.config)
			if err == nil {
				conn.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, "hunter2") || strings.Contains(text, "hun/ter%2") {
					t.Errorf("error %q holds the password", text)
				}
			}
			for _, sentinel := range []error{jetstream.ErrAuthentication, jetstream.ErrUnreachable} {
				if errors.Is(err, sentinel) != (c.is == sentinel) {
					t.Errorf("error %v: is it %q? want %v", err, sentinel, c.is == sentinel)
				}
			}
			var p *jetstream.PermissionError
			if errors.As(err, &p) != c.refused {
				t.Errorf("error %v: is it a PermissionError? want %v", err, c.refused)
			}
		})
	}
}

func TestConnectToTheDefault(t *testing.T) {
	useContexts(t, "", nil)
	conn, err := jetstream.Connect(t.Context(), jetstream.Config{})
	if err == nil {
		conn.Close()
		t.Skip("a server listens at the default address")
	}
	wantError(t, err, jetstream.ErrUnreachable)
	if !strings.Contains(err.Error(), "nats://127.0.0.1:4222") {
		t.Errorf("error %q does not name the default server", err)
	}
}

func TestConnectToASelectedContextThatIsGone(t *testing.T) {
	useContexts(t, "gone", nil)
	if conn, err := jetstream.Connect(t.Context(), jetstream.Config{}); err == nil {
		conn.Close()
		t.Fatal("connected")
	} else if !strings.Contains(err.Error(), `"gone"`) {
		t.Errorf("error %q does not name the context", err)
	}
}

// mute listens, but never says a word.
func mute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "nats://" + l.Addr().String()
}

func TestConnectToAMuteServer(t *testing.T) {
	within(t, 10*time.Second, func() {
		_, err := jetstream.Connect(t.Context(), jetstream.Config{Servers: mute(t), Timeout: 100 * time.Millisecond})
		wantError(t, err, jetstream.ErrUnreachable)
	})
}

func TestConnectIsCancelled(t *testing.T) {
	checkLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	within(t, 10*time.Second, func() {
		_, err := jetstream.Connect(ctx, jetstream.Config{Servers: mute(t), Timeout: 500 * time.Millisecond})
		wantError(t, err, context.Canceled)
	})
}

func TestConnectWithTLS(t *testing.T) {
	certificate, key := selfSigned(t)
	other, _ := selfSigned(t)
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLSFirst=%v", first), func(t *testing.T) {
			server := serve(t, natsd.Options{
				Config: fmt.Sprintf("tls { cert_file: %q, key_file: %q, handshake_first: %v }", certificate, key, first),
			})
			url := strings.Replace(server.URL(), "nats://", "tls://", 1)
			conn := connect(t, jetstream.Config{Servers: url, TLSCA: certificate, TLSFirst: first})
			if err := conn.CheckJetStream(t.Context()); err != nil {
				t.Error(err)
			}
			for name, c := range map[string]jetstream.Config{
				"unknown authority": {Servers: url, TLSFirst: first},
				"other authority":   {Servers: url, TLSCA: other, TLSFirst: first},
			} {
				conn, err := jetstream.Connect(t.Context(), c)
				if err == nil {
					conn.Close()
					t.Errorf("%s: connected", name)
					continue
				}
				if !errors.Is(err, jetstream.ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t testing.TB) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate = writeFile(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = writeFile(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return certificate, key
}

func TestServerInfo(t *testing.T) {
	server := serve(t, natsd.Options{Name: "backup-test", MaxPayload: 123_456})
	got := connect(t, jetstream.Config{Servers: strings.Replace(server.URL(), "://", "://user:pw@", 1)}).Server()
	want := jetstream.ServerInfo{
		ID: got.ID, Name: "backup-test", Version: got.Version, Host: "127.0.0.1", URL: server.URL(), MaxPayload: 123_456,
	}
	if got != want || got.ID == "" {
		t.Errorf("server is %+v, want %+v", got, want)
	}
	if !got.AtLeast(2, 15) || got.AtLeast(99, 0) {
		t.Errorf("version %q is misjudged", got.Version)
	}
	unnamed := serve(t, natsd.Options{})
	if s := connect(t, jetstream.Config{Servers: unnamed.URL()}).Server(); s.Name != "" {
		t.Errorf("a server that made up its name is called %q", s.Name)
	}
}

func TestServersThatFreezeForSnapshots(t *testing.T) {
	for version, want := range map[string]bool{
		"2.9.10": true, "2.10.29": true, "2.11.11": true, "2.11.12": false, "2.11.17": false, "2.12.0": true, "2.12.2": true, "2.12.3": false, "v2.12.15": false,
		"2.12.3-RC.1": false, "2.14.0": false, "2.15.2": false, "3.0.0": false, "1.4.1": true, "": true, "x": true,
	} {
		if got := (jetstream.ServerInfo{Version: version}).FreezesForSnapshots(); got != want {
			t.Errorf("version %q: %v, want %v", version, got, want)
		}
	}
}

func TestServerVersionAtLeast(t *testing.T) {
	for _, c := range []struct {
		version      string
		major, minor int
		want         bool
	}{
		{"2.15.2", 2, 15, true},
		{"2.15.0", 2, 15, true},
		{"2.16.0-RC.1", 2, 15, true},
		{"2.15.0-preview.1", 2, 15, true},
		{"2.15-dev", 2, 15, true},
		{"v3.0.0", 2, 15, true},
		{"2.9.25", 2, 15, false},
		{"2.14.9", 2, 15, false},
		{"1.99.0", 2, 15, false},
		{"", 2, 15, false},
		{"2", 2, 0, false},
		{"x.y.z", 0, 0, false},
	} {
		if got := (jetstream.ServerInfo{Version: c.version}).AtLeast(c.major, c.minor); got != c.want {
			t.Errorf("version %q at least %d.%d: %v, want %v", c.version, c.major, c.minor, got, c.want)
		}
	}
}

// TestReconnect loses a server and gets it back.
func TestReconnect(t *testing.T) {
	checkLeaks(t)
	dir := t.TempDir()
	server := serve(t, natsd.Options{StoreDir: dir})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S"})
	c := connect(t, jetstream.Config{Servers: server.URL(), Timeout: 500 * time.Millisecond})
	var port int
	if _, err := fmt.Sscanf(server.URL(), "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	server.Shutdown()
	within(t, 10*time.Second, func() {
		_, err := c.Stream(t.Context(), "S")
		wantError(t, err, jetstream.ErrConnectionLost)
	})
	if s := c.Server(); s.URL != "" || s.Version != "" {
		t.Errorf("without a server: %+v", s)
	}

	again := serve(t, natsd.Options{StoreDir: dir, Port: port})
	within(t, 20*time.Second, func() {
		for {
			_, err := c.Stream(t.Context(), "S")
			if err == nil {
				return
			}
			wantError(t, err, jetstream.ErrUnreachable)
		}
	})
	archive, _, _ := snapshot(t, c, "S", jetstream.SnapshotOptions{})
	if len(archive) == 0 {
		t.Error("no snapshot after the connection came back")
	}
	again.Shutdown()
	c.Close()
	_, err := c.Stream(t.Context(), "S")
	wantError(t, err, jetstream.ErrConnectionLost)
}

// TestServersThatNameOthers: a server that greets with a list of servers which never say a word does not keep the first attempt to connect from ending.
func TestServersThatNameOthers(t *testing.T) {
	checkLeaks(t)
	const named = 40
	var met atomic.Int32
	silent := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	accept := func(l net.Listener, first string) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			met.Add(1)
			_, _ = io.WriteString(c, first)
			go func() {
				<-t.Context().Done()
				c.Close()
			}()
		}
	}
	var urls []string
	for range named {
		l := silent()
		urls = append(urls, strconv.Quote(l.Addr().String()))
		go accept(l, "")
	}
	l := silent()
	go accept(l, `INFO {"connect_urls":[`+strings.Join(urls, ",")+"]}\r\n")
	_, err := jetstream.Connect(t.Context(), jetstream.Config{Servers: "nats://" + l.Addr().String(), Timeout: 200 * time.Millisecond})
	wantError(t, err, jetstream.ErrUnreachable)
	if n := met.Load(); n > named/2 {
		t.Errorf("%d servers were tried", n)
	}
}

// TestRefusalBesideAStranger: of two servers one is none, and the other refuses the credentials, which is what the user must hear.
func TestRefusalBesideAStranger(t *testing.T) {
	checkLeaks(t)
	serve := func(first, then string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, first)
				_, _ = c.Read(make([]byte, 4096)) // CONNECT
				_, _ = io.WriteString(c, then)
				c.Close()
			}
		}()
		return "nats://" + l.Addr().String()
	}
	stranger := serve("HTTP/1.1 400 Bad Request\r\n\r\n", "")
	refuses := serve("INFO {\"auth_required\":true}\r\n", "-ERR 'Authorization Violation'\r\n")
	for range 20 { // the order in which they are tried is random
		_, err := jetstream.Connect(t.Context(), jetstream.Config{Servers: stranger + "," + refuses, Timeout: 10 * time.Second})
		var denied *jetstream.PermissionError
		if !errors.As(err, &denied) && !errors.Is(err, jetstream.ErrProtocol) {
			t.Fatal(err)
		}
		if denied != nil {
			return
		}
	}
	t.Error("no one says that the credentials were refused")
}
