package jetstream_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
	"jetsam/secret"
)

// TestRights: what is allowed is decided as a server decides it.
func TestRights(t *testing.T) {
	for _, c := range []struct {
		allow, deny []string
		filter      string
		all         bool
		parts       []string
	}{
		{nil, nil, "a.*", true, nil},
		{[]string{"a.*"}, nil, "a.*", true, nil},
		{[]string{"b", "a.b", "a.>"}, nil, "a.*.*", true, nil},
		{[]string{">"}, nil, "a.>", true, nil},
		{[]string{"a.*"}, nil, "a.>", false, []string{"a.*"}},
		{[]string{"a.b", "a.c"}, nil, "a.*", false, []string{"a.b", "a.c"}},
		{[]string{"a.*"}, nil, "a.b", true, nil},
		{[]string{"a.*.c"}, nil, "a.*.*", false, []string{"a.*.c"}},
		{[]string{"a.>"}, nil, "a", false, nil},
		{[]string{"a.*"}, nil, "a.b.c", false, nil},
		{[]string{"b.*"}, nil, "a.*", false, nil},
		{[]string{"a.* queue"}, nil, "a.*", false, nil},
		{[]string{"a.>"}, []string{"a.b"}, "a.*", false, []string{"not a.b"}},
		{[]string{"a.b", "a.c"}, []string{"a.c"}, "a.*", false, []string{"a.b", "a.c", "not a.c"}},
		{nil, []string{"a.b"}, "a.*", false, []string{"not a.b"}},
		{nil, []string{"a.*"}, "a.*", false, nil},
		{[]string{"a.b"}, []string{"a.>"}, "a.*", false, nil},
		{nil, []string{"b.>"}, "a.*", true, nil},
	} {
		s := jetstream.Subjects{Allow: c.allow, Deny: c.deny}
		if all, parts := s.Allows(c.filter); all != c.all || !slices.Equal(parts, c.parts) {
			t.Errorf("allow %q, deny %q: of %s: %v, %q, want %v, %q", c.allow, c.deny, c.filter, all, parts, c.all, c.parts)
		}
	}
}

// TestTry: trying a subject tells what the server lets this user do, and nothing comes of it, not even where there is a stream of that name.
func TestTry(t *testing.T) {
	server := serve(t, natsd.Options{Users: []natsd.User{
		{Name: "admin", Password: "x"},
		{Name: "some", Password: "x", Publish: []string{"a.*", "$JS.API.>"}, Subscribe: []string{"_INBOX.>", "b"}},
	}})
	js := fill(t, server.URL(), nats.UserInfo("admin", "x"))
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", 10, 10)
	addConsumer(t, js, "S", nats.ConsumerConfig{Durable: "S", AckPolicy: nats.AckExplicitPolicy})
	c := connect(t, jetstream.Config{Servers: server.URL(), User: "some", Password: secret.New("x")})
	told := func() string {
		info, err := js.StreamInfo("S")
		if err != nil {
			t.Fatal(err)
		}
		consumer, err := js.ConsumerInfo("S", "S")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%+v %+v %+v", info.State, info.Config, consumer.Config)
	}
	before := told()
	for range 2 {
		for _, x := range []struct {
			operation, subject string
			allowed            bool
		}{
			{jetstream.OpPublish, "a.b", true}, {jetstream.OpPublish, "a.b.c", false}, {jetstream.OpSubscribe, "b", true}, {jetstream.OpSubscribe, "a.b", false},
			{jetstream.OpPublish, "b", false}, {jetstream.OpSubscribe, "_INBOX.x", true},
			{jetstream.OpPublish, "$JS.API.STREAM.DELETE.S", true}, {jetstream.OpPublish, "$JS.API.STREAM.CREATE.NEW", true}, {jetstream.OpPublish, "$JS.API.STREAM.UPDATE.S", true},
			{jetstream.OpPublish, "$JS.API.CONSUMER.DELETE.S.S", true}, {jetstream.OpPublish, "$JS.API.CONSUMER.CREATE.S.NEW", true}, {jetstream.OpPublish, "$JS.API.STREAM.RESTORE.NEW", true},
			{jetstream.OpPublish, "$JS.API.STREAM.SNAPSHOT.S", true}, {jetstream.OpPublish, "$JS.API.STREAM.MSG.GET.S", true},
		} {
			allowed, err := c.Try(t.Context(), x.operation, x.subject)
			if err != nil || allowed != x.allowed {
				t.Errorf("%s %s: %v, %v", x.operation, x.subject, allowed, err)
			}
		}
	}
	if _, err := c.Account(t.Context()); err != nil { // an answer comes behind all that was tried
		t.Fatal(err)
	}
	if now := told(); now != before {
		t.Errorf("before %s\nafterwards %s", before, now)
	}
	for name := range js.StreamNames() {
		if name != "S" {
			t.Errorf("there is a stream %s", name)
		}
	}
}
