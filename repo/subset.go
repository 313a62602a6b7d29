package repo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"jetsam/storage"
)

// Subset says which packs to read. The zero value is all of them.
type Subset struct {
	part, parts int     // the packs of which the first byte of the ID is part-1 modulo parts
	percent     float64 // so many of the packs, chosen at random
	bytes       int64   // packs of about this length together, chosen at random
}

// ParseSubset reads a subset as restic writes it: "1/5" is the first of five
// parts, "2.5%" and "500M" (or K, G, T; 1024 each) are random samples. Reading
// each part in turn reads everything.
func ParseSubset(text string) (Subset, error) {
	fail := fmt.Errorf("subset %.30q is not like 1/5, 2.5%% or 500M", text)
	if part, parts, ok := strings.Cut(text, "/"); ok {
		const maxParts = 256 // values of a byte
		n, err := strconv.Atoi(part)
		t, err2 := strconv.Atoi(parts)
		if err != nil || err2 != nil || n < 1 || n > t || t > maxParts {
			return Subset{}, fail
		}
		return Subset{part: n, parts: t}, nil
	}
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(p > 0 && p <= 100) {
			return Subset{}, fail
		}
		return Subset{percent: p}, nil
	}
	n, err := parseBytes(text)
	if err != nil || n < 1 {
		return Subset{}, fail
	}
	return Subset{bytes: n}, nil
}

// parseBytes reads a number with one of the suffixes K, M, G and T.
func parseBytes(text string) (int64, error) {
	shift := 0
	if n := len(text) - 1; n > 0 {
		if i := strings.IndexByte("kmgt", text[n]|0x20); i >= 0 {
			shift, text = 10*(i+1), text[:n]
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt64>>shift {
		return 0, strconv.ErrRange
	}
	return n << shift, nil
}

// choose returns the packs of the subset.
func (s Subset) choose(packs []storage.Info) []storage.Info {
	switch {
	case s.parts > 0:
		return slices.DeleteFunc(slices.Clone(packs), func(p storage.Info) bool {
			return int(p.File.ID[0])%s.parts != s.part-1
		})
	case s.percent > 0:
		n := int(math.Ceil(float64(len(packs)) * s.percent / 100))
		return shuffled(packs)[:min(n, len(packs))]
	case s.bytes > 0:
		return upTo(shuffled(packs), s.bytes)
	default:
		return packs
	}
}

func shuffled(packs []storage.Info) []storage.Info {
	packs = slices.Clone(packs)
	rand.Shuffle(len(packs), func(i, k int) { packs[i], packs[k] = packs[k], packs[i] })
	return packs
}

// upTo returns as many packs as it takes to have n bytes.
func upTo(packs []storage.Info, n int64) []storage.Info {
	var sum int64
	for i, p := range packs {
		if sum >= n {
			return packs[:i]
		}
		sum += p.Size
	}
	return packs
}
