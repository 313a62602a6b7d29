package command

import (
	"context"

	"github.com/urfave/cli/v2"

	"jetsam/jetstream"
	"jetsam/secret"
)

// connectionConfig is what the flags and the environment say of the server.
//
// As with the nats CLI, a user without a password is a token.
func connectionConfig(c *cli.Context) jetstream.Config {
	o := jetstream.Config{
		Servers:     c.String("server"),
		Context:     c.String("context"),
		Creds:       c.String("creds"),
		NKey:        c.String("nkey"),
		User:        c.String("nats-user"),
		Password:    secret.New(c.String("nats-password")),
		TLSCert:     c.String("tlscert"),
		TLSKey:      c.String("tlskey"),
		TLSCA:       c.String("tlsca"),
		TLSFirst:    c.Bool("tlsfirst"),
		Domain:      c.String("js-domain"),
		APIPrefix:   c.String("js-api-prefix"),
		InboxPrefix: c.String("inbox-prefix"),
		Timeout:     c.Duration("timeout"),
		Name:        programName + " " + Version,
		Account:     c.String("account"),
	}
	if o.User != "" && o.Password.Empty() {
		o.User, o.Token = "", secret.New(o.User)
	}
	return o
}

// connect connects to the server that the flags name.
func (p *program) connect(ctx context.Context, c *cli.Context) (*jetstream.Conn, error) {
	if err := checkTimeout(c); err != nil {
		return nil, err
	}
	return p.connectTo(ctx, connectionConfig(c))
}

func checkTimeout(c *cli.Context) error {
	if c.Duration("timeout") <= 0 {
		return usagef("--timeout %v: a time to wait is longer than nothing", c.Duration("timeout"))
	}
	return nil
}

func (p *program) connectTo(ctx context.Context, config jetstream.Config) (*jetstream.Conn, error) {
	p.warnOfCredentials(config)
	conn, err := jetstream.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	s := conn.Server()
	p.out.detail("connected to %s, nats-server %s%s", s.URL, s.Version, named(s))
	return conn, nil
}

func named(s jetstream.ServerInfo) string {
	switch {
	case s.Cluster != "":
		return ", cluster " + s.Cluster
	case s.Name != "":
		return ", called " + s.Name
	}
	return ""
}
