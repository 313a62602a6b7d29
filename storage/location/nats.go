package location

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"jetsam/storage"
	"jetsam/storage/nats"
)

// streams are what "nats:STREAM", "nats:CONTEXT@STREAM" and "nats://HOST:PORT/STREAM"
// name: a JetStream stream.
var streams = scheme{
	parse: func(address string) (string, error) {
		p, err := streamPlace(address)
		if err != nil {
			return "", err
		}
		if err := nats.CheckStream(p.Stream); err != nil {
			return "", invalid("the repository's location: %v", err)
		}
		return address, nil
	},
	show: func(address string) string { return "nats:" + address },
	open: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		return atStream(ctx, address, o, nats.Open)
	},
	create: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		return atStream(ctx, address, o, nats.Create)
	},
	options: []string{"creds", "nkey", "tlscert", "tlskey", "tlsca", "domain", "replicas", "max-bytes", "same-cluster"},
}

// streamPlace reads an address. It quotes nothing of it: somebody may have put a
// password there.
func streamPlace(address string) (nats.Place, error) {
	hosts, isURL := strings.CutPrefix(address, "//")
	if !isURL {
		context, stream, found := strings.Cut(address, "@")
		if !found {
			context, stream = "", address
		}
		if found && context == "" {
			return nats.Place{}, invalid("the repository's location: nothing is before the @; there belongs a context of the nats CLI, nats:CONTEXT@STREAM")
		}
		return nats.Place{Context: context, Stream: stream}, nil
	}
	hosts, stream, _ := strings.Cut(hosts, "/")
	if strings.Contains(address, "@") {
		return nats.Place{}, invalid("the repository's location holds a user or password, where others see it: use a context of the nats CLI (nats:CONTEXT@STREAM), or --option nats.creds=FILE")
	}
	var servers []string
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("nats://" + host)
		if err != nil || u.Hostname() == "" || u.Path+u.RawQuery+u.Fragment != "" {
			return nats.Place{}, invalid("the repository's location is not nats://HOST:PORT/STREAM")
		}
		servers = append(servers, u.String())
	}
	return nats.Place{Servers: strings.Join(servers, ","), Stream: stream}, nil
}

// atStream opens or makes a stream.
func atStream(ctx context.Context, address string, s *settings, f func(context.Context, nats.Place, nats.Options) (*nats.Backend, error)) (storage.Backend, error) {
	p, err := streamPlace(address)
	if err != nil {
		return nil, err
	}
	o, err := streamOptions(s)
	if err != nil {
		return nil, err
	}
	return backend(f(ctx, p, o))
}

func streamOptions(s *settings) (nats.Options, error) {
	o := nats.Options{
		Creds: s.get("creds"), NKey: s.get("nkey"), TLSCert: s.get("tlscert"), TLSKey: s.get("tlskey"), TLSCA: s.get("tlsca"), Domain: s.get("domain"),
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return o, invalid("options nats.tlscert and nats.tlskey: a certificate needs both its file and its key's file")
	}
	if text := s.get("replicas"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 5 {
			return o, invalid("option nats.replicas=%s: it is 1 to 5", text)
		}
		o.Replicas = n
	}
	if text := s.get("max-bytes"); text != "" {
		n, err := humanize.ParseBytes(text)
		if err != nil || n < 1 || n > 1<<62 {
			return o, invalid("option nats.max-bytes=%s: it is a size, such as 200GiB", text)
		}
		o.MaxBytes = int64(n)
	}
	switch text := s.get("same-cluster"); text {
	case "yes":
		o.SameCluster = true
	case "", "no":
	default:
		return o, invalid("option nats.same-cluster=%s: it is yes or no", text)
	}
	return o, nil
}
