package restore

import (
	"strings"

	"jetsam/jetstream"
)

// subjectsOf are the subjects that a stream listens to: one without subjects, mirror and sources to its own name.
func subjectsOf(name string, s jetstream.StreamSettings) []string {
	if len(s.Subjects) == 0 && s.Mirror == nil && len(s.Sources) == 0 {
		return []string{name}
	}
	return s.Subjects
}

// overlap says whether some subject matches both patterns: NATS subjects with the wildcards * (one token) and > (all that follow).
func overlap(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		if as[i] == ">" || bs[i] == ">" {
			return true
		}
		if as[i] != bs[i] && as[i] != "*" && bs[i] != "*" {
			return false
		}
	}
	return len(as) == len(bs)
}

// firstOverlap returns the first subject of each list that overlap.
func firstOverlap(as, bs []string) (a, b string, ok bool) {
	for _, a := range as {
		for _, b := range bs {
			if overlap(a, b) {
				return a, b, true
			}
		}
	}
	return "", "", false
}
