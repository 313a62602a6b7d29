// Package chance seeds the random numbers of tests.
package chance

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Variable is the environment variable that holds the seed to play a test again with.
const Variable = "JETSAM_SEED"

// Given is the seed that the environment asks for, if it does.
func Given(t testing.TB) (seed uint64, given bool) {
	t.Helper()
	text := os.Getenv(Variable)
	if text == "" {
		return 0, false
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", Variable, err)
	}
	return seed, true
}

// Seed is the one that the environment asks for, or any. The test's log tells it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed, given := Given(t)
	if !given {
		seed = rand.Uint64()
	}
	t.Logf("%s=%d plays it again", Variable, seed)
	return seed
}
