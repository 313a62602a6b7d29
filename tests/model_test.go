package tests

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/internal/natsd"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/mem"
)

// modelSteps is how many steps a history has.
const modelSteps = 300

// TestModel lives through random histories of an account and its backups, and holds them against a model in memory, which knows every message
// that there ever was, and from when to when it was alive. Messages come and go in every way that streams have, backups succeed, meet faults
// and busy streams, snapshots are forgotten and pruned by the real restic, and whatever is restored must be what the model says.
//
// JETSAM_SEED=N plays one history again, JETSAM_PROOF=1 plays many, and JETSAM_SOAK=2h plays them for that long. The steps follow the seed;
// what the clock says does not.
func TestModel(t *testing.T) {
	t.Parallel()
	repotest.Histories(t, 4, func(t *testing.T, seed uint64, _ bool) map[string]int {
		m := newModel(t, seed)
		for range modelSteps {
			m.step(t)
		}
		m.finish(t)
		return m.counts
	})
}

// model is an account, its repository, and what must be true of both.
type model struct {
	random *rand.Rand
	counts map[string]int
	did    string    // what the step does
	began  time.Time // the step

	srcDir, dstDir string
	src, dst       *source
	conn, back     *conn.Conn // to src and dst
	streams        []*modelStream

	be        storage.Backend
	snapshots []*taken // that were acknowledged and are there, the oldest first
	times     []time.Time
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	m := &model{random: rand.New(rand.NewPCG(seed, 3)), counts: make(map[string]int), be: mem.New(), srcDir: t.TempDir(), dstDir: t.TempDir()}
	m.dst = startServer(t, natsd.Options{StoreDir: m.dstDir})
	m.back = connect(t, m.dst)
	m.start(t)
	_, err := repo.Init(t.Context(), m.be, secret.New(password), faultOptions(nil))
	must(t, err)
	kinds := modelKinds()
	m.random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for _, k := range kinds[:modelStreams] {
		s := &modelStream{life: &life{kind: k}}
		m.streams = append(m.streams, s)
		m.create(t, s, 0)
		m.publish(t, s)
	}
	slices.SortFunc(m.streams, func(x, y *modelStream) int { return strings.Compare(x.name(), y.name()) })
	return m
}

// modelStreams is how many of the kinds of streams a history has.
const modelStreams = 7

// start starts the server that is backed up, on what it has stored.
func (m *model) start(t *testing.T) {
	t.Helper()
	m.src = startServer(t, natsd.Options{StoreDir: m.srcDir, Name: "model"})
	m.conn = connect(t, m.src)
}

// step does one thing, to one stream where it is about one.
func (m *model) step(t *testing.T) {
	t.Helper()
	m.began = time.Now()
	m.times = append(m.times, m.began)
	step := m.choose()
	s := m.streams[m.random.IntN(len(m.streams))]
	m.did = step.name
	defer func() {
		if t.Failed() {
			t.Fatalf("step %d: %s", len(m.times), m.did)
		}
	}()
	if m.counts[step.name]++; step.stream != nil {
		m.did += " of " + s.name()
		step.stream(t, s)
	} else {
		step.account(t)
	}
}

// modelStep is something that can happen, and in how many of all chances it does.
type modelStep struct {
	weight  int
	name    string
	stream  func(*testing.T, *modelStream)
	account func(*testing.T)
}

func (m *model) steps() []modelStep {
	return []modelStep{
		{weight: 40, name: "publish", stream: m.publish},
		{weight: 10, name: "delete messages", stream: m.remove},
		{weight: 7, name: "purge", stream: m.purge},
		{weight: 12, name: "read", stream: m.read},
		{weight: 3, name: "change a limit", stream: m.limit},
		{weight: 1, name: "wait for messages to expire", account: m.expire},
		{weight: 2, name: "make a stream anew", stream: m.renew},
		{weight: 1, name: "roll a stream back", stream: m.rollBack},
		{weight: 1, name: "restart the server", account: m.restart},
		{weight: 10, name: "backup", account: m.backUp},
		{weight: 1, name: "backup twice, the second time of whole streams", account: m.backUpTwice},
		{weight: 3, name: "backup while others publish", account: m.backUpBusy},
		{weight: 4, name: "backup with a fault", account: m.backUpFaulty},
		{weight: 2, name: "forget", account: m.forget},
		{weight: 1, name: "forget and prune by restic", account: m.prune},
		{weight: 2, name: "restore", account: m.restore},
		{weight: 6, name: "restore a part", account: m.restorePart},
		{weight: 8, name: "restore as of a time", account: m.restoreAt},
	}
}

func (m *model) choose() modelStep {
	steps := m.steps()
	all := 0
	for _, s := range steps {
		all += s.weight
	}
	n := m.random.IntN(all)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			return s
		}
	}
	panic("no step") // n was below the sum of the weights
}

// finish restores every snapshot that is left, and lets both programs check the repository.
func (m *model) finish(t *testing.T) {
	t.Helper()
	m.did = "the end"
	for _, s := range m.snapshots {
		m.restoreWhole(t, s)
	}
	wantClean(t, openWith(t, m.be, nil))
	resticCheck(t, m.be)
}

// oneOf returns one of some things.
func oneOf[T any](m *model, some ...T) T { return some[m.random.IntN(len(some))] }
