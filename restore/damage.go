package restore

import (
	"fmt"
	"strings"
	"time"

	"jetsam/internal/digits"
)

// Loss is a run of messages of a stream that the repository does not give any more.
type Loss struct {
	First, Last uint64    // all that is lost has sequences from First to Last, and nothing in between is whole
	Messages    uint64    // how many; 0 where that is lost too
	From, To    time.Time // lowest and highest time of them, and of the dead ones among them; zero where that is lost too
	Reason      error     // why the first of them cannot be read
	More        int       // further reasons, for which others of them cannot
}

// timeOfLoss is how times are written in errors, in UTC.
const timeOfLoss = "2006-01-02 15:04:05"

func (l Loss) String() string {
	s := fmt.Sprintf("messages %d to %d%s are lost: %s", l.First, l.Last, l.about(), oneLine(l.Reason))
	if l.First == l.Last {
		s = fmt.Sprintf("message %d%s is lost: %s", l.First, l.about(), oneLine(l.Reason))
	}
	if l.More > 0 {
		s += fmt.Sprintf(" (and %s more such reasons)", digits.Grouped(l.More))
	}
	return s
}

// about is what is known of the lost messages, in brackets.
func (l Loss) about() string {
	var known []string
	if l.Messages > 0 && l.First != l.Last {
		known = append(known, digits.Grouped(l.Messages)+" messages")
	}
	from, to := l.From.UTC().Format(timeOfLoss), l.To.UTC().Format(timeOfLoss)
	switch {
	case l.To.IsZero():
	case l.From.IsZero():
		known = append(known, "up to "+to+" UTC")
	case from == to:
		known = append(known, to+" UTC")
	default:
		known = append(known, from+" to "+to+" UTC")
	}
	if len(known) == 0 {
		return ""
	}
	return " (" + strings.Join(known, ", ") + ")"
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// join adds what is lost right behind l, with nothing whole in between.
func (l Loss) join(next Loss) Loss {
	l.Last, l.More = next.Last, l.More+1+next.More
	if l.Messages == 0 || next.Messages == 0 {
		l.Messages = 0
	} else {
		l.Messages += next.Messages
	}
	switch {
	case l.From.IsZero() || next.From.IsZero():
		l.From = time.Time{}
	case next.From.Before(l.From):
		l.From = next.From
	}
	switch {
	case l.To.IsZero() || next.To.IsZero():
		l.To = time.Time{}
	case next.To.After(l.To):
		l.To = next.To
	}
	return l
}

// mostLosses is how many losses an error names; more are counted.
const mostLosses = 3

// DamageError says what of a stream the repository does not give.
type DamageError struct {
	Lost      []Loss   // in the order of their sequences
	Messages  uint64   // how many messages are lost; 0 where that is lost too
	Total     uint64   // how many the snapshot has
	Head      error    // why the consumers cannot be read; nil if they can
	Consumers []string // names of the consumers that are lost with it
}

func (e *DamageError) Error() string {
	var s []string
	if e.Head != nil {
		s = append(s, e.LostConsumers())
	}
	if e.Messages > 0 {
		s = append(s, fmt.Sprintf("%s of %s messages are lost", digits.Grouped(e.Messages), digits.Grouped(e.Total)))
	}
	for _, l := range e.Lost[:min(len(e.Lost), mostLosses)] {
		s = append(s, l.String())
	}
	if more := len(e.Lost) - mostLosses; more > 0 {
		s = append(s, fmt.Sprintf("and %s runs of messages more", digits.Grouped(more)))
	}
	return strings.Join(s, "; ") + "; --skip-damaged restores what is whole"
}

// Unwrap returns the reasons.
func (e *DamageError) Unwrap() []error {
	var out []error
	if e.Head != nil {
		out = append(out, e.Head)
	}
	for _, l := range e.Lost {
		out = append(out, l.Reason)
	}
	return out
}

// LostConsumers says which consumers are lost, and why; only where Head is set.
func (e *DamageError) LostConsumers() string {
	who := "how its consumers stood"
	if len(e.Consumers) > 0 {
		who = "what it had of consumers (" + strings.Join(e.Consumers, ", ") + ")"
	}
	return fmt.Sprintf("%s is lost: the head: %s", who, oneLine(e.Head))
}
