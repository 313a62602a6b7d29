package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"jetsam/blob"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// Query says which messages are looked for. The zero value of each field but Selection means any.
type Query struct {
	Selection         streamlog.Selection
	FromSeq, UntilSeq uint64
	Since, Until      time.Time // of the message, both included
	Subjects          []string  // filters, of which one must match
	Headers           map[string]string
	Most              int // matches; more are ErrTooMany
}

// ErrTooMany says that a query matches more messages than it may.
var ErrTooMany = errors.New("too many messages match")

// Found is a message that was looked for, and the snapshots that have it.
type Found struct {
	Stream    string
	Seq       uint64
	Time      time.Time
	Subject   string
	Bytes     int                  // of its headers and payload
	Snapshots []*snapshot.Snapshot // in their order
}

// Check returns a *RequestError for a query that makes no sense.
func (q *Query) Check() error {
	return Cut{FromSeq: q.FromSeq, UntilSeq: q.UntilSeq, Since: q.Since, At: q.Until, Subjects: q.Subjects}.Check()
}

// matches says whether a message is looked for.
func (q *Query) matches(m *archive.Message) bool {
	if m.Seq < q.FromSeq || q.UntilSeq > 0 && m.Seq > q.UntilSeq ||
		!q.Since.IsZero() && m.Time < q.Since.UnixNano() || !q.Until.IsZero() && m.Time > q.Until.UnixNano() {
		return false
	}
	if len(q.Subjects) > 0 && !slices.ContainsFunc(q.Subjects, func(f string) bool { return jetstream.SubjectMatches(f, m.Subject) }) {
		return false
	}
	if len(q.Headers) == 0 {
		return true
	}
	fields, ok := archive.HeaderFields(m.Header)
	for name, value := range q.Headers {
		ok = ok && slices.Contains(fields[name], value)
	}
	return ok
}

// mayHave says whether a stretch can have what is looked for.
func (q *Query) mayHave(x *stretch) bool {
	return x.Last >= q.FromSeq && (q.UntilSeq == 0 || x.First <= q.UntilSeq) &&
		(q.Since.IsZero() || x.To.IsZero() || !x.To.Before(q.Since)) && (q.Until.IsZero() || x.From.IsZero() || !x.From.After(q.Until))
}

// search goes through snapshots.
type search struct {
	p      *Plan
	q      *Query
	groups map[blob.ID][]hit // what was found in a group, by its first blob
	last   map[string]searched
	found  []*Found
	index  map[hit]*Found
	lost   []string
}

// hit is a message that matches, dead or alive.
type hit struct {
	stream, subject string
	seq             uint64
	time            int64
	bytes           int
}

// searched is what was found of a stream in the snapshot before.
type searched struct {
	tree blob.ID
	hits []*Found
}

// Find looks for messages in snapshots, and in none of their groups of messages twice. What is damaged is left out, and named in lost.
func Find(ctx context.Context, rd *repo.Reader, snapshots []*snapshot.Snapshot, q Query) (found []*Found, lost []string, err error) {
	if err := q.Check(); err != nil {
		return nil, nil, err
	}
	s := &search{p: &Plan{rd: rd}, q: &q, groups: map[blob.ID][]hit{}, last: map[string]searched{}, index: map[hit]*Found{}}
	chosen := false
	for _, sn := range snapshots {
		any, err := s.snapshot(ctx, sn)
		if err != nil {
			return nil, nil, err
		}
		chosen = chosen || any
	}
	if !chosen && len(s.lost) == 0 {
		return nil, nil, &RequestError{Reason: "none of the snapshots has such a stream"}
	}
	slices.SortStableFunc(s.found, func(a, b *Found) int {
		if c := strings.Compare(a.Stream, b.Stream); c != 0 {
			return c
		}
		return a.Time.Compare(b.Time)
	})
	return s.found, s.lost, nil
}

// snapshot searches one, and says whether any of its streams is chosen.
func (s *search) snapshot(ctx context.Context, sn *snapshot.Snapshot) (any bool, err error) {
	d, err := openDirectory(ctx, s.p.rd, sn)
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, streamlog.ErrNoStreams):
		return false, nil
	case repo.IsUnread(err):
		return false, err
	case err != nil:
		s.lost = append(s.lost, err.Error())
		return false, nil
	}
	owner := ownerOf(sn)
	for name, dir := range d.Streams() {
		if !s.q.Selection.Has(name) {
			continue
		}
		any = true
		if err := s.stream(ctx, sn, owner+"/"+name, dir); err != nil {
			return any, err
		}
	}
	return any, nil
}

// stream searches one stream of a snapshot. One that is as in the snapshot before is not read.
func (s *search) stream(ctx context.Context, sn *snapshot.Snapshot, key string, dir *snapshot.Node) error {
	if before, ok := s.last[key]; ok && before.tree == dir.Subtree {
		for _, f := range before.hits {
			f.Snapshots = append(f.Snapshots, sn)
		}
		return nil
	}
	st := streamlog.OpenDir(ctx, s.p.rd, dir)
	l := &log{name: st.Name, held: st, want: everything}
	all, err := l.open(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case repo.IsUnread(err):
		return fmt.Errorf("snapshot %s: %w", sn.ID().Short(), err)
	case err != nil:
		s.lost = append(s.lost, fmt.Sprintf("snapshot %s: %v", sn.ID().Short(), err))
		return nil
	}
	var hits []*Found
	for i := range all {
		x := &all[i]
		if !s.q.mayHave(x) {
			continue
		}
		switch err := s.stretch(ctx, st.Name, x); {
		case repo.IsUnread(err):
			return fmt.Errorf("snapshot %s: stream %s: %w", sn.ID().Short(), st.Name, err)
		case err != nil:
			return err
		}
		if x.lost() {
			s.lost = append(s.lost, fmt.Sprintf("snapshot %s: stream %s: %v", sn.ID().Short(), st.Name, x.Loss))
			continue
		}
		dead := l.dead.Ascending()
		for _, h := range s.groups[x.ids[0]] {
			if dead(h.seq) {
				continue
			}
			f := s.index[h]
			if f == nil {
				if s.q.Most > 0 && len(s.found) == s.q.Most {
					return fmt.Errorf("%w: more than %d", ErrTooMany, s.q.Most)
				}
				f = &Found{Stream: h.stream, Seq: h.seq, Time: time.Unix(0, h.time), Subject: h.subject, Bytes: h.bytes}
				s.index[h], s.found = f, append(s.found, f)
			}
			f.Snapshots = append(f.Snapshots, sn)
			hits = append(hits, f)
		}
	}
	s.last[key] = searched{dir.Subtree, hits}
	return nil
}

// stretch reads the messages of a stretch, dead ones too, unless its blobs were read before. The error is that of each, or ErrTooMany.
func (s *search) stretch(ctx context.Context, stream string, x *stretch) error {
	if x.lost() {
		return nil
	}
	if _, known := s.groups[x.ids[0]]; known {
		return nil
	}
	var hits []hit
	err := x.each(ctx, s.p.reader(ctx, x), func(m *archive.Message) error {
		if !s.q.matches(m) {
			return nil
		}
		if s.q.Most > 0 && len(hits) == s.q.Most {
			return fmt.Errorf("%w: more than %d", ErrTooMany, s.q.Most)
		}
		hits = append(hits, hit{stream: stream, subject: string(m.Subject), seq: m.Seq, time: m.Time, bytes: len(m.Header) + len(m.Payload)})
		return nil
	})
	if err != nil || x.lost() {
		return err
	}
	s.groups[x.ids[0]] = hits
	return nil
}
