package tests

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/chunker"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/streamlog"
)

// orders is a stream of several groups, with holes, several subjects and consumers that stand here and there; it was backed up in three runs,
// so that some of what it had is dead in its log.
type orders struct {
	src, dst *source
	r        *repo.Repo
	dir      string
	rnd      *rand.Rand
	st       jetstream.Stream
	image    image
	count    int // published
}

func newOrders(t *testing.T) *orders {
	t.Helper()
	return newOrdersOn(t, natsd.Options{})
}

func newOrdersOn(t *testing.T, o natsd.Options) *orders {
	t.Helper()
	seed := chance.Seed(t)
	x := &orders{src: startServer(t, o), dst: startServer(t, natsd.Options{}), rnd: rand.New(rand.NewPCG(seed, 1))}
	x.r, x.dir = newRepo(t, repo.Options{})
	x.st = x.src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	x.publish(t, 1500)
	x.remove(t, 100)
	x.consume(t)
	x.backUp(t)
	x.remove(t, 200)
	x.publish(t, 700)
	x.backUp(t)
	x.remove(t, 100)
	x.publish(t, 300)
	x.backUp(t)
	x.image = caughtUp(t, lookAt(t, x.src, "ORDERS"))
	return x
}

var tenants = []string{"eu.paris", "eu.rome", "us.austin", "asia"}

func (x *orders) publish(t *testing.T, n int) {
	t.Helper()
	for range n {
		size := 1000
		if x.rnd.IntN(300) == 0 {
			size = 200 << 10 // a blob of its own
		}
		_, err := x.src.js.PublishAsync("orders."+tenants[x.rnd.IntN(len(tenants))], noise(x.rnd, size), jetstream.WithStallWait(time.Minute))
		must(t, err)
	}
	x.src.flush(t)
	x.count += n
}

func (x *orders) remove(t *testing.T, n int) {
	t.Helper()
	for range n {
		_ = x.st.DeleteMsg(t.Context(), 1+x.rnd.Uint64N(uint64(x.count))) // it may be gone already
	}
	eventually(t, func(context.Context) error { return lookAt(t, x.src, "ORDERS").waitsForNothingGone() })
}

// waitsForNothingGone says whether a consumer waits for a message that is not there: a server drops what was deleted from its consumers some time later.
func (im image) waitsForNothingGone() error {
	there := map[string]bool{}
	for _, m := range im.Messages {
		seq, _, _ := strings.Cut(m, " ")
		there[seq] = true
	}
	for name, v := range im.Consumers {
		pending, _ := v.(map[string]any)["state"].(map[string]any)["pending"].(map[string]any)
		for seq := range pending {
			if !there[seq] {
				return fmt.Errorf("consumer %s waits for message %s, which is not there", name, seq)
			}
		}
	}
	return nil
}

// consume makes consumers: one that has acknowledged much, one that waits for some, one that wants one tenant only, one that never began.
func (x *orders) consume(t *testing.T) {
	t.Helper()
	take := func(c jetstream.ConsumerConfig, n int, acks func(i int) bool) {
		c.AckPolicy = jetstream.AckExplicitPolicy
		consumer, err := x.st.CreateConsumer(t.Context(), c)
		must(t, err)
		if n == 0 {
			return
		}
		batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(10*time.Second))
		must(t, err)
		i := 0
		for m := range batch.Messages() {
			if acks(i) {
				must(t, m.DoubleAck(t.Context()))
			}
			i++
		}
	}
	take(jetstream.ConsumerConfig{Durable: "fast"}, 1200, func(int) bool { return true })
	take(jetstream.ConsumerConfig{Durable: "slow", AckWait: time.Hour, MaxAckPending: -1}, 700, func(i int) bool { return i%3 > 0 })
	take(jetstream.ConsumerConfig{Durable: "paris", AckWait: time.Hour, FilterSubject: "orders.eu.paris"}, 80, func(i int) bool { return i > 5 })
	take(jetstream.ConsumerConfig{Durable: "new"}, 0, nil)
}

func (x *orders) backUp(t *testing.T) {
	t.Helper()
	backUp(t, x.src, x.r, backUpOptions)
}

var backUpOptions = backup.Options{Selection: allStreams}

// entry is a message of an image.
type entry struct {
	seq     uint64
	at      int64
	subject string
	text    string
}

func entries(t *testing.T, im image) []entry {
	t.Helper()
	out := make([]entry, len(im.Messages))
	for i, m := range im.Messages {
		fields := strings.SplitN(m, " ", 4)
		var err error
		e := entry{text: m}
		e.seq, err = strconv.ParseUint(fields[0], 10, 64)
		must(t, err)
		e.at, err = strconv.ParseInt(fields[1], 10, 64)
		must(t, err)
		e.subject, err = strconv.Unquote(fields[2])
		must(t, err)
		out[i] = e
	}
	return out
}

// restored restores a cut, verified, and returns what the server then has. The server is empty again afterwards.
func (x *orders) restored(t *testing.T, c restore.Cut) (image, *restore.Result) {
	t.Helper()
	res := restoreInto(t, x.dst, x.r, restore.Options{Selection: allStreams, Cut: c, Verify: true})
	got := lookAt(t, x.dst, "ORDERS")
	emptyServer(t, x.dst)
	return got, res
}

// wantCut restores a cut and wants those messages that chosen says, and consumers that stand where they may.
func (x *orders) wantCut(t *testing.T, what string, c restore.Cut, last uint64, chosen func(entry) bool) {
	t.Helper()
	got, res := x.restored(t, c)
	var want []string
	kept := map[uint64]bool{}
	for _, e := range entries(t, x.image) {
		if chosen(e) {
			want, kept[e.seq] = append(want, e.text), true
		}
	}
	if len(want) != len(got.Messages) {
		t.Fatalf("%s: %d messages, want %d", what, len(got.Messages), len(want))
	}
	for i := range want {
		if want[i] != got.Messages[i] {
			t.Fatalf("%s: message %d is %.80s, want %.80s", what, i, got.Messages[i], want[i])
		}
	}
	if s := res.Streams[0]; s.Messages != uint64(len(want)) || !s.Verified {
		t.Errorf("%s: %d messages are reported, verified %v; there are %d", what, s.Messages, s.Verified, len(want))
	}
	if fmt.Sprint(got.State["last_seq"]) != fmt.Sprint(last) {
		t.Errorf("%s: last_seq is %v, want %d", what, got.State["last_seq"], last)
	}
	wantNothingSkipped(t, what, x.image, got, kept, last)
}

// position is where a consumer stands.
type position struct {
	delivered, floor uint64
	pending          map[uint64]bool
}

func positionOf(t *testing.T, consumer any) position {
	t.Helper()
	state := consumer.(map[string]any)["state"].(map[string]any)
	number := func(pair string) uint64 {
		p, ok := state[pair].(map[string]any)
		if !ok {
			return 0
		}
		n, err := strconv.ParseUint(fmt.Sprint(p["stream_seq"]), 10, 64)
		must(t, err)
		return n
	}
	out := position{delivered: number("delivered"), floor: number("ack_floor"), pending: map[uint64]bool{}}
	pending, _ := state["pending"].(map[string]any)
	for key := range pending {
		n, err := strconv.ParseUint(key, 10, 64)
		must(t, err)
		out.pending[n] = true
	}
	return out
}

// done says whether a consumer that stands there will not see the message any more.
func (p position) done(seq uint64) bool { return seq <= p.delivered && !p.pending[seq] }

// wantNothingSkipped wants every consumer to be there, none beyond the cut, and each to be done with what it was done with before, of those
// messages that are there, and with nothing else. What a consumer waited for that was not there it may go on waiting for.
func wantNothingSkipped(t *testing.T, what string, before, after image, kept map[uint64]bool, last uint64) {
	t.Helper()
	there := map[uint64]bool{}
	for _, e := range entries(t, before) {
		there[e.seq] = true
	}
	for name, c := range before.Consumers {
		was, is := positionOf(t, c), positionOf(t, after.Consumers[name])
		if is.delivered > last || is.floor > is.delivered {
			t.Errorf("%s: consumer %s stands at %d and %d, the stream ends at %d", what, name, is.floor, is.delivered, last)
		}
		for seq := range kept {
			if was.done(seq) != is.done(seq) {
				t.Errorf("%s: consumer %s was done with message %d: %v, now %v", what, name, seq, was.done(seq), is.done(seq))
				break
			}
		}
		for seq := range is.pending {
			if !kept[seq] && (there[seq] || !was.pending[seq]) {
				t.Errorf("%s: consumer %s waits for message %d, which is not there", what, name, seq)
			}
		}
	}
}

// TestCuts restores a stream cut at random sequences, times and subjects.
func TestCuts(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	all := entries(t, x.image)
	end := uint64(x.count)
	pick := func() entry { return all[x.rnd.IntN(len(all))] }
	for range sized(3, 40) {
		until := 1 + x.rnd.Uint64N(end)
		if until < all[0].seq {
			continue
		}
		x.wantCut(t, fmt.Sprintf("until %d", until), restore.Cut{UntilSeq: until}, until, func(e entry) bool { return e.seq <= until })
		x.wantCut(t, fmt.Sprintf("until %d, going on where it was", until), restore.Cut{UntilSeq: until, KeepLastSeq: true}, end, func(e entry) bool { return e.seq <= until })

		from := pick().seq
		x.wantCut(t, fmt.Sprintf("from %d", from), restore.Cut{FromSeq: from}, end, func(e entry) bool { return e.seq >= from })

		at := pick()
		x.wantCut(t, fmt.Sprintf("at the time of %d", at.seq), restore.Cut{At: time.Unix(0, at.at)}, at.seq, func(e entry) bool { return e.seq <= at.seq })
		x.wantCut(t, fmt.Sprintf("since the time of %d", at.seq), restore.Cut{Since: time.Unix(0, at.at)}, end, func(e entry) bool { return e.seq >= at.seq })

		a, b := pick(), pick()
		if a.seq > b.seq {
			a, b = b, a
		}
		x.wantCut(t, fmt.Sprintf("%d to %d, Europe", a.seq, b.seq), restore.Cut{FromSeq: a.seq, UntilSeq: b.seq, Subjects: []string{"orders.eu.*", a.subject}}, b.seq,
			func(e entry) bool {
				return e.seq >= a.seq && e.seq <= b.seq && (strings.HasPrefix(e.subject, "orders.eu.") || e.subject == a.subject)
			})
	}
	x.wantCut(t, "one subject", restore.Cut{Subjects: []string{"orders.asia"}}, end, func(e entry) bool { return e.subject == "orders.asia" })
	wantClean(t, x.r)
}

// TestCutsThatMakeNoSense are refused with what is the matter, before anything is sent.
func TestCutsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	all := entries(t, x.image)
	end := uint64(x.count)
	for _, c := range []struct {
		what, want string
		cut        restore.Cut
	}{
		{"beyond the end", fmt.Sprintf("stream ORDERS: its last sequence is %d, there is nothing until %d", end, end+1), restore.Cut{UntilSeq: end + 1}},
		{"from beyond the end", fmt.Sprintf("stream ORDERS: its last sequence is %d, there is nothing from %d on", end, end+1), restore.Cut{FromSeq: end + 1}},
		{"bounds that exclude each other", "sequences from 7 until 6", restore.Cut{FromSeq: 7, UntilSeq: 6}},
		{"times that exclude each other", "there are none", restore.Cut{Since: time.Unix(1000, 0), At: time.Unix(999, 0)}},
		{"before the first message", "is younger than", restore.Cut{At: time.Unix(0, all[0].at).Add(-time.Hour)}},
		{"since after the last message", "no message within the bounds", restore.Cut{Since: time.Unix(0, all[len(all)-1].at+1)}},
		{"a filter that matches nothing", "orders.mars matches; the stream listens to orders.>", restore.Cut{Subjects: []string{"orders.mars"}}},
		{"a filter that is none", "empty token", restore.Cut{Subjects: []string{"orders..eu"}}},
	} {
		_, err := plan(t, x.dst, x.r, restore.Options{Selection: allStreams, Cut: c.cut})
		var cut *restore.RequestError
		if !errors.As(err, &cut) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	x.src.create(t, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	x.backUp(t)
	if _, err := plan(t, x.dst, x.r, restore.Options{Selection: allStreams, Cut: restore.Cut{UntilSeq: 5}}); err == nil || !strings.Contains(err.Error(), "2 streams are chosen") {
		t.Error(err)
	}
	x.src.publish(t, "other", 3, func(int) []byte { return nil })
	x.backUp(t)
	res := restoreInto(t, x.dst, x.r, restore.Options{Selection: streamlog.Selection{All: true}, Cut: restore.Cut{Subjects: []string{"other"}}})
	if s := res.Streams[0]; s.Name != "ORDERS" || s.Nothing == "" || res.Streams[1].Messages != 3 {
		t.Errorf("%+v", res.Streams)
	}
	if _, err := x.dst.js.Stream(t.Context(), "ORDERS"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Error("a stream of which nothing was chosen was made:", err)
	}
}

// weighed counts the bytes that a storage gives.
type weighed struct {
	storage.Backend
	packs, other atomic.Int64
}

func (w *weighed) Load(ctx context.Context, f storage.File, offset int64, n int) ([]byte, error) {
	p, err := w.Backend.Load(ctx, f, offset, n)
	if f.Kind == storage.Pack {
		w.packs.Add(int64(len(p)))
	} else {
		w.other.Add(int64(len(p)))
	}
	return p, err
}

// TestCutFetchesOnlyWhatItNeeds restores the end of a large stream: the repository gives the blobs that hold it, and little more.
func TestCutFetchesOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	_, dir := newRepo(t, repo.Options{})
	be, err := local.Open(dir)
	must(t, err)
	t.Cleanup(func() { be.Close() })
	scale := &weighed{Backend: be}
	r, err := repo.Open(t.Context(), scale, secret.New(password), repo.Options{PackSize: 4 << 20})
	must(t, err)
	src.create(t, jetstream.StreamConfig{Name: "LARGE", Subjects: []string{"large"}})
	rnd := rand.New(rand.NewPCG(1, 1))
	messages := sized(60_000, 1_000_000)
	src.publish(t, "large", messages, func(int) []byte { return noise(rnd, 1000) })
	backUp(t, src, r, backUpOptions)

	last := messages / 20
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	scale.packs.Store(0)
	p, err := restore.NewPlan(t.Context(), rd, snapshotsOf(t, r)[0], connect(t, dst), restore.Options{Selection: allStreams, Cut: restore.Cut{FromSeq: uint64(messages - last + 1)}})
	must(t, err)
	planned := scale.packs.Load()
	ran(t, p)
	blobs, sent := int64(p.Streams[0].ArchiveSize), scale.packs.Load()-planned
	t.Logf("%d of %d messages: %d bytes in blobs, %d were fetched for them, %d for the plan", last, messages, blobs, sent, planned)
	if n := dst.messages(t, "LARGE"); n != uint64(last) {
		t.Errorf("%d messages, want %d", n, last)
	}
	// The plan counts in the blob that is cut through, which may hold much else.
	if most := int64(last)*1100 + chunker.MaxSize; blobs > most {
		t.Errorf("%d bytes in blobs, want at most %d", blobs, most)
	}
	if few := int64(1 << 20); sent > blobs+few || planned > chunker.MaxSize+few {
		t.Errorf("%d bytes were fetched for %d, and %d for the plan", sent, blobs, planned)
	}
}
