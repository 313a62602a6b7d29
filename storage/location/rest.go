package location

import (
	"context"
	"crypto/tls"
	"os"

	"jetsam/internal/httpclient"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/rest"
)

// What the environment says of a REST server's user, where the address names none.
const (
	restUsername = "JETSAM_REST_USERNAME"
	restPassword = "JETSAM_REST_PASSWORD"
)

// restServers are servers that speak restic's REST protocol: rest:https://host:8000/path/.
var restServers = scheme{
	parse: func(address string) (string, error) {
		if _, _, _, err := rest.Address(address); err != nil {
			return "", invalid("the repository's location, rest: and a URL such as rest:https://host:8000/path/: %v", err)
		}
		return address, nil
	},
	show: showRest,
	open: func(_ context.Context, address string, o *settings) (storage.Backend, error) {
		return backend(openRest(address, o))
	},
	create: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		be, err := openRest(address, o)
		return created(ctx, be, err)
	},
	options: []string{"cacert", "clientcert", "clientkey"},
}

// showRest leaves out the user too: a token may stand in its place.
func showRest(address string) string {
	base, _, _, err := rest.Address(address)
	if err != nil {
		return "rest:" // which parse refuses
	}
	return "rest:" + base.JoinPath("/").String()
}

func openRest(address string, o *settings) (*rest.Backend, error) {
	base, user, password, err := rest.Address(address)
	if err != nil {
		return nil, err
	}
	if user == "" && password.Empty() {
		user, password = os.Getenv(restUsername), secret.New(os.Getenv(restPassword))
	}
	config, err := restTLS(o)
	if err != nil {
		return nil, err
	}
	return rest.Open(base, showRest(address), rest.Options{Username: user, Password: password, Transport: rest.NewTransport(config)}), nil
}

// restTLS is what the options say of TLS.
func restTLS(o *settings) (*tls.Config, error) {
	config := &tls.Config{}
	if name := o.get("cacert"); name != "" {
		var err error
		if config.RootCAs, err = httpclient.Authorities(name); err != nil {
			return nil, invalid("option rest.cacert: %v", err)
		}
	}
	certificate, key := o.get("clientcert"), o.get("clientkey")
	if certificate == "" && key == "" {
		return config, nil
	}
	if certificate == "" {
		return nil, invalid("option rest.clientkey needs rest.clientcert")
	}
	if key == "" {
		key = certificate // both in one file
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, invalid("options rest.clientcert and rest.clientkey: %v", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// created makes a place ready on a server that speaks restic's REST protocol.
func created(ctx context.Context, be *rest.Backend, err error) (storage.Backend, error) {
	if err != nil {
		return nil, err
	}
	if err := be.Create(ctx); err != nil {
		be.Close()
		return nil, err
	}
	return be, nil
}
