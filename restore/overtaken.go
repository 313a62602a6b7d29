package restore

import (
	"context"
	"slices"
	"strings"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// overtake leaves out those messages of the stream's snapshot that certainly were gone at the time of the plan: they are gone in the next
// snapshot, and a server removes such messages by then, because of those that came. What is alive in both is never left out.
func (p *Plan) overtake(ctx context.Context, s *StreamPlan, later *log, all []stretch) error {
	if s.died == 0 {
		return nil
	}
	keeps, err := keepsOf(s.log, later)
	if err != nil {
		return err
	}
	came := &arrivals{keeps: keeps, seqs: map[string][]uint64{}, rolled: map[string]uint64{}}
	if s.later != nil {
		if err := p.scan(ctx, s, later, came.note); err != nil {
			return err
		}
	}
	if !keeps.anything() && came.all == 0 && len(came.rolled) == 0 {
		return nil
	}
	had := &residents{came: came, bySubject: map[string][]uint64{}}
	if keeps.age > 0 {
		had.expired = p.Options.Cut.At.Add(-keeps.age).UnixNano()
	}
	if err := p.fates(ctx, s, later, all, had.note); err != nil {
		return err
	}
	gone := had.overtaken(s.log.state.Bytes)
	if gone.Len() == 0 {
		return nil
	}
	before := s.countOf(s.log)
	s.setOvertaken(gone)
	if err := p.readStretches(ctx, s, isNarrow); err != nil {
		return err
	}
	s.replaced = before - min(before, s.countOf(s.log))
	return nil
}

// setOvertaken leaves messages of the stream's own snapshot out.
func (s *StreamPlan) setOvertaken(gone *streamlog.Dead) {
	s.log.overtaken = gone
	for i := range s.stretches {
		if x := &s.stretches[i]; x.log == s.log && gone.Count(x.First, x.Last) > 0 {
			x.cutThrough()
		}
	}
}

// keeps is what a stream keeps at most: the wider of what it was told in two snapshots. 0: no limit.
type keeps struct {
	perSubject, messages, bytes int64
	age                         time.Duration
	storage                     string
}

// widen gives the stream the limits of the next snapshot, where they are wider than its own and something is taken from there: what was there
// then may be more than its own let it have.
func (s *StreamPlan) widen(later *log) error {
	_, is, err := jetstream.ParseSettings(later.held.Document.Config)
	if err != nil {
		return err
	}
	changes := map[string]any{}
	for field, limit := range map[string]struct{ was, is int64 }{
		"max_msgs":             {s.config.MaxMessages, is.MaxMessages},
		"max_bytes":            {s.config.MaxBytes, is.MaxBytes},
		"max_msgs_per_subject": {s.config.MaxMessagesOfSubject, is.MaxMessagesOfSubject},
		"max_msg_size":         {s.config.MaxMessageSize, is.MaxMessageSize},
	} {
		if limit.was > 0 && (limit.is <= 0 || limit.is > limit.was) {
			changes[field] = limit.is
			s.warning("its %s of %d was raised between the snapshots, nobody knows when: it is restored as snapshot %s has it", field, limit.was, s.next.ID().Short())
		}
	}
	if s.wanted, err = jetstream.WithChanges(s.wanted, changes); err != nil {
		return err
	}
	_, s.config, err = jetstream.ParseSettings(s.wanted)
	return err
}

func keepsOf(earlier, later *log) (keeps, error) {
	_, was, err := jetstream.ParseSettings(earlier.held.Document.Config)
	if err != nil {
		return keeps{}, err
	}
	_, is, err := jetstream.ParseSettings(later.held.Document.Config)
	if err != nil {
		return keeps{}, err
	}
	k := keeps{perSubject: wider(was.MaxMessagesOfSubject, is.MaxMessagesOfSubject), age: wider(was.MaxAge, is.MaxAge), storage: was.Storage}
	if was.Discard != "new" && is.Discard != "new" {
		k.messages, k.bytes = wider(was.MaxMessages, is.MaxMessages), wider(was.MaxBytes, is.MaxBytes)
	}
	return k, nil
}

// wider is the wider of two limits, of which none is 0.
func wider[N int64 | time.Duration](a, b N) N {
	if a <= 0 || b <= 0 {
		return 0
	}
	return max(a, b)
}

func (k keeps) anything() bool { return k.perSubject > 0 || k.messages > 0 || k.bytes > 0 || k.age > 0 }

// arrivals are the messages that came after a snapshot.
type arrivals struct {
	keeps    keeps
	seqs     map[string][]uint64 // of each subject that may replace something, ascending
	rolled   map[string]uint64   // the last rollup of a subject
	all      uint64              // the last rollup of the whole stream
	messages uint64
	bytes    uint64 // as a server counts them
}

// note counts a message.
func (a *arrivals) note(m *archive.Message) {
	a.messages++
	a.bytes += m.StoredSize(a.keeps.storage)
	rollup := strings.ToLower(headerOf(m, "Nats-Rollup"))
	switch rollup {
	case "all":
		a.all = m.Seq
	case "sub":
		a.rolled[string(m.Subject)] = m.Seq
	}
	if a.keeps.perSubject > 0 {
		a.seqs[string(m.Subject)] = append(a.seqs[string(m.Subject)], m.Seq)
	}
}

// resident is a message of a snapshot that is gone in the next one.
type resident struct {
	seq   uint64
	bytes uint64 // as a server counts it
	out   bool   // it certainly was gone by the time
}

// residents are the messages of a snapshot, when others came.
type residents struct {
	came    *arrivals
	expired int64 // what is older had expired by the time, in Unix nanoseconds; 0: nothing had

	gone      []resident          // ascending
	bySubject map[string][]uint64 // of subjects to which messages came: the sequences of all of theirs, alive ones too
	messages  uint64
}

// note takes a message, and whether it is gone in the next snapshot.
func (r *residents) note(m *archive.Message, gone bool) {
	r.messages++
	if _, hit := r.came.seqs[string(m.Subject)]; hit {
		r.bySubject[string(m.Subject)] = append(r.bySubject[string(m.Subject)], m.Seq)
	}
	if gone {
		rolled := m.Seq < r.came.all || m.Seq < r.came.rolled[string(m.Subject)]
		r.gone = append(r.gone, resident{seq: m.Seq, bytes: m.StoredSize(r.came.keeps.storage), out: rolled || m.Time < r.expired})
	}
}

// find is the resident with that sequence, if it is gone.
func (r *residents) find(seq uint64) *resident {
	i, found := slices.BinarySearchFunc(r.gone, seq, func(g resident, seq uint64) int {
		switch {
		case g.seq < seq:
			return -1
		case g.seq > seq:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &r.gone[i]
}

// overtaken are those that certainly were gone by the time. stored is what the server counted for all of them.
func (r *residents) overtaken(stored uint64) *streamlog.Dead {
	r.exceedSubjects()
	r.exceedStream(stored)
	return streamlog.NewDead(func(yield func(streamlog.Run) bool) {
		for _, g := range r.gone {
			if g.out && !yield(streamlog.Run{First: g.seq, Last: g.seq}) {
				return
			}
		}
	})
}

// exceedSubjects puts those out for which their subjects have no room any more: the oldest first.
func (r *residents) exceedSubjects() {
	limit := r.came.keeps.perSubject
	if limit <= 0 {
		return
	}
	for subject, had := range r.bySubject {
		total := int64(len(had) + len(r.came.seqs[subject]))
		var left []*resident // that are gone, and it is not known yet whether they were by the time
		for _, seq := range had {
			if g := r.find(seq); g != nil && g.out {
				total--
			} else if g != nil {
				left = append(left, g)
			}
		}
		for _, g := range left[:max(0, min(total-limit, int64(len(left))))] {
			g.out = true
		}
	}
}

// exceedStream puts those out for which the stream has no room any more: the oldest first.
func (r *residents) exceedStream(stored uint64) {
	messages, bytes := r.messages+r.came.messages, stored+r.came.bytes
	for _, g := range r.gone {
		if g.out {
			messages, bytes = messages-1, bytes-min(bytes, g.bytes)
		}
	}
	k := r.came.keeps
	for i := range r.gone {
		g := &r.gone[i]
		full := k.messages > 0 && messages > uint64(k.messages) || k.bytes > 0 && bytes > uint64(k.bytes)
		if full && !g.out {
			g.out = true
			messages, bytes = messages-1, bytes-min(bytes, g.bytes)
		}
	}
}

// fates goes through the messages of the stream's own snapshot, and says of each whether the later log has it no more. Where that cannot be
// read, it is as if it had.
func (p *Plan) fates(ctx context.Context, s *StreamPlan, later *log, all []stretch, each func(m *archive.Message, gone bool)) error {
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.log != s.log || x.lost() {
			continue
		}
		gone, err := p.goneFrom(ctx, x, later, all)
		if err != nil {
			return err
		}
		err = x.each(ctx, x.log.wanted(p.reader(ctx, x)), func(m *archive.Message) error {
			each(m, gone(m.Seq))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// goneFrom returns what says whether a message of the stretch is gone in the later log. It is asked in ascending order. Where both logs have
// the same blobs, nothing is read for that.
func (p *Plan) goneFrom(ctx context.Context, x *stretch, later *log, all []stretch) (func(seq uint64) bool, error) {
	i, _ := slices.BinarySearchFunc(all, x.First, func(y stretch, first uint64) int {
		if y.Last < first {
			return -1
		}
		return 1
	})
	if i < len(all) && !all[i].lost() && slices.Equal(all[i].ids, x.ids) {
		return later.dead.Ascending(), nil
	}
	there := &lifeline{p: p, ctx: ctx, rest: all[i:], first: x.First, last: x.Last}
	var alive []uint64
	for m := there.next(); m != nil; m = there.next() {
		alive = append(alive, m.Seq)
	}
	if err := there.stopped(); err != nil {
		return nil, err
	}
	return func(seq uint64) bool {
		_, found := slices.BinarySearch(alive, seq)
		return !found && !there.broken
	}, nil
}

// scan reads the messages of a log that are restored as far as is known. What is lost is left out: it will be seen when it is to be sent.
func (p *Plan) scan(ctx context.Context, s *StreamPlan, l *log, each func(*archive.Message)) error {
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.log != l || x.lost() {
			continue
		}
		err := x.each(ctx, l.wanted(p.reader(ctx, x)), func(m *archive.Message) error {
			each(m)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
