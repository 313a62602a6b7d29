package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

// TestRetentionWithoutConsumers restores streams that keep messages only for consumers, without these: no message is lost in silence.
func TestRetentionWithoutConsumers(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	for _, c := range []struct {
		stream string
		policy jetstream.RetentionPolicy
	}{{"INTEREST", jetstream.InterestPolicy}, {"WORK", jetstream.WorkQueuePolicy}} {
		st := src.create(t, jetstream.StreamConfig{Name: c.stream, Subjects: []string{c.stream}, Retention: c.policy})
		_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
		must(t, err)
		src.publish(t, c.stream, 20, text)
	}
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dst := startServer(t, natsd.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	t.Log(c.run(t, 0, "restore", "latest", "WORK", "--no-consumers"))
	t.Log(c.run(t, 0, "restore", "latest", "INTEREST", "--no-consumers"))
	for _, name := range []string{"WORK", "INTEREST"} {
		want, got := lookAt(t, src, name), lookAt(t, dst, name)
		want.Consumers = got.Consumers
		want.State["consumer_count"] = got.State["consumer_count"]
		sameImage(t, want, got)
	}
}

// TestExpiredMessages restores messages that the stream's own age limit removes at once: the plan says how many, and the restore does not
// claim that they are there.
func TestExpiredMessages(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "SHORT", Subjects: []string{"short"}, MaxAge: 3 * time.Second})
	src.publish(t, "short", 20, text)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	src.waitMessages(t, "SHORT", 0)
	dst := startServer(t, natsd.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	out := c.run(t, 0, "restore", "latest", "--dry-run")
	if !strings.Contains(out, "20 messages are older than the stream's max_age") {
		t.Errorf("the plan does not say what becomes of the messages:\n%s", out)
	}
	cmd := c.prepare(t, "restore", "latest")
	text, err := cmd.CombinedOutput()
	t.Logf("%s %v", text, err)
	dst.waitMessages(t, "SHORT", 0)
	if code := cmd.ProcessState.ExitCode(); code != 23 || !strings.Contains(string(text), "max_age") {
		t.Errorf("exit code %d, want 23 and why:\n%s", code, text)
	}
}
