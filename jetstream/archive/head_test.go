package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func wantHead(t *testing.T, got, want *Head) {
	t.Helper()
	if !bytes.Equal(got.State, want.State) || got.StateTime != want.StateTime {
		t.Errorf("state %s at %d, want %s at %d", got.State, got.StateTime, want.State, want.StateTime)
	}
	if len(got.Consumers) != len(want.Consumers) {
		t.Fatalf("%d consumers, want %d", len(got.Consumers), len(want.Consumers))
	}
	for i, c := range got.Consumers {
		w := want.Consumers[i]
		if c.Name != w.Name || c.Time != w.Time || !bytes.Equal(c.JSON, w.JSON) {
			t.Errorf("consumer %d: %s %s at %d, want %s %s at %d", i, c.Name, c.JSON, c.Time, w.Name, w.JSON, w.Time)
		}
	}
}

// A head does not hold on to the reader's buffer.
func TestHeadStaysValid(t *testing.T) {
	rnd := seeded(t)
	whole := archiveOf(sampleHead(), []sample{{"a", 1, 1, nil, randomBytes(rnd, 3<<20)}})
	r := NewReader(bytes.NewReader(whole), Limits{})
	h, err := r.Head()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(r.Next); err != nil {
		t.Fatal(err)
	}
	wantHead(t, h, sampleHead())
}

func TestHeadSortsConsumers(t *testing.T) {
	h := sampleHead()
	want := h.Append(nil)
	h.Consumers[0], h.Consumers[1] = h.Consumers[1], h.Consumers[0]
	if got := h.Append(nil); !bytes.Equal(got, want) {
		t.Fatal("the order of consumers shows")
	}
	if h.Consumers[0].Name != "b-c" {
		t.Fatal("Append changed the head")
	}
}

func TestWithoutConsumers(t *testing.T) {
	for _, c := range []struct{ name, state, want string }{
		{"usual", `{"messages":1,"consumer_count":2}`, `{"messages":1,"consumer_count":0}`},
		{"in the middle", `{"consumer_count":12,"future":{"a":[1,2]},"z":1e3}`, `{"consumer_count":0,"future":{"a":[1,2]},"z":1e3}`},
		{"spaces", " {\n\t\"consumer_count\" : 7 ,\r\n \"x\" : 1 } ", " {\n\t\"consumer_count\" : 0 ,\r\n \"x\" : 1 } "},
		{"inner ones are not meant", `{"a":{"consumer_count":1},"consumer_count":1}`, `{"a":{"consumer_count":1},"consumer_count":0}`},
		{"nor strings", `{"a":"\"consumer_count\":1","consumer_count":1}`, `{"a":"\"consumer_count\":1","consumer_count":0}`},
		{"escaped name", `{"consumer\u005fcount":3}`, `{"consumer\u005fcount":0}`},
		{"other case, as the server reads it", `{"Consumer_Count":3}`, `{"Consumer_Count":0}`},
		{"twice", `{"consumer_count":3,"consumer_count":4}`, `{"consumer_count":null,"consumer_count":0}`},
		{"absent", `{"messages":1}`, `{"messages":1,"consumer_count":0}`},
		{"empty", `{ }`, `{ "consumer_count":0}`},
		{"already none", `{"consumer_count":0,"a":"}"}`, `{"consumer_count":0,"a":"}"}`},
		{"no object stays", `[1]`, `[1]`},
		{"no JSON stays", `{"consumer_count":`, `{"consumer_count":`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &Head{State: []byte(c.state), StateTime: 5, Consumers: sampleHead().Consumers}
			got := h.WithoutConsumers()
			if string(got.State) != c.want {
				t.Errorf("%s, want %s", got.State, c.want)
			}
			if len(got.Consumers) != 0 || got.StateTime != 5 {
				t.Errorf("%d consumers at %d", len(got.Consumers), got.StateTime)
			}
			if string(h.State) != c.state || len(h.Consumers) != 2 {
				t.Error("the head itself changed")
			}
		})
	}
}

func TestWithConsumersIsReadable(t *testing.T) {
	h := sampleHead()
	h = h.WithConsumers(append(h.Consumers, Consumer{"third", []byte(`{}`), 1}))
	got, err := NewReader(bytes.NewReader(archiveOf(h, nil)), Limits{}).Head()
	if err != nil {
		t.Fatal(err)
	}
	wantHead(t, got, h)
}

func TestWithState(t *testing.T) {
	raw := `{"messages":3,"bytes":90,"first_seq":1,"first_ts":"2026-01-02T03:04:05.000000006Z","last_seq":9,"num_subjects":2,"last_ts":"2026-02-02T00:00:00Z","future":"✓","consumer_count":1}`
	h := &Head{State: []byte(raw), StateTime: 4, Consumers: []Consumer{{"a", []byte(`{}`), 0}}}
	state, err := ParseState(h.State)
	if err != nil {
		t.Fatal(err)
	}
	same, err := h.WithState(state)
	if err != nil || string(same.State) != raw {
		t.Fatalf("nothing changed, but %s %v", same.State, err)
	}

	state.Messages, state.Bytes, state.FirstSeq, state.LastSeq = 1, 30, 9007199254740993, math.MaxUint64
	state.FirstTime, state.LastTime = time.Unix(0, 1_780_000_000_000_000_001).UTC(), time.Time{}
	state.Consumers = 99
	edited, err := h.WithState(state)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"messages":1,"bytes":30,"first_seq":9007199254740993,"first_ts":"2026-05-28T20:26:40.000000001Z","last_seq":18446744073709551615,"num_subjects":2,"last_ts":"0001-01-01T00:00:00Z","future":"✓","consumer_count":1}`
	if string(edited.State) != want {
		t.Errorf("\n got %s\nwant %s", edited.State, want)
	}
	if string(h.State) != raw {
		t.Error("the head itself changed")
	}
	if reread, err := ParseState(edited.State); err != nil || reread.FirstSeq != state.FirstSeq || !reread.FirstTime.Equal(state.FirstTime) {
		t.Errorf("%+v %v", reread, err)
	}
}

func TestWithStateRefuses(t *testing.T) {
	if _, err := (&Head{State: []byte(`[]`)}).WithState(State{}); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	if _, err := (&Head{State: []byte(`{}`)}).WithState(State{LastTime: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("a time that JSON cannot say was taken")
	}
}

func TestParseState(t *testing.T) {
	theirs := server.StreamState{
		Msgs: 3, Bytes: 1<<53 + 1, FirstSeq: 1<<62 - 5, LastSeq: math.MaxUint64, Consumers: 2, NumSubjects: 4, NumDeleted: 7,
		FirstTime: time.Unix(0, 1_780_000_000_123_456_789).UTC(), LastTime: time.Time{},
	}
	raw, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseState(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := State{theirs.Msgs, theirs.Bytes, theirs.FirstSeq, theirs.FirstTime, theirs.LastSeq, theirs.LastTime, theirs.Consumers}
	if got != want {
		t.Fatalf("\n got %+v\nwant %+v", got, want)
	}
}

func TestStateCheck(t *testing.T) {
	const most = math.MaxUint64
	for _, c := range []struct {
		name  string
		state State
		ok    bool
	}{
		{"never used", State{}, true},
		{"never used, but messages", State{Messages: 1}, false},
		{"first 0, last not", State{LastSeq: 1}, false},
		{"emptied", State{FirstSeq: 8, LastSeq: 7}, true},
		{"emptied, but messages", State{FirstSeq: 8, LastSeq: 7, Messages: 1}, false},
		{"first far above last", State{FirstSeq: 9, LastSeq: 7}, false},
		{"one", State{FirstSeq: 7, LastSeq: 7, Messages: 1}, true},
		{"all of them", State{FirstSeq: 3, LastSeq: 7, Messages: 5}, true},
		{"more than all", State{FirstSeq: 3, LastSeq: 7, Messages: 6}, false},
		{"a gap", State{FirstSeq: 3, LastSeq: 7, Messages: 2}, true},
		{"the whole range", State{FirstSeq: 1, LastSeq: most, Messages: most}, true},
		{"emptied at the end", State{FirstSeq: 1, LastSeq: 0}, true},
		{"last is the largest", State{FirstSeq: most, LastSeq: most, Messages: 1}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.state.Check()
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
		})
	}
}

func TestParseConsumer(t *testing.T) {
	theirs := server.SnapshotConsumerState{
		ConsumerConfig: &server.ConsumerConfig{
			Durable: "worker", Name: "worker", AckPolicy: server.AckExplicit, FilterSubjects: []string{"a.>", "b"}, DeliverSubject: "out",
		},
		ConsumerState: &server.ConsumerState{
			Delivered:   server.SequencePair{Consumer: 12, Stream: 1<<62 + 1},
			AckFloor:    server.SequencePair{Consumer: 3, Stream: 4},
			Pending:     map[uint64]*server.Pending{5: {Sequence: 4, Timestamp: 1}, 6: {Sequence: 5, Timestamp: 2}, 7: nil},
			Redelivered: map[uint64]uint64{5: 2},
		},
	}
	raw, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseConsumer(raw)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.FilterSubjects, " ") != "a.> b" {
		t.Errorf("filters %q", got.FilterSubjects)
	}
	got.FilterSubjects = nil
	want := ConsumerState{
		Name: "worker", Durable: "worker", DeliverSubject: "out", AckPolicy: "explicit",
		Delivered: SequencePair{12, 1<<62 + 1}, AckFloor: SequencePair{3, 4}, AckPending: 3, Redelivered: 1,
	}
	if !equalConsumer(got, want) {
		t.Fatalf("\n got %+v\nwant %+v", got, want)
	}
}

func equalConsumer(a, b ConsumerState) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func TestParseConsumerOfOneFilter(t *testing.T) {
	c, err := ParseConsumer([]byte(`{"config":{"filter_subject":"a.b","future":[]},"state":{"pending":null,"redelivered":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.FilterSubjects) != 1 || c.FilterSubjects[0] != "a.b" || c.AckPending != 0 || c.Redelivered != 0 {
		t.Fatalf("%+v", c)
	}
}

func TestParseConsumerRefuses(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":          ``,
		"no object":        `"x"`,
		"no config":        `{"state":{}}`,
		"no state":         `{"config":{}}`,
		"null state":       `{"config":{},"state":null}`,
		"pending a list":   `{"config":{},"state":{"pending":[1]}}`,
		"redelivered a 1":  `{"config":{},"state":{"redelivered":1}}`,
		"floor a string":   `{"config":{},"state":{"ack_floor":"1"}}`,
		"negative floor":   `{"config":{},"state":{"ack_floor":{"stream_seq":-1}}}`,
		"something behind": `{"config":{},"state":{}} {}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseConsumer([]byte(raw)); !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
		})
	}
}

func TestReduced(t *testing.T) {
	for _, c := range []struct{ name, raw, want string }{
		{"usual", `{"messages":5,"bytes":90,"first_seq":1,"last_seq":9,"num_subjects":2,"num_deleted":4,"consumer_count":7}`,
			`{"messages":3,"bytes":50,"first_seq":4,"last_seq":9,"num_deleted":3,"consumer_count":7}`},
		{"nothing was deleted before", `{"messages":5,"bytes":90,"first_seq":1,"last_seq":9}`, `{"messages":3,"bytes":50,"first_seq":4,"last_seq":9,"num_deleted":3}`},
		{"what tells of messages", ` { "Subjects":{"secret.a":1}, "messages" : 5,"deleted":[7],"lost":{"msgs":[1]},"bytes":90,"first_seq":1,"last_seq":9,"future":[1, 2]}`,
			`{"messages":3,"bytes":50,"first_seq":4,"last_seq":9,"future":[1, 2],"num_deleted":3}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseState([]byte(c.raw))
			if err != nil {
				t.Fatal(err)
			}
			s.Messages, s.Bytes, s.FirstSeq = 3, 50, 4
			got, err := s.Reduced([]byte(c.raw))
			if err != nil || string(got) != c.want {
				t.Errorf("%s %v, want %s", got, err, c.want)
			}
		})
	}
	s := State{FirstSeq: 10, LastSeq: 9}
	if got, err := s.Reduced([]byte(`{"messages":1,"first_seq":9,"last_seq":9}`)); err != nil || string(got) != `{"messages":0,"first_seq":10,"last_seq":9}` {
		t.Errorf("an empty stream: %s %v", got, err)
	}
	if _, err := s.Reduced([]byte(`[]`)); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}
