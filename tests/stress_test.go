package tests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
	"jetsam/streamlog"
)

// TestStressStreams lives through histories of an account and its backups: messages come and go, streams are made anew, backups succeed, meet
// faults and are cancelled, and any snapshot that was acknowledged is restored and compared with what the server had then, as the nats
// command line's library saw it. JETSAM_SEED, JETSAM_PROOF and JETSAM_SOAK are as for TestStress of package repo.
func TestStressStreams(t *testing.T) {
	seed, steps := rand.Uint64()>>16, 30
	if text := os.Getenv("JETSAM_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	if proof() {
		steps = 300
	}
	var end time.Time
	if text := os.Getenv("JETSAM_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		must(t, err)
		end = time.Now().Add(d)
	}
	t.Logf("JETSAM_SEED=%d", seed)
	h := newHistory(t, seed)
	for i := 0; i < steps || time.Now().Before(end); i++ {
		h.step(t)
		if t.Failed() {
			t.Fatalf("step %d (%s): play it again with JETSAM_SEED=%d go test -run TestStressStreams ./tests", i, h.did, seed)
		}
	}
	h.did = "the end"
	wantClean(t, openWith(t, h.be, nil))
	for i := range h.snapshots {
		h.restore(t, h.snapshots[i])
	}
	for _, name := range slices.Sorted(maps.Keys(h.counts)) {
		t.Logf("%5d %s", h.counts[name], name)
	}
	resticCheck(t, h.be)
}

// history is an account, its repository, and what was acknowledged.
type history struct {
	random *rand.Rand
	src    *source
	dst    *source
	conn   *conn.Conn
	back   *conn.Conn // to dst
	be     storage.Backend
	counts map[string]int
	did    string

	snapshots []taken
	lives     map[string]int // how often each stream was made
}

// taken is an acknowledged snapshot, and the streams as they were.
type taken struct {
	id     storage.ID
	images map[string]image
	lives  map[string]int
}

// stressLimit is how many messages a stream keeps.
const stressLimit = 400

var stressStreams = []string{"EVENTS", "WORK"}

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	h := &history{
		random: rand.New(rand.NewPCG(seed, 3)), be: mem.New(), counts: make(map[string]int), lives: make(map[string]int),
		src: startServer(t, natsd.Options{}), dst: startServer(t, natsd.Options{}),
	}
	h.conn, h.back = connect(t, h.src), connect(t, h.dst)
	_, err := repo.Init(t.Context(), h.be, secret.New(password), faultOptions(nil))
	must(t, err)
	for _, name := range stressStreams {
		h.create(t, name)
	}
	return h
}

func (h *history) create(t *testing.T, name string) {
	t.Helper()
	h.lives[name]++
	st := h.src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}, MaxMsgs: stressLimit, AllowDirect: true})
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	must(t, err)
}

func (h *history) step(t *testing.T) {
	t.Helper()
	steps := []struct {
		name string
		do   func(*testing.T, string)
	}{
		{"publish", h.publish},
		{"publish", h.publish},
		{"delete messages", h.remove},
		{"purge", h.purge},
		{"read", h.read},
		{"make the stream anew", h.renew},
		{"backup", h.backUp},
		{"backup", h.backUp},
		{"backup with a fault", h.fault},
		{"backup with a fault", h.fault},
		{"restore", h.restoreAny},
		{"restore a part", h.restorePart},
		{"restore as of a time", h.restoreAt},
	}
	st := steps[h.random.IntN(len(steps))]
	h.did = st.name
	st.do(t, stressStreams[h.random.IntN(len(stressStreams))])
	h.counts[st.name]++
}

func (h *history) publish(t *testing.T, stream string) {
	h.src.publish(t, fmt.Sprintf("%s.%d", stream, h.random.IntN(4)), 1+h.random.IntN(150), func(i int) []byte {
		if h.random.IntN(60) == 0 {
			return noise(h.random, 128<<10+h.random.IntN(1000))
		}
		return text(i)
	})
}

func (h *history) stream(t *testing.T, name string) (jetstream.Stream, jetstream.StreamState) {
	t.Helper()
	st, err := h.src.js.Stream(t.Context(), name)
	must(t, err)
	return st, st.CachedInfo().State
}

// remove deletes some messages that may or may not be there.
func (h *history) remove(t *testing.T, stream string) {
	st, state := h.stream(t, stream)
	if state.Msgs == 0 {
		return
	}
	for range 1 + h.random.IntN(8) {
		seq := state.FirstSeq + uint64(h.random.IntN(int(state.LastSeq-state.FirstSeq)+1))
		// One that is gone already is an error, and as good.
		_ = st.DeleteMsg(t.Context(), seq)
	}
}

func (h *history) purge(t *testing.T, stream string) {
	st, _ := h.stream(t, stream)
	switch h.random.IntN(3) {
	case 0:
		must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject(stream+".1")))
	case 1:
		must(t, st.Purge(t.Context(), jetstream.WithPurgeKeep(uint64(1+h.random.IntN(50)))))
	case 2:
		must(t, st.Purge(t.Context()))
	}
}

// read lets the consumer fetch some messages, and acknowledge a few of them.
func (h *history) read(t *testing.T, stream string) {
	c, err := h.src.js.Consumer(t.Context(), stream, "reader")
	must(t, err)
	batch, err := c.FetchNoWait(1 + h.random.IntN(40))
	must(t, err)
	for m := range batch.Messages() {
		if h.random.IntN(2) == 0 {
			must(t, m.DoubleAck(t.Context()))
		}
	}
	must(t, batch.Error())
}

func (h *history) renew(t *testing.T, stream string) {
	must(t, h.src.js.DeleteStream(t.Context(), stream))
	h.create(t, stream)
}

// look takes the images of all streams. A server forgets in the background that a consumer waits for a message that was removed: it is
// given a moment for that, so that what is seen is what a backup sees.
func (h *history) look(t *testing.T) map[string]image {
	t.Helper()
	images := make(map[string]image)
	for _, name := range stressStreams {
		for range 200 {
			if images[name] = lookAt(t, h.src, name); !waitsForRemoved(t, images[name]) {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return images
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

func (h *history) backUp(t *testing.T, _ string) {
	images := h.look(t)
	res := backUp(t, h.src, openWith(t, h.be, nil), backup.Options{Selection: allStreams})
	h.acknowledge(t, res.ID, images)
}

// acknowledge remembers a snapshot and reads it. Of many, some are forgotten.
func (h *history) acknowledge(t *testing.T, id storage.ID, images map[string]image) {
	t.Helper()
	got, err := imagesOf(t.Context(), openWith(t, h.be, nil), id)
	must(t, err)
	sameImages(t, images, got)
	h.snapshots = append(h.snapshots, taken{id, images, maps.Clone(h.lives)})
	if len(h.snapshots) > 6 {
		i := h.random.IntN(len(h.snapshots))
		must(t, h.be.Remove(t.Context(), storage.File{Kind: storage.Snapshot, ID: h.snapshots[i].id}))
		h.snapshots = slices.Delete(h.snapshots, i, i+1)
		h.counts["forget"]++
	}
}

// fault lets a backup meet a fault of its storage, and not one that nobody can see at once.
func (h *history) fault(t *testing.T, _ string) {
	ops := []storagetest.Op{storagetest.OpSave, storagetest.OpSave, storagetest.OpLoad, storagetest.OpStat, storagetest.OpList}
	op := ops[h.random.IntN(len(ops))]
	faults := storagetest.Faults(op)
	plan := storagetest.Injection{
		Call:   storagetest.Call{Op: op, Kind: storage.Kinds()[h.random.IntN(len(storage.Kinds()))]},
		N:      1 + h.random.IntN(3),
		Always: h.random.IntN(3) == 0,
		Fault:  faults[h.random.IntN(len(faults))],
	}
	if op == storagetest.OpSave && plan.Fault.Silent() {
		plan.Fault = storagetest.Drops
	}
	h.did += ": " + plan.String()
	images := h.look(t)
	f := newFaultRun(t, h.be, plan)
	r, err := f.open()
	var res *backup.Result
	if err == nil {
		res, err = backup.Run(f.ctx, h.conn, r, backup.Options{Selection: allStreams})
	}
	switch {
	case err == nil && len(res.Failed()) > 0:
		t.Errorf("failed: %+v", res.Failed())
	case err == nil:
		h.acknowledge(t, res.ID, images)
	case len(f.be.Hit()) == 0:
		t.Errorf("without a fault: %v", err)
	default:
		h.counts["backup that a fault ended"]++
		h.dropUnknown(t, images)
	}
	_, err = openWith(t, h.be, nil).Unlock(t.Context(), true)
	must(t, err)
}

// dropUnknown removes the snapshot of a run that did not hear that it was stored. It must be whole.
func (h *history) dropUnknown(t *testing.T, images map[string]image) {
	t.Helper()
	r := openWith(t, h.be, nil)
	for sn, err := range r.Snapshots(t.Context()) {
		must(t, err)
		if slices.ContainsFunc(h.snapshots, func(s taken) bool { return s.id == sn.ID() }) {
			continue
		}
		got, err := imagesOf(t.Context(), r, sn.ID())
		must(t, err)
		sameImages(t, images, got)
		must(t, h.be.Remove(t.Context(), storage.File{Kind: storage.Snapshot, ID: sn.ID()}))
	}
}

func (h *history) restoreAny(t *testing.T, _ string) {
	if len(h.snapshots) > 0 {
		h.restore(t, h.snapshots[h.random.IntN(len(h.snapshots))])
	}
}

// restore brings a snapshot to the other server and compares.
func (h *history) restore(t *testing.T, s taken) {
	t.Helper()
	defer emptyServer(t, h.dst)
	r := openWith(t, h.be, nil)
	sn, err := r.Snapshot(t.Context(), s.id.String(), snapshot.Filter{})
	must(t, err)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	p, err := restore.NewPlan(t.Context(), rd, sn, h.back, restore.Options{Selection: allStreams, Verify: true})
	must(t, err)
	res, err := p.Run(t.Context())
	if err := errors.Join(err, context.Cause(t.Context())); err != nil || len(res.Failed()) > 0 {
		t.Fatalf("restore: %v, %+v", err, res.Failed())
	}
	for name, im := range s.images {
		sameImage(t, caughtUp(t, im), lookAt(t, h.dst, name))
	}
}

// restorePart restores one stream of a snapshot up to, or from, a sequence.
func (h *history) restorePart(t *testing.T, stream string) {
	if len(h.snapshots) == 0 {
		return
	}
	s := h.snapshots[h.random.IntN(len(h.snapshots))]
	all := entries(t, s.images[stream])
	if len(all) == 0 {
		return
	}
	last := all[len(all)-1].seq
	at := all[0].seq + h.random.Uint64N(last-all[0].seq+1)
	cut := restore.Cut{UntilSeq: at}
	keep := func(e entry) bool { return e.seq <= at }
	if h.random.IntN(2) == 0 {
		cut, keep = restore.Cut{FromSeq: at}, func(e entry) bool { return e.seq >= at }
	}
	if h.random.IntN(2) == 0 {
		subject := fmt.Sprintf("%s.%d", stream, h.random.IntN(4))
		bySequence := keep
		cut.Subjects, keep = []string{subject}, func(e entry) bool { return bySequence(e) && e.subject == subject }
	}
	h.did += fmt.Sprintf(": %s %+v", stream, cut)
	r := openWith(t, h.be, nil)
	sn, err := r.Snapshot(t.Context(), s.id.String(), snapshot.Filter{})
	must(t, err)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	p, err := restore.NewPlan(t.Context(), rd, sn, h.back, restore.Options{Selection: streamlog.Selection{Names: []string{stream}}, Cut: cut, Verify: true})
	h.wantPart(t, stream, p, err, s.images[stream], slices.DeleteFunc(all, func(e entry) bool { return !keep(e) }))
}

// restoreAt restores one stream as it was at the time of a message that some snapshot has.
func (h *history) restoreAt(t *testing.T, stream string) {
	if len(h.snapshots) == 0 {
		return
	}
	some := entries(t, h.snapshots[h.random.IntN(len(h.snapshots))].images[stream])
	if len(some) == 0 {
		return
	}
	at := time.Unix(0, some[h.random.IntN(len(some))].at)
	r := openWith(t, h.be, nil)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	var all []*snapshot.Snapshot
	var base, next *taken
	for i := range h.snapshots {
		sn, err := r.Snapshot(t.Context(), h.snapshots[i].id.String(), snapshot.Filter{})
		must(t, err)
		all = append(all, sn)
		a, err := streamlog.OpenAccount(t.Context(), rd, sn.Tree)
		must(t, err)
		c := a.Captured[slices.IndexFunc(a.Captured, func(c streamlog.CapturedStream) bool { return c.Name == stream })]
		if !c.Captured.After(at) {
			base, next = &h.snapshots[i], nil
		} else if base != nil && next == nil {
			next = &h.snapshots[i]
		}
	}
	h.did += fmt.Sprintf(": %s at %d", stream, at.UnixNano())
	p, err := restore.NewPlanAt(t.Context(), rd, all, h.back, restore.Options{Selection: streamlog.Selection{Names: []string{stream}}, Cut: restore.Cut{At: at}, Verify: true})
	if base == nil {
		var request *restore.RequestError
		if !errors.As(err, &request) {
			t.Errorf("no snapshot is as old, and the error is %v", err)
		}
		return
	}
	want := entries(t, base.images[stream])
	end, err2 := strconv.ParseUint(fmt.Sprint(base.images[stream].State["last_seq"]), 10, 64)
	must(t, err2)
	if next != nil && next.lives[stream] == base.lives[stream] {
		came := slices.DeleteFunc(entries(t, next.images[stream]), func(e entry) bool { return e.seq <= end || e.at > at.UnixNano() })
		want = append(want, came...)
		want = want[max(0, len(want)-stressLimit):]
		h.counts["messages that came between two snapshots"] += len(came)
	}
	h.wantPart(t, stream, p, err, base.images[stream], want)
}

// wantPart runs a plan of one stream and wants those messages, and consumers that skip none of them.
func (h *history) wantPart(t *testing.T, stream string, p *restore.Plan, err error, before image, want []entry) {
	t.Helper()
	defer emptyServer(t, h.dst)
	var request *restore.RequestError
	if len(want) == 0 && errors.As(err, &request) {
		return
	}
	must(t, err)
	ran(t, p)
	got := lookAt(t, h.dst, stream)
	kept := map[uint64]bool{}
	for i, e := range want {
		kept[e.seq] = true
		if i >= len(got.Messages) || got.Messages[i] != e.text {
			t.Fatalf("%d messages, want %d; the one at %d is not %.80s", len(got.Messages), len(want), i, e.text)
		}
	}
	if len(got.Messages) != len(want) {
		t.Fatalf("%d messages, want %d", len(got.Messages), len(want))
	}
	last, err := strconv.ParseUint(fmt.Sprint(got.State["last_seq"]), 10, 64)
	must(t, err)
	wantNothingSkipped(t, h.did, before, got, kept, last)
}
