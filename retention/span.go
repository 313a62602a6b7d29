package retention

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Span is a length of time as a calendar has it: a month is as long as the month is.
type Span struct{ Years, Months, Days, Hours int }

// maxUnits bounds each number of a span, so that no date overflows.
const maxUnits = 1_000_000

// Unlimited is the longest span: longer than anything lasts.
var Unlimited = Span{Years: maxUnits}

var errSpan = errors.New(`it is numbers of years, months, days and hours, like 1y6m, 90d or 36h`)

// ParseSpan reads a span like 2y5m7d3h. Each unit stands at most once, in any order,
// and not all are zero.
func ParseSpan(text string) (s Span, err error) {
	seen := make(map[byte]bool)
	for rest := text; rest != ""; {
		n := 0
		digits := 0
		for ; digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9'; digits++ {
			if n = n*10 + int(rest[digits]-'0'); n > maxUnits {
				return Span{}, fmt.Errorf("span %q: a number is above %d", text, maxUnits)
			}
		}
		if digits == 0 || digits == len(rest) || seen[rest[digits]] {
			return Span{}, fmt.Errorf("span %q: %w", text, errSpan)
		}
		unit := s.unit(rest[digits])
		if unit == nil {
			return Span{}, fmt.Errorf("span %q: %w", text, errSpan)
		}
		*unit = n
		seen[rest[digits]] = true
		rest = rest[digits+1:]
	}
	if s == (Span{}) {
		return Span{}, fmt.Errorf("span %q: %w", text, errSpan)
	}
	return s, nil
}

func (s *Span) unit(letter byte) *int {
	switch letter {
	case 'y':
		return &s.Years
	case 'm':
		return &s.Months
	case 'd':
		return &s.Days
	case 'h':
		return &s.Hours
	}
	return nil
}

// Before is the time that lies the span before t.
func (s Span) Before(t time.Time) time.Time {
	return t.AddDate(-s.Years, -s.Months, -s.Days).Add(-time.Duration(s.Hours) * time.Hour)
}

// String is the span as ParseSpan reads it.
func (s Span) String() string {
	var b strings.Builder
	for _, u := range []struct {
		n    int
		unit byte
	}{{s.Years, 'y'}, {s.Months, 'm'}, {s.Days, 'd'}, {s.Hours, 'h'}} {
		if u.n != 0 {
			fmt.Fprintf(&b, "%d%c", u.n, u.unit)
		}
	}
	return b.String()
}
