package jetstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
)

func names(streams []*jetstream.StreamInfo) (names []string) {
	for _, s := range streams {
		names = append(names, s.Name)
	}
	return names
}

// TestStreams lists more streams than a page holds, hidden ones among them.
func TestStreams(t *testing.T) {
	checkLeaks(t)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	if all, err := c.Streams(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("no streams yet: %v, %v", all, err)
	}
	js := fill(t, server.URL())
	want := []string{"$MQTT_msgs", "KV_config", "OBJ_files"}
	for i := range 260 {
		want = append(want, fmt.Sprintf("S%03d", i))
	}
	for _, name := range want[3:] {
		addStream(t, js, nats.StreamConfig{Name: name, Storage: nats.MemoryStorage})
	}
	addStream(t, js, nats.StreamConfig{Name: "$MQTT_msgs", Subjects: []string{"$MQTT.msgs.>"}})
	if _, err := js.CreateKeyValue(&nats.KeyValueConfig{Bucket: "config"}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateObjectStore(&nats.ObjectStoreConfig{Bucket: "files"}); err != nil {
		t.Fatal(err)
	}
	all, err := c.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, names(all)); diff != "" {
		t.Errorf("streams differ (-want +got):\n%s", diff)
	}
}

func TestStream(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage, Retention: nats.InterestPolicy, Discard: nats.DiscardNew,
		MaxAge: time.Hour, MaxBytes: 1 << 20, MaxMsgSize: 1000, MaxMsgs: 500, MaxMsgsPerSubject: 50, Description: "orders",
		Metadata: map[string]string{"team": "sales"},
	})
	addConsumer(t, js, "S", nats.ConsumerConfig{Durable: "d", AckPolicy: nats.AckExplicitPolicy})
	publish(t, js, "s", 20, 10)
	remove(t, js, "S", func(seq uint64) bool { return seq == 7 })
	c := connect(t, jetstream.Config{Servers: server.URL()})
	got, err := c.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}

	delete(got.Metadata, "_nats.level")
	delete(got.Metadata, "_nats.ver")
	delete(got.Metadata, "_nats.req.level")
	wantSettings := jetstream.StreamSettings{
		Description: "orders", Subjects: []string{"s.>"}, Storage: "memory", Retention: "interest", Discard: "new", Replicas: 1,
		MaxConsumers: -1, MaxMessages: 500, MaxMessagesOfSubject: 50, MaxBytes: 1 << 20, MaxMessageSize: 1000, MaxAge: time.Hour,
		Compression: "none", Metadata: map[string]string{"team": "sales"},
	}
	if diff := cmp.Diff(wantSettings, got.StreamSettings); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
	if s := got.StreamState; s.Messages != 19 || s.FirstSeq != 1 || s.LastSeq != 20 || s.Deleted != 1 || s.Distinct != 10 || s.Consumers != 1 || s.FirstTime.IsZero() {
		t.Errorf("state is %+v", s)
	}
	if got.Name != "S" || time.Since(got.Created) > time.Minute || got.Cluster != nil {
		t.Errorf("stream %s of %v, cluster %+v", got.Name, got.Created, got.Cluster)
	}
	for part, raw := range map[string]json.RawMessage{"config": got.Config, "state": got.State} {
		if !strings.Contains(string(got.Raw), `"`+part+`":`+string(raw)) {
			t.Errorf("%s is not the server's: %s", part, raw)
		}
	}
	_, err = c.Stream(t.Context(), "T")
	wantError(t, err, jetstream.ErrStreamNotFound)
}

func TestCreateAndUpdateStream(t *testing.T) {
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	created, err := c.CreateStream(t.Context(), json.RawMessage(`{"name":"S","subjects":["s"],"storage":"memory","retention":"limits"}`))
	if err != nil {
		t.Fatal(err)
	}
	if created.Name != "S" || created.Storage != "memory" {
		t.Errorf("created %+v", created)
	}
	_, err = c.CreateStream(t.Context(), json.RawMessage(`{"name":"S","subjects":["t"],"storage":"memory","retention":"limits"}`))
	wantError(t, err, jetstream.ErrStreamExists)
	_, err = c.CreateStream(t.Context(), json.RawMessage(`{"name":"T","subjects":["s"],"storage":"memory","retention":"limits"}`))
	wantError(t, err, jetstream.ErrSubjectsOverlap)
	updated, err := c.UpdateStream(t.Context(), edit(t, created.Config, "max_msgs", 5))
	if err != nil {
		t.Fatal(err)
	}
	if updated.MaxMessages != 5 {
		t.Errorf("updated to %d messages", updated.MaxMessages)
	}
	for _, bad := range []string{``, `{}`, `{"name":"A.B"}`, `{"name":1}`} {
		if _, err := c.CreateStream(t.Context(), json.RawMessage(bad)); err == nil {
			t.Errorf("created a stream from %q", bad)
		}
	}
}

// TestConsumers lists more consumers than a page holds.
func TestConsumers(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage})
	publish(t, js, "s", 30, 10)
	var want []string
	for i := range 258 {
		want = append(want, fmt.Sprintf("C%03d", i))
	}
	for _, name := range slices.Backward(want) {
		addConsumer(t, js, "S", nats.ConsumerConfig{Name: name, AckPolicy: nats.AckExplicitPolicy, InactiveThreshold: time.Hour})
	}
	addConsumer(t, js, "S", nats.ConsumerConfig{Durable: "durable", AckPolicy: nats.AckExplicitPolicy})
	want = append(want, "durable")
	work(t, js, "S", "durable", 20)

	c := connect(t, jetstream.Config{Servers: server.URL()})
	all, err := c.Consumers(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, consumer := range all {
		got = append(got, consumer.Name)
		if consumer.Durable != (consumer.Name == "durable") {
			t.Errorf("consumer %s: durable is %v", consumer.Name, consumer.Durable)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("consumers differ (-want +got):\n%s", diff)
	}
	one, err := c.Consumer(t.Context(), "S", "durable")
	if err != nil {
		t.Fatal(err)
	}
	if one.Delivered.Stream != 20 || one.AckFloor.Stream != 1 || one.AckPending != 10 || one.Redelivered != 0 || one.Pending != 10 {
		t.Errorf("consumer is at %+v", one)
	}
	if !strings.Contains(string(one.Config), `"durable_name":"durable"`) {
		t.Errorf("configuration is %s", one.Config)
	}
	_, err = c.Consumer(t.Context(), "S", "none")
	wantError(t, err, jetstream.ErrConsumerNotFound)
	_, err = c.Consumers(t.Context(), "NONE")
	wantError(t, err, jetstream.ErrStreamNotFound)
	for _, bad := range [][2]string{{"S", "a.b"}, {"", "c"}} {
		if _, err := c.Consumer(t.Context(), bad[0], bad[1]); err == nil {
			t.Errorf("asked for the consumer %q", bad)
		}
	}
}

// TestConsumerThatDeliversAgain hands back three of five messages and has two of them delivered again.
func TestConsumerThatDeliversAgain(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage})
	publish(t, js, "s", 5, 10)
	addConsumer(t, js, "S", nats.ConsumerConfig{Durable: "d", AckPolicy: nats.AckExplicitPolicy, Description: "0 < 1"})
	sub, err := js.PullSubscribe("", "d", nats.BindStream("S"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := sub.Fetch(5)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range first[:3] {
		if err := m.NakWithDelay(time.Duration(i/2) * time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sub.Fetch(2); err != nil {
		t.Fatal(err)
	}
	all, err := connect(t, jetstream.Config{Servers: server.URL()}).Consumers(t.Context(), "S")
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	d := all[0]
	if d.Delivered != (jetstream.Position{Consumer: 7, Stream: 5}) || d.AckFloor != (jetstream.Position{}) || d.AckPending != 5 || d.Redelivered != 2 {
		t.Errorf("consumer is at %+v", d)
	}
	if !strings.Contains(string(d.Raw), string(d.Config)) || !strings.Contains(string(d.Config), `"description":"0 \u003c 1"`) {
		t.Errorf("configuration is %s", d.Config)
	}
}

func listEntry(name string) string {
	return fmt.Sprintf(`{"config":{"name":%q},"state":{"messages":1}}`, name)
}

// TestStreamsOfAChangingList has streams come and go between two pages.
func TestStreamsOfAChangingList(t *testing.T) {
	script := newScript(t)
	round := 0
	script.answer(t, "$JS.API.STREAM.LIST", func(request []byte) string {
		if strings.Contains(string(request), `"offset":0`) {
			round++
			return fmt.Sprintf(`{"total":%d,"offset":0,"limit":1,"streams":[%s]}`, 1+round, listEntry("A"))
		}
		if round == 1 { // B is gone, so that C has moved to the first page
			return `{"total":1,"offset":1,"limit":1,"streams":[]}`
		}
		if strings.Contains(string(request), `"offset":1`) {
			return fmt.Sprintf(`{"total":3,"offset":1,"limit":1,"streams":[%s]}`, listEntry("C"))
		}
		return fmt.Sprintf(`{"total":3,"offset":2,"limit":1,"streams":[%s]}`, listEntry("D"))
	})
	all, err := connect(t, jetstream.Config{Servers: script.url}).Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(all), " "); got != "A C D" {
		t.Errorf("streams are %s", got)
	}
	if round != 2 {
		t.Errorf("the list was read %d times", round)
	}
}

func TestStreamsOfAListThatNeverHoldsStill(t *testing.T) {
	script := newScript(t)
	script.answer(t, "$JS.API.STREAM.LIST", func(request []byte) string {
		return fmt.Sprintf(`{"total":5,"offset":0,"limit":256,"streams":[%s]}`, listEntry("A"))
	})
	if all, err := connect(t, jetstream.Config{Servers: script.url}).Streams(t.Context()); err == nil {
		t.Errorf("the list of %v counts as complete, of 5", names(all))
	}
}

// TestStreamsWithoutALeader plays a cluster: it knows of more streams than it can describe, and makes up an entry for one.
func TestStreamsWithoutALeader(t *testing.T) {
	script := newScript(t)
	script.answer(t, "$JS.API.STREAM.LIST", func([]byte) string {
		return fmt.Sprintf(`{"total":4,"limit":256,"streams":[%s,%s],"missing":["BACK","OFFLINE","GONE"]}`, listEntry("A"), listEntry("OFFLINE"))
	})
	script.answer(t, "$JS.API.STREAM.INFO.BACK", func([]byte) string { return listEntry("BACK") })
	script.answer(t, "$JS.API.STREAM.INFO.GONE", func([]byte) string {
		return `{"error":{"code":503,"err_code":10118,"description":"stream is offline"}}`
	})
	c := connect(t, jetstream.Config{Servers: script.url, Timeout: 300 * time.Millisecond})
	all, err := c.Streams(t.Context())
	var missing *jetstream.MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("error %v, want a MissingError", err)
	}
	if got := strings.Join(names(all), " "); got != "A BACK" {
		t.Errorf("streams are %s", got)
	}
	if len(missing.Reasons) != 2 || missing.Reasons["OFFLINE"] == nil || missing.Reasons["GONE"] == nil {
		t.Errorf("missing are %v", missing.Reasons)
	}
	if want := "no information about streams GONE, OFFLINE: stream is offline (10118)"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// TestMissingErrorOfMany: an error that is told of each of many streams does not name all others each time.
func TestMissingErrorOfMany(t *testing.T) {
	reasons := map[string]error{}
	for i := range 1000 {
		reasons[fmt.Sprintf("S%03d", i)] = jetstream.ErrTimeout
	}
	text := (&jetstream.MissingError{Of: "streams", Reasons: reasons}).Error()
	if !strings.HasPrefix(text, "no information about streams S000, S001, ") || !strings.Contains(text, ", S009 and 990 more: ") || strings.Contains(text, "S010") {
		t.Errorf("error %q", text)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, answer := range map[string]string{
		"not JSON":           `<html>`,
		"empty":              ``,
		"of another shape":   `{"config":[]}`,
		"without its parts":  `{}`,
		"state of odd types": `{"config":{"name":"S"},"state":{"messages":"many"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			script := newScript(t)
			script.answer(t, "$JS.API.STREAM.INFO.S", func([]byte) string { return answer })
			if s, err := connect(t, jetstream.Config{Servers: script.url}).Stream(t.Context(), "S"); err == nil {
				t.Errorf("it became %+v", s)
			}
		})
	}
}
