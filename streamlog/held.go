package streamlog

import (
	"context"

	"jetsam/blob"
	"jetsam/snapshot"
)

// Names returns the names of the streams in the snapshot with this root tree, and nothing else of them.
func Names(ctx context.Context, src Loader, root blob.ID) ([]string, error) {
	_, t, err := accountTree(ctx, src, root)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range t.Nodes {
		if name, err := UnescapeName(n.Name); err == nil && n.Type == snapshot.TypeDir {
			names = append(names, name)
		}
	}
	return names, nil
}
