package gs_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"jetsam/storage"
	"jetsam/storage/gs"
	"jetsam/storage/gs/gstest"
	"jetsam/storage/storagetest"
)

func TestMain(m *testing.M) { gstest.Environment.Main(m) }

// TestServer holds the backend to what all must do.
func TestServer(t *testing.T) {
	endpoint := gstest.Server(t)
	var buckets atomic.Int64
	storagetest.Run(t, func(t *testing.T) storage.Backend {
		be, err := gs.Create(t.Context(), place(t, fmt.Sprintf("bucket%d:/some/prefix", buckets.Add(1))), gs.Options{Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return be
	})
}

func place(t *testing.T, text string) gs.Place {
	t.Helper()
	p, err := gs.ParsePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
