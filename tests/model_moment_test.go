package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/restore"
	"jetsam/streamlog"
)

// restoreAt restores one stream, or all, as of a time that the account has seen.
func (m *model) restoreAt(t *testing.T) {
	if len(m.snapshots) == 0 {
		return
	}
	at := m.time()
	sel := allStreams
	if m.random.IntN(3) > 0 {
		sel = only(oneOf(m, m.streams...).name())
	}
	m.did += fmt.Sprintf(" %d, %v", at.UnixNano(), sel.Names)
	moments, old := m.moments(sel, at)
	if !old {
		m.wantNone(t, sel, at)
		return
	}
	for _, x := range moments {
		if x.base.expires() || x.next != nil && x.next.expires() {
			sel.Exclude = append(sel.Exclude, x.base.name())
		}
	}
	moments = slices.DeleteFunc(moments, func(x *modelMoment) bool { return slices.Contains(sel.Exclude, x.base.name()) })
	if len(moments) == 0 {
		return
	}
	m.runAt(t, sel, at, moments)
}

// time is one at which something happened, or a nanosecond before.
func (m *model) time() time.Time {
	at := oneOf(m, m.times...)
	switch h := oneOf(m, m.snapshots...).any(m); m.random.IntN(4) {
	case 0:
		at = h.captured
	case 1:
		if len(h.ever) > 0 {
			at = time.Unix(0, oneOf(m, h.ever...).at)
		}
	}
	return at.Add(-time.Duration(m.random.IntN(2)))
}

// any is one of a snapshot's streams.
func (s *taken) any(m *model) *held { return s.streams[oneOf(m, s.names()...)] }

// modelMoment is a stream at a time: the snapshots before and after it, of which the second need not be.
type modelMoment struct {
	base, next *held
	at         time.Time
}

// moments are the chosen streams that a snapshot captured by then. old says that some snapshot was.
func (m *model) moments(sel streamlog.Selection, at time.Time) (all []*modelMoment, old bool) {
	for _, s := range m.streams {
		if !sel.Has(s.name()) {
			continue
		}
		x := &modelMoment{at: at}
		for _, sn := range m.snapshots {
			switch h := sn.streams[s.name()]; {
			case h == nil:
			case !h.captured.After(at):
				x.base, x.next = h, nil
			case x.base != nil && x.next == nil:
				x.next = h
			}
		}
		if x.base != nil {
			all = append(all, x)
		}
	}
	return all, len(all) > 0
}

// wantNone wants the right error where no snapshot is as old.
func (m *model) wantNone(t *testing.T, sel streamlog.Selection, at time.Time) {
	t.Helper()
	_, err := m.planAt(t, restore.Options{Selection: sel, Cut: restore.Cut{At: at}})
	var request *restore.RequestError
	var unmatched *streamlog.UnmatchedError
	if !errors.As(err, &request) && !errors.As(err, &unmatched) {
		t.Errorf("no snapshot is as old, and the error is %v", err)
	}
}

func (m *model) planAt(t *testing.T, o restore.Options) (*restore.Plan, error) {
	t.Helper()
	r := openWith(t, m.be, nil)
	return restore.NewPlanAt(t.Context(), m.load(t, r), snapshotsOf(t, r), m.back, o)
}

// runAt restores streams as of a time, and judges each.
func (m *model) runAt(t *testing.T, sel streamlog.Selection, at time.Time, moments []*modelMoment) {
	t.Helper()
	defer m.empty(t)
	p, err := m.planAt(t, restore.Options{Selection: sel, Cut: restore.Cut{At: at}, Verify: true})
	must(t, err)
	if len(p.Streams) != len(moments) {
		t.Fatalf("%d streams, want %d", len(p.Streams), len(moments))
	}
	ran(t, p)
	for i, x := range moments {
		s := p.Streams[i]
		if s.Name != x.base.name() {
			t.Fatalf("stream %s, want %s", s.Name, x.base.name())
		}
		got := lookAt(t, m.dst, s.Name)
		x.judge(t, got)
		m.counts["streams restored as of a time"]++
		if t.Failed() {
			t.Fatalf("%s at %d: snapshot of %d, the next of %v; it says %s", s.Name, at.UnixNano(), x.base.captured.UnixNano(), x.next != nil, strings.Join(s.Warnings, "; "))
		}
	}
}

// A stream at a time T between two snapshots is promised to be
//
//   - what the earlier snapshot has, and of what the later one has beyond that, what came by T;
//   - without any message that certainly was gone by T, because what came by then and is in the later snapshot rolled it up, because it had
//     grown too old, or because there was no room for it;
//   - with every message of both snapshots that was alive at T. Only where messages were deleted between the earlier snapshot and T, in ways
//     that no snapshot tells of, those may be left out instead of the deleted ones for which there was no room: the oldest are;
//   - the earlier snapshot alone, where there is no later one or it is not of the same life.

// judge holds a restored stream against what is promised of the moment.
func (x *modelMoment) judge(t *testing.T, got image) {
	t.Helper()
	restored := entries(t, got)
	kept := map[uint64]bool{}
	for _, e := range restored {
		kept[e.seq] = true
	}
	wantNothingSkipped(t, "as of a time", x.base.image, got, kept, number(t, got.State["last_seq"]))
	if !x.joined() {
		if diff := differ(x.alone(), restored); diff != "" {
			t.Errorf("the earlier snapshot alone: %s", diff)
		}
		return
	}
	if x.base.life != x.next.life && differ(x.alone(), restored) == "" {
		return // whether the new life goes on from the old one may be hard to tell
	}
	x.judgeJoined(t, restored)
}

// alone is what the earlier snapshot has, without what came while it was taken and after the time.
func (x *modelMoment) alone() []entry {
	last := lastBy(x.base.entries, x.at.UnixNano())
	return slices.DeleteFunc(slices.Clone(x.base.entries), func(e entry) bool { return e.seq > last })
}

// joined says whether what came is in the later snapshot: it must be of the same life, or go on from all that the earlier one has.
func (x *modelMoment) joined() bool {
	n := len(x.base.entries)
	switch {
	case x.next == nil || len(x.alone()) < n:
		return false
	case x.base.life == x.next.life:
		return true
	}
	return n > 0 && slices.Contains(x.next.entries, x.base.entries[n-1])
}

// came are the messages of the later snapshot that came by the time.
func (x *modelMoment) came() []entry {
	return slices.DeleteFunc(slices.Clone(x.next.entries), func(e entry) bool { return e.seq <= x.base.end || e.at > x.at.UnixNano() })
}

// sure are the messages that must be restored.
func (x *modelMoment) sure() []entry {
	if !x.joined() {
		return x.alone()
	}
	alive := map[entry]bool{}
	if x.base.life == x.next.life && !x.base.clouded(x.base.captured, x.at) {
		for _, e := range x.base.ever {
			alive[e.entry] = e.aliveAt(x.at)
		}
	}
	both := map[entry]bool{}
	for _, e := range x.next.entries {
		both[e] = true
	}
	came := x.came()
	sure := slices.DeleteFunc(slices.Clone(x.base.entries), func(e entry) bool { return !both[e] && (!alive[e] || x.gone(e, came)) })
	return append(sure, came...)
}

func (x *modelMoment) judgeJoined(t *testing.T, restored []entry) {
	t.Helper()
	is, may, later := map[entry]bool{}, map[entry]bool{}, map[entry]bool{}
	for _, e := range restored {
		is[e] = true
	}
	came := x.came()
	for _, e := range slices.Concat(x.base.entries, came) {
		may[e] = true
	}
	for _, e := range x.next.entries {
		later[e] = true
	}
	for _, e := range restored {
		if !may[e] {
			t.Errorf("%.100s was not there", e.text)
		}
		if !later[e] && x.gone(e, came) {
			t.Errorf("%.100s was gone by then", e.text)
		}
	}
	for _, e := range x.sure() {
		if !is[e] {
			t.Errorf("%.100s is missing", e.text)
		}
	}
	var left []entry // out
	for _, e := range x.base.entries {
		if !is[e] && !x.gone(e, came) {
			left = append(left, e)
		}
	}
	for i, e := range left {
		if !x.full(append(slices.Clone(left[i:]), restored...), e.subject) {
			t.Errorf("%.100s is left out, and there was room", e.text)
		}
	}
}

// gone says whether a message certainly was gone: rolled up, or too old. A server takes its time to remove what is too old.
func (x *modelMoment) gone(e entry, came []entry) bool {
	age := time.Duration(x.limit("max_age"))
	if age > 0 && time.Unix(0, e.at).Before(x.at.Add(-age)) {
		return true
	}
	return slices.ContainsFunc(x.next.ever, func(y *message) bool {
		rolled := y.rollup == "all" || y.rollup == "sub" && y.subject == e.subject
		return rolled && y.seq > e.seq && slices.Contains(came, y.entry)
	})
}

// full says whether so many messages are too many for the stream, or for a subject.
func (x *modelMoment) full(all []entry, subject string) bool {
	sizes := map[uint64]int{}
	for _, e := range slices.Concat(x.base.ever, x.next.ever) {
		sizes[e.seq] = e.size
	}
	bytes, same := 0, 0
	for _, e := range all {
		bytes += sizes[e.seq]
		if e.subject == subject {
			same++
		}
	}
	over := func(field string, n int) bool { return x.limit(field) > 0 && int64(n) > x.limit(field) }
	return over("max_msgs", len(all)) || over("max_bytes", bytes) || over("max_msgs_per_subject", same)
}

// limit is the wider of what both snapshots say; 0: there is none.
func (x *modelMoment) limit(field string) int64 {
	was, some := jsonInt(x.base.image.Config[field])
	is, more := jsonInt(x.next.image.Config[field])
	if !some || !more || was <= 0 || is <= 0 {
		return 0
	}
	return max(was, is)
}

func jsonInt(v any) (int64, bool) {
	n, ok := v.(json.Number)
	i, err := n.Int64()
	return i, ok && err == nil
}
