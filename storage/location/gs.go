package location

import (
	"context"

	"jetsam/storage"
	"jetsam/storage/gs"
)

// googleBuckets are those of Google Cloud Storage.
var googleBuckets = scheme{
	parse: func(address string) (string, error) {
		p, err := gs.ParsePlace(address)
		if err != nil {
			return "", invalid("the repository's location is not one of a bucket of Google Cloud Storage: %v", err)
		}
		return p.String(), nil
	},
	show: func(address string) string { return "gs:" + address },
	open: func(_ context.Context, address string, o *settings) (storage.Backend, error) {
		return inGoogleBucket(address, o, gs.Open)
	},
	create: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		return inGoogleBucket(address, o, func(p gs.Place, o gs.Options) (*gs.Backend, error) { return gs.Create(ctx, p, o) })
	},
	options: []string{"endpoint", "cacert"},
}

func inGoogleBucket(address string, o *settings, open func(gs.Place, gs.Options) (*gs.Backend, error)) (storage.Backend, error) {
	p, err := gs.ParsePlace(address)
	if err != nil {
		return nil, err
	}
	return backend(open(p, gs.Options{Endpoint: o.get("endpoint"), CACert: o.get("cacert")}))
}
