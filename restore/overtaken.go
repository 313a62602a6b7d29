package restore

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// overtake finds which messages of the stream's snapshot were gone at the time of the plan, because of messages that came since: a server
// removes what a rollup replaces, what max_msgs_per_subject leaves no room for, and the oldest where max_msgs or max_bytes does not.
func (p *Plan) overtake(ctx context.Context, s *StreamPlan) error {
	if s.later == nil {
		return nil
	}
	came := &arrivals{perSubject: s.config.MaxMessagesOfSubject > 0, seqs: map[string][]uint64{}, rolled: map[string]uint64{}}
	if err := p.scan(ctx, s, s.later, came.note); err != nil {
		return err
	}
	if came.all > 0 || len(came.seqs) > 0 {
		had := map[string][]uint64{}
		err := p.scan(ctx, s, s.log, func(m *archive.Message) {
			if _, hit := came.seqs[string(m.Subject)]; hit {
				had[string(m.Subject)] = append(had[string(m.Subject)], m.Seq)
			}
		})
		if err != nil {
			return err
		}
		before := s.countOf(s.log)
		s.setOvertaken(came.overtaken(had, s.config.MaxMessagesOfSubject))
		if err := p.readStretches(ctx, s, isNarrow); err != nil {
			return err
		}
		s.came, s.replaced = s.countOf(s.later), before-min(before, s.countOf(s.log))
	}
	return p.overflow(ctx, s, came.bytes(s.config.Storage))
}

// setOvertaken leaves messages out.
func (s *StreamPlan) setOvertaken(gone *streamlog.Dead) {
	s.log.overtaken, s.later.overtaken = gone, gone
	for i := range s.stretches {
		if x := &s.stretches[i]; gone.Count(x.First, x.Last) > 0 {
			x.cutThrough()
		}
	}
}

// arrivals are the messages that came after a snapshot.
type arrivals struct {
	perSubject bool                // whether the number of messages of a subject matters
	seqs       map[string][]uint64 // of each subject that may replace something, ascending
	rolled     map[string]uint64   // the last rollup of a subject
	all        uint64              // the last rollup of the whole stream
	messages   uint64
	content    uint64 // bytes of subjects, headers and payloads
	headers    uint64 // messages that have some
}

// note counts a message.
func (a *arrivals) note(m *archive.Message) {
	a.messages++
	a.content += uint64(len(m.Subject) + len(m.Header) + len(m.Payload))
	if len(m.Header) > 0 {
		a.headers++
	}
	rollup := strings.ToLower(headerOf(m, "Nats-Rollup"))
	switch rollup {
	case "all":
		a.all = m.Seq
	case "sub":
		a.rolled[string(m.Subject)] = m.Seq
	}
	if _, known := a.seqs[string(m.Subject)]; known || rollup == "sub" || a.perSubject {
		a.seqs[string(m.Subject)] = append(a.seqs[string(m.Subject)], m.Seq)
	}
}

// overtaken are the messages that the arrivals replace: those that were there before, had by their subjects, and earlier arrivals.
func (a *arrivals) overtaken(had map[string][]uint64, perSubject int64) *streamlog.Dead {
	var gone []uint64
	for subject, came := range a.seqs {
		seqs := append(had[subject], came...)
		keep := len(seqs)
		if perSubject > 0 {
			keep = int(min(perSubject, int64(keep)))
		}
		for i, seq := range seqs {
			if i < len(seqs)-keep || seq < a.rolled[subject] {
				gone = append(gone, seq)
			}
		}
	}
	slices.Sort(gone)
	return streamlog.NewDead(func(yield func(streamlog.Run) bool) {
		if a.all > 1 && !yield(streamlog.Run{First: 1, Last: a.all - 1}) {
			return
		}
		for _, seq := range gone {
			if !yield(streamlog.Run{First: seq, Last: seq}) {
				return
			}
		}
	})
}

// bytes is what a server with that kind of storage counts for the arrivals (nats-server 2.15, fileStoreMsgSize and memStoreMsgSize).
func (a *arrivals) bytes(storage string) uint64 {
	if storage == "memory" {
		return a.content + 16*a.messages
	}
	return a.content + 30*a.messages + 4*a.headers
}

// stored is what a server counts for a message.
func stored(storage string, m *archive.Message) uint64 {
	var one arrivals
	one.messages, one.content = 1, uint64(len(m.Subject)+len(m.Header)+len(m.Payload))
	if len(m.Header) > 0 {
		one.headers = 1
	}
	return one.bytes(storage)
}

// overflow leaves out the oldest messages, as many as a server removes that keeps to max_msgs and max_bytes. came is how many bytes of messages
// came after the snapshot.
func (p *Plan) overflow(ctx context.Context, s *StreamPlan, came uint64) error {
	if s.config.Discard == "new" {
		return nil
	}
	var messages, tooMany, tooMuch uint64
	for i := range s.stretches {
		messages += s.stretches[i].Messages
	}
	if limit := s.config.MaxMessages; limit > 0 && messages > uint64(limit) {
		tooMany = messages - uint64(limit)
	}
	if limit := s.config.MaxBytes; limit > 0 && s.log.state.Bytes+came > uint64(limit) {
		tooMuch = s.log.state.Bytes + came - uint64(limit)
	}
	if tooMany == 0 && tooMuch == 0 {
		return nil
	}
	var dropped, bytes, last uint64
	err := p.scanWhile(ctx, s, s.log, func(m *archive.Message) bool {
		if dropped >= tooMany && bytes >= tooMuch {
			return false
		}
		dropped, bytes, last = dropped+1, bytes+stored(s.config.Storage, m), m.Seq
		return true
	})
	if err != nil {
		return err
	}
	s.replaced += dropped
	s.log.want.First = max(s.log.want.First, last+1)
	s.stretches = clip(s.stretches)
	return nil
}

// scan reads the messages of a log that are restored as far as is known. What is lost is left out: it will be seen when it is to be sent.
func (p *Plan) scan(ctx context.Context, s *StreamPlan, l *log, each func(*archive.Message)) error {
	return p.scanWhile(ctx, s, l, func(m *archive.Message) bool {
		each(m)
		return true
	})
}

func (p *Plan) scanWhile(ctx context.Context, s *StreamPlan, l *log, each func(*archive.Message) bool) error {
	for i := range s.stretches {
		x := &s.stretches[i]
		if x.log != l || x.lost() {
			continue
		}
		next := l.wanted(p.reader(ctx, x))
		for {
			m, err := next()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				x.lose(err)
				break
			}
			if !each(m) {
				return nil
			}
		}
	}
	return nil
}
