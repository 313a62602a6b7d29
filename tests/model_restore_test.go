package tests

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// restore restores a snapshot whole.
func (m *model) restore(t *testing.T) {
	if len(m.snapshots) > 0 {
		m.restoreWhole(t, oneOf(m, m.snapshots...))
	}
}

// restoreWhole brings the streams of a snapshot to the other server and compares them.
func (m *model) restoreWhole(t *testing.T, s *taken) {
	t.Helper()
	names := m.settled(s.names(), s.streams)
	if len(names) == 0 {
		return
	}
	defer m.empty(t)
	p, err := m.plan(t, s, restore.Options{Selection: streamlog.Selection{Names: names}, Verify: m.random.IntN(2) == 0})
	must(t, err)
	ran(t, p)
	for _, name := range names {
		m.wantWhole(t, s.streams[name], lookAt(t, m.dst, name))
	}
}

// wantWhole compares a restored stream with the snapshot's. One that had expired is restored without its age.
func (m *model) wantWhole(t *testing.T, h *held, got image) {
	t.Helper()
	want := caughtUp(t, h.image)
	if number(t, want.Config["max_age"]) > 0 && len(h.entries) > 0 {
		want.Config = maps.Clone(want.Config)
		want.Config["max_age"] = got.Config["max_age"]
	}
	sameImage(t, want, got)
}

// settled leaves out of names the streams of which something would expire while it is looked at.
func (m *model) settled(names []string, streams map[string]*held) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return streams[name].expires() })
}

// expires says whether some of it will expire, and has not yet.
func (h *held) expires() bool {
	return slices.ContainsFunc(h.entries, func(e entry) bool {
		return h.kind.ages && time.Unix(0, e.at).Add(modelAge).After(time.Now())
	})
}

// plan plans a restore of a snapshot.
func (m *model) plan(t *testing.T, s *taken, o restore.Options) (*restore.Plan, error) {
	t.Helper()
	r := openWith(t, m.be, nil)
	sn, err := r.Snapshot(t.Context(), s.id.String(), snapshot.Filter{})
	must(t, err)
	return restore.NewPlan(t.Context(), m.load(t, r), sn, m.back, o)
}

func (m *model) load(t *testing.T, r *repo.Repo) *repo.Reader {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	return rd
}

// empty removes all streams of the server that is restored into.
func (m *model) empty(t *testing.T) {
	t.Helper()
	emptyServer(t, m.dst)
	waitRemoved(t, m.dstDir)
}

// restorePart restores a cut of one stream of a snapshot.
func (m *model) restorePart(t *testing.T) {
	if len(m.snapshots) == 0 {
		return
	}
	s := oneOf(m, m.snapshots...)
	name := oneOf(m, s.names()...)
	h := s.streams[name]
	if len(h.entries) == 0 || h.expires() {
		return
	}
	cut, want, last := m.cut(h)
	m.did += fmt.Sprintf(": %s of snapshot %s, %+v", name, s.id.Short(), cut)
	defer m.empty(t)
	p, err := m.plan(t, s, restore.Options{Selection: only(name), Cut: cut, Verify: true})
	if got, some := m.ranPart(t, name, p, err, len(want) == 0); some {
		m.wantPart(t, h, want, last, got)
	}
}

// cut returns some bounds, which messages of a stream lie within, and where the stream then ends.
func (m *model) cut(h *held) (c restore.Cut, want []entry, last uint64) {
	pick := func() entry { return oneOf(m, h.entries...) }
	low, high, end := uint64(0), uint64(0), h.end
	switch m.random.IntN(3) {
	case 0:
		low = pick().seq
		c.FromSeq = low
	case 1:
		e := pick()
		c.Since = time.Unix(0, e.at)
		low = h.entries[slices.IndexFunc(h.entries, func(x entry) bool { return x.at >= e.at })].seq
	}
	last = end
	switch m.random.IntN(3) {
	case 0:
		high = max(low, h.entries[0].seq+m.random.Uint64N(end-h.entries[0].seq+1))
		c.UntilSeq, last = high, high
	case 1:
		e := pick()
		if c.Since.After(time.Unix(0, e.at)) {
			e.at = c.Since.UnixNano()
		}
		c.At = time.Unix(0, e.at)
		high = lastBy(h.entries, e.at)
		if last = high; high == h.entries[len(h.entries)-1].seq {
			last = end // nothing is younger
		}
	}
	if c.KeepLastSeq = m.random.IntN(4) == 0; c.KeepLastSeq {
		last = end
	}
	if m.random.IntN(3) == 0 {
		c.Subjects = []string{pick().subject}
	}
	for _, e := range h.entries {
		if e.seq >= low && (high == 0 || e.seq <= high) && (c.Subjects == nil || e.subject == c.Subjects[0]) {
			want = append(want, e)
		}
	}
	return c, want, last
}

// lastBy is the sequence of the last message, in the order of the stream, that is not younger; 0: there is none.
func lastBy(entries []entry, at int64) (seq uint64) {
	for _, e := range entries {
		if e.at <= at {
			seq = e.seq
		}
	}
	return seq
}

// ranPart runs a plan of one stream, and returns what the server then has. That there is nothing to restore must be said where it is so.
func (m *model) ranPart(t *testing.T, name string, p *restore.Plan, err error, nothing bool) (got image, some bool) {
	t.Helper()
	var request *restore.RequestError
	if nothing && errors.As(err, &request) {
		return got, false
	}
	must(t, err)
	ran(t, p)
	return lookAt(t, m.dst, name), true
}

// wantPart wants those messages, in a stream that ends there, and consumers that skip none of them.
func (m *model) wantPart(t *testing.T, h *held, want []entry, last uint64, got image) {
	t.Helper()
	if diff := differ(want, entries(t, got)); diff != "" {
		t.Fatal(diff)
	}
	kept := map[uint64]bool{}
	for _, e := range want {
		kept[e.seq] = true
	}
	if end := number(t, got.State["last_seq"]); end != last {
		t.Errorf("the stream ends at %d, want %d", end, last)
	}
	wantNothingSkipped(t, m.did, h.image, got, kept, last)
}

// rollBack puts a snapshot's stream in place of the one that there is.
func (m *model) rollBack(t *testing.T, s *modelStream) {
	var some []*taken
	for _, x := range m.snapshots {
		if h := x.streams[s.name()]; h != nil && !s.kind.ages {
			some = append(some, x)
		}
	}
	if len(some) == 0 {
		return
	}
	x := oneOf(m, some...)
	m.did += " to snapshot " + x.id.Short()
	m.unmake(t, s)
	r := openWith(t, m.be, nil)
	sn, err := r.Snapshot(t.Context(), x.id.String(), snapshot.Filter{})
	must(t, err)
	p, err := restore.NewPlan(t.Context(), m.load(t, r), sn, m.conn, restore.Options{Selection: only(s.name())})
	must(t, err)
	ran(t, p)
	m.begin(t, s)
	if diff := differ(x.streams[s.name()].entries, entriesIn(s.living)); diff != "" {
		t.Fatal(diff)
	}
}
