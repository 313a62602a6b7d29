package restore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/streamlog"
)

// Cut says which of a stream's messages are restored. The zero value says all of them. Sequences stay what they were.
type Cut struct {
	FromSeq  uint64    // none below; 0: no bound
	UntilSeq uint64    // none above; 0: no bound
	Since    time.Time // none before the first one from then on, in the stream's order; zero: no bound
	At       time.Time // none behind the last one up to and with then, in the stream's order; zero: no bound
	Subjects []string  // only those whose subject one of these filters matches; empty: any

	Sample uint64 // only a run of them, at a place that Seed decides, with about so many bytes in the repository; 0: all
	Seed   uint64

	// KeepLastSeq lets the stream go on behind the sequence that it had reached in the snapshot. Without it, it goes on behind the cut.
	KeepLastSeq bool
}

// IsZero says whether all messages are restored.
func (c Cut) IsZero() bool { return !c.bySequence() && len(c.Subjects) == 0 }

func (c Cut) bySequence() bool {
	return c.FromSeq > 0 || c.UntilSeq > 0 || !c.Since.IsZero() || !c.At.IsZero() || c.Sample > 0
}

// RequestError says why what was asked for cannot be had: it makes no sense, or the stream has nothing there, or nobody knows what it had.
type RequestError struct {
	Stream string // empty: it is about no stream in particular
	Reason string
}

func (e *RequestError) Error() string {
	if e.Stream == "" {
		return e.Reason
	}
	return "stream " + e.Stream + ": " + e.Reason
}

// Check returns a *RequestError for bounds that exclude each other and for what is no subject filter.
func (c Cut) Check() error {
	if c.UntilSeq > 0 && c.FromSeq > c.UntilSeq {
		return &RequestError{Reason: fmt.Sprintf("sequences from %d until %d: there are none", c.FromSeq, c.UntilSeq)}
	}
	if !c.At.IsZero() && c.Since.After(c.At) {
		return &RequestError{Reason: fmt.Sprintf("times since %s until %s: there are none", when(c.Since), when(c.At))}
	}
	for _, f := range c.Subjects {
		if err := jetstream.CheckFilter(f); err != nil {
			return &RequestError{Reason: err.Error()}
		}
	}
	return nil
}

// when is a time as errors have it.
func when(t time.Time) string { return t.UTC().Format(timeOfLoss) + " UTC" }

// everything is a bound that nothing lies outside of.
var everything = streamlog.Run{First: 0, Last: math.MaxUint64}

// isCut says whether the stream is restored otherwise than its snapshot has it.
func (s *StreamPlan) isCut() bool {
	return s.log.want != everything || len(s.log.subjects) > 0 || s.later != nil || s.log.overtaken.Len() > 0 || s.keepLastSeq && s.reached > s.log.state.LastSeq
}

// logs are those that the stream's messages are taken of, in the order of their sequences.
func (s *StreamPlan) logs() []*log {
	if s.later == nil {
		return []*log{s.log}
	}
	return []*log{s.log, s.later}
}

// end is the last sequence that the stream had when it was captured, or at the time that it is restored as of.
func (s *StreamPlan) end() uint64 {
	if s.later != nil {
		return s.later.want.Last
	}
	return s.log.state.LastSeq
}

// applyCut finds the bounds of what is restored, and leaves out of the stretches what lies outside. What a bound goes through is read.
func (p *Plan) applyCut(ctx context.Context, s *StreamPlan) error {
	c := p.Options.bounds(p.moment)
	for _, l := range s.logs() {
		l.subjects = c.Subjects
	}
	if c.bySequence() {
		if err := p.bound(ctx, s, c); err != nil {
			return err
		}
		s.stretches = clip(s.stretches)
	}
	if c.Sample > 0 {
		p.sample(s, c)
	}
	for i := range s.stretches {
		x := &s.stretches[i]
		if len(c.Subjects) > 0 || s.isCut() && x.unread != nil {
			x.cutThrough()
		}
		for _, id := range x.ids {
			err := p.present.Check(dataBlob(id))
			if repo.IsUnread(err) {
				return fmt.Errorf("stream %s: %w", s.Source, err)
			}
			if err != nil && !x.lost() {
				x.lose(err)
			}
		}
	}
	if len(c.Subjects) > 0 {
		return nil // filter reads them
	}
	return p.readStretches(ctx, s, isNarrow)
}

// bounds is what streams are cut by. The time of a moment is none: that is what their logs are chosen by.
func (o Options) bounds(moment bool) Cut {
	c := o.Cut
	if moment {
		c.At = time.Time{}
	}
	return c
}

func isNarrow(x *stretch) bool { return x.narrow }

// bound sets the sequences that are wanted.
func (p *Plan) bound(ctx context.Context, s *StreamPlan, c Cut) (err error) {
	want, first, end := streamlog.Run{First: c.FromSeq, Last: math.MaxUint64}, s.log.state.FirstSeq, s.end()
	if c.UntilSeq > 0 {
		want.Last = c.UntilSeq
	}
	if !c.Since.IsZero() {
		since, err := p.firstSince(ctx, s.stretches, c.Since)
		if err != nil {
			return err
		}
		want.First = max(want.First, since)
	}
	if !c.At.IsZero() {
		last, err := p.lastAt(ctx, s.stretches, c.At)
		if err != nil {
			return err
		}
		want.Last = min(want.Last, last)
	}
	switch {
	case c.UntilSeq > end:
		return s.uncuttable("its last sequence is %d, there is nothing until %d to be cut", end, c.UntilSeq)
	case c.FromSeq > end:
		return s.uncuttable("its last sequence is %d, there is nothing from %d on", end, c.FromSeq)
	case c.UntilSeq > 0 && c.UntilSeq < first:
		return s.uncuttable("its first sequence is %d, there is nothing until %d", first, c.UntilSeq)
	}
	for _, l := range s.logs() {
		l.want = streamlog.Run{First: max(l.want.First, want.First), Last: min(l.want.Last, want.Last)}
	}
	return nil
}

func (s *StreamPlan) uncuttable(reason string, args ...any) error {
	return &RequestError{Stream: s.Source, Reason: fmt.Sprintf(reason, args...)}
}

// clip leaves out of stretches what lies outside of what is wanted of their logs.
func clip(stretches []stretch) []stretch {
	kept := make([]stretch, 0, len(stretches))
	for _, x := range stretches {
		want := x.log.want
		if x.Last < want.First || x.First > want.Last {
			continue
		}
		if x.First < want.First || x.Last > want.Last {
			x.cutThrough()
		}
		kept = append(kept, x)
	}
	return kept
}

// lose marks a stretch as lost. Of one that is sent in part it is lost too what would have been sent.
func (x *stretch) lose(why error) {
	x.Reason = why
	if x.narrow {
		x.First, x.Last = max(x.First, x.log.want.First), min(x.Last, x.log.want.Last)
		x.Messages, x.bytes = 0, 0
	}
}

// firstSince is the sequence of the first message that is not older than t, in the order of the stream, or one above all where there is none.
func (p *Plan) firstSince(ctx context.Context, stretches []stretch, t time.Time) (uint64, error) {
	for i := range stretches {
		x := &stretches[i]
		if !x.To.IsZero() && x.To.Before(t) {
			continue
		}
		if !x.From.IsZero() && !x.From.Before(t) {
			return x.First, nil
		}
		seq, err := p.seek(ctx, x, func(first *uint64, m *archive.Message) {
			if *first == 0 && m.Time >= t.UnixNano() {
				*first = m.Seq
			}
		})
		if err != nil {
			return 0, err
		}
		if x.lost() {
			seq = x.First // nobody knows: what is restored lacks all of it
		}
		if seq > 0 {
			return seq, nil
		}
	}
	return math.MaxUint64, nil
}

// lastAt is the sequence of the last message that is not younger than t, in the order of the stream, or 0 where there is none. Where none
// is younger, no sequence is above it.
func (p *Plan) lastAt(ctx context.Context, stretches []stretch, t time.Time) (uint64, error) {
	if len(stretches) == 0 {
		return math.MaxUint64, nil
	}
	for i := len(stretches) - 1; i >= 0; i-- {
		x := &stretches[i]
		if x.From.After(t) {
			continue
		}
		if !x.To.IsZero() && !x.To.After(t) {
			if i == len(stretches)-1 {
				return math.MaxUint64, nil
			}
			return x.Last, nil
		}
		seq, err := p.seek(ctx, x, func(last *uint64, m *archive.Message) {
			if m.Time <= t.UnixNano() {
				*last = m.Seq
			}
		})
		if err != nil {
			return 0, err
		}
		if x.lost() {
			seq = x.Last // nobody knows: what is restored lacks all of it
		}
		if seq > 0 {
			return seq, nil
		}
	}
	return 0, nil
}

// seek goes through the messages of a stretch, those that are dead too, and returns what look finds. The error is that of each: a stretch that
// is damaged is lost, and 0 is found.
func (p *Plan) seek(ctx context.Context, x *stretch, look func(found *uint64, m *archive.Message)) (found uint64, err error) {
	if x.lost() {
		return 0, nil
	}
	err = x.each(ctx, p.reader(ctx, x), func(m *archive.Message) error {
		look(&found, m)
		return nil
	})
	if x.lost() {
		found = 0
	}
	return found, err
}

// filter reads all messages within the bounds, to find those that the filters match.
func (p *Plan) filter(ctx context.Context, s *StreamPlan) error {
	if len(s.log.subjects) == 0 {
		return nil
	}
	var err error
	if s.awaited, err = awaitedBy(s.captured.Consumers); err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if err := p.readStretches(ctx, s, func(*stretch) bool { return true }); err != nil {
		return err
	}
	s.filtered = true
	return p.settle(s)
}

// nothing says why a cut leaves nothing of a stream that has messages; empty where it leaves something.
func (s *StreamPlan) nothing(c Cut) string {
	if c.IsZero() || len(s.stretches) > 0 || s.log.held.Document.Jetsam.Messages == 0 {
		return ""
	}
	if len(c.Subjects) > 0 {
		return fmt.Sprintf("none of the chosen messages has a subject that %s matches; the stream listens to %s",
			strings.Join(c.Subjects, " or "), strings.Join(s.listened(), ", "))
	}
	if !c.At.IsZero() && s.log.want.Last == 0 {
		return fmt.Sprintf("what snapshot %s has of it is younger than %s", s.snapshot, when(c.At))
	}
	return "it has no message within the bounds"
}

// listened are the subjects that the stream listened to.
func (s *StreamPlan) listened() []string {
	_, settings, err := jetstream.ParseSettings(s.log.held.Document.Config)
	if err != nil {
		return nil
	}
	return subjectsOf(s.Source, settings)
}

// awaited are the messages that consumers wait for, and which of them are restored. A nil *awaited has none.
type awaited struct {
	seqs []uint64 // ascending
	kept []atomic.Bool
}

func awaitedBy(consumers []archive.Consumer) (*awaited, error) {
	w := &awaited{}
	for _, c := range consumers {
		if err := c.Waiting(func(seq uint64) { w.seqs = append(w.seqs, seq) }); err != nil {
			return nil, fmt.Errorf("consumer %s: %w", c.Name, err)
		}
	}
	slices.Sort(w.seqs)
	w.seqs = slices.Compact(w.seqs)
	w.kept = make([]atomic.Bool, len(w.seqs))
	return w, nil
}

// mark says that a message is restored.
func (w *awaited) mark(seq uint64) {
	if w == nil {
		return
	}
	if i, found := slices.BinarySearch(w.seqs, seq); found {
		w.kept[i].Store(true)
	}
}

// has says whether a message that is waited for is restored.
func (w *awaited) has(seq uint64) bool {
	i, found := slices.BinarySearch(w.seqs, seq)
	return found && w.kept[i].Load()
}
