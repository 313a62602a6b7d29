package tests

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/repo"
	"jetsam/restore"

	conn "jetsam/jetstream"
)

// remove deletes a stream, and waits until the cluster has forgotten its name.
func (c *cluster) remove(t testing.TB, stream string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		err := c.js.DeleteStream(ctx, stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		return err
	})
	time.Sleep(time.Second)
}

// unsteady has the leaders of a stream and of its consumers give way after each pause, until it is ended. It then says how often they did.
func (c *cluster) unsteady(stream string, pause time.Duration) (end func() int) {
	stop, stepped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				stepped <- n
				return
			case <-time.After(pause):
			}
			for _, of := range []string{"", "everywhere", "alone1"} {
				if c.stepDown(stream, of) {
					n++
				}
			}
		}
	}()
	return func() int { close(stop); return <-stepped }
}

// TestClusterLeadersChange has leaders change all the time during a capture, an increment, a restore and a replacement. The stream was restored
// itself: the servers of such a one do not agree on when it was created.
func TestClusterLeadersChange(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.make(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Replicas: 3})
	c.fillNoise(t, "s", 600)
	for _, cfg := range clusterConsumers {
		c.consume(t, "S", cfg)
	}
	r, dir := newRepo(t, repo.Options{})
	cmd := command{repo: dir, env: []string{"NATS_URL=" + c.urls()}}
	cmd.run(t, 0, "backup", "S")
	c.remove(t, "S")
	cmd.run(t, 0, "restore", "--verify")
	c.current(t, "S")
	cmd.run(t, 0, "backup", "S")

	captured := func(t *testing.T, k *link, o backup.Options) backup.StreamResult {
		t.Helper()
		want := c.lookAt(t, "S")
		end := c.unsteady("S", 300*time.Millisecond)
		res, err := backup.Run(t.Context(), through(t, k.open(t, c.nodes[0].url)), r, o)
		t.Logf("%d leaders changed", end())
		must(t, err)
		got := res.Streams[0]
		t.Logf("%s, resumed %+v, retried %q, read whole %q", got.Way, got.Resumed, got.Retried, got.Whole)
		if got.Err != nil || got.Torn != "" || got.Recreated != "" && o.Mode != backup.ModeFull || strings.Contains(got.Retried+got.Whole, "again") {
			t.Fatalf("%+v", got)
		}
		snap := stored(t, r, "S")
		if !slices.Equal(snap.Messages, want.Messages) || got.Consumers != len(clusterConsumers) {
			t.Errorf("%d messages and %d consumers in the snapshot, %d and %d in the stream", len(snap.Messages), got.Consumers, len(want.Messages), len(want.Consumers))
		}
		return got
	}
	slowly := func(string, int) { time.Sleep(50 * time.Millisecond) }
	t.Run("capture", func(t *testing.T) {
		o := small
		o.Mode, o.IdleTimeout = backup.ModeFull, 0
		captured(t, &link{chunk: slowly}, o)
	})
	t.Run("increment", func(t *testing.T) {
		c.fillNoise(t, "s", 100)
		got := captured(t, &link{delivery: func(int) { time.Sleep(10 * time.Millisecond) }}, backup.Options{Selection: allStreams, Mode: backup.ModeIncremental})
		if got.New != 100 {
			t.Errorf("%+v", got)
		}
	})
	want := c.lookAt(t, "S")
	slow := func(subject string, body []byte) bool {
		if isChunk(subject) {
			time.Sleep(20 * time.Millisecond)
		}
		return true
	}
	// restored restores, and says whether that succeeded. Where nobody leads a stream for too long it is not, and then things must be as is said.
	copied := regexp.MustCompile(`what was to be restored is there as stream (jetsam-\w+-S)`)
	restored := func(t *testing.T, args ...string) {
		t.Helper()
		via := (&link{pass: slow}).open(t, c.nodes[0].url)
		end := c.unsteady("S", time.Second)
		out, err := command{repo: dir, env: []string{"NATS_URL=" + via.url()}}.prepare(t, append([]string{"restore", "latest", "S"}, args...)...).CombinedOutput()
		t.Logf("%d leaders changed\n%s", end(), out)
		switch there := copied.FindSubmatch(out); {
		case err == nil:
			c.current(t, "S")
			sameImage(t, want, c.lookAt(t, "S"))
			if all := c.names(t); !slices.Equal(all, []string{"S"}) {
				t.Errorf("there are %q", all)
			}
		case there != nil:
			c.current(t, string(there[1]))
			if got := c.lookAt(t, string(there[1])); !slices.Equal(got.Messages, want.Messages) {
				t.Errorf("%s has %d messages, want %d", there[1], len(got.Messages), len(want.Messages))
			}
		case strings.Contains(string(out), "the stream of that name is on the server as it was"):
			c.current(t, "S")
			if got := c.lookAt(t, "S"); len(got.Messages) != 650 {
				t.Errorf("S has %d messages, and had 650", len(got.Messages))
			}
		default:
			t.Error(err)
		}
	}
	t.Run("restore", func(t *testing.T) {
		c.remove(t, "S")
		restored(t)
	})
	t.Run("replacement", func(t *testing.T) {
		st, err := c.js.Stream(t.Context(), "S")
		must(t, err)
		must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("s.3")))
		c.fillNoise(t, "s", 20)
		restored(t, "--replace")
	})
}

// lookAt takes a stream's image, when all of its consumers can be asked.
func (c *cluster) lookAt(t testing.TB, stream string) image {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		st, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		n := 0
		l := st.ListConsumers(ctx)
		for range l.Info() {
			n++
		}
		if l.Err() == nil && n != st.CachedInfo().State.Consumers {
			return fmt.Errorf("%d of %d consumers answer", n, st.CachedInfo().State.Consumers)
		}
		return l.Err()
	})
	var dir string
	eventually(t, func(context.Context) error {
		dir = t.TempDir()
		return tryDump(c.source, stream, dir)
	})
	return readDump(t, dir)
}

// names are those of all streams.
func (c *cluster) names(t testing.TB) (names []string) {
	t.Helper()
	for name := range c.js.StreamNames(t.Context()).Name() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestClusterServerAway kills the server that leads a stream in the middle of its capture, which goes on. While that server is away, what only it has
// is named, and the rest is backed up; nothing is restored in the place of what it has. When it is back, all is as it was.
func TestClusterServerAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.make(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Replicas: 3})
	c.fillNoise(t, "s", 600)
	_, err := c.js.CreateConsumer(t.Context(), "S", jetstream.ConsumerConfig{Durable: "everywhere", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	lead := c.leader(t, "S", "")
	c.make(t, jetstream.StreamConfig{Name: "ONE", Subjects: []string{"one"}, Replicas: 1, Placement: &jetstream.Placement{Tags: []string{c.options[lead].Name}}})
	c.publish(t, "one", 10, text)
	want := c.lookAt(t, "S")
	r, dir := newRepo(t, repo.Options{})
	via := c.options[(lead+1)%3].Name
	k := &link{}
	var once sync.Once
	k.chunk = func(stream string, index int) {
		if stream == "S" && index == 30 {
			once.Do(c.nodes[lead].kill)
		}
	}
	o := small
	o.IdleTimeout, o.Patience, o.Concurrency = 3*time.Second, 2*time.Second, 2
	res, err := backup.Run(t.Context(), through(t, k.open(t, c.nodes[(lead+1)%3].url)), r, o)
	must(t, err)
	for _, s := range res.Streams {
		t.Logf("over %s: %s: %d messages, resumed %+v, retried %q, error %v", via, s.Name, s.Messages, s.Resumed, s.Retried, s.Err)
	}
	if s := res.Streams[1]; s.Err != nil || s.Torn != "" || len(s.Resumed) != 1 || !slices.Equal(stored(t, r, "S").Messages, want.Messages) {
		t.Errorf("%+v", s)
	}

	c.wantNamed(t, r, "ONE")
	began := time.Now()
	res, err = backup.Run(t.Context(), connectTo(t, c.urls()), r, backup.Options{Selection: allStreams, Patience: time.Second})
	must(t, err)
	t.Logf("without it: %v, after %v", res.Failed()[0].Err, time.Since(began))
	if failed := res.Failed(); len(failed) != 1 || failed[0].Name != "ONE" || !errors.Is(failed[0].Err, conn.ErrUnreachable) {
		t.Fatalf("%+v", failed)
	}

	c.nodes[lead] = startProcess(t, c.options[lead], nil)
	c.settled(t)
	c.current(t, "ONE")
	(command{repo: dir, env: []string{"NATS_URL=" + c.urls()}}).run(t, 0, "backup", "--all")
	sameImage(t, want, c.lookAt(t, "S"))
	if n := len(stored(t, r, "ONE").Messages); n != 10 {
		t.Errorf("%d messages of ONE", n)
	}
}

// wantNamed plans to restore a stream that the cluster has and that no server leads just now, which is a conflict, and another one under a free name,
// which is none. Where what exists is skipped, that stream is left alone.
func (c *cluster) wantNamed(t *testing.T, r *repo.Repo, away string) {
	t.Helper()
	p, err := planInto(t, connectTo(t, c.urls()), r, restore.Options{Selection: allStreams, Target: restore.Target{Rename: map[string]string{"S": "FREE"}}})
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) || len(conflict.Conflicts) != 1 || conflict.Conflicts[0].Stream != away || !strings.Contains(err.Error(), "no server says more of it") {
		t.Fatalf("a name that is taken: %v", err)
	}
	if w := strings.Join(p.Streams[1].Warnings, "; "); !strings.Contains(w, "no server leads") || !strings.Contains(w, away) {
		t.Errorf("it warns of %q", w)
	}
	p, err = planInto(t, connectTo(t, c.urls()), r, restore.Options{Selection: allStreams, Existing: restore.SkipExisting})
	must(t, err)
	for _, s := range p.Streams {
		if s.Action != restore.Skip || (s.LeftAlone != "") != (s.Name == away) {
			t.Errorf("%s: action %v, left alone %q", s.Name, s.Action, s.LeftAlone)
		}
	}
}

// TestClusterRestartedInTurn restarts one server after the other while all streams are backed up again and again: each snapshot holds all streams, or the
// run says which it lacks, and what it holds is the stream.
func TestClusterRestartedInTurn(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var names []string
	for _, cfg := range []jetstream.StreamConfig{{Name: "A", Replicas: 3}, {Name: "B", Replicas: 3}, {Name: "C", Replicas: 1}} {
		cfg.Subjects = []string{cfg.Name + ".*"}
		c.make(t, cfg)
		c.fillNoise(t, cfg.Name, sized(400, 4000))
		_, err := c.js.CreateConsumer(t.Context(), cfg.Name, jetstream.ConsumerConfig{Durable: "everywhere", AckPolicy: jetstream.AckExplicitPolicy})
		must(t, err)
		names = append(names, cfg.Name)
	}
	want := map[string]image{}
	for _, name := range names {
		want[name] = c.lookAt(t, name)
	}
	r, dir := newRepo(t, repo.Options{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range c.nodes {
			c.nodes[i].stop()
			c.nodes[i] = startProcess(t, c.options[i], nil)
			c.settled(t)
		}
	}()
	o := small
	o.Mode, o.IdleTimeout = backup.ModeFull, 3*time.Second
	address, whole, runs := c.urls(), 0, 0
	for ended := false; !ended; runs++ {
		select {
		case <-done:
			ended = true
		default:
		}
		res, err := backup.Run(t.Context(), connectTo(t, address), r, o)
		if err != nil {
			t.Logf("no snapshot: %v", err)
			continue
		}
		for _, s := range res.Streams {
			if s.Err != nil || s.Torn != "" {
				t.Logf("%s is not in it, or torn %q: %v", s.Name, s.Torn, s.Err)
				continue
			}
			whole++
			if snap := stored(t, r, s.Name); !slices.Equal(snap.Messages, want[s.Name].Messages) || len(snap.Consumers) != 1 {
				t.Fatalf("%+v: the snapshot has %d messages and %d consumers, the stream %d", s, len(snap.Messages), len(snap.Consumers), len(want[s.Name].Messages))
			}
		}
	}
	t.Logf("%d runs, in which %d of %d streams were captured", runs, whole, runs*len(names))
	if whole < len(names) {
		t.Errorf("only %d captures", whole)
	}
	restic(t, dir, "check")
}
