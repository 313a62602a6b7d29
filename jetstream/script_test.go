package jetstream_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
)

// script plays JetStream on a server that has none: tests say what it answers.
type script struct {
	url string
	nc  *nats.Conn
}

func newScript(t testing.TB) *script {
	t.Helper()
	server, err := natsd.Start(natsd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return &script{server.URL(), nc}
}

// on calls f with what is sent to subject.
func (s *script) on(t testing.TB, subject string, f func(*nats.Msg)) {
	t.Helper()
	if _, err := s.nc.Subscribe(subject, f); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// answer answers all requests to subject with what f returns.
func (s *script) answer(t testing.TB, subject string, f func(request []byte) string) {
	t.Helper()
	s.on(t, subject, func(m *nats.Msg) { s.publish(t, &nats.Msg{Subject: m.Reply, Data: []byte(f(m.Data))}) })
}

// snapshot begins a snapshot for whoever asks for one of the stream, and calls send with where to send it.
func (s *script) snapshot(t testing.TB, stream string, send func(deliver string)) {
	t.Helper()
	s.on(t, "$JS.API.STREAM.SNAPSHOT."+stream, func(m *nats.Msg) {
		var request struct {
			Deliver string `json:"deliver_subject"`
		}
		if err := json.Unmarshal(m.Data, &request); err != nil {
			t.Error(err)
		}
		s.publish(t, &nats.Msg{Subject: m.Reply, Data: []byte(`{"config":{"name":"` + stream + `"},"state":{}}`)})
		send(request.Deliver)
	})
}

// publish sends m, unless the test is over.
func (s *script) publish(t testing.TB, m *nats.Msg) {
	if err := s.nc.PublishMsg(m); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		t.Error(err)
	}
}
