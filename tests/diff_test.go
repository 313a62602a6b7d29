package tests

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

// TestDiff tells what changed from one snapshot to another.
func TestDiff(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	ctx := t.Context()
	r, dir := newRepo(t, repo.Options{})
	quiet := src.create(t, jetstream.StreamConfig{Name: "QUIET", Subjects: []string{"quiet"}})
	_, err := quiet.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "c"})
	must(t, err)
	busy := src.create(t, jetstream.StreamConfig{Name: "BUSY", Subjects: []string{"busy"}, MaxMsgs: 1000})
	for _, name := range []string{"stays", "goes", "moves"} {
		_, err := busy.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy})
		must(t, err)
	}
	src.create(t, jetstream.StreamConfig{Name: "GONE", Subjects: []string{"gone"}})
	src.create(t, jetstream.StreamConfig{Name: "ANEW", Subjects: []string{"anew"}})
	for _, subject := range []string{"quiet", "busy", "gone", "anew"} {
		src.publish(t, subject, 100, kib)
	}
	backUp(t, src, r, backUpOptions)

	src.publish(t, "busy", 30, kib)
	remove(t, busy, 5, 6, 7)
	cfg := busy.CachedInfo().Config
	cfg.MaxMsgs, cfg.Description = 2000, "larger"
	_, err = src.js.UpdateStream(ctx, cfg)
	must(t, err)
	must(t, busy.DeleteConsumer(ctx, "goes"))
	_, err = busy.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "comes"})
	must(t, err)
	moves, err := busy.Consumer(ctx, "moves")
	must(t, err)
	batch, err := moves.Fetch(3)
	must(t, err)
	for m := range batch.Messages() {
		must(t, m.DoubleAck(ctx))
	}
	for _, name := range []string{"GONE", "ANEW"} {
		must(t, src.js.DeleteStream(ctx, name))
	}
	time.Sleep(300 * time.Millisecond) // a server may give messages back that were deleted a moment ago
	src.create(t, jetstream.StreamConfig{Name: "ANEW", Subjects: []string{"anew"}})
	src.create(t, jetstream.StreamConfig{Name: "NEW", Subjects: []string{"new"}})
	src.publish(t, "anew", 150, text)
	src.publish(t, "new", 7, kib)
	for _, mode := range []backup.Mode{backup.ModeAuto, backup.ModeFull} {
		backUp(t, src, r, backup.Options{Selection: allStreams, Mode: mode})
	}

	all := snapshotsOf(t, r)
	cmd := command{repo: dir}
	for _, second := range []string{all[1].ID().Short(), all[2].ID().Short()} {
		changes := map[string]map[string]any{}
		for line := range strings.Lines(cmd.stdout(t, "diff", all[0].ID().Short(), second, "--json")) {
			var m map[string]any
			must(t, json.Unmarshal([]byte(line), &m))
			if name, ok := m["name"].(string); ok {
				changes[name] = m
			} else if m["streams"] != 5.0 || m["changed_streams"] != 4.0 {
				t.Errorf("%v", m)
			}
		}
		for name, want := range map[string][4]any{
			"QUIET": {"none", 0.0, 0.0, 100.0},
			"BUSY":  {"changed", 30.0, 3.0, 97.0},
			"GONE":  {"removed", 0.0, 100.0, 0.0},
			"NEW":   {"added", 7.0, 0.0, 0.0},
			"ANEW":  {"anew", 150.0, 100.0, 0.0},
		} {
			m := changes[name]
			if got := [4]any{m["change"], m["messages_added"], m["messages_removed"], m["messages_common"]}; got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
	out := cmd.run(t, 0, "diff", "latest", all[0].ID().Short(), "BUSY")
	for _, want := range []string{
		"is the newer one", `description: "larger", was null`, "max_msgs: 2000, was 1000", "1 consumer new: comes", "1 consumer gone: goes", "1 consumer moved: moves", "1 of 1 stream changed",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("diff does not say %q:\n%s", want, out)
		}
	}
	if out := cmd.run(t, 1, "diff", "latest"); !strings.Contains(out, "jetsam diff needs SNAPSHOT SNAPSHOT") {
		t.Error(out)
	}
	if out := cmd.run(t, 1, "diff", "latest", "latest", "NOSUCH"); !strings.Contains(out, `no stream matches "NOSUCH"`) {
		t.Error(out)
	}
}
