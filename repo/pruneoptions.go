package repo

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"jetsam/storage"
)

// DefaultGrace is how long what nothing needs stays before it is deleted: longer
// than a lock can be taken for one that somebody holds.
const DefaultGrace = 2 * lockStale

// PruneOptions say how much to tidy. The zero value deletes at once what nothing
// needs, and lets 5 % of the repository be unused.
type PruneOptions struct {
	MaxUnused   UnusedLimit
	MaxRepack   int64 // bytes of the packs that are repacked; 0: any
	RepackSmall bool  // also repack what is whole, but much shorter than a pack should be

	// Grace is how long a pack that nothing needs, and that no index file lists any
	// more, stays in the storage for whoever may have lost his lock.
	Grace time.Duration

	// Without are snapshots that a plan takes for forgotten. It cannot be executed.
	Without []storage.ID

	// RemoveAll allows to remove everything if there are no snapshots.
	RemoveAll bool
}

// PruneProgress says how far a prune is.
type PruneProgress struct {
	Step  string // "snapshots", "index", "trees", "repack", "packs"
	Done  int
	Total int // 0 if that is not known
}

// UnusedLimit is how much unused data may stay in packs that hold used data too,
// because it takes work to get it out. The zero value is 5 %.
type UnusedLimit struct {
	unlimited bool
	given     bool
	percent   float64 // of the packs' length when that is done
	bytes     int64
}

const defaultUnused = 5 // percent

// ParseUnusedLimit reads a limit as restic writes it: "5%", "500M" (or K, G, T;
// 1024 each) or "unlimited".
func ParseUnusedLimit(text string) (UnusedLimit, error) {
	fail := fmt.Errorf("%.30q is not like 5%%, 500M or unlimited", text)
	if text == "unlimited" {
		return UnusedLimit{unlimited: true, given: true}, nil
	}
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(p >= 0 && p < 100) {
			return UnusedLimit{}, fail
		}
		return UnusedLimit{given: true, percent: p}, nil
	}
	n, err := ParseBytes(text)
	if err != nil {
		return UnusedLimit{}, fail
	}
	return UnusedLimit{given: true, bytes: n}, nil
}

// ParseBytes reads a number of bytes that is not negative, with one of the suffixes
// K, M, G and T for 1024 each, or none.
func ParseBytes(text string) (int64, error) {
	n, err := parseBytes(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%.30q is not a size like 500M", text)
	}
	return n, nil
}

// of returns the limit in bytes beside used bytes.
func (l UnusedLimit) of(used int64) int64 {
	percent := l.percent
	switch {
	case l.unlimited:
		return math.MaxInt64
	case !l.given:
		percent = defaultUnused
	case percent == 0:
		return l.bytes
	}
	return int64(float64(used) * percent / (100 - percent))
}
