package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
)

// survey looks how the streams of a snapshot stand on a server, and tells by name; consumers are called STREAM/NAME.
func survey(t *testing.T, s *source, r *repo.Repo, id string) (map[string]restore.Health, *restore.Survey) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := r.Snapshot(t.Context(), id, snapshot.Filter{})
	must(t, err)
	v, err := restore.NewSurvey(t.Context(), rd, sn, connect(t, s), allStreams)
	must(t, err)
	got := map[string]restore.Health{}
	for _, c := range v.Streams {
		t.Logf("%s: %s: %s %v", c.Name, c.Health, c.Why, c.Changes)
		got[c.Name] = c.Health
		for _, x := range c.Consumers {
			t.Logf("%s/%s: %s: %s", c.Name, x.Name, x.Health, x.Why)
			got[c.Name+"/"+x.Name] = x.Health
		}
	}
	return got, v
}

// sameHealth fails the test where what was found is not what is wanted.
func sameHealth(t *testing.T, got, want map[string]restore.Health) {
	t.Helper()
	for name, h := range want {
		if got[name] != h {
			t.Errorf("%s is %q, want %q", name, got[name], h)
		}
	}
	for name, h := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is told of, as %s", name, h)
		}
	}
}

// asTold is all that a server says of its streams and consumers, but for the time when it says so.
func asTold(t *testing.T, s *source) string {
	t.Helper()
	var b strings.Builder
	streams := s.js.ListStreams(t.Context())
	for info := range streams.Info() {
		info.TimeStamp = time.Time{}
		text, err := json.Marshal(info)
		must(t, err)
		fmt.Fprintf(&b, "%s\n", text)
		st, err := s.js.Stream(t.Context(), info.Config.Name)
		must(t, err)
		for c := range st.ListConsumers(t.Context()).Info() {
			c.TimeStamp = time.Time{}
			text, err := json.Marshal(c)
			must(t, err)
			fmt.Fprintf(&b, "  %s\n", text)
		}
	}
	must(t, streams.Err())
	return b.String()
}

// consumer makes a durable consumer and lets it acknowledge n messages.
func (s *source) consumer(t *testing.T, stream, name string, n int) {
	t.Helper()
	c, err := s.js.CreateOrUpdateConsumer(t.Context(), stream, jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	batch, err := c.Fetch(n, jetstream.FetchMaxWait(30*time.Second))
	must(t, err)
	for m := range batch.Messages() {
		must(t, m.DoubleAck(t.Context()))
	}
	must(t, batch.Error())
}

// TestSurvey tells of each stream and consumer of a snapshot what became of it on a server whose disk went back to an earlier day, and on which
// people have been at work since. It changes nothing. What it says to run next restores what is lost, and nothing else.
func TestSurvey(t *testing.T) {
	t.Parallel()
	dir, earlier := t.TempDir(), filepath.Join(t.TempDir(), "earlier")
	s := startServer(t, natsd.Options{StoreDir: dir})
	names := []string{"ANEW", "BACK", "BLANK", "CONFIG", "FORK", "GONE", "KEPT", "LOSTC", "OTHER", "RESTORED", "SHRUNK"}
	for _, name := range names {
		s.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		if name != "BLANK" {
			s.publish(t, name, 20, text)
		}
	}
	for _, stream := range []string{"KEPT", "LOSTC", "BACK"} {
		s.consumer(t, stream, "worker", 3)
	}
	s.Shutdown()
	must(t, os.CopyFS(earlier, os.DirFS(dir)))

	s = startServer(t, natsd.Options{StoreDir: dir})
	s.publish(t, "BACK", 5, text)
	s.publish(t, "FORK", 5, text)
	s.consumer(t, "KEPT", "worker", 2)
	r, repository := newRepo(t, repo.Options{})
	backUp(t, s, r, backup.Options{Selection: allStreams})
	s.Shutdown()

	s = startServer(t, natsd.Options{StoreDir: earlier})
	s.publish(t, "FORK", 9, func(i int) []byte { return []byte("another") })
	st, err := s.js.Stream(t.Context(), "LOSTC")
	must(t, err)
	must(t, st.DeleteConsumer(t.Context(), "worker"))
	_, err = s.js.UpdateStream(t.Context(), jetstream.StreamConfig{Name: "CONFIG", Subjects: []string{"CONFIG"}, MaxMsgs: 77})
	must(t, err)
	st, err = s.js.Stream(t.Context(), "SHRUNK")
	must(t, err)
	must(t, st.Purge(t.Context(), jetstream.WithPurgeKeep(2)))
	for _, name := range []string{"ANEW", "GONE", "OTHER", "RESTORED"} {
		must(t, s.js.DeleteStream(t.Context(), name))
	}
	time.Sleep(time.Second) // or a server may give some of the deleted messages to a stream that is made anew
	c := command{repo: repository, env: []string{"NATS_URL=" + s.URL()}}
	c.run(t, 0, "restore", "latest", "RESTORED")
	for name, n := range map[string]int{"ANEW": 7, "OTHER": 30} {
		s.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		s.publish(t, name, n, func(i int) []byte { return []byte("another") })
	}

	before := asTold(t, s)
	got, v := survey(t, s, r, "latest")
	sameHealth(t, got, map[string]restore.Health{
		"ANEW": restore.Diverged, "BACK": restore.Behind, "BLANK": restore.Healthy, "CONFIG": restore.Healthy, "FORK": restore.Diverged,
		"GONE": restore.Lost, "KEPT": restore.Healthy, "KEPT/worker": restore.Behind, "LOSTC": restore.Healthy, "LOSTC/worker": restore.Lost,
		"OTHER": restore.Diverged, "RESTORED": restore.Healthy, "SHRUNK": restore.Healthy,
	})
	for _, c := range v.Streams {
		if changed := len(c.Changes) > 0; changed != (c.Name == "CONFIG") {
			t.Errorf("the configuration of %s: %q", c.Name, c.Changes)
		}
		if c.Name == "CONFIG" && !strings.Contains(c.Changes[0], "max_msgs: 77, was -1") {
			t.Errorf("changes %q", c.Changes)
		}
	}
	out := c.run(t, 1, "doctor", "--against", "latest")
	t.Log(out)
	id := latest(t, r).ID().Short()
	for _, want := range []string{
		"\n  jetsam restore " + id + " --missing\n", "\n  jetsam restore " + id + " --replace --dry-run ANEW BACK FORK OTHER\n",
		"\n  jetsam restore " + id + " --consumers-only --skip-existing LOSTC\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say to run %q", want)
		}
	}
	if now := asTold(t, s); now != before {
		t.Errorf("before:\n%s\nafterwards:\n%s", before, now)
	}

	c.run(t, 0, "restore", id, "--missing")
	now := asTold(t, s)
	for line := range strings.Lines(before) {
		if !strings.Contains(now, line) {
			t.Errorf("changed: %s", line)
		}
	}
	c.run(t, 0, "restore", id, "--consumers-only", "--skip-existing", "LOSTC")
	c.run(t, 0, "restore", id, "--replace", "ANEW", "BACK", "FORK", "OTHER")
	got, _ = survey(t, s, r, id)
	for name, h := range got {
		if h != restore.Healthy && name != "KEPT/worker" {
			t.Errorf("%s is %s", name, h)
		}
	}
}

// tagged starts servers that are one, each with the tags given, and returns them when they have a leader.
func tagged(t *testing.T, tags ...string) []*source {
	t.Helper()
	var configs []string
	for _, tag := range tags {
		configs = append(configs, fmt.Sprintf("server_tags: [%s]", tag))
	}
	return together(t, configs...)
}

// together starts servers that are one, each with more of a configuration.
func together(t *testing.T, configs ...string) []*source {
	t.Helper()
	ports := testserver.FreePorts(t, len(configs))
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	var servers []*source
	for i, port := range ports {
		servers = append(servers, startServer(t, natsd.Options{
			Name:   fmt.Sprintf("n%d", i),
			Config: fmt.Sprintf("%s\ncluster { name: C, listen: \"127.0.0.1:%d\", routes: [%s] }", configs[i], port, strings.Join(routes, ", ")),
		}))
	}
	return servers
}

// createOn makes a stream when the cluster is ready for it.
func createOn(t *testing.T, s *source, name string, replicas int, tag string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: name, Subjects: []string{name}, Replicas: replicas, Placement: &jetstream.Placement{Tags: []string{tag}},
		})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// surveyUntil looks until a stream stands like this: servers need a while to agree on who is there. It waits no longer than it must.
func surveyUntil(t *testing.T, s *source, r *repo.Repo, stream string, want restore.Health) map[string]restore.Health {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		got, _ := survey(t, s, r, "latest")
		if got[stream] == want || time.Now().After(deadline) {
			return got
		}
	}
}

// TestSurveyOfACluster takes one server after another away from a cluster of five. Streams on them are not lost, and what has a quorum is to be
// left alone. Only the stream that was deleted is restored as missing; of what nobody can tell, that is said, and it is left alone too.
func TestSurveyOfACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("elections take seconds")
	}
	t.Parallel()
	servers := tagged(t, "a, one", "a", "a, b, c", "b, c", "b, c")
	s := servers[4]
	for _, x := range []struct {
		name     string
		replicas int
		tag      string
	}{{"FEW", 3, "a"}, {"ONE", 1, "one"}, {"SOME", 3, "b"}, {"GONE", 3, "c"}} {
		createOn(t, s, x.name, x.replicas, x.tag)
		_, err := s.js.Publish(t.Context(), x.name, text(0), jetstream.WithRetryAttempts(100)) // until all servers know of the stream
		must(t, err)
		s.publish(t, x.name, 19, text)
	}
	s.consumer(t, "SOME", "worker", 3)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, s, r, backup.Options{Selection: allStreams})
	got, _ := survey(t, s, r, "latest")
	sameHealth(t, got, map[string]restore.Health{
		"FEW": restore.Healthy, "ONE": restore.Healthy, "SOME": restore.Healthy, "SOME/worker": restore.Healthy, "GONE": restore.Healthy,
	})
	c := command{repo: dir, env: []string{"NATS_URL=" + s.URL()}}
	if out := c.run(t, 0, "doctor", "--against", "latest"); !strings.Contains(out, "nothing is to be done") {
		t.Errorf("it says\n%s", out)
	}

	servers[0].Shutdown()
	sameHealth(t, surveyUntil(t, s, r, "FEW", restore.CatchingUp), map[string]restore.Health{
		"FEW": restore.CatchingUp, "ONE": restore.NoQuorum, "SOME": restore.Healthy, "SOME/worker": restore.Healthy, "GONE": restore.Healthy,
	})
	if out := c.run(t, 1, "doctor", "--against", "latest"); !strings.Contains(out, "ONE: not lost") || strings.Contains(out, "jetsam restore") {
		t.Errorf("it says\n%s", out)
	}

	must(t, s.js.DeleteStream(t.Context(), "GONE"))
	servers[1].Shutdown()
	sameHealth(t, surveyUntil(t, s, r, "FEW", restore.NoQuorum), map[string]restore.Health{
		"FEW": restore.NoQuorum, "ONE": restore.NoQuorum, "SOME": restore.Healthy, "SOME/worker": restore.Healthy, "GONE": restore.Lost,
	})
	if out := c.run(t, 1, "doctor"); !strings.Contains(out, "problem  streams: without a leader: FEW") || !strings.Contains(out, "problem  streams: no information about streams ONE") {
		t.Errorf("it says\n%s", out)
	}
	out := c.run(t, 1, "doctor", "--against", "latest")
	t.Log(out)
	if !strings.Contains(out, "FEW, ONE: not lost, and nothing to restore") || !strings.Contains(out, "\n  jetsam restore "+latest(t, r).ID().Short()+" --missing\n") {
		t.Errorf("it says\n%s", out)
	}
	out = c.run(t, 3, "restore", "--missing")
	t.Log(out)
	for _, want := range []string{"stream FEW exists on the server and is left as it is", "stream ONE exists on the server and is left as it is", "2 of 4 streams exist"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if n := s.messages(t, "GONE"); n != 20 {
		t.Errorf("GONE has %d messages", n)
	}

	servers[2].Shutdown() // and nobody leads any more
	sameHealth(t, surveyUntil(t, s, r, "GONE", restore.NoQuorum), map[string]restore.Health{
		"FEW": restore.NoQuorum, "ONE": restore.NoQuorum, "SOME": restore.NoQuorum, "GONE": restore.NoQuorum,
	})
	if out := c.run(t, 1, "doctor", "--against", "latest"); strings.Contains(out, "jetsam restore") {
		t.Errorf("it says\n%s", out)
	}
}

// TestMissing restores what does not exist, and touches neither what a killed restore left, nor a stream that has come less far.
func TestMissing(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Options{})
	for _, name := range []string{"GONE", "LEFT", "SHORT"} {
		s.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		s.publish(t, name, 20, text)
	}
	r, dir := newRepo(t, repo.Options{})
	backUp(t, s, r, backup.Options{Selection: allStreams})
	id := latest(t, r).ID().Short()
	for _, name := range []string{"GONE", "LEFT", "SHORT"} {
		must(t, s.js.DeleteStream(t.Context(), name))
	}
	time.Sleep(time.Second) // or a server may give some of the deleted messages to a stream that is made anew
	s.create(t, jetstream.StreamConfig{Name: "SHORT", Subjects: []string{"SHORT"}})
	s.publish(t, "SHORT", 3, text)
	s.create(t, jetstream.StreamConfig{Name: "LEFT", Subjects: []string{"LEFT"}, Metadata: map[string]string{markerName: markerOf(id, time.Now())}})
	before := asTold(t, s)

	c := command{repo: dir, env: []string{"NATS_URL=" + s.URL()}}
	if out := c.run(t, 1, "doctor", "--against", id, "LEFT"); !strings.Contains(out, "\n  jetsam restore "+id+" LEFT\n") {
		t.Errorf("it says\n%s", out)
	}
	if out := c.run(t, 1, "doctor", "--against", id, "GONE", "--json"); !strings.Contains(out, `"next":[{"command":"jetsam restore `+id+` --missing GONE"`) {
		t.Errorf("it says\n%s", out)
	}
	c.run(t, 3, "restore", "--missing", "--dry-run")
	if now := asTold(t, s); now != before {
		t.Errorf("before:\n%s\nafter a dry run:\n%s", before, now)
	}
	out := c.run(t, 3, "restore", "--missing", "--verify")
	if !strings.Contains(out, "stream LEFT exists on the server and is left as it is: an unfinished restore left it") || !strings.Contains(out, "1 of 3 streams exist, are not known to be whole") {
		t.Errorf("it says\n%s", out)
	}
	now := asTold(t, s)
	for line := range strings.Lines(before) {
		if !strings.Contains(now, line) {
			t.Errorf("changed: %s", line)
		}
	}
	if n := s.messages(t, "GONE"); n != 20 {
		t.Errorf("GONE has %d messages", n)
	}
	c.run(t, 0, "restore", id, "LEFT")
	if n := s.messages(t, "LEFT"); n != 20 {
		t.Errorf("LEFT has %d messages", n)
	}
}
