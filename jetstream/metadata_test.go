package jetstream_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
)

func TestMetadata(t *testing.T) {
	const config = `{"name":"S","first_seq":18446744073709551615,"ratio":1e3,"future":{"x":[1.10,null]},"metadata":{"a":"<b>","_nats.ver":"2.15.2"}}`
	with, err := jetstream.WithMetadata(json.RawMessage(config), "mark", "x")
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(with, &fields); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"first_seq": "18446744073709551615", "ratio": "1e3", "future": `{"x":[1.10,null]}`, "name": `"S"`} {
		if got := string(fields[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	_, s, err := jetstream.ParseSettings(with)
	if err != nil || len(s.Metadata) != 3 || s.Metadata["mark"] != "x" || s.Metadata["a"] != "<b>" {
		t.Errorf("metadata %v, error %v", s.Metadata, err)
	}
	back, err := jetstream.WithoutMetadata(with, "mark")
	if err != nil {
		t.Fatal(err)
	}
	if _, s, _ = jetstream.ParseSettings(back); len(s.Metadata) != 2 {
		t.Errorf("metadata %v", s.Metadata)
	}
	same, err := jetstream.WithoutMetadata(json.RawMessage(config), "mark")
	if err != nil || string(same) != config {
		t.Errorf("a configuration without the entry became %s, error %v", same, err)
	}
}

// TestMetadataOfOtherSpelling finds the field as servers find it, so that no second one says something else.
func TestMetadataOfOtherSpelling(t *testing.T) {
	with, err := jetstream.WithMetadata(json.RawMessage(`{"name":"S","MetaData":{"a":"b"}}`), "mark", "x")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ToLower(string(with)); strings.Count(got, "metadata") != 1 || !strings.Contains(got, `"a":"b"`) {
		t.Errorf("got %s", with)
	}
}

func TestMetadataThatIsFull(t *testing.T) {
	full := func(n int) json.RawMessage {
		return json.RawMessage(`{"name":"S","metadata":{"a":"` + strings.Repeat("x", n-1) + `","_nats.ver":"2.15.2"}}`)
	}
	if _, err := jetstream.WithMetadata(full(128<<10), "mark", "x"); !errors.Is(err, jetstream.ErrMetadataFull) {
		t.Errorf("error %v", err)
	}
	if _, err := jetstream.WithMetadata(full(128<<10-5), "mark", "x"); err != nil {
		t.Errorf("there is room without the server's own entries: %v", err)
	}
	// What a server adds can be more than what it accepts.
	fit, err := jetstream.WithoutMetadata(full(128<<10), "mark")
	if err != nil || strings.Contains(string(fit), "_nats.ver") {
		t.Errorf("error %v", err)
	}
}

func TestPresent(t *testing.T) {
	server := serve(t, natsd.Options{})
	a := connect(t, jetstream.Config{Servers: server.URL(), InboxPrefix: "_INBOX_a"})
	b := connect(t, jetstream.Config{Servers: server.URL(), InboxPrefix: "_INBOX_a"})
	check := func(want bool) {
		t.Helper()
		if got, err := b.Present(t.Context(), "RUN"); err != nil || got != want {
			t.Errorf("present: %v, %v, want %v", got, err, want)
		}
	}
	check(false)
	stop, err := a.Announce("RUN")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Present(t.Context(), "RUN"); err != nil { // so that the server has heard of it
		t.Fatal(err)
	}
	check(true)
	stop()
	if _, err := a.Present(t.Context(), "RUN"); err != nil {
		t.Fatal(err)
	}
	check(false)
	if _, err := b.Present(t.Context(), "a.>"); err == nil {
		t.Error("a name with a wildcard was asked for")
	}
}

func TestPresentNeedsItsPermission(t *testing.T) {
	conn, _ := guarded(t, snapshotPublish, inboxSubscribe)
	_, err := conn.Present(t.Context(), "RUN")
	refused(t, err, jetstream.OpPublish, "_INBOX_bk.jetsam-run.RUN")
	refused(t, conn.MayUpdate(t.Context(), "S"), jetstream.OpPublish, "$JS.API.STREAM.UPDATE.S")
}

// TestMayUpdateChangesNothing asks whether an existing stream may be updated.
func TestMayUpdateChangesNothing(t *testing.T) {
	conn, _ := guarded(t, append(snapshotPublish, "$JS.API.STREAM.UPDATE.*"), inboxSubscribe)
	before, err := conn.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"S", "NONE"} {
		if err := conn.MayUpdate(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	after, err := conn.Stream(t.Context(), "S")
	if err != nil || string(after.Config) != string(before.Config) {
		t.Errorf("the configuration was %s, is %s, error %v", before.Config, after.Config, err)
	}
}
