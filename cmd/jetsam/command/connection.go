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
func connect(ctx context.Context, c *cli.Context) (*jetstream.Conn, error) {
	return jetstream.Connect(ctx, connectionConfig(c))
}
