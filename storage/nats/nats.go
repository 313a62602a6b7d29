// Package nats keeps a repository's files in a JetStream stream.
//
//	jetsam.STREAM.f.KIND.ID.SIZE    head of a file: its content, or where that is
//	jetsam.STREAM.c.KIND.ID.UPLOAD  chunks of a file that is longer than one message
//
// A file is there if its head is. The head is stored last, under the condition that
// the file has none, and removed first; it names the upload that it belongs to, and
// the sequence of each chunk. Chunks without a head are what a crash left: nobody
// sees them, and the next removal of a pack takes away those that are a day old.
//
// What is there is asked of the stream's leader. Bytes may come from any of its
// servers (direct get), and where one does not have them yet, from the leader.
//
// A server acknowledges a message when it has it (with replicas, when most of them
// have), and by default before it is synced to its disk: sync_interval.
package nats

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	natsgo "github.com/nats-io/nats.go"

	"jetsam/internal/abandon"
	"jetsam/secret"
	"jetsam/storage"
)

// Times for the answers of a server.
const (
	defaultTimeout  = 5 * time.Second  // for one
	defaultPatience = 60 * time.Second // until it is given up, while a server restarts or a leader is elected
	firstPause      = 50 * time.Millisecond
	longestPause    = 2 * time.Second
)

// chunkSize is the longest content of a message, unless the server takes less: a
// read of a few bytes fetches all of it.
const chunkSize = 256 << 10

// headRoom is what subject and headers of a message may take of a server's
// max_payload.
const headRoom = 4 << 10

// The oldest server that knows the condition under which heads are stored.
const oldestMajor, oldestMinor = 2, 12

// ErrUnreachable is a storage.ErrUnreachable: no server with the repository answers.
var ErrUnreachable = fmt.Errorf("%w: no server with the repository answers", storage.ErrUnreachable)

// ErrContext says that a context of the nats command line cannot be used.
var ErrContext = errors.New("load NATS context")

// Place is where a repository is.
type Place struct {
	Stream  string
	Context string // of the nats CLI; the selected one if this and Servers are empty
	Servers string // URLs, with commas between them
}

// Options are what can be chosen of the way there, and of a new stream.
type Options struct {
	Creds, NKey            string // files
	TLSCert, TLSKey, TLSCA string // files
	Domain                 string // of JetStream

	Replicas int   // of a new stream; 0: 3 in a cluster, 1 elsewhere
	MaxBytes int64 // of a new stream; 0: no limit of its own

	// SameCluster lets the servers that are backed up hold the backup.
	SameCluster bool

	// Patience is how long to try while a server does not answer; a minute if 0.
	Patience time.Duration
}

// Backend is a storage.Backend whose files are in a stream.
type Backend struct {
	nc       *natsgo.Conn
	o        Options
	place    Place
	location string
	api      string // prefix of the JetStream API, with the last dot
	chunk    int    // content of a message, in bytes
	patience time.Duration

	mu     sync.Mutex
	denied map[string]error       // subjects that the server says we may not use
	heads  map[storage.File]*head // of files that have chunks
	swept  bool

	storage.PlaceClock
}

var (
	_ storage.Backend = (*Backend)(nil)
	_ storage.Clocked = (*Backend)(nil)
)

var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// CheckStream refuses what is no name of a stream for a repository.
func CheckStream(name string) error {
	if !streamName.MatchString(name) {
		return errors.New("a stream for a repository has a name of letters, digits, - and _")
	}
	return nil
}

// Open opens a stream that Create made. If there is none the error is
// storage.ErrNotExist.
func Open(ctx context.Context, p Place, o Options) (*Backend, error) {
	b, err := connect(ctx, p, o)
	if err != nil {
		return nil, err
	}
	info, err := b.info(ctx, "", 0)
	if err == nil {
		err = fit(info.Config)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("stream %s: %w", p.Stream, err)
	}
	return b, nil
}

// Create makes a stream for a repository, or takes one that is fit for it and holds
// none; if it does the error is storage.ErrExist.
func Create(ctx context.Context, p Place, o Options) (*Backend, error) {
	b, err := connect(ctx, p, o)
	if err != nil {
		return nil, err
	}
	if err := b.create(ctx); err != nil {
		b.Close()
		return nil, fmt.Errorf("stream %s: %w", p.Stream, err)
	}
	return b, nil
}

func connect(ctx context.Context, p Place, o Options) (*Backend, error) {
	if err := CheckStream(p.Stream); err != nil {
		return nil, err
	}
	b := &Backend{o: o, place: p, patience: o.Patience, denied: make(map[string]error), heads: make(map[storage.File]*head)}
	if b.patience == 0 {
		b.patience = defaultPatience
	}
	nctx, err := natscontext.New(p.Context, p.Servers == "", p.overrides(o)...)
	if err != nil {
		return nil, storage.Permanent(fmt.Errorf("%w: %w", ErrContext, err))
	}
	list, err := nctx.NATSOptions(b.connection()...)
	if err != nil {
		return nil, storage.Permanent(fmt.Errorf("configure the NATS connection: %w", err))
	}
	if b.nc, err = dial(ctx, nctx.ServerURL(), list); err != nil {
		if address := (*url.Error)(nil); errors.As(err, &address) { // and not what it says: it quotes the address, with the password in it
			return nil, storage.Permanent(fmt.Errorf("%w: its url is no address; %s", ErrContext, secret.EscapeAdvice))
		}
		if errors.Is(err, natsgo.ErrNoServers) || errors.Is(err, natsgo.ErrTimeout) {
			err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, natsgo.ErrAuthorization) {
			err = storage.Permanent(err)
		}
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if v := b.nc.ConnectedServerVersion(); !atLeast(v, oldestMajor, oldestMinor) {
		b.nc.Close()
		return nil, storage.Permanent(fmt.Errorf("nats-server %s keeps no repository: it takes %d.%d or newer", v, oldestMajor, oldestMinor))
	}
	b.chunk = min(chunkSize, int(b.nc.MaxPayload())-headRoom)
	b.api, b.location = apiPrefix(o.Domain, nctx), p.location()
	return b, nil
}

func (p Place) overrides(o Options) []natscontext.Option {
	return []natscontext.Option{
		natscontext.WithServerURL(p.Servers), natscontext.WithCreds(o.Creds), natscontext.WithNKey(o.NKey),
		natscontext.WithCertificate(o.TLSCert), natscontext.WithKey(o.TLSKey), natscontext.WithCA(o.TLSCA),
	}
}

// location is the place for people.
func (p Place) location() string {
	switch {
	case p.Servers != "":
		return p.Servers + "/" + p.Stream
	case p.Context != "":
		return "nats:" + p.Context + "@" + p.Stream
	}
	return "nats:" + p.Stream
}

func apiPrefix(domain string, nctx *natscontext.Context) string {
	prefix := nctx.JSAPIPrefix()
	switch {
	case domain != "":
		return "$JS." + domain + ".API."
	case prefix != "":
		return strings.TrimSuffix(prefix, ".") + "."
	case nctx.JSDomain() != "":
		return "$JS." + nctx.JSDomain() + ".API."
	}
	return "$JS.API."
}

func atLeast(version string, major, minor int) bool {
	var have [2]int
	if n, _ := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &have[0], &have[1]); n < 2 {
		return false
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}

// connection are the options of the connection that come from nobody.
func (b *Backend) connection() []natsgo.Option {
	return []natsgo.Option{
		natsgo.Name("jetsam repository"),
		natsgo.Timeout(defaultTimeout),
		natsgo.MaxReconnects(-1), // how long to wait is said by patience
		natsgo.ReconnectWait(250 * time.Millisecond),
		natsgo.ReconnectBufSize(-1), // who asks finds out, and asks again
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { b.refused(err) }),
	}
}

// dial connects; when ctx ends first, the attempt is left to end by itself.
func dial(ctx context.Context, servers string, options []natsgo.Option) (*natsgo.Conn, error) {
	connect := func() (*natsgo.Conn, error) { return natsgo.Connect(servers, options...) }
	nc, err := abandon.Run(ctx, connect, func(nc *natsgo.Conn, err error) {
		if err == nil {
			nc.Close()
		}
	})
	if err != nil && ctx.Err() != nil {
		return nil, storage.Cancelled(ctx)
	}
	return nc, err
}

// Location says which stream it is.
func (b *Backend) Location() string { return b.location }

// Close ends the connection.
func (b *Backend) Close() error {
	b.nc.Close()
	return nil
}

// Shares returns the repository's stream if a server, of this ID and cluster, is
// among those that hold it, or else "". allowed says whether that was wanted.
func (b *Backend) Shares(serverID, cluster string) (stream string, allowed bool) {
	if serverID == b.nc.ConnectedServerId() || cluster != "" && cluster == b.nc.ConnectedClusterName() {
		return b.place.Stream, b.o.SameCluster
	}
	return "", false
}
