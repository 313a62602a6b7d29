package tests

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"jetsam/backup"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/storagetest"
	"jetsam/streamlog"
)

// taken is a snapshot that was acknowledged, and what it must hold.
type taken struct {
	id      storage.ID
	streams map[string]*held
}

// held is a stream as a snapshot has it.
type held struct {
	*life
	image    image
	entries  []entry
	end      uint64 // the last sequence that it had reached
	captured time.Time
}

// expected is what a snapshot must hold of a stream: the image, or, where messages come or go meanwhile, what lies between two sets.
type expected struct {
	stream *modelStream
	image  image
	loose  bool
	before []*message // that were alive when the backup began
}

// selection is all streams, all but some, or some.
func (m *model) selection() streamlog.Selection {
	some := func() (names []string) {
		for range 1 + m.random.IntN(2) {
			names = append(names, m.streams[m.random.IntN(len(m.streams))].name())
		}
		return names
	}
	switch m.random.IntN(6) {
	case 0:
		return streamlog.Selection{All: true, Exclude: some()}
	case 1, 2:
		return streamlog.Selection{Names: some()}
	}
	return allStreams
}

// expect finds out what a backup must find. Into the busy stream others publish meanwhile.
func (m *model) expect(t *testing.T, sel streamlog.Selection, busy *modelStream) (all []*expected) {
	t.Helper()
	for _, s := range m.streams {
		if !sel.Has(s.name()) {
			continue
		}
		m.observe(t, s, true)
		e := &expected{stream: s, before: slices.Clone(s.living), loose: s.kind.ages || s == busy}
		if !e.loose {
			e.image = m.look(t, s)
		}
		all = append(all, e)
	}
	return all
}

// look takes the image of a stream, which must have the messages that the model has. A server forgets in the background that a consumer waits
// for a message that was removed, sooner or later: while one does, it is looked at until nothing changes.
func (m *model) look(t *testing.T, s *modelStream) image {
	t.Helper()
	im := lookAt(t, m.src, s.name())
	for waitsForRemoved(t, im) {
		was := im
		if im = lookAt(t, m.src, s.name()); reflect.DeepEqual(was, im) {
			break
		}
	}
	if diff := differ(entriesIn(s.living), entries(t, im)); diff != "" {
		t.Fatalf("the model of %s is wrong: %s", s.name(), diff)
	}
	return im
}

// waitsForRemoved says whether a consumer waits for a message that is not there.
func waitsForRemoved(t *testing.T, im image) bool {
	t.Helper()
	there := map[uint64]bool{}
	for _, e := range entries(t, im) {
		there[e.seq] = true
	}
	for _, c := range im.Consumers {
		for seq := range positionOf(t, c).pending {
			if !there[seq] {
				return true
			}
		}
	}
	return false
}

// differ says how messages differ from those that are wanted; empty: they do not.
func differ(want, got []entry) string {
	for i := range max(len(want), len(got)) {
		switch {
		case i == len(got):
			return fmt.Sprintf("%d messages, want %d: %.100s is missing", len(got), len(want), want[i].text)
		case i == len(want):
			return fmt.Sprintf("%d messages, want %d: %.100s is there", len(got), len(want), got[i].text)
		case want[i] != got[i]:
			return fmt.Sprintf("message %d of %d is %.100s, want %.100s", i, len(got), got[i].text, want[i].text)
		}
	}
	return ""
}

func (m *model) backUp(t *testing.T) {
	o := backup.Options{Selection: m.selection(), SkipSame: m.random.IntN(4) == 0}
	if m.random.IntN(8) == 0 {
		o.Mode = backup.ModeFull
	}
	m.did += fmt.Sprintf(" of %+v, mode %q", o.Selection, o.Mode)
	m.run(t, o, m.expect(t, o.Selection, nil))
}

// backUpTwice takes an increment, and then reads the same streams whole: the same must be in both.
func (m *model) backUpTwice(t *testing.T) {
	all := m.expect(t, allStreams, nil)
	m.run(t, backUpOptions, all)
	m.run(t, backup.Options{Selection: allStreams, Mode: backup.ModeFull}, all)
}

// backUpBusy takes a snapshot while others publish into a stream of which nothing is removed meanwhile.
func (m *model) backUpBusy(t *testing.T) {
	growing := slices.DeleteFunc(slices.Clone(m.streams), func(s *modelStream) bool {
		c := s.kind.config
		return s.kind.publish != nil || s.kind.ages || c.MaxMsgs > 0 || c.MaxBytes > 0 || c.MaxMsgsPerSubject > 0
	})
	if len(growing) == 0 {
		return
	}
	busy := growing[m.random.IntN(len(growing))]
	o := backup.Options{Selection: allStreams, Mode: oneOf(m, backup.ModeAuto, backup.ModeFull)}
	m.did += fmt.Sprintf(" into %s, mode %q", busy.name(), o.Mode)
	all := m.expect(t, o.Selection, busy)
	stop := m.disturb(t, busy)
	res, err := backup.Run(t.Context(), m.conn, openWith(t, m.be, nil), o)
	published := stop()
	must(t, err)
	m.counts["messages that came while a backup ran"] += published
	m.acknowledge(t, res, all)
}

// disturb publishes into a stream until it is stopped.
func (m *model) disturb(t *testing.T, s *modelStream) (stop func() int) {
	began, end, done := make(chan struct{}), make(chan struct{}), make(chan int)
	subject := m.subject(s)
	go func() {
		n := 0
		defer func() { done <- n }()
		for ; n < 200; n++ {
			if _, err := m.src.js.Publish(t.Context(), subject, text(n)); err != nil {
				t.Error(err)
				return
			}
			if n == 0 {
				close(began)
			}
			select {
			case <-end:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	select {
	case <-began:
	case <-time.After(time.Minute):
	}
	return func() int {
		close(end)
		return <-done
	}
}

// run takes a snapshot.
func (m *model) run(t *testing.T, o backup.Options, all []*expected) {
	t.Helper()
	res, err := backup.Run(t.Context(), m.conn, openWith(t, m.be, nil), o)
	must(t, err)
	m.acknowledge(t, res, all)
}

// acknowledge remembers a snapshot, which must hold what is expected. Of many, some are forgotten.
func (m *model) acknowledge(t *testing.T, res *backup.Result, all []*expected) {
	t.Helper()
	for _, f := range res.Failed() {
		if ages := f.Err == nil && slices.ContainsFunc(all, func(e *expected) bool { return e.stream.name() == f.Name && e.stream.kind.ages }); !ages {
			t.Errorf("stream %s: %v %s", f.Name, f.Err, f.Torn)
		}
	}
	for _, s := range res.Streams {
		m.counts["streams captured: "+s.Way]++
	}
	if res.Same != (storage.ID{}) {
		m.counts["backup of what was the same"]++
		m.check(t, res.Same, all)
		return
	}
	m.snapshots = append(m.snapshots, m.check(t, res.ID, all))
	if len(m.snapshots) > 8 {
		m.forget(t)
	}
}

// check reads a snapshot, without any of the code that restores, and holds it against what is expected.
func (m *model) check(t *testing.T, id storage.ID, all []*expected) *taken {
	t.Helper()
	r := openWith(t, m.be, nil)
	got, err := imagesOf(t.Context(), r, id)
	must(t, err)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := r.Snapshot(t.Context(), id.String(), snapshot.Filter{})
	must(t, err)
	account, err := streamlog.OpenAccount(t.Context(), rd, sn.Tree)
	must(t, err)
	if len(got) != len(all) || len(account.Captured) != len(all) {
		t.Fatalf("%d streams, want %d", len(got), len(all))
	}
	out := &taken{id: id, streams: make(map[string]*held)}
	for _, e := range all {
		name := e.stream.name()
		h := &held{life: e.stream.life, image: got[name], entries: entries(t, got[name]), end: number(t, got[name].State["last_seq"])}
		for _, c := range account.Captured {
			if c.Name == name {
				h.captured = c.Captured
			}
		}
		if e.loose {
			m.between(t, e, h)
		} else {
			m.same(t, e, h)
		}
		out.streams[name] = h
	}
	if t.Failed() {
		t.Fatalf("snapshot %s is not what the server had", id.Short())
	}
	return out
}

// same holds a capture of a stream that did not change against its image. At any time a server drops what a consumer waits for that is not there,
// or is below its floor of acknowledgement: so the consumers may stand anywhere between where they stood and where they stand now.
func (m *model) same(t *testing.T, e *expected, h *held) {
	t.Helper()
	want := e.image
	if !reflect.DeepEqual(want.Consumers, h.image.Consumers) && len(want.Consumers) == len(h.image.Consumers) {
		now := m.look(t, e.stream)
		there := map[uint64]bool{}
		for _, e := range h.entries {
			there[e.seq] = true
		}
		for name, c := range h.image.Consumers {
			if was, is, then := positionOf(t, want.Consumers[name]), positionOf(t, c), positionOf(t, now.Consumers[name]); !is.between(was, then, there) {
				t.Errorf("consumer %s of %s stands at %+v; before it stood at %+v, now at %+v", name, e.stream.name(), is, was, then)
			}
		}
		want.Consumers = h.image.Consumers
	}
	sameImage(t, want, h.image)
}

// between says whether a consumer that stood at one position and stands at the other, and delivered nothing, may have stood at p. What it may
// have forgotten meanwhile are messages that are not there.
func (p position) between(was, now position, there map[uint64]bool) bool {
	for seq := range p.pending {
		if !was.pending[seq] {
			return false
		}
	}
	for seq := range now.pending {
		if there[seq] && !p.pending[seq] {
			return false
		}
	}
	return was.delivered <= p.delivered && p.delivered <= now.delivered && was.floor <= p.floor && p.floor <= now.floor
}

// between holds a capture of a stream that changed meanwhile against what can be promised of it: up to its last sequence it has every message
// that was alive all the time, and none that was not there at any.
func (m *model) between(t *testing.T, e *expected, h *held) {
	t.Helper()
	name := e.stream.name()
	m.observe(t, e.stream, true)
	before := uint64(0)
	may, sure := map[entry]bool{}, map[entry]bool{}
	for _, x := range e.before {
		may[x.entry], before = true, x.seq
	}
	for _, x := range e.stream.living {
		may[x.entry] = true
		if x.seq <= h.end {
			sure[x.entry] = true
		}
	}
	for _, x := range h.entries {
		if !may[x] {
			t.Errorf("%s: %.100s was not there", name, x.text)
		}
		delete(sure, x)
	}
	for x := range sure {
		t.Errorf("%s: %.100s is missing", name, x.text)
	}
	if h.end < before {
		t.Errorf("%s ends at %d, and had %d when the backup began", name, h.end, before)
	}
	for consumer, c := range h.image.Consumers {
		if at := positionOf(t, c).delivered; at > h.end {
			t.Errorf("consumer %s of %s stands at %d, beyond %d", consumer, name, at, h.end)
		}
	}
}

// backUpFaulty lets a backup meet a fault of its storage, and not one that nobody can see at once.
func (m *model) backUpFaulty(t *testing.T) {
	op := oneOf(m, storagetest.OpSave, storagetest.OpSave, storagetest.OpLoad, storagetest.OpStat, storagetest.OpList)
	plan := storagetest.Injection{
		Call:   storagetest.Call{Op: op, Kind: oneOf(m, storage.Kinds()...)},
		N:      1 + m.random.IntN(3),
		Always: m.random.IntN(3) == 0,
		Fault:  oneOf(m, storagetest.Faults(op)...),
	}
	if op == storagetest.OpSave && plan.Fault.Silent() {
		plan.Fault = storagetest.Drops
	}
	m.did += ": " + plan.String()
	all := m.expect(t, allStreams, nil)
	f := newFaultRun(t, m.be, plan)
	r, err := f.open()
	var res *backup.Result
	if err == nil {
		res, err = backup.Run(f.ctx, m.conn, r, backUpOptions)
	}
	switch {
	case err == nil:
		m.acknowledge(t, res, all)
	case len(f.be.Hit()) == 0:
		t.Errorf("without a fault: %v", err)
	default:
		m.counts["backup that a fault ended"]++
		m.dropUnknown(t, all)
	}
	_, err = openWith(t, m.be, nil).Unlock(t.Context(), true)
	must(t, err)
}

// dropUnknown removes the snapshot of a run that did not hear that it was stored. It must be whole.
func (m *model) dropUnknown(t *testing.T, all []*expected) {
	t.Helper()
	for _, sn := range snapshotsOf(t, openWith(t, m.be, nil)) {
		if !slices.ContainsFunc(m.snapshots, func(s *taken) bool { return s.id == sn.ID() }) {
			m.check(t, sn.ID(), all)
			must(t, m.be.Remove(t.Context(), storage.File{Kind: storage.Snapshot, ID: sn.ID()}))
		}
	}
}

// drop takes a snapshot out of the model.
func (m *model) drop() *taken {
	i := m.random.IntN(len(m.snapshots))
	s := m.snapshots[i]
	m.snapshots = slices.Delete(m.snapshots, i, i+1)
	return s
}

// forget removes a snapshot.
func (m *model) forget(t *testing.T) {
	if len(m.snapshots) > 0 {
		must(t, m.be.Remove(t.Context(), storage.File{Kind: storage.Snapshot, ID: m.drop().id}))
	}
}

// prune lets the real restic forget a snapshot, and remove what no other needs. All others must be as they were.
func (m *model) prune(t *testing.T) {
	if _, err := exec.LookPath("restic"); len(m.snapshots) == 0 || err != nil && os.Getenv("CI") == "" {
		return
	}
	dir := filepath.Join(t.TempDir(), "repo")
	disk, err := local.Create(dir)
	must(t, err)
	defer disk.Close()
	copyStorage(t, m.be, disk)
	restic(t, dir, "forget", m.drop().id.String())
	restic(t, dir, "prune", "--max-unused", "0")
	m.be = cloneStorage(t, disk)
	r := openWith(t, m.be, nil)
	for _, s := range m.snapshots {
		got, err := imagesOf(t.Context(), r, s.id)
		must(t, err)
		sameImages(t, s.images(), got)
	}
	report, err := r.Check(t.Context(), repo.CheckOptions{}, nil)
	must(t, err)
	if report.Damaged() {
		t.Errorf("after restic prune, check finds %v", report.Findings)
	}
}

func (s *taken) images() map[string]image {
	out := make(map[string]image)
	for name, h := range s.streams {
		out[name] = h.image
	}
	return out
}

// names are those of the streams of a snapshot.
func (s *taken) names() []string { return slices.Sorted(maps.Keys(s.streams)) }
