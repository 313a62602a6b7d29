package streamlog

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"jetsam/internal/near"
)

// mostNear is how many similar names an error tells.
const mostNear = 3

// Selection says which streams of an account are meant.
type Selection struct {
	All     bool     // every stream
	Names   []string // names, or globs as of path.Match
	Exclude []string // names, or globs, of what is left out
}

// UnmatchedError says that a name or glob matches no stream.
type UnmatchedError struct {
	Name string
	Near []string // streams with similar names, nearest first, at most mostNear
}

func (e *UnmatchedError) Error() string {
	s := fmt.Sprintf("no stream matches %q", e.Name)
	if len(e.Near) > 0 {
		s += ", did you mean " + strings.Join(e.Near, ", ") + "?"
	}
	return s
}

// Pick returns the streams that are meant, in ascending order. Every name and glob must match a stream: else *UnmatchedError. Only a glob of what is
// left out may match none: of streams that come and go there are none at times, and the others are meant still.
func (s Selection) Pick(streams []string) ([]string, error) {
	picked, there := map[string]bool{}, make(map[string]bool, len(streams))
	for _, name := range streams {
		there[name] = true
	}
	if s.All {
		for _, name := range streams {
			picked[name] = true
		}
	}
	for _, pattern := range s.Names {
		matches, err := match(pattern, streams, there)
		if err != nil {
			return nil, err
		}
		for _, name := range matches {
			picked[name] = true
		}
	}
	for _, pattern := range s.Exclude {
		matches, err := match(pattern, streams, there)
		var unmatched *UnmatchedError
		if errors.As(err, &unmatched) && isGlob(pattern) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range matches {
			delete(picked, name)
		}
	}
	out := make([]string, 0, len(picked))
	for name := range picked {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// Has says whether a stream of that name is meant, whatever other streams there are.
func (s Selection) Has(name string) bool {
	return (s.All || matchesAny(s.Names, name)) && !matchesAny(s.Exclude, name)
}

// matchesAny says whether one of the patterns is the name, or a glob that matches it.
func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return pattern == name || err == nil && ok
	})
}

// isGlob says whether pattern is more than a name.
func isGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// match returns the streams that pattern names: one of that very name, or those that the glob matches. there has the names of all.
func match(pattern string, streams []string, there map[string]bool) ([]string, error) {
	if there[pattern] {
		return []string{pattern}, nil
	}
	var matches []string
	for _, name := range streams {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return nil, fmt.Errorf("stream glob %q: %w", pattern, err)
		}
		if ok {
			matches = append(matches, name)
		}
	}
	if len(matches) == 0 {
		return nil, &UnmatchedError{Name: pattern, Near: near.Names(pattern, streams, mostNear)}
	}
	return matches, nil
}
