package s3_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jetsam/storage"
	"jetsam/storage/retry"
	"jetsam/storage/s3"
	"jetsam/storage/s3/s3test"
	"jetsam/storage/storagetest"
)

func TestMain(m *testing.M) { s3test.Environment.Main(m) }

// create makes a repository's place in a bucket of its own.
func create(t testing.TB, url string, o s3.Options) *s3.Backend {
	t.Helper()
	p, err := s3.ParsePlace(fmt.Sprintf("%s/bucket%d/some/prefix", url, buckets.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	be, err := s3.Create(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	return be
}

var buckets atomic.Int64

// TestFake holds the backend to what all must do, on a server in this process.
func TestFake(t *testing.T) {
	t.Parallel()
	url := s3test.Fake(t)
	storagetest.Run(t, func(t *testing.T) storage.Backend { return create(t, url, s3.Options{}) })
}

// TestVersity holds it to the same on a real server. That one refuses now and then to store a file into a folder which
// it removes at the same time since it has become empty, so that requests are repeated here as they are in use.
func TestVersity(t *testing.T) {
	t.Parallel()
	url := s3test.Versity(t)
	storagetest.Run(t, func(t *testing.T) storage.Backend {
		return retry.New(create(t, url, s3.Options{}), retry.Options{Limit: time.Minute})
	})
}

// TestUnconditional: where a server does not know the condition, all else holds, and it is said once.
func TestUnconditional(t *testing.T) {
	var warnings atomic.Int64
	url := newRelay(t, s3test.Fake(t), refuseCondition)
	be := create(t, url, s3.Options{Warn: func(err error) {
		warnings.Add(1)
		if !strings.Contains(err.Error(), "If-None-Match") {
			t.Errorf("warning: %v", err)
		}
	}})
	defer be.Close()
	f, data := storagetest.RandomFile(storage.Key, 100)
	g, other := storagetest.RandomFile(storage.Key, 100)
	for i := range 2 {
		wantError(t, "save", be.Save(t.Context(), f, data), []error{nil, storage.ErrExist}[i])
		wantError(t, "save", be.Save(t.Context(), g, other), []error{nil, storage.ErrExist}[i])
	}
	again := openAt(t, strings.TrimPrefix(be.Location(), "s3:"), s3.Options{}) // which does not know of it yet
	wantError(t, "save by another", again.Save(t.Context(), f, []byte("other bytes")), storage.ErrExist)
	if got, err := be.Load(t.Context(), f, 0, -1); err != nil || string(got) != string(data) {
		t.Errorf("load: %v", err)
	}
	if warnings.Load() != 1 {
		t.Errorf("%d warnings, want 1", warnings.Load())
	}
}
