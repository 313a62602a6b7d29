package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"jetsam/jetstream/archive"
)

// FuzzAnswer: whatever a server answers is an error of readable length or what it says, in its own bytes.
func FuzzAnswer(f *testing.F) {
	for _, answer := range []string{
		`{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{"name":"S","subjects":["a.>"],"num_replicas":3,"max_msgs":-1,"max_age":1000,"mirror":{"name":"T"}},"created":"2026-11-22T01:02:03.123456789Z","state":{"messages":1,"bytes":2,"first_seq":1,"last_seq":18446744073709551615,"consumer_count":1},"cluster":{"name":"c","leader":"n","replicas":[{"name":"m","current":true}]}}`,
		`{"name":"C","created":"2026-11-22T01:02:03Z","config":{"durable_name":"C","ack_policy":"explicit"},"delivered":{"consumer_seq":1,"stream_seq":2},"ack_floor":{},"num_ack_pending":1,"num_pending":18446744073709551615}`,
		`{"error":{"code":404,"err_code":10059,"description":"stream not found"}}`,
		`{"error":{"err_code":10062,"description":"restore failed: x (10130)"}}`,
		`{"total":2,"offset":0,"streams":[{"config":{"name":"S"}},null],"missing":["T","S"]}`,
		`{"memory":1,"storage":2,"limits":{"max_memory":-1},"tiers":{"R1":{"streams":1}}}`,
		`{"config":null,"state":null}`, `{"config":{"name":"S","metadata":{"A":"","a":""}},"state":{}}`,
		`null`, `[]`, `{}`, ``, `{"config":{"max_msgs":1e3},"state":{"first_seq":9007199254740993}}`,
		strings.Repeat(`{"config":`, 70) + strings.Repeat(`}`, 70),
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		raw, err := checkAnswer(answer)
		var refused *APIError
		if errors.As(err, &refused) {
			for _, known := range []error{ErrStreamNotFound, ErrStreamExists, ErrNoJetStream} {
				errors.Is(err, known)
			}
		}
		if err != nil {
			if refused == nil && len(err.Error()) > 1000 {
				t.Fatalf("error of %d bytes", len(err.Error()))
			}
			return
		}
		for name, parse := range map[string]func() error{
			"stream": func() error {
				s, err := parseStreamInfo(raw)
				if err == nil && (!bytes.Contains(raw, s.Config) || !bytes.Contains(raw, s.State)) {
					t.Fatal("configuration or state are not the server's own bytes")
				}
				return err
			},
			"consumer": func() error { _, err := parseConsumerInfo(raw); return err },
			"settings": func() error { _, _, err := ParseSettings(raw); return err },
			"account":  func() error { return (&AccountInfo{Raw: raw}).parse() },
			"names": func() error {
				_, err1 := streamName(raw)
				_, err2 := nameIn(raw)
				return errors.Join(err1, err2)
			},
		} {
			if err := parse(); err != nil && len(err.Error()) > 1000 {
				t.Fatalf("%s: error of %d bytes", name, len(err.Error()))
			}
		}
	})
}

// FuzzReply: a chunk's reply subject that is accepted is made of what was found in it.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"$JS.SNAPSHOT.ACK.S.id.131072.1", "imported.1.2", "1.2", "..", "", "a.-1.+2", "a.9223372036854775808.1", "a.1.1 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		subject, _, _, ok := parseReply(reply)
		if ok && (!strings.HasPrefix(reply, subject+".") || strings.Count(reply, ".") != strings.Count(subject, ".")+2) {
			t.Fatalf("%q of %q", subject, reply)
		}
	})
}

// FuzzStored: a reply subject that is accepted names the consumer, and is read again as the same if written anew.
func FuzzStored(f *testing.F) {
	for _, s := range []string{"$JS.ACK.S.c.1.2.3.4.5", "$JS.ACK.hub.hash.S.c.1.2.3.-4.5.x", "$JS.ACK.c.c.1.2.3.4.5", "$JS.ACK.S.c.1.2.3", "$JS.ACK.S.c.1.2.3.9223372036854775808.1", ".c.", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		s, ok := parseStored(reply, "c")
		if !ok {
			return
		}
		again, ok := parseStored(fmt.Sprintf("$JS.ACK.S.c.%d.%d.%d.%d.0", s.deliveries, s.seq, s.number, s.time), "c")
		if !strings.Contains(reply, ".c.") || !ok || again != s {
			t.Fatalf("%q is %+v, %+v", reply, s, again)
		}
	})
}

// FuzzMessage: an answer with a message is an error of readable length, or what a reader of archives takes.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		`{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":{"subject":"s","seq":1,"hdrs":"TkFUUy8xLjANCg0K","data":"eA==","time":"2026-11-22T01:02:03.123456789Z"}}`,
		`{"message":{"subject":"s","seq":18446744073709551615,"time":"1677-09-21T00:12:43.145224192Z"}}`, `{"message":{"subject":"","seq":0}}`,
		`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`, `{"message":null}`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		var m archive.Message
		if err := parseMessage(answer, &m); err != nil {
			if len(err.Error()) > 1000 && !errors.As(err, new(*APIError)) {
				t.Fatalf("error of %d bytes", len(err.Error()))
			}
			return
		}
		read, err := archive.NewMessageReader(bytes.NewReader(m.Raw), archive.Limits{}).Next()
		if err != nil || !bytes.Equal(read.Raw, m.Raw) || read.Seq != m.Seq || read.Time != m.Time {
			t.Fatalf("%q is read as %+v, %v", m.Raw, read, err)
		}
	})
}

// FuzzPermission: a server's report of a permission gives the subject that it quotes, or nothing.
func FuzzPermission(f *testing.F) {
	for _, s := range []string{`Permissions Violation for Publish to "$JS.API.INFO"`, `Permissions Violation for Subscription to "_INBOX.>" using queue "q"`, `Permissions Violation for Publish to "open`, `Permissions Violation for Publish to "a\"b"`, ``} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := parsePermissionError(fmt.Errorf("%w: %s", nats.ErrPermissionViolation, text))
		if p != nil && !strings.Contains(text, "Permissions Violation for") {
			t.Fatalf("%q says %v", text, p)
		}
		if parsePermissionError(errors.New(text)) != nil {
			t.Fatal("any error is taken for one of permissions")
		}
	})
}
