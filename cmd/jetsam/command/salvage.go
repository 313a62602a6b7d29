package command

import (
	"fmt"
	"time"

	"jetsam/restore"
)

// Outcomes of a stream that is restored without what is lost.
const (
	outcomeSalvaged = "salvaged"
	outcomeSalvage  = "salvage" // of a dry run
)

// mostTold is how many runs of lost messages of a stream are told one by one in text. JSON has them all.
const mostTold = 20

// lostReport is a run of messages that the repository does not give any more.
type lostReport struct {
	First    uint64     `json:"first"`
	Last     uint64     `json:"last"`
	Messages uint64     `json:"messages,omitempty"` // absent where that is lost too
	From     *time.Time `json:"from,omitempty"`
	To       *time.Time `json:"to,omitempty"`
	Reason   string     `json:"reason"`
}

// tell puts what is lost into the report.
func (r *restoredReport) tell(d *restore.DamageError) {
	if d == nil {
		return
	}
	for _, l := range d.Lost {
		r.Lost = append(r.Lost, lostReport{First: l.First, Last: l.Last, Messages: l.Messages, From: known(l.From), To: known(l.To), Reason: l.Reason.Error()})
	}
	if d.Head != nil {
		r.LostConsumers = append([]string{}, d.Consumers...)
	}
}

// known is a time that may not be known.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// tellPlannedLosses warns of all that a plan knows to be lost.
func (p *program) tellPlannedLosses(plan *restore.Plan) {
	for _, s := range plan.Streams {
		if s.Action != restore.Skip {
			p.tellLost(s.Name, s.Lost)
		}
	}
}

// tellLosses warns of what was not restored because it is lost.
func (p *program) tellLosses(res *restore.Result, d deed) {
	for _, s := range res.Salvaged() {
		p.tellLost(s.Name, s.Lost)
		if s.Compared {
			p.out.note("stream %s: what was %s was read back and is equal", s.Name, d.done)
		}
	}
}

func (p *program) tellLost(stream string, d *restore.DamageError) {
	if d == nil {
		return
	}
	if d.Head != nil {
		p.out.warn("stream %s: %s", stream, d.LostConsumers())
	}
	for _, l := range d.Lost[:min(len(d.Lost), mostTold)] {
		p.out.warn("stream %s: %v", stream, l)
	}
	if more := len(d.Lost) - mostTold; more > 0 {
		p.out.warn("stream %s: %s of messages more are lost; --json names them all", stream, plural(more, "run"))
	}
}

// plannedSalvage is the error of a plan that leaves something out of streams because it is lost.
func plannedSalvage(plan *restore.Plan, d deed) error {
	var names []string
	for _, s := range plan.Streams {
		if s.Action != restore.Skip && s.Lost != nil {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &partialError{fmt.Sprintf("%s streams would be %s without what is lost: %s\nthe warnings above name it", share(len(names), len(plan.Streams)), d.done, abridged(names))}
}

// salvagedRestore is the error of a run that left something out of streams because it is lost.
func salvagedRestore(res *restore.Result, d deed) error {
	salvaged := res.Salvaged()
	if len(salvaged) == 0 {
		return nil
	}
	names := make([]string, len(salvaged))
	for i, s := range salvaged {
		names[i] = s.Name
	}
	return &partialError{fmt.Sprintf("%s streams were %s without what is lost: %s\nthe warnings above name it; an earlier snapshot may hold it",
		share(len(salvaged), len(res.Streams)), d.done, abridged(names))}
}
