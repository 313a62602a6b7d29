package restore

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"jetsam/internal/chance"
)

// TestClaimsOverlap holds what is found by tokens against what a look at each claim finds.
func TestClaimsOverlap(t *testing.T) {
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, seed))
	subject := func() string {
		s := ""
		for n := 1 + r.IntN(4); n > 0; n-- {
			switch k := r.IntN(10); {
			case k == 0:
				return s + ">"
			case k <= 2:
				s += "*"
			default:
				s += string(rune('a' + r.IntN(3)))
			}
			if n > 1 {
				s += "."
			}
		}
		return s
	}
	subjects := func() (out []string) {
		for range r.IntN(4) {
			out = append(out, subject())
		}
		return out
	}
	for range 200 {
		c := &claims{}
		for i := range 1 + r.IntN(30) {
			c.add(claim{name: fmt.Sprint(i), subjects: subjects()})
		}
		mine := subjects()
		want := []claim{}
		for _, other := range c.all {
			if _, _, ok := firstOverlap(mine, other.subjects); ok {
				want = append(want, other)
			}
		}
		if got := c.overlapping(mine); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q overlap %v, by a look at each %v", mine, got, want)
		}
	}
}
