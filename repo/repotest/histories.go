package repotest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"jetsam/internal/chance"
)

// Histories plays random histories, each a subtest of the seed that it is given, and logs what they count in all. A history that fails says how to
// play it again.
//
// JETSAM_SEED=N plays one history again, JETSAM_PROOF=1 plays ten times as many, and JETSAM_SOAK=2h plays them for that long.
func Histories(t *testing.T, many uint64, play func(t *testing.T, seed uint64, first bool) (counts map[string]int)) {
	t.Helper()
	seed, many, end := plan(t, many)
	total := make(map[string]int)
	for i := uint64(0); i < many || time.Now().Before(end); i++ {
		t.Run(fmt.Sprintf("JETSAM_SEED=%d", seed+i), func(t *testing.T) {
			for name, n := range play(t, seed+i, i == 0) {
				total[name] += n
			}
		})
		if t.Failed() {
			t.Fatalf("play it again with JETSAM_SEED=%d go test -run '^%s$', in this package", seed+i, t.Name())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%6d %s", total[name], name)
	}
}

// plan is the first seed, how many histories there shall be at least, and until when to go on.
func plan(t *testing.T, many uint64) (seed, histories uint64, end time.Time) {
	t.Helper()
	if seed, given := chance.Given(t); given {
		return seed, 1, end
	}
	if os.Getenv("JETSAM_PROOF") != "" {
		many *= 10
	}
	if text := os.Getenv("JETSAM_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("JETSAM_SOAK: %v", err)
		}
		end = time.Now().Add(d)
	}
	seed = rand.Uint64() >> 16
	t.Logf("seeds from %d", seed)
	return seed, many, end
}
