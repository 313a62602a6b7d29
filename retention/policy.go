// Package retention decides which snapshots a policy keeps.
//
//	Policy    what to keep: the last n, one an hour for n hours, all of the last days, those with a tag
//	Apply     of the snapshots of one group, which are kept, and why
//	LastOfLives  of those that are not, which hold a stream last before it was made anew
//
// The policy language and its arithmetic are restic's, so that both programs forget
// the same snapshots: periods are those of the clock that a snapshot was taken by,
// and spans of time are counted back from the newest snapshot, not from now, so that
// nothing is forgotten only because backups have stopped. Three rules are jetsam's own:
// snapshots with the tag "protected" are kept whatever the policy says, PITR, and
// LastOfLives.
//
// All of it is pure functions over snapshots that are in memory.
package retention

import (
	"fmt"
	"slices"
	"time"

	"jetsam/snapshot"
)

// Protected is the tag of snapshots that no policy forgets.
const Protected = "protected"

// All as a number to keep means: however many there are.
const All = -1

// Policy says what to keep of the snapshots of a group. The zero value keeps nothing.
type Policy struct {
	Last    int // the newest n; All: every one
	Hourly  int // of each of the last n hours that have snapshots, the newest
	Daily   int
	Weekly  int // ISO weeks
	Monthly int
	Yearly  int

	Within        Span // all that are at most so much older than the newest
	WithinHourly  Span // of each hour of that span, the newest
	WithinDaily   Span
	WithinWeekly  Span
	WithinMonthly Span
	WithinYearly  Span

	Tags [][]string // those with all tags of one of these lists; the empty list: those without tags

	// PITR keeps what restoring to any second of that span takes: all of its
	// snapshots, and the one before.
	PITR Span
}

// Empty says that the policy keeps nothing but what is protected.
func (p *Policy) Empty() bool {
	for _, b := range p.periods() {
		if b.count != 0 || b.within != (Span{}) {
			return false
		}
	}
	return p.Within == (Span{}) && p.PITR == (Span{}) && len(p.Tags) == 0
}

// Verdict says of a snapshot whether it is kept.
type Verdict struct {
	Snapshot *snapshot.Snapshot
	Reasons  []string // to keep it; none: it is not
}

// Keep says that there is a reason to keep the snapshot.
func (v Verdict) Keep() bool { return len(v.Reasons) > 0 }

// period is a rule that keeps the newest snapshot of each period that there is one in.
type period struct {
	name   string
	of     func(t time.Time, nth int) int // a number that differs from period to period
	count  int                            // periods that are left to keep one of; All: no end
	within Span                           // instead of count
}

func (p *Policy) periods() []*period {
	nth := func(_ time.Time, nth int) int { return nth }
	hour := func(t time.Time, _ int) int { return day(t)*100 + t.Hour() }
	daily := func(t time.Time, _ int) int { return day(t) }
	week := func(t time.Time, _ int) int { y, w := t.ISOWeek(); return y*100 + w }
	month := func(t time.Time, _ int) int { return t.Year()*100 + int(t.Month()) }
	year := func(t time.Time, _ int) int { return t.Year() }
	return []*period{
		{"last", nth, p.Last, Span{}},
		{"hourly", hour, p.Hourly, Span{}},
		{"daily", daily, p.Daily, Span{}},
		{"weekly", week, p.Weekly, Span{}},
		{"monthly", month, p.Monthly, Span{}},
		{"yearly", year, p.Yearly, Span{}},
		{"hourly", hour, 0, p.WithinHourly},
		{"daily", daily, 0, p.WithinDaily},
		{"weekly", week, 0, p.WithinWeekly},
		{"monthly", month, 0, p.WithinMonthly},
		{"yearly", year, 0, p.WithinYearly},
	}
}

func day(t time.Time) int { return (t.Year()*100+int(t.Month()))*100 + t.Day() }

// Apply decides about the snapshots of a group and returns a verdict on each, the
// oldest first. Spans count back from the newest snapshot that is not of the future,
// which is what lies behind now.
func (p *Policy) Apply(group []*snapshot.Snapshot, now time.Time) []Verdict {
	sorted := slices.Clone(group)
	snapshot.Sort(sorted)
	verdicts := make([]Verdict, len(sorted))
	newest := newestUntil(sorted, now)
	rules := p.periods()
	last := make([]int, len(rules))
	for nth := range sorted {
		i := len(sorted) - 1 - nth // the newest first
		s := sorted[i]
		v := &verdicts[i]
		v.Snapshot = s
		v.Reasons = p.ofItself(s, newest)
		for n, r := range rules {
			if !r.applies(s.Time, newest) {
				continue
			}
			switch in := r.of(s.Time, nth); {
			case nth == 0 || in != last[n]:
				last[n] = in
				v.Reasons = append(v.Reasons, r.why(""))
			case i == 0: // what lies before it is gone: without it the period has less than it could
				v.Reasons = append(v.Reasons, r.why("oldest "))
			default:
				continue
			}
			if r.count > 0 {
				r.count--
			}
		}
	}
	p.keepPITR(verdicts, newest)
	return verdicts
}

// newestUntil is the time of the newest snapshot that is not newer than now; of the
// newest of all where there is none.
func newestUntil(sorted []*snapshot.Snapshot, now time.Time) time.Time {
	for _, s := range slices.Backward(sorted) {
		if !s.Time.After(now) {
			return s.Time
		}
	}
	if len(sorted) == 0 {
		return now
	}
	return sorted[len(sorted)-1].Time
}

// ofItself are the reasons to keep a snapshot that do not depend on others.
func (p *Policy) ofItself(s *snapshot.Snapshot, newest time.Time) (reasons []string) {
	if slices.Contains(s.Tags, Protected) {
		reasons = append(reasons, Protected)
	}
	if len(p.Tags) > 0 && (snapshot.Filter{Tags: p.Tags}).Match(s) {
		reasons = append(reasons, "tags")
	}
	if p.Within != (Span{}) && s.Time.After(p.Within.Before(newest)) {
		reasons = append(reasons, "within "+p.Within.String())
	}
	return reasons
}

// applies says whether the rule has one more to give, or the time is in its span.
func (r *period) applies(t, newest time.Time) bool {
	if r.within != (Span{}) {
		return t.After(r.within.Before(newest))
	}
	return r.count != 0
}

func (r *period) why(which string) string {
	if r.within != (Span{}) {
		return fmt.Sprintf("%s%s within %v", which, r.name, r.within)
	}
	if r.name == "last" {
		return "last"
	}
	return which + r.name
}

// keepPITR keeps what PITR takes. To restore to a second, the snapshots before and
// after it are needed: so the one before the span as well.
func (p *Policy) keepPITR(verdicts []Verdict, newest time.Time) {
	if p.PITR == (Span{}) {
		return
	}
	begin := p.PITR.Before(newest)
	for i := range slices.Backward(verdicts) {
		v := &verdicts[i]
		v.Reasons = append(v.Reasons, "any second within "+p.PITR.String())
		if !v.Snapshot.Time.After(begin) {
			return
		}
	}
}
