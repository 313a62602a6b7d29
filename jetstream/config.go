package jetstream

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nats.go"

	"jetsam/secret"
)

// Defaults of a Config.
const (
	DefaultTimeout        = 5 * time.Second
	DefaultRestoreTimeout = 2 * time.Minute
	DefaultAccount        = "$G" // what servers call the account of those who have none
	DefaultName           = "jetsam"
)

// reconnectWait is how long a Conn that lost its server waits between two rounds of trying to get it back.
const reconnectWait = 250 * time.Millisecond

// pingInterval is how often an idle connection is tried. Two pings without an answer are a lost connection, so that one
// that broke without a trace is noticed within a minute; snapshots notice with their own, shorter timeout.
const pingInterval = 20 * time.Second

// Config says which server to connect to and as whom.
//
// With neither Context nor Servers, the context selected with `nats context select` is used, else nats://127.0.0.1:4222.
// With a context, named or selected, every other field that is set wins over what the context says; and if one of Creds,
// NKey, User and Token is set, none of the context's credentials is used. Servers without Context leaves the
// selected context alone: its credentials are not meant for another server.
type Config struct {
	Servers string // URLs separated by commas
	Context string // a saved context of the nats command line ($XDG_CONFIG_HOME/nats/context/NAME.json)

	Creds    string // credentials file
	NKey     string // nkey seed file
	User     string
	Password secret.String
	Token    secret.String

	TLSCert, TLSKey string // client certificate and its key, files; both or none
	TLSCA           string // certificate authority, a file
	TLSFirst        bool   // TLS handshake before the server speaks

	Domain      string // JetStream domain: requests go to $JS.DOMAIN.API
	APIPrefix   string // where the JetStream API is; wins over Domain
	InboxPrefix string // first tokens of the subjects that answers come to

	Name    string        // what the server calls this client in its reports
	Account string        // what to call the account if the server does not tell
	Timeout time.Duration // how long to wait for the connection, and for the answer to a request

	// RestoreTimeout is how long a server may take, while it restores a stream, for a chunk, and at the end to put the
	// stream into operation.
	RestoreTimeout time.Duration
}

// hasCredentials reports whether c itself says as whom to connect.
func (c Config) hasCredentials() bool {
	return c.Creds != "" || c.NKey != "" || c.User != "" || !c.Token.Empty()
}

// withDefaults returns c with every field set that has a default, but for those that come from a context.
func (c Config) withDefaults() Config {
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.RestoreTimeout <= 0 {
		c.RestoreTimeout = DefaultRestoreTimeout
	}
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.Account == "" {
		c.Account = DefaultAccount
	}
	return c
}

// resolve merges c with the context that it names or that is selected.
func (c Config) resolve() (*natscontext.Context, error) {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("a client certificate needs both its file and its key's file")
	}
	saved := c.Context != "" || c.Servers == ""
	if !c.hasCredentials() {
		return loadContext(c.Context, saved, c.overrides())
	}
	nctx, err := loadContext(c.Context, saved, nil)
	if err != nil {
		return nil, err
	}
	return natscontext.New("", false, append(withoutCredentials(nctx), c.overrides()...)...)
}

// SelectedContext is the name of the context that is selected in the nats command line, or empty.
func SelectedContext() string { return natscontext.SelectedContext() }

// ErrContext says that a context of the nats command line cannot be used.
var ErrContext = errors.New("load NATS context")

func loadContext(name string, saved bool, overrides []natscontext.Option) (*natscontext.Context, error) {
	nctx, err := natscontext.New(name, saved, overrides...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContext, err)
	}
	return nctx, nil
}

// overrides returns the fields of c as settings of a context. User, password and token are left out: a context would take
// them for references ("env://…") to be resolved.
func (c Config) overrides() []natscontext.Option {
	o := []natscontext.Option{
		natscontext.WithServerURL(c.Servers),
		natscontext.WithCreds(c.Creds),
		natscontext.WithNKey(c.NKey),
		natscontext.WithCertificate(c.TLSCert),
		natscontext.WithKey(c.TLSKey),
		natscontext.WithCA(c.TLSCA),
		natscontext.WithInboxPrefix(strings.TrimSuffix(c.InboxPrefix, ".")),
	}
	if c.TLSFirst {
		o = append(o, natscontext.WithTLSHandshakeFirst())
	}
	return o
}

// withoutCredentials returns the settings of nctx that say where its server is, without those that say who connects.
func withoutCredentials(nctx *natscontext.Context) []natscontext.Option {
	o := []natscontext.Option{
		natscontext.WithServerURL(withoutUserInfo(nctx.ServerURL())),
		natscontext.WithCertificate(nctx.Certificate()),
		natscontext.WithKey(nctx.Key()),
		natscontext.WithCA(nctx.CA()),
		natscontext.WithInboxPrefix(nctx.InboxPrefix()),
		natscontext.WithJSAPIPrefix(nctx.JSAPIPrefix()),
		natscontext.WithJSDomain(nctx.JSDomain()),
		natscontext.WithSocksProxy(nctx.SocksProxy()),
	}
	if nctx.TLSHandshakeFirst() {
		o = append(o, natscontext.WithTLSHandshakeFirst())
	}
	return append(o,
		natscontext.WithWindowsCertStore(nctx.WindowsCertStore()),
		natscontext.WithWindowsCertStoreMatchBy(nctx.WindowsCertStoreMatchBy()),
		natscontext.WithWindowsCertStoreMatch(nctx.WindowsCertStoreMatch()),
		natscontext.WithWindowsCaCertsMatch(nctx.WindowsCaCertsMatch()...),
	)
}

// withoutUserInfo returns urls, a list separated by commas, without users and passwords.
func withoutUserInfo(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		if u == "" {
			continue
		}
		scheme, rest, found := strings.Cut(u, "://")
		if !found {
			scheme, rest = "nats", u
		}
		list[i] = scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
	}
	return strings.Join(list, ",")
}

// apiPrefix returns the subject under which the JetStream API is: $JS.API unless a prefix or a domain says otherwise.
func (c Config) apiPrefix(nctx *natscontext.Context) string {
	prefix, domain := c.APIPrefix, c.Domain
	if prefix == "" && domain == "" {
		prefix, domain = nctx.JSAPIPrefix(), nctx.JSDomain()
	}
	switch {
	case prefix != "":
		return strings.TrimSuffix(prefix, ".")
	case domain != "":
		return "$JS." + domain + ".API"
	}
	return "$JS.API"
}

// dialOptions returns how nats.go is to connect. Whoever uses the connection hears of its events through e.
func (c Config) dialOptions(nctx *natscontext.Context, e *events) (nats.Options, error) {
	list, err := nctx.NATSOptions(c.connectionOptions(e)...)
	if err != nil {
		return nats.Options{}, err
	}
	o := nats.GetDefaultOptions()
	for _, u := range strings.Split(nctx.ServerURL(), ",") {
		o.Servers = append(o.Servers, strings.TrimSpace(u))
	}
	for _, option := range list {
		if err := option(&o); err != nil {
			return nats.Options{}, err
		}
	}
	return o, nil
}

// connectionOptions are those that do not come from a context.
func (c Config) connectionOptions(e *events) []nats.Option {
	o := []nats.Option{
		nats.Name(c.Name),
		nats.Timeout(c.Timeout),
		nats.PingInterval(pingInterval),
		// Come back however long it takes: how long to wait for it is the caller's to say, with a context.
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait/2, reconnectWait/2),
		// Keep nothing for a server that is gone: an answer to a chunk of a snapshot that has ended, or the rest of a
		// restore, must not reach the next one.
		nats.ReconnectBufSize(-1),
		nats.ErrorHandler(e.asyncError),
		nats.DisconnectErrHandler(e.disconnected),
		nats.ReconnectHandler(e.reconnected),
		nats.ClosedHandler(e.closed),
	}
	switch {
	case c.User != "":
		o = append(o, nats.UserInfo(c.User, c.Password.Reveal()))
	case !c.Token.Empty():
		o = append(o, nats.Token(c.Token.Reveal()))
	}
	return o
}
