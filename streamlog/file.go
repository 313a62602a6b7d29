package streamlog

import (
	"context"
	"fmt"
	"time"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/jetstream/archive"
	"jetsam/snapshot"
)

// saveFile stores a document and returns its node and the sealed bytes that were new. One that no reader would take is refused.
func saveFile(ctx context.Context, dst Saver, name string, p []byte, at time.Time) (*snapshot.Node, uint64, error) {
	if len(p) > maxDocument {
		return nil, 0, fmt.Errorf("store %s: its %d bytes are more than the %d that are read", name, len(p), maxDocument)
	}
	return savePieces(ctx, dst, name, split(p), at)
}

// saveArchiveFile stores archive bytes in S2 framing, each blob a complete S2 stream.
func saveArchiveFile(ctx context.Context, dst Saver, name string, plain []byte, at time.Time) (*snapshot.Node, uint64, error) {
	if len(plain) > archive.MaxHead {
		return nil, 0, fmt.Errorf("store %s: its %d bytes are more than the %d that are read", name, len(plain), archive.MaxHead)
	}
	pieces := split(plain)
	for i, p := range pieces {
		pieces[i] = archive.AppendFrame(make([]byte, 0, archive.FramedSize(len(p))), p)
	}
	return savePieces(ctx, dst, name, pieces, at)
}

// split cuts p every chunker.MaxSize bytes.
func split(p []byte) [][]byte {
	var pieces [][]byte
	for len(p) > chunker.MaxSize {
		pieces = append(pieces, p[:chunker.MaxSize:chunker.MaxSize])
		p = p[chunker.MaxSize:]
	}
	if len(p) > 0 {
		pieces = append(pieces, p)
	}
	return pieces
}

func savePieces(ctx context.Context, dst Saver, name string, pieces [][]byte, at time.Time) (*snapshot.Node, uint64, error) {
	content := make([]blob.ID, 0, len(pieces))
	var size, stored uint64
	for _, p := range pieces {
		id, saved, err := dst.Save(ctx, blob.Data, p)
		if err != nil {
			return nil, 0, fmt.Errorf("store %s: %w", name, err)
		}
		content = append(content, id)
		size += uint64(len(p))
		stored += uint64(saved.Stored)
	}
	return snapshot.FileNode(name, content, size, at), stored, nil
}
