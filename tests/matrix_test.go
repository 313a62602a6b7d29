package tests

import (
	"math/rand/v2"
	"testing"

	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// today is the version of the embedded server, among those of older ones.
const today = "today"

// matrixFixtures are streams that servers of every release can have.
func matrixFixtures() []fixture {
	all := append(oldStreams(), oldKinds()...)
	return append(all, fixture{"CROWD", manyConsumers}, fixture{"FIVE_MIB", fiveMiB})
}

// startOf starts a server of a version that takes messages of 16 MiB.
func startOf(t testing.TB, servers map[string]string, version string) *source {
	t.Helper()
	if version == today {
		return startServer(t, natsd.Options{MaxPayload: 16 << 20})
	}
	s, _ := runOld(t, servers[version], t.TempDir(), "", "max_payload: 16MB")
	return s
}

// TestMatrixOfOldServers backs streams up from servers of each release and restores them to each, and compares what the one and the other say of
// messages and consumers. The short form tries a few pairs.
func TestMatrixOfOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	versions := append(sortedKeys(servers), today)
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	sources, targets := versions, versions
	if !proof() {
		rnd.Shuffle(len(versions), func(i, j int) { versions[i], versions[j] = versions[j], versions[i] })
		sources, targets = versions[:2], versions[1:4]
	}
	for _, from := range sources {
		t.Run("from "+from, func(t *testing.T) {
			src := startOf(t, servers, from)
			for _, f := range matrixFixtures() {
				f.fill(t, src)
			}
			want := saidBy(t, src, names(matrixFixtures())...)
			r, _ := newRepo(t, repo.Options{})
			backUpOld(t, src, r, backUpOptions)
			for _, to := range targets {
				t.Run("to "+to, func(t *testing.T) {
					var target restore.Target
					if to != today {
						target = restore.Target{Storage: "file", DropUnsupported: true}
					}
					sameAsSaidOn(t, startOf(t, servers, to), r, target, want)
				})
			}
		})
	}
}
