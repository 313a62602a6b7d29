// Package near finds the names that somebody probably meant.
package near

import (
	"slices"
	"strings"
)

// Names returns at most n of the candidates that name is likely to mean, the likeliest first. Upper and lower case do not matter.
func Names(name string, candidates []string, n int) []string {
	type scored struct {
		name     string
		distance int
	}
	var near []scored
	lower := strings.ToLower(name)
	for _, c := range candidates {
		other := strings.ToLower(c)
		d := editDistance(lower, other)
		switch {
		case len(lower) >= 3 && (strings.HasPrefix(other, lower) || strings.HasPrefix(lower, other) && len(other) >= 3):
			d = min(d, 1)
		case len(lower) >= 3 && strings.Contains(other, lower):
			d = min(d, 2)
		}
		if d <= max(1, len(lower)/3) || d <= 2 && len(lower) >= 3 {
			near = append(near, scored{c, d})
		}
	}
	slices.SortFunc(near, func(a, b scored) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	names := make([]string, 0, n)
	for _, s := range near[:min(n, len(near))] {
		names = append(names, s.name)
	}
	return names
}

// editDistance is how many bytes must be inserted, removed or replaced to make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
