package repo

import (
	"fmt"
	"time"

	"jetsam/storage"
)

// believable is how long after its time a pack may still wait to be deleted, without
// a doubt that it has waited so long: with a prune every month nothing waits longer.
const believable = 40 * 24 * time.Hour

// mark says since when nothing needs a pack, by the storage's clock where that is
// known. Times are UTC, in whole seconds.
type mark struct {
	since time.Time
	again time.Time // zero, or when a prune did not believe since, and let the grace begin again
}

// with returns the mark of a pack of which one more index file says since when
// nothing needs it.
func (m mark) with(since time.Time) mark {
	switch {
	case m.since.IsZero():
		m.since = since
	case since.Before(m.since):
		m.since, since = since, m.since
		fallthrough
	case since.After(m.since) && since.After(m.again):
		m.again = since
	}
	return m
}

// begin returns when the grace of the pack began.
func (m mark) begin() time.Time {
	if m.again.IsZero() {
		return m.since
	}
	return m.again
}

// times returns what index files have to say of the mark.
func (m mark) times() []time.Time {
	if m.again.IsZero() {
		return []time.Time{m.since}
	}
	return []time.Time{m.since, m.again}
}

// doubted returns m as it is now. If the pack seems to have waited for very long, some
// clock may be wrong, or have been: so its grace begins again, once.
func (m mark) doubted(now time.Time, grace time.Duration) (_ mark, doubt bool) {
	if m.again.After(now) {
		m.again = time.Time{}
	}
	doubt = grace > 0 && m.again.IsZero() && now.Sub(m.since)-believable > grace
	if doubt {
		m.again = now
	}
	return m, doubt
}

// oddMarks are marks of times that are hard to believe.
type oddMarks struct {
	early, late int
	first       time.Time // of the early ones
}

func (o *oddMarks) addEarly(m mark) {
	if o.early++; o.early == 1 || m.since.Before(o.first) {
		o.first = m.since
	}
}

// warnOfMarks tells of marks that are hard to believe.
func (r *Repo) warnOfMarks(o oddMarks, now time.Time) {
	if o.early > 0 {
		r.warn(fmt.Errorf("%d packs seem to wait to be deleted since %s, for %d days: should a clock be wrong they stay for one more grace, and the next prune after that deletes them",
			o.early, o.first.Local().Format(time.DateTime), int(now.Sub(o.first).Hours()/24)))
	}
	if o.late > 0 {
		r.warn(fmt.Errorf("%d packs were noted as unused at a time that is still to come: a clock is wrong, or was, and their grace begins anew", o.late))
	}
}

// timeThere returns what time it is by the clock of the storage, which all who prune
// share; by this machine's where the storage does not tell.
func (r *Repo) timeThere() time.Time {
	ours := r.wallClock()
	be, ok := storage.As[storage.Clocked](r.be)
	if !ok {
		return ours
	}
	there, known := be.Clock()
	if !known {
		return ours
	}
	there = there.Round(0)
	if apart := there.Sub(ours); apart.Abs() > lockSkew {
		which := "ahead of"
		if apart < 0 {
			which = "behind"
		}
		r.warn(fmt.Errorf("the storage's clock is %v %s this machine's: how long packs wait to be deleted is told by the storage's", apart.Abs().Round(time.Second), which))
	}
	return there
}
