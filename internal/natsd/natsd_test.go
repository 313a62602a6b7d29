package natsd_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
)

func start(t *testing.T, o natsd.Options) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestStreamsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	first := start(t, natsd.Options{StoreDir: dir})
	js, err := connect(t, first.URL()).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AddStream(&nats.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish("orders.1", []byte("one")); err != nil {
		t.Fatal(err)
	}
	first.Shutdown()

	second := start(t, natsd.Options{StoreDir: dir})
	js, err = connect(t, second.URL()).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.StreamInfo("ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 1 {
		t.Errorf("after a restart the stream has %d messages, want 1", info.State.Msgs)
	}
}

func TestServersRunSideBySide(t *testing.T) {
	a := start(t, natsd.Options{StoreDir: t.TempDir()})
	b := start(t, natsd.Options{StoreDir: t.TempDir()})
	if a.URL() == b.URL() {
		t.Fatalf("both servers listen on %s", a.URL())
	}
	connect(t, a.URL())
	connect(t, b.URL())
}

func TestUsersAreHeldToTheirSubjects(t *testing.T) {
	s := start(t, natsd.Options{Users: []natsd.User{
		{Name: "free", Password: "f"},
		{Name: "reader", Password: "r", Publish: []string{}, Subscribe: []string{"news.>"}},
	}})
	if _, err := nats.Connect(s.URL()); !errors.Is(err, nats.ErrAuthorization) {
		t.Fatalf("connect without a user: %v, want %v", err, nats.ErrAuthorization)
	}
	refused := make(chan error, 1)
	reader := connect(t, s.URL(), nats.UserInfo("reader", "r"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	sub, err := reader.SubscribeSync("news.sport")
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := connect(t, s.URL(), nats.UserInfo("free", "f")).Publish("news.sport", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(10 * time.Second); err != nil {
		t.Errorf("message on an allowed subject: %v", err)
	}
	if err := reader.Publish("news.sport", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("publishing without permission: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("publishing without permission was not refused")
	}
}

func TestConfigText(t *testing.T) {
	s := start(t, natsd.Options{
		StoreDir:   t.TempDir(),
		MaxPayload: 4096,
		Config: `
			port: 1
			max_payload: 2048
			accounts {
				A { jetstream: enabled, users: [ {user: a, password: a} ] }
				B { users: [ {user: b, password: b} ] }
			}`,
	})
	a := connect(t, s.URL(), nats.UserInfo("a", "a"))
	if a.MaxPayload() != 4096 {
		t.Errorf("max payload %d, want the option's 4096", a.MaxPayload())
	}
	js, err := a.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AccountInfo(); err != nil {
		t.Errorf("account with JetStream: %v", err)
	}
	js, err = connect(t, s.URL(), nats.UserInfo("b", "b")).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AccountInfo(); !errors.Is(err, nats.ErrJetStreamNotEnabledForAccount) && !errors.Is(err, nats.ErrJetStreamNotEnabled) {
		t.Errorf("account without JetStream: %v", err)
	}
}

func TestBadOptionsAreErrors(t *testing.T) {
	inUse, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inUse.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name    string
		options natsd.Options
		says    string
	}{
		{"config that does not parse", natsd.Options{Config: "accounts {"}, "configure nats-server"},
		{"port in use", natsd.Options{Port: inUse.Addr().(*net.TCPAddr).Port}, "address already in use"},
		{"store is a file", natsd.Options{StoreDir: file}, "JetStream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := natsd.Start(c.options)
			if err == nil {
				s.Shutdown()
				t.Fatal("the server started")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
		})
	}
}

func TestLog(t *testing.T) {
	lines := make(chan string, 100)
	start(t, natsd.Options{Log: func(line string) {
		select {
		case lines <- line:
		default:
		}
	}})
	for {
		select {
		case line := <-lines:
			if strings.Contains(line, "Server is ready") {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the server logged nothing about being ready")
		}
	}
}
