package mem_test

import (
	"testing"

	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Backend { return mem.New() })
}
