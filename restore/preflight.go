package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream"
)

// preflight holds the plan against the server: what exists, what it may hold. Conflicts are put into the streams' plans and returned as *ConflictError.
func (p *Plan) preflight(ctx context.Context) error {
	account, err := p.conn.Account(ctx)
	if err != nil {
		return err
	}
	p.release = p.conn.Oldest(account)
	p.older = !p.release.TakesArchives()
	existing, err := p.conn.Streams(ctx)
	var missing *jetstream.MissingError
	if errors.As(err, &missing) {
		p.tellMissing(missing)
	} else if err != nil {
		return err
	}
	there := make(map[string]*jetstream.StreamInfo, len(existing))
	for _, info := range existing {
		there[info.Name] = info
	}
	p.decide(existing, there)
	if err := p.filterAll(ctx); err != nil {
		return err
	}
	if err := p.fit(there); err != nil {
		return err
	}
	if err := p.findLeftovers(ctx, there); err != nil {
		return err
	}
	taken := claimsOf(existing)
	for _, s := range p.Streams {
		if !s.runs() || len(s.Conflicts) > 0 {
			continue
		}
		if err := p.check(ctx, s, taken); err != nil {
			return err
		}
		taken.add(claim{s.Name, subjectsOf(s.Name, s.config), "the snapshot's stream"})
	}
	p.checkLimits(account, existing)
	return p.conflicts()
}

// tellMissing tells of streams of the server that no server leads just now: of these, only the names are known. Who restores what is missing, or skips
// what exists, leaves them alone.
func (p *Plan) tellMissing(missing *jetstream.MissingError) {
	unknown := missing.Error()
	for _, s := range p.Streams {
		why, there := missing.Reasons[s.Name]
		switch {
		case there && p.leavesAlone():
			s.Action, s.LeftAlone = Skip, fmt.Sprintf("no server says more of it than that: %v", why)
		case there:
			s.conflict("bring back the servers that hold it, or leave it out", "a stream of that name exists, and no server says more of it: %v", why)
		case s.runs():
			s.warning("whether its subjects overlap those of streams that no server leads just now is not known: %s", unknown)
		}
	}
}

// leavesAlone says whether a stream that exists is left as it is, whatever state it is in.
func (p *Plan) leavesAlone() bool {
	o := p.Options
	return o.Existing == MissingOnly || o.Existing == SkipExisting && o.Parts != ConsumersOnly
}

// check holds what is done with a stream against the server, and says what the user may not expect.
func (p *Plan) check(ctx context.Context, s *StreamPlan, taken *claims) error {
	switch s.Action {
	case AddConsumers:
		return p.checkConsumersOnly(ctx, s)
	case Update:
		s.checkUpdate(p.Options, time.Now())
		p.checkReplaced(ctx, s)
	case Create, Replace:
		s.checkMessages(p.conn.Server())
		p.warn(s, time.Now())
		p.tellGaps(s)
		if p.older {
			if err := p.checkOlder(s); err != nil {
				return err
			}
		}
	}
	s.checkSubjects(taken)
	s.checkPlace(p.conn.Server())
	if s.Action == Replace {
		return p.tellReplaced(ctx, s)
	}
	return nil
}

// filterAll applies the filters of the cut, which reads all messages: not where it is certain that nothing will be restored, and not of
// streams of which no messages are.
func (p *Plan) filterAll(ctx context.Context) error {
	for _, s := range p.Streams {
		if s.runs() && len(s.Conflicts) > 0 {
			return nil
		}
	}
	for _, s := range p.Streams {
		if !s.sends() {
			continue
		}
		if err := p.examine(ctx, s, p.filter); err != nil {
			return err
		}
	}
	return p.nothingLeft()
}

// fit changes what the streams shall be by what the server has and would do.
func (p *Plan) fit(there map[string]*jetstream.StreamInfo) error {
	for _, s := range p.Streams {
		if s.runs() && len(s.Conflicts) == 0 && p.older {
			if err := p.simplify(s); err != nil {
				return err
			}
		}
		if !s.sends() {
			continue
		}
		if err := s.hold(p.Options, time.Now()); err != nil {
			return err
		}
		if err := p.leaveOutPush(s, there); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) conflicts() error {
	var all []Conflict
	for _, s := range p.Streams {
		all = append(all, s.Conflicts...)
	}
	if len(all) > 0 {
		return &ConflictError{Conflicts: all}
	}
	return nil
}

func (s *StreamPlan) conflict(advice, reason string, args ...any) {
	s.Conflicts = append(s.Conflicts, Conflict{Stream: s.Name, Reason: fmt.Sprintf(reason, args...), Advice: advice})
}

// checkSubjects finds streams that listen to the same subjects: a server refuses those only after all data was sent.
func (s *StreamPlan) checkSubjects(taken *claims) {
	mine := subjectsOf(s.Name, s.config)
	for _, c := range taken.overlapping(mine) {
		if c.name == s.Name {
			continue
		}
		if own, other, ok := firstOverlap(mine, c.subjects); ok {
			s.conflict("remove or reconfigure that stream, or leave this one out",
				"its subject %q overlaps %q of %s %s", own, other, c.whose, c.name)
		}
	}
}

// checkMessages compares the stream's messages with what this server can hold.
func (s *StreamPlan) checkMessages(server jetstream.ServerInfo) {
	largest := s.largest()
	if s.state.LastSeq > maxSequence {
		s.conflict("leave it out, or take its messages with restic", "its last sequence is %d, and servers lose messages above %d", s.state.LastSeq, uint64(maxSequence))
	}
	if s.log.held.Document.Jetsam.Estimated || s.isCut() { // the largest may have died, or be left out
		if server.MaxPayload > 0 && largest > server.MaxPayload || s.config.MaxMessageSize > 0 && largest > s.config.MaxMessageSize {
			s.warning("it had a message of %s bytes, which is more than the server's max_payload or its own max_msg_size allows: if that is among what is restored, the server refuses it", digits.Grouped(largest))
		}
		largest = 0
	}
	if server.MaxPayload > 0 && largest > server.MaxPayload {
		s.conflict("raise the server's max_payload", "its largest message has %d bytes, the server's max_payload is %d", largest, server.MaxPayload)
	}
	if s.config.MaxMessageSize > 0 && largest > s.config.MaxMessageSize {
		s.conflict("restore an earlier snapshot, from before max_msg_size was lowered",
			"its largest message has %d bytes, its own max_msg_size is %d, and a server refuses that", largest, s.config.MaxMessageSize)
	}
}

// checkPlace compares how the stream shall be kept with what this server can do.
func (s *StreamPlan) checkPlace(server jetstream.ServerInfo) {
	if s.config.Replicas > 1 && server.Cluster == "" {
		s.conflict("restore to a cluster", "it has %d replicas, the server is no cluster", s.config.Replicas)
	}
	if s.Action != Update && s.config.MaxConsumers > 0 && s.Consumers > s.config.MaxConsumers {
		s.conflict("restore with --no-consumers", "it has %d consumers, its own max_consumers is %d", s.Consumers, s.config.MaxConsumers)
	}
}

// largest is how many bytes the largest message has that the stream had in its snapshots.
func (s *StreamPlan) largest() (n int64) {
	for _, l := range s.logs() {
		n = max(n, int64(min(l.held.Document.Jetsam.LargestMessage, 1<<62)))
	}
	return n
}

// warn adds what a restore to a server does besides what the name says.
func (p *Plan) warn(s *StreamPlan, now time.Time) {
	if s.config.MaxAge > 0 {
		if n := s.olderThan(now.Add(-s.config.MaxAge)); n > 0 {
			s.warning("at least %s messages are older than the stream's max_age of %v: the server removes them as soon as they are restored", digits.Grouped(n), s.config.MaxAge)
		}
	}
	if s.config.AllowMessageTTL && s.Messages > 0 {
		if p.Options.Target.ApplyLimits {
			s.warning("its messages may have a Nats-TTL of their own: the server does not take those whose time has passed, and how many these are is only known when they are read")
		} else {
			s.warning("its messages may have a Nats-TTL of their own: those whose time has passed, or soon will have, get that field called %s, so that they stay; --apply-limits leaves them as they are, and the server does not take them", heldHeader)
		}
	}
	if s.config.Retention == "interest" && s.Consumers == 0 && s.Messages > 0 {
		s.warning("its retention is interest and no consumer is restored: the server may drop its messages")
	}
	if r := s.config.Republish; r != nil {
		s.warning("it publishes what it stores anew, to %q: it goes on doing so once it is restored", r.Destination)
	}
	if s.config.Mirror != nil {
		s.warning("it mirrors %s: it goes on copying from there once it is restored", s.config.Mirror.Name)
	}
	for _, src := range s.config.Sources {
		s.warning("it sources %s: once it is restored it goes on copying from there, and nats-server 2.15 begins at the start again: "+
			"what %s still has will be in it twice; remove the source from its configuration before, or the copies afterwards", src.Name, src.Name)
	}
	if s.lowered > 0 {
		s.warning("%s of its consumers stood beyond what is restored, or waited for messages that are left out: they go back to the cut, and deliver what comes behind it", digits.Grouped(s.lowered))
	}
	for _, l := range s.logs() {
		if c := l.held.Document.Jetsam; c.Torn != "" {
			s.warning("what was captured of it is torn: %s", c.Torn)
		}
	}
	s.tellUncaptured()
}

// tellUncaptured names the consumers that the backup could not read.
func (s *StreamPlan) tellUncaptured() {
	for _, f := range s.log.held.Document.Jetsam.Failed {
		s.warning("its consumer %s is not in the snapshot, because no server said how it stood: %s", f.Name, f.Error)
	}
}

func (s *StreamPlan) warning(text string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(text, args...))
}

// olderThan counts the messages of groups that are older than t as a whole: a lower bound, found without reading any message.
func (s *StreamPlan) olderThan(t time.Time) uint64 {
	var n uint64
	for _, g := range s.ages {
		if g.to < t.UnixNano() {
			n += g.messages
		}
	}
	return n
}
