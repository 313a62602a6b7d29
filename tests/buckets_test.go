package tests

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// TestBucketsOfTheLargest brings a large object, of which clients compare the digest with what they read, and keys with as long a history as there can be
// through a backup. The full form has an object of 256 MiB.
func TestBucketsOfTheLargest(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	files, err := src.js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "files"})
	must(t, err)
	size := int64(sized(24, 1024)) << 20
	put, err := files.Put(t.Context(), jetstream.ObjectMeta{Name: "large"}, io.LimitReader(rand.NewChaCha8([32]byte{28}), size))
	must(t, err)
	kv, err := src.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "history", History: 64})
	must(t, err)
	for i := range 150 {
		_, err := kv.Put(t.Context(), fmt.Sprint("key.", i%2), text(i))
		must(t, err)
	}
	must(t, kv.Delete(t.Context(), "key.1"))
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})

	restored, err := dst.js.ObjectStore(t.Context(), "files")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // else the client gives up reading after seconds
	defer cancel()
	got, err := restored.Get(ctx, "large")
	must(t, err)
	n, err := io.Copy(io.Discard, got) // its end is an error where the digest is another
	must(t, err)
	if info, err := got.Info(); err != nil || n != size || info.Digest != put.Digest || info.NUID != put.NUID {
		t.Errorf("%d bytes of %d, %+v, was %+v; %v", n, size, info, put, err)
	}
	again, err := dst.js.KeyValue(t.Context(), "history")
	must(t, err)
	for _, key := range []string{"key.0", "key.1"} {
		if was, is := historyOf(t, kv, key), historyOf(t, again, key); was != is {
			t.Errorf("the history of %s is\n%s, was\n%s", key, is, was)
		}
	}
	restic(t, dir, "check")
}

// historyOf is all that a bucket knows of a key, which is 64 values.
func historyOf(t testing.TB, kv jetstream.KeyValue, key string) (out string) {
	t.Helper()
	all, err := kv.History(t.Context(), key)
	must(t, err)
	if len(all) != 64 {
		t.Errorf("%s has %d values", key, len(all))
	}
	for _, e := range all {
		out += fmt.Sprintln(e.Revision(), e.Operation(), e.Created().UnixNano(), string(e.Value()))
	}
	return out
}
