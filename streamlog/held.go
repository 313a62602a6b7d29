package streamlog

import (
	"context"
	"fmt"

	"jetsam/blob"
	"jetsam/snapshot"
)

// Names returns the names of the streams in the snapshot with this root tree, and nothing else of them.
func Names(ctx context.Context, src Loader, root blob.ID) ([]string, error) {
	dir, err := accountDir(ctx, src, root)
	if err != nil {
		return nil, err
	}
	t, err := src.LoadTree(ctx, dir.Subtree)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", dir.Name, err)
	}
	var names []string
	for _, n := range t.Nodes {
		if name, err := UnescapeName(n.Name); err == nil && n.Type == snapshot.TypeDir {
			names = append(names, name)
		}
	}
	return names, nil
}
