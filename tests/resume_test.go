package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/storage"

	conn "jetsam/jetstream"
)

// breakOff is what happens to a stream while a capture has broken off, and whether that goes on all the same.
type breakOff struct {
	act     func(t testing.TB, src *source, st jetstream.Stream)
	resumes bool
	why     string // it does not, a part of it
}

// deleteEach deletes one in so many of a stream's messages, beginning with the first.
func deleteEach(t testing.TB, st jetstream.Stream, n uint64) {
	t.Helper()
	info, err := st.Info(context.Background())
	must(t, err)
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq += n {
		must(t, st.DeleteMsg(context.Background(), seq))
	}
}

var breakOffs = map[string]breakOff{
	"nothing else":      {func(testing.TB, *source, jetstream.Stream) {}, true, ""},
	"messages come":     {func(t testing.TB, src *source, _ jetstream.Stream) { src.publish(t, "s.0", 100, text) }, true, ""},
	"messages die":      {func(t testing.TB, _ *source, st jetstream.Stream) { deleteEach(t, st, 3) }, true, ""},
	"most messages die": {func(t testing.TB, _ *source, st jetstream.Stream) { purgeSubjects(t, st, 8) }, true, ""},
	"the first die and others come": {func(t testing.TB, src *source, st jetstream.Stream) {
		must(t, st.Purge(context.Background(), jetstream.WithPurgeSequence(100)))
		src.publish(t, "s.0", 100, text)
	}, true, ""},
	"a consumer gets on": {func(t testing.TB, _ *source, st jetstream.Stream) {
		c, err := st.Consumer(context.Background(), "worker")
		must(t, err)
		batch, err := c.Fetch(20)
		must(t, err)
		for m := range batch.Messages() {
			must(t, m.DoubleAck(context.Background()))
		}
	}, true, ""},
	"purged": {func(t testing.TB, src *source, st jetstream.Stream) {
		must(t, st.Purge(context.Background()))
		src.publish(t, "s.0", 100, text)
	}, false, "none of the last messages that came is there any more"},
	"created anew": {func(t testing.TB, src *source, _ jetstream.Stream) { createAnew(t, src, 0) }, false, "deleted and created again"},
	"created anew, longer than before": {func(t testing.TB, src *source, _ jetstream.Stream) {
		createAnew(t, src, 4000)
	}, false, "deleted and created again"},
}

func purgeSubjects(t testing.TB, st jetstream.Stream, n int) {
	t.Helper()
	for i := range n {
		must(t, st.Purge(context.Background(), jetstream.WithPurgeSubject(fmt.Sprint("s.", i))))
	}
}

func createAnew(t testing.TB, src *source, n int) {
	t.Helper()
	must(t, src.js.DeleteStream(context.Background(), "S"))
	time.Sleep(300 * time.Millisecond) // a server can bring messages of a stream back that was deleted a moment ago
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	src.publish(t, "s.0", 100+n, text)
}

// fillWithWorker fills stream S, which has a consumer that works.
func fillWithWorker(t testing.TB, src *source, cfg jetstream.StreamConfig, n int) jetstream.Stream {
	t.Helper()
	cfg.Name, cfg.Subjects = "S", []string{"s.*"}
	st := src.create(t, cfg)
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	must(t, err)
	src.fillNoise(t, "s", n)
	return st
}

// forgotten waits until the server has forgotten consumers whose connection was cut.
func forgotten(t testing.TB, src *source) {
	t.Helper()
	st, err := src.js.Stream(t.Context(), "S")
	must(t, err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		left := 0
		for name := range st.ConsumerNames(t.Context()).Name() {
			if conn.IsFetchConsumer(name) {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d consumers of the backup are left", left)
		}
	}
}

// wantNow wants the newest snapshot to hold the one stream as the server has it.
func wantNow(t *testing.T, src *source, r *repo.Repo) {
	t.Helper()
	forgotten(t, src)
	want := caughtUp(t, lookAt(t, src, "S"))
	dst := startServer(t, natsd.Options{})
	defer dst.Shutdown()
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	sameImage(t, want, lookAt(t, dst, "S"))
	wantClean(t, r)
}

// TestCutInMidCapture cuts the connection in the middle of a stream that is read whole. The capture goes on above the last message that came, and is
// of the stream as it stands then. Where it is not the same stream any more, that is read anew.
func TestCutInMidCapture(t *testing.T) {
	n := sized(3000, 30_000)
	for _, name := range sortedKeys(breakOffs) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := startServer(t, natsd.Options{})
			st := fillWithWorker(t, src, jetstream.StreamConfig{}, n)
			middle := n * 4100 / small.ChunkSize / 2
			k := &link{}
			k.chunk = atChunk(middle, func(attempt int) {
				if attempt == 1 {
					breakOffs[name].act(t, src, st)
					k.cut()
				}
			})
			r, _ := newRepo(t, repo.Options{})
			res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, small)
			must(t, err)
			got := res.Streams[0]
			t.Logf("%d messages, resumed %+v, retried %q", got.Messages, got.Resumed, got.Retried)
			if got.Err != nil || got.Torn != "" || got.Way != backup.WaySnapshot {
				t.Fatalf("%+v", got)
			}
			wantNow(t, src, r)
			if !breakOffs[name].resumes {
				if len(got.Resumed) > 0 || !strings.Contains(got.Retried, breakOffs[name].why) {
					t.Errorf("resumed %+v, retried %q", got.Resumed, got.Retried)
				}
				return
			}
			if len(got.Resumed) != 1 || got.Retried != "" {
				t.Fatalf("resumed %+v, retried %q", got.Resumed, got.Retried)
			}
			if x := got.Resumed[0]; x.Why != "connection to NATS lost" || x.After < uint64(n/3) || x.After > uint64(n*2/3) {
				t.Errorf("resumed %+v of %d", x, n)
			}
			if name != "nothing else" {
				return
			}
			if whole := int64(n) * 4200; k.bytes.Load() > whole*12/10 {
				t.Errorf("%d bytes came for a stream of %d", k.bytes.Load(), whole)
			}
			ids := blobsOf(t, r, "S")
			full := backup.Options{Selection: allStreams, Mode: backup.ModeFull}
			if res := backUp(t, src, r, full); res.Stats.Data.NewPlain > 64<<10 {
				t.Errorf("a capture without a break adds %d bytes", res.Stats.Data.NewPlain)
			}
			if again := blobsOf(t, r, "S"); !slices.Equal(ids, again) {
				t.Errorf("%d blobs, %d of a capture without a break, and not the same", len(ids), len(again))
			}
		})
	}
}

// blobsOf are the blobs of a stream's messages in the newest snapshot.
func blobsOf(t testing.TB, r *repo.Repo, stream string) (ids []blob.ID) {
	t.Helper()
	_, streams := newestStreams(t, r)
	for _, s := range streams {
		if s.Name == stream {
			for part, err := range s.Parts(t.Context()) {
				must(t, err)
				ids = append(ids, part.Blobs...)
			}
		}
	}
	return ids
}

// TestCutInMidIncrement cuts the connection in the middle of an increment, which a consumer delivers or whose messages are asked for.
func TestCutInMidIncrement(t *testing.T) {
	acts := map[string]func(t testing.TB, src *source, st jetstream.Stream){
		"nothing else":  breakOffs["nothing else"].act,
		"messages come": breakOffs["messages come"].act,
		"messages die":  breakOffs["messages die"].act,
		"old messages die": func(t testing.TB, _ *source, st jetstream.Stream) {
			for seq := uint64(2); seq < 500; seq += 5 {
				must(t, st.DeleteMsg(context.Background(), seq))
			}
		},
	}
	var wentOn atomic.Int32
	t.Cleanup(func() {
		if wentOn.Load() == 0 {
			t.Error("no increment that a consumer delivers went on where it was cut")
		}
	})
	for _, retention := range []jetstream.RetentionPolicy{jetstream.LimitsPolicy, jetstream.WorkQueuePolicy} {
		for _, name := range sortedKeys(acts) {
			t.Run(fmt.Sprintf("%v, %s", retention, name), func(t *testing.T) {
				t.Parallel()
				src := startServer(t, natsd.Options{})
				st := fillWithWorker(t, src, jetstream.StreamConfig{Retention: retention}, 1000)
				r, _ := newRepo(t, repo.Options{})
				first := backUp(t, src, r, backup.Options{Selection: allStreams})
				must(t, st.DeleteMsg(t.Context(), 6))
				src.fillNoise(t, "s", 800)
				k, asked := &link{}, 0
				act := func() {
					acts[name](t, src, st)
					k.cut()
				}
				k.delivery = func(n int) {
					if n == 400 {
						act()
					}
				}
				k.pass = func(subject string, _ []byte) bool {
					if strings.HasPrefix(subject, "$JS.API.STREAM.MSG.GET.") && retention == jetstream.WorkQueuePolicy {
						if asked++; asked == 400 {
							act()
						}
					}
					return true
				}
				o := backup.Options{Selection: allStreams}
				res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, o)
				must(t, err)
				got := res.Streams[0]
				t.Logf("%d messages, %d new, resumed %+v, retried %q", got.Messages, got.New, got.Resumed, got.Retried)
				way := map[bool]string{true: backup.WayConsumer, false: backup.WayGet}[retention == jetstream.LimitsPolicy]
				if got.Err != nil || got.Torn != "" || got.Way != way || got.Parent != first.ID {
					t.Fatalf("%+v", got)
				}
				// The messages may be there, and the connection lost, before anybody has read that the consumer was made, or one of them.
				early := regexp.MustCompile("^fetch from stream S: (create a consumer: )?connection to NATS lost")
				if retention == jetstream.WorkQueuePolicy || !early.MatchString(got.Retried) {
					if retention == jetstream.LimitsPolicy {
						wentOn.Add(1)
					}
					if len(got.Resumed) != 1 || got.Retried != "" {
						t.Fatalf("%+v", got)
					}
					if x := got.Resumed[0]; x.After < 1001 || x.After > 1500 {
						t.Errorf("resumed %+v", x)
					}
				}
				wantNow(t, src, r)
				src.publish(t, "s.0", 10, text)
				if next := backUp(t, src, r, o).Streams[0]; next.Parent == (storage.ID{}) || next.New != 10 {
					t.Errorf("the next one is no increment: %+v", next)
				}
				wantNow(t, src, r)
			})
		}
	}
}

// TestCutAgainAndAgain cuts the connection after so many bytes, wherever that is: the capture is whole all the same, and an end is made where nothing
// comes any more.
func TestCutAgainAndAgain(t *testing.T) {
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	src := startServer(t, natsd.Options{})
	st := fillWithWorker(t, src, jetstream.StreamConfig{}, 2000)
	deleteEach(t, st, 7)
	for range sized(2, 20) {
		every := int64(3<<19 + rnd.IntN(1<<20))
		k := &link{reset: every}
		r, _ := newRepo(t, repo.Options{})
		res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, small)
		if err != nil {
			t.Fatalf("seed %d, cut every %d bytes: %v", seed, every, err)
		}
		got := res.Streams[0]
		t.Logf("cut every %d bytes: resumed %d times, %d bytes came, retried %q", every, len(got.Resumed), k.bytes.Load(), got.Retried)
		if got.Err != nil || got.Torn != "" || got.Retried != "" || len(got.Resumed) < 2 {
			t.Fatalf("seed %d, cut every %d bytes: %+v", seed, every, got)
		}
		wantNow(t, src, r)
	}
	t.Run("without end", func(t *testing.T) {
		k := &link{}
		k.chunk = atChunk(60, func(int) { k.cut() })
		k.delivery = func(int) { k.cut() }
		r, _ := newRepo(t, repo.Options{})
		_, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, small)
		t.Logf("%d deliveries were cut: %v", k.delivered.Load(), err)
		if err == nil || !strings.Contains(err.Error(), "connection to NATS lost") || k.delivered.Load() == 0 || k.delivered.Load() > 1000 {
			t.Errorf("%d deliveries were cut: %v", k.delivered.Load(), err)
		}
		noSnapshot(t, r)
	})
}

// TestResumedBackupIsTold: the command says where it went on, and ends well.
func TestResumedBackupIsTold(t *testing.T) {
	src := startServer(t, natsd.Options{})
	fillWithWorker(t, src, jetstream.StreamConfig{}, 4000)
	for _, format := range []string{"text", "json"} {
		k := &link{}
		k.chunk = atChunk(14, func(attempt int) { // of a MiB; the eight before it may be under way
			if attempt == 1 {
				k.cut()
			}
		})
		c := command{repo: t.TempDir(), env: []string{"NATS_URL=" + k.open(t, src.URL()).url()}}
		c.run(t, 0, "init")
		if format == "text" {
			out := c.run(t, 0, "backup", "--all")
			if !strings.Contains(out, "warning: stream S: connection to NATS lost at message ") || !strings.Contains(out, "the backup went on from there") {
				t.Errorf("it says\n%s", out)
			}
			continue
		}
		var report struct {
			Type    string `json:"message_type"`
			Resumed []struct {
				After uint64 `json:"after_seq"`
				Why   string `json:"why"`
			} `json:"resumed"`
		}
		line, _, _ := strings.Cut(c.stdout(t, "backup", "--all", "--json"), "\n")
		must(t, json.Unmarshal([]byte(line), &report))
		if len(report.Resumed) != 1 || report.Resumed[0].After == 0 || report.Resumed[0].Why != "connection to NATS lost" {
			t.Errorf("%+v from %s", report, line)
		}
	}
}
