package restore

import (
	"slices"
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

// claim is a name and the subjects that a stream holds.
type claim struct {
	name     string
	subjects []string
	whose    string
}

// claims are the claims of many streams. Which of them overlap some subjects is found by their tokens, and not by a look at each.
type claims struct {
	all []claim
	top tokens
}

// tokens are the subjects that begin in one way, by the token that follows. Its numbers are those of claims.
type tokens struct {
	next map[string]*tokens
	ends []int // nothing follows
	rest []int // a > follows
}

// claimsOf are those of the server's streams.
func claimsOf(streams []*jetstream.StreamInfo) *claims {
	c := &claims{}
	for _, s := range streams {
		c.add(claim{s.Name, subjectsOf(s.Name, s.StreamSettings), "the server's stream"})
	}
	return c
}

func (c *claims) add(one claim) {
	for _, subject := range one.subjects {
		c.top.add(strings.Split(subject, "."), len(c.all))
	}
	c.all = append(c.all, one)
}

func (t *tokens) add(subject []string, number int) {
	switch {
	case len(subject) == 0:
		t.ends = append(t.ends, number)
		return
	case subject[0] == ">":
		t.rest = append(t.rest, number)
		return
	}
	if t.next == nil {
		t.next = map[string]*tokens{}
	}
	if t.next[subject[0]] == nil {
		t.next[subject[0]] = &tokens{}
	}
	t.next[subject[0]].add(subject[1:], number)
}

// overlapping are the claims with a subject that overlaps one of these, in the order in which they were added.
func (c *claims) overlapping(subjects []string) []claim {
	found := map[int]bool{}
	for _, subject := range subjects {
		c.top.overlapping(strings.Split(subject, "."), found)
	}
	var numbers []int
	for n := range found {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	out := make([]claim, len(numbers))
	for i, n := range numbers {
		out[i] = c.all[n]
	}
	return out
}

// overlapping finds what [jetstream.SubjectsOverlap] says yes to.
func (t *tokens) overlapping(subject []string, found map[int]bool) {
	if len(subject) == 0 {
		note(found, t.ends)
		return
	}
	note(found, t.rest)
	switch token := subject[0]; token {
	case ">":
		for _, next := range t.next {
			next.all(found)
		}
	case "*":
		for _, next := range t.next {
			next.overlapping(subject[1:], found)
		}
	default:
		for _, same := range []string{token, "*"} {
			if next := t.next[same]; next != nil {
				next.overlapping(subject[1:], found)
			}
		}
	}
}

func (t *tokens) all(found map[int]bool) {
	note(found, t.ends)
	note(found, t.rest)
	for _, next := range t.next {
		next.all(found)
	}
}

func note(found map[int]bool, numbers []int) {
	for _, n := range numbers {
		found[n] = true
	}
}
