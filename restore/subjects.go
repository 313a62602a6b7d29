package restore

import "jetsam/jetstream"

// subjectsOf are the subjects that a stream listens to: one without subjects, mirror and sources to its own name.
func subjectsOf(name string, s jetstream.StreamSettings) []string {
	if len(s.Subjects) == 0 && s.Mirror == nil && len(s.Sources) == 0 {
		return []string{name}
	}
	return s.Subjects
}

// firstOverlap returns the first subject of each list that overlap.
func firstOverlap(as, bs []string) (a, b string, ok bool) {
	for _, a := range as {
		for _, b := range bs {
			if jetstream.SubjectsOverlap(a, b) {
				return a, b, true
			}
		}
	}
	return "", "", false
}
