// Package natsd runs a nats-server 2.15 with JetStream inside this process, for the demo, for restore drills and for tests.
//
// A server listens on the loopback interface only, prints nothing and handles no signals. It ends with [Server.Shutdown],
// which returns when its port is free and its files are closed; started again on the same StoreDir it finds its streams.
//
// Servers of one process share the library's package-level state (its defaults), never data: as many as there are ports
// can run side by side.
package natsd

import (
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout is how long a server may take until it accepts connections. Opening a large store takes most of it.
const startTimeout = 30 * time.Second

// startPoll is how often a server that does not serve yet is asked whether it has given up.
const startPoll = 50 * time.Millisecond

// Options says what kind of server to start. The zero value is a server with neither JetStream nor accounts.
type Options struct {
	StoreDir string // where JetStream keeps its files; empty: no JetStream
	Port     int    // 0: a free one
	Name     string // the server's name; empty: the server makes one up

	Domain     string // JetStream domain
	MaxPayload int    // bytes; 0: the server's default of 1 MiB
	MaxMemory  int64  // bytes of memory storage; 0: three quarters of the machine's memory
	MaxStore   int64  // bytes of file storage; 0: three quarters of what is free on the disk

	// Users may connect, all to the global account. None: anyone may.
	Users []User

	// Config is text in the server's configuration language. It comes first: the fields above win over what it says,
	// and the listener stays on the loopback interface. Users and accounts of Config need an empty Users.
	Config string

	// Log takes what the server has to say, a line at a time, from any goroutine. It must not block. Nil: no log.
	Log func(line string)
}

// User is someone who may connect, and what for.
type User struct {
	Name, Password string

	Publish   []string // subjects that may be published to, wildcards allowed; nil: all
	Subscribe []string // subjects that may be subscribed to, wildcards allowed; nil: all
}

// Server is a running server.
type Server struct {
	srv *server.Server
}

// Start starts a server and returns when clients can connect and JetStream answers.
func Start(o Options) (*Server, error) {
	opts, err := o.serverOptions()
	if err != nil {
		return nil, fmt.Errorf("configure nats-server: %w", err)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("create nats-server: %w", err)
	}
	log := &logger{line: o.Log, fatal: make(chan error, 1)}
	srv.SetLoggerV2(log, false, false, false)
	s := &Server{srv: srv}
	if err := s.run(log.fatal); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	return s, nil
}

// run starts the server's goroutines and waits until it serves. A server that cannot start only says so in its log, and
// is then neither up nor down: hence fatal.
func (s *Server) run(fatal <-chan error) error {
	go s.srv.Start()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if s.srv.ReadyForConnections(startPoll) {
			return nil
		}
		select {
		case err := <-fatal:
			return err
		default:
		}
	}
	return fmt.Errorf("not ready after %v", startTimeout)
}

// URL returns the address for clients, without credentials: nats://127.0.0.1:PORT.
func (s *Server) URL() string {
	return s.srv.ClientURL()
}

// MaxStore is how many bytes of file storage its streams may use.
func (s *Server) MaxStore() int64 {
	if c := s.srv.JetStreamConfig(); c != nil {
		return c.MaxStore
	}
	return 0
}

// Clients is how many clients are connected, and Subscriptions how many subscriptions there are, the server's own included.
func (s *Server) Clients() int { return s.srv.NumClients() }

// Subscriptions is described with Clients.
func (s *Server) Subscriptions() uint32 { return s.srv.NumSubscriptions() }

// Shutdown stops the server and waits until it has closed its files. A second call does nothing.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

func (o Options) serverOptions() (*server.Options, error) {
	opts := &server.Options{}
	if o.Config != "" {
		if err := opts.ProcessConfigString(o.Config); err != nil {
			return nil, err
		}
	}
	opts.Host = "127.0.0.1"
	opts.Port = server.RANDOM_PORT
	if o.Port != 0 {
		opts.Port = o.Port
	}
	opts.NoSigs, opts.DisableJetStreamBanner = true, true
	if o.Name != "" {
		opts.ServerName = o.Name
	}
	if o.MaxPayload != 0 {
		opts.MaxPayload = int32(o.MaxPayload)
	}
	o.enableJetStream(opts)
	for _, u := range o.Users {
		opts.Users = append(opts.Users, u.serverUser())
	}
	return opts, nil
}

func (o Options) enableJetStream(opts *server.Options) {
	if o.StoreDir == "" {
		return
	}
	opts.JetStream = true
	opts.StoreDir = o.StoreDir
	if o.Domain != "" {
		opts.JetStreamDomain = o.Domain
	}
	if o.MaxMemory != 0 {
		opts.JetStreamMaxMemory = o.MaxMemory
	}
	if o.MaxStore != 0 {
		opts.JetStreamMaxStore = o.MaxStore
	}
}

func (u User) serverUser() *server.User {
	su := &server.User{Username: u.Name, Password: u.Password}
	if u.Publish != nil || u.Subscribe != nil {
		su.Permissions = &server.Permissions{Publish: allow(u.Publish), Subscribe: allow(u.Subscribe)}
	}
	return su
}

// allow is the permission to use the given subjects; nil allows all, an empty list none.
func allow(subjects []string) *server.SubjectPermission {
	if subjects == nil {
		return nil
	}
	if len(subjects) == 0 {
		return &server.SubjectPermission{Deny: []string{">"}}
	}
	return &server.SubjectPermission{Allow: subjects}
}
