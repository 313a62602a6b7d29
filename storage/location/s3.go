package location

import (
	"context"

	"jetsam/storage"
	"jetsam/storage/s3"
)

// buckets are what Amazon's S3 has, and servers that speak as it does.
var buckets = scheme{
	parse: func(address string) (string, error) {
		p, err := s3.ParsePlace(address)
		if err != nil {
			return "", invalid("the repository's location is not one of a bucket: %v", err)
		}
		return p.String(), nil
	},
	show: func(address string) string { return "s3:" + address },
	open: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		return bucket(ctx, s3.Open, address, o)
	},
	create: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		return bucket(ctx, s3.Create, address, o)
	},
	options: []string{"region", "bucket-lookup", "storage-class", "cacert"},
}

func bucket(ctx context.Context, open func(context.Context, s3.Place, s3.Options) (*s3.Backend, error), address string, o *settings) (storage.Backend, error) {
	p, err := s3.ParsePlace(address)
	if err != nil {
		return nil, err
	}
	return backend(open(ctx, p, s3.Options{
		Region:       o.get("region"),
		Lookup:       o.get("bucket-lookup"),
		StorageClass: o.get("storage-class"),
		CACert:       o.get("cacert"),
		Warn:         o.warn,
	}))
}
