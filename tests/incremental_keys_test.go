package tests

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// TestKeysOverwritten backs up a bucket of keys, of which one in a hundred is overwritten at random between backups. Each backup receives and
// stores about as much as was overwritten. After many of them, when only the last snapshot is kept, the repository is not much larger than
// one with nothing but a full backup.
func TestKeysOverwritten(t *testing.T) {
	t.Parallel()
	keys, rounds := sized(4000, 100_000), sized(120, 100)
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 4))
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, dir := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "KV_config", Subjects: []string{"$KV.config.>"}, MaxMsgsPerSubject: 1, AllowRollup: true, DenyDelete: true, AllowDirect: true})
	put := func(n int, key func(i int) int) {
		for i := range n {
			_, err := src.js.PublishAsync(fmt.Sprintf("$KV.config.%d", key(i)), noise(rnd, 500), jetstream.WithStallWait(time.Minute))
			must(t, err)
		}
		src.flush(t)
	}
	put(keys, func(i int) int { return i })
	full := backUp(t, src, r, backup.Options{Selection: allStreams})
	var received, added, most uint64
	for round := range rounds {
		put(keys/100, func(int) int { return rnd.IntN(keys) })
		res := backUp(t, src, r, backup.Options{Selection: allStreams})
		s := res.Streams[0]
		if s.Way != backup.WayConsumer {
			t.Fatalf("round %d: captured by %s %s", round, s.Way, s.Whole)
		}
		received, added = received+s.Received, added+res.Stats.AddedBytes()
		most = max(most, res.Stats.AddedBytes())
		if round != 9 {
			continue
		}
		whole := full.Streams[0].Received
		t.Logf("ten rounds: %.2f %% received and %.2f %% added of what a full backup does (%d and %d bytes)",
			float64(received)*10/float64(whole), float64(added)*10/float64(full.Stats.AddedBytes()), whole, full.Stats.AddedBytes())
		// A round in which the tail reaches a cut stores that blob whole, once: half a MiB and more. Ten rounds of the short test write too
		// little for a second one, and too little to outweigh the first; those of the full size outweigh what they close.
		if !proof() {
			added -= most
		}
		if received/10 > whole*3/100 || added/10 > full.Stats.AddedBytes()*3/100 {
			t.Errorf("%d bytes received and %d added in ten rounds", received, added)
		}
	}
	info, err := st.Info(t.Context())
	must(t, err)
	if info.State.Msgs != uint64(keys) {
		t.Fatalf("%d keys", info.State.Msgs)
	}
	want := lookAt(t, src, "KV_config")
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	sameImage(t, want, lookAt(t, dst, "KV_config"))
	wantClean(t, r)

	fresh, freshDir := newRepo(t, repo.Options{})
	backUp(t, src, fresh, backup.Options{Selection: allStreams})
	restic(t, dir, "forget", "--keep-last", "1", "--prune", "--max-unused", "0")
	kept, alone := sizeOf(t, dir), sizeOf(t, freshDir)
	t.Logf("%d bytes kept after %d rounds, %d in a repository with a full backup alone: %.2f times", kept, rounds, alone, float64(kept)/float64(alone))
	if float64(kept) > 2.5*float64(alone) {
		t.Errorf("%d bytes kept for %d", kept, alone)
	}
	emptyServer(t, dst)
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	sameImage(t, want, lookAt(t, dst, "KV_config"))
}

// sizeOf is how many bytes the files below a directory have.
func sizeOf(t *testing.T, dir string) (n int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	}))
	return n
}
