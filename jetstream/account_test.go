package jetstream_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
	"jetsam/secret"
)

func TestAccount(t *testing.T) {
	limited := `
		accounts {
			A {
				jetstream: { max_mem: 1M, max_store: 2M, max_streams: 3, max_consumers: 4 }
				users: [ {user: a, password: x} ]
			}
		}`
	user := []natsd.User{{Name: "bk", Password: "x", Publish: []string{"$JS.API.INFO"}, Subscribe: []string{"_INBOX.>"}}}
	unlimited := jetstream.Limits{MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1}

	for _, c := range []struct {
		name    string
		options natsd.Options
		config  jetstream.Config
		account string // its name
		key     string
		domain  string
		limits  jetstream.Limits
	}{
		{"global", natsd.Options{}, jetstream.Config{}, "$G", "$G", "", unlimited},
		{"domain", natsd.Options{Domain: "hub"}, jetstream.Config{Domain: "hub"}, "$G", "$G", "hub", unlimited},
		{"API prefix", natsd.Options{Domain: "hub"}, jetstream.Config{APIPrefix: "$JS.hub.API."}, "$G", "$G", "hub", unlimited},
		{"named", natsd.Options{Config: limited}, jetstream.Config{User: "a", Password: secret.New("x"), Account: "unused"}, "A", "A", "",
			jetstream.Limits{MaxMemory: 1_000_000, MaxStore: 2_000_000, MaxStreams: 3, MaxConsumers: 4}},
		{"not told", natsd.Options{Users: user}, jetstream.Config{User: "bk", Password: secret.New("x")}, "$G", "", "", unlimited},
		{"not told, but given", natsd.Options{Users: user}, jetstream.Config{User: "bk", Password: secret.New("x"), Account: "ours"}, "ours", "", "", unlimited},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Servers = serve(t, c.options).URL()
			c.config.Timeout = timeoutNotToWait
			conn := connect(t, c.config)
			var got jetstream.AccountInfo
			within(t, 10*time.Second, func() {
				var err error
				if got, err = conn.Account(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
			if got.Name != c.account || got.Key != c.key || got.Domain != c.domain {
				t.Errorf("account %q, key %q, domain %q; want %q, %q, %q", got.Name, got.Key, got.Domain, c.account, c.key, c.domain)
			}
			got.Limits.MaxStreamMemory, got.Limits.MaxStreamStore = 0, 0
			if got.Limits != c.limits {
				t.Errorf("limits %+v, want %+v", got.Limits, c.limits)
			}
			if !strings.Contains(string(got.Raw), `"limits"`) {
				t.Errorf("raw answer is %s", got.Raw)
			}
		})
	}
}

func TestAccountUsage(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "F", Subjects: []string{"f.>"}})
	addStream(t, js, nats.StreamConfig{Name: "M", Subjects: []string{"m.>"}, Storage: nats.MemoryStorage})
	addConsumer(t, js, "F", nats.ConsumerConfig{Durable: "d"})
	publish(t, js, "f", 10, 100)
	publish(t, js, "m", 10, 100)
	got, err := connect(t, jetstream.Config{Servers: server.URL()}).Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Streams != 2 || got.Consumers != 1 || got.Memory < 1000 || got.Store < 1000 {
		t.Errorf("in use: %+v", got)
	}
}

func TestAccountTiers(t *testing.T) {
	script := newScript(t)
	script.answer(t, "$JS.API.INFO", func([]byte) string {
		return `{"memory":0,"storage":10,"tiers":{"R1":{"storage":10,"limits":{"max_storage":100}},"R3":{"limits":{"max_storage":300,"max_bytes_required":true}}}}`
	})
	got, err := connect(t, jetstream.Config{Servers: script.url}).Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Tiers["R1"].Store != 10 || got.Tiers["R1"].Limits.MaxStore != 100 || !got.Tiers["R3"].Limits.MaxBytesNeeded {
		t.Errorf("tiers are %+v", got.Tiers)
	}
}

// TestNoJetStream meets every way in which JetStream can be missing. All are told at once.
func TestNoJetStream(t *testing.T) {
	none, err := natsd.Start(natsd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(none.Shutdown)
	accounts := serve(t, natsd.Options{Config: accountsConfig})
	for name, c := range map[string]jetstream.Config{
		"on the server":      {Servers: none.URL()},
		"for the account":    {Servers: accounts.URL(), User: "none", Password: secret.New("pw-none")},
		"in the domain":      {Servers: accounts.URL(), User: "a", Password: secret.New("pw-a"), Domain: "nowhere"},
		"under the prefix":   {Servers: accounts.URL(), User: "a", Password: secret.New("pw-a"), APIPrefix: "nowhere"},
		"domain over prefix": {Servers: none.URL(), Domain: "d", APIPrefix: "p"},
	} {
		t.Run(name, func(t *testing.T) {
			c.Timeout = timeoutNotToWait
			conn := connect(t, c)
			within(t, 10*time.Second, func() {
				wantError(t, conn.CheckJetStream(t.Context()), jetstream.ErrNoJetStream)
				_, err := conn.Account(t.Context())
				wantError(t, err, jetstream.ErrNoJetStream)
				_, err = conn.Streams(t.Context())
				wantError(t, err, jetstream.ErrNoJetStream)
				_, err = conn.Snapshot(t.Context(), "S", jetstream.SnapshotOptions{})
				wantError(t, err, jetstream.ErrNoJetStream)
			})
		})
	}
}
