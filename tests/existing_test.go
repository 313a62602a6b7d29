package tests

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// TestUpdateConfig gives streams that exist the configuration that they had, and touches nothing else of them. Others are restored.
func TestUpdateConfig(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	before := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, Description: "before", MaxMsgs: 100, Metadata: map[string]string{"team": "red"}}
	st := src.create(t, before)
	src.publish(t, "orders.new", 50, text)
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "reader"})
	must(t, err)
	src.create(t, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	src.publish(t, "other", 5, text)
	backUp(t, src, r, backup.Options{Selection: allStreams})
	was := lookAt(t, src, "ORDERS")

	after := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>", "more"}, Description: "after", MaxMsgs: 60, MaxMsgsPerSubject: 70, AllowRollup: true, Metadata: map[string]string{"team": "blue", "x": "y"}}
	_, err = src.js.UpdateStream(t.Context(), after)
	must(t, err)
	src.publish(t, "more", 5, text)
	must(t, src.js.DeleteStream(t.Context(), "OTHER"))
	live := lookAt(t, src, "ORDERS")

	p, err := plan(t, src, r, restore.Options{Selection: allStreams, Existing: restore.UpdateExisting})
	must(t, err)
	changes := strings.Join(p.Streams[0].Changes, "\n")
	for _, want := range []string{`description: "before", was "after"`, `max_msgs: 100, was 60`, `max_msgs_per_subject: -1, was 70`, `metadata: {"team":"red"}, was {"team":"blue","x":"y"}`, `subjects: ["orders.\u003e"], was ["orders.\u003e","more"]`} {
		if !strings.Contains(changes, want) {
			t.Errorf("changes lack %s:\n%s", want, changes)
		}
	}
	if n := len(p.Streams[0].Changes); n > 6 { // allow_rollup_hdrs besides
		t.Errorf("%d changes:\n%s", n, changes)
	}
	sameImage(t, live, lookAt(t, src, "ORDERS"))
	res, err := p.Run(t.Context())
	must(t, err)
	for i, want := range []restore.Action{restore.Update, restore.Create} {
		if s := res.Streams[i]; s.Err != nil || s.Action != want {
			t.Errorf("%+v", s)
		}
	}
	live.Config = was.Config
	sameImage(t, live, lookAt(t, src, "ORDERS"))
	if n := src.messages(t, "OTHER"); n != 5 {
		t.Errorf("OTHER has %d messages", n)
	}

	p, err = plan(t, src, r, restore.Options{Selection: allStreams, Existing: restore.UpdateExisting})
	must(t, err)
	if n := len(p.Streams[0].Changes) + len(p.Streams[1].Changes); n > 0 {
		t.Errorf("%d changes of streams that are as they shall be: %v %v", n, p.Streams[0].Changes, p.Streams[1].Changes)
	}
}

// TestUpdateConfigLosesNothing refuses to give a stream back the limits that it had, where it now has more than they allow.
func TestUpdateConfigLosesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		was, is jetstream.StreamConfig
		want    string
	}{
		"max_msgs":             {jetstream.StreamConfig{MaxMsgs: 20}, jetstream.StreamConfig{}, "its max_msgs would be 20, and it has 40 messages"},
		"max_bytes":            {jetstream.StreamConfig{MaxBytes: 2000}, jetstream.StreamConfig{}, "its max_bytes would be 2000"},
		"max_age":              {jetstream.StreamConfig{MaxAge: 2 * time.Second}, jetstream.StreamConfig{}, "its max_age would be 2s"},
		"max_msgs_per_subject": {jetstream.StreamConfig{MaxMsgsPerSubject: 5}, jetstream.StreamConfig{MaxMsgsPerSubject: 9}, "its max_msgs_per_subject would be 5, and is 9"},
		"retention":            {jetstream.StreamConfig{Retention: jetstream.InterestPolicy}, jetstream.StreamConfig{}, "its retention would be interest, and is limits"},
		"storage":              {jetstream.StreamConfig{Storage: jetstream.MemoryStorage}, jetstream.StreamConfig{}, "no server moves it to memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
			r, _ := newRepo(t, repo.Options{})
			for _, cfg := range []*jetstream.StreamConfig{&c.was, &c.is} {
				cfg.Name, cfg.Subjects = "S", []string{"s.*"}
			}
			src.create(t, c.was)
			backUp(t, src, r, backup.Options{Selection: allStreams})
			dst.create(t, c.is)
			dst.publishTo(t, 40, func(i int) string { return fmt.Sprintf("s.%d", i%5) })
			if name == "max_age" {
				time.Sleep(2100 * time.Millisecond) // what is restored is older than its limit
			}
			live := lookAt(t, dst, "S")
			_, err := plan(t, dst, r, restore.Options{Selection: allStreams, Existing: restore.UpdateExisting})
			var conflict *restore.ConflictError
			if !errors.As(err, &conflict) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			sameImage(t, live, lookAt(t, dst, "S"))
			p, err := plan(t, dst, r, restore.Options{Selection: allStreams, Existing: restore.UpdateExisting, Target: restore.Target{ApplyLimits: true}})
			if name == "storage" {
				if !errors.As(err, &conflict) {
					t.Errorf("error %v", err)
				}
				return
			}
			must(t, err)
			if !strings.Contains(strings.Join(p.Streams[0].Warnings, "\n"), c.want) {
				t.Errorf("warnings %v", p.Streams[0].Warnings)
			}
		})
	}
}

// TestUpdateConfigRefused is refused by the server: nothing of the stream is changed.
func TestUpdateConfigRefused(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Description: "with deletes"})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dst.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, DenyDelete: true})
	dst.publish(t, "s", 3, text)
	live := lookAt(t, dst, "S")
	p, err := plan(t, dst, r, restore.Options{Selection: allStreams, Existing: restore.UpdateExisting})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	var conflict *restore.ConflictError
	if err := res.Streams[0].Err; !errors.As(err, &conflict) || !strings.Contains(err.Error(), "the server refuses to change its configuration") {
		t.Errorf("error %v", err)
	}
	sameImage(t, live, lookAt(t, dst, "S"))
}

// TestConfigOnly makes streams as they were configured, and nothing in them.
func TestConfigOnly(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	o := restore.Options{Selection: allStreams, Parts: restore.ConfigOnly}
	res := restoreInto(t, x.dst, x.r, o)
	if s := res.Streams[0]; s.Action != restore.Configure || s.Messages != 0 {
		t.Errorf("%+v", s)
	}
	got := lookAt(t, x.dst, "ORDERS")
	if len(got.Messages) > 0 || len(got.Consumers) > 0 || fmt.Sprint(got.Config) != fmt.Sprint(x.image.Config) {
		t.Errorf("%d messages, %d consumers, configuration\n%v, want\n%v", len(got.Messages), len(got.Consumers), got.Config, x.image.Config)
	}
	_, err := plan(t, x.dst, x.r, o)
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) {
		t.Errorf("made a second time: %v", err)
	}
	o.Target.As = "COPY"
	restoreInto(t, x.dst, x.r, o)
	if c := lookAt(t, x.dst, "COPY").Config; fmt.Sprint(c["subjects"]) != "[COPY]" {
		t.Errorf("configuration %v", c)
	}
}

// TestConsumersOnly gives a stream that lives on its consumers back: each gets all that it had not acknowledged, and not again what comes before.
func TestConsumersOnly(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	ctx := t.Context()
	before := map[string]position{}
	for name, c := range x.image.Consumers {
		before[name] = positionOf(t, c)
		must(t, x.st.DeleteConsumer(ctx, name))
	}
	x.publish(t, 20)
	o := restore.Options{Selection: allStreams, Parts: restore.ConsumersOnly}
	res := restoreInto(t, x.src, x.r, o)
	if s := res.Streams[0]; s.Action != restore.AddConsumers || s.Consumers != len(before) || s.Messages != 0 {
		t.Errorf("%+v", s)
	}
	for name, was := range before {
		c, err := x.st.Consumer(ctx, name)
		must(t, err)
		info, err := c.Info(ctx)
		must(t, err)
		if info.Delivered.Stream != was.floor {
			t.Errorf("%s begins behind message %d, and had acknowledged up to %d", name, info.Delivered.Stream, was.floor)
		}
		if info.NumPending == 0 {
			t.Errorf("%s has nothing to deliver", name)
		}
	}
	_, err := plan(t, x.src, x.r, o)
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "consumers of these names exist: fast, new, paris, slow") {
		t.Errorf("error %v", err)
	}
	must(t, x.st.DeleteConsumer(ctx, "slow"))
	o.Existing = restore.SkipExisting
	res = restoreInto(t, x.src, x.r, o)
	if s := res.Streams[0]; s.Consumers != 1 {
		t.Errorf("%+v", s)
	}
}

// TestConsumersOnlyOfAnother refuses where the stream is none that the consumers ever saw, or is not there.
func TestConsumersOnlyOfAnother(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	o := restore.Options{Selection: allStreams, Parts: restore.ConsumersOnly}
	_, err := plan(t, x.dst, x.r, o)
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "no stream of that name to add consumers to") {
		t.Errorf("error %v", err)
	}
	x.dst.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	p, err := plan(t, x.dst, x.r, o)
	must(t, err)
	if text := strings.Join(p.Streams[0].Warnings, "\n"); !strings.Contains(text, "no message in common") {
		t.Errorf("warnings %s", text)
	}
	x.dst.publishTo(t, 3000, func(int) string { return "orders.eu.paris" })
	_, err = plan(t, x.dst, x.r, o)
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "is another one on the server") {
		t.Errorf("error %v", err)
	}
}

// TestPartsExcludeEachOther refuses options that make no sense together, before anything is asked of a server.
func TestPartsExcludeEachOther(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	for _, o := range []restore.Options{
		{Parts: restore.ConfigOnly, Cut: restore.Cut{UntilSeq: 5}},
		{Parts: restore.ConfigOnly, Existing: restore.ReplaceExisting},
		{Parts: restore.ConsumersOnly, Cut: restore.Cut{Subjects: []string{"a"}}},
		{Parts: restore.ConsumersOnly, Existing: restore.UpdateExisting},
		{Parts: restore.ConsumersOnly, NoConsumers: true},
		{Parts: restore.ConsumersOnly, Target: restore.Target{Replicas: 3}},
		{Existing: restore.ReplaceExisting},
	} {
		o.Selection = allStreams
		_, err := plan(t, x.dst, x.r, o)
		var request *restore.RequestError
		if !errors.As(err, &request) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if names := streamsOf(t, x.dst); len(names) > 0 {
		t.Errorf("streams %v", names)
	}
}
