package command

import "fmt"

// mostAlike is of how many streams the same is said in a line each. Of more it is said once: nobody reads a thousand lines that say the same, and
// between them what is said of one stream only would be lost.
const mostAlike = 5

// crowd is what there is to say of streams.
type crowd []saying

// saying is what there is to say of a stream.
type saying struct {
	say    func(format string, args ...any)
	stream string
	one    string // all of it
	many   string // what follows the number and the names of streams of which the same is said; empty: nothing else is the same
}

func (c *crowd) add(say func(format string, args ...any), stream, one, many string) {
	*c = append(*c, saying{say, stream, one, many})
}

// tell says all of it, in order.
func (c crowd) tell() {
	alike, told := map[string][]string{}, map[string]bool{}
	for _, s := range c {
		alike[s.many] = append(alike[s.many], s.stream)
	}
	for _, s := range c {
		names := alike[s.many]
		switch {
		case s.many == "" || len(names) <= mostAlike:
			s.say("%s", s.one)
		case !told[s.many]:
			told[s.many] = true
			s.say("%s", fmt.Sprintf("%s (%s)%s", plural(len(names), "stream"), abridged(names), s.many))
		}
	}
}
