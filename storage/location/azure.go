package location

import (
	"context"

	"jetsam/storage"
	"jetsam/storage/azure"
)

// containers are those of Azure Blob Storage.
var containers = scheme{
	parse: func(address string) (string, error) {
		p, err := azure.ParsePlace(address)
		if err != nil {
			return "", invalid("the repository's location is not one of a container: %v", err)
		}
		return p.String(), nil
	},
	show: func(address string) string { return "azure:" + address },
	open: func(_ context.Context, address string, o *settings) (storage.Backend, error) {
		return inContainer(address, o, azure.Open)
	},
	create: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		return inContainer(address, o, func(p azure.Place, o azure.Options) (*azure.Backend, error) { return azure.Create(ctx, p, o) })
	},
	options: []string{"endpoint", "cacert"},
}

func inContainer(address string, o *settings, open func(azure.Place, azure.Options) (*azure.Backend, error)) (storage.Backend, error) {
	p, err := azure.ParsePlace(address)
	if err != nil {
		return nil, err
	}
	return backend(open(p, azure.Options{Endpoint: o.get("endpoint"), CACert: o.get("cacert")}))
}
