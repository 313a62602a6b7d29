package location

import (
	"context"
	"path/filepath"

	"jetsam/storage"
	"jetsam/storage/local"
)

// directories are what a path names.
var directories = scheme{
	parse: func(path string) (string, error) {
		if path == "" {
			return "", invalid("the repository's location is empty")
		}
		return filepath.Clean(path), nil
	},
	show: func(path string) string { return path },
	open: func(_ context.Context, path string, _ *settings) (storage.Backend, error) {
		return backend(local.Open(path))
	},
	create: func(_ context.Context, path string, _ *settings) (storage.Backend, error) {
		return backend(local.Create(path))
	},
}
