package archive

import (
	"strings"
	"testing"
)

func TestRaise(t *testing.T) {
	const config = `{"config":{"durable_name":"C", "new":[1]},"state":`
	tests := []struct {
		name        string
		state, want string // want is empty where nothing changes
	}{
		{"stands at the first message",
			`{"delivered":{"consumer_seq":5,"stream_seq":99},"ack_floor":{"consumer_seq":5,"stream_seq":99}}`, ""},
		{"all acknowledged below it",
			`{"delivered":{"consumer_seq":36,"stream_seq":48}, "ack_floor":{"consumer_seq":36,"stream_seq":48},"new":1}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":99}, "ack_floor":{"consumer_seq":36,"stream_seq":99},"new":1}`},
		{"waits only for what is gone",
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"41":{"sequence":31,"ts":1},"48":{"sequence":36,"ts":1}},"redelivered":{"41":2}}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":99},"ack_floor":{"consumer_seq":36,"stream_seq":99},"pending":{},"redelivered":{}}`},
		{"waits for what is gone and what is there",
			`{"delivered":{"consumer_seq":60,"stream_seq":150},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"41":{"sequence":31,"ts":1},"100": {"sequence":50, "ts":1},"150":{"sequence":60,"ts":1}},"redelivered":{"41":2,"100":3}}`,
			`{"delivered":{"consumer_seq":60,"stream_seq":150},"ack_floor":{"consumer_seq":31,"stream_seq":99},"pending":{"100":{"sequence":50, "ts":1},"150":{"sequence":60,"ts":1}},"redelivered":{"100":3}}`},
		{"a floor below, nothing waits",
			`{"delivered":{"consumer_seq":60,"stream_seq":150},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":null}`,
			`{"delivered":{"consumer_seq":60,"stream_seq":150},"ack_floor":{"consumer_seq":60,"stream_seq":150},"pending":null}`},
		{"never delivered anything", `{}`,
			`{"delivered":{"consumer_seq":0,"stream_seq":99},"ack_floor":{"consumer_seq":0,"stream_seq":99}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if want == "" {
				want = tt.state
			}
			got, raised, err := Consumer{Name: "C", JSON: []byte(config + tt.state + "}")}.Raise(100)
			if err != nil || raised != (tt.want != "") || string(got.JSON) != config+want+"}" {
				t.Errorf("%v, %v\n got %s\nwant %s", raised, err, got.JSON, config+want+"}")
			}
		})
	}
	if _, _, err := (Consumer{JSON: []byte(config + `{"pending":{"x":{}}}}`)}).Raise(100); err == nil {
		t.Error("a message without a sequence was accepted")
	}
}

// A consumer may repeat names as often as it likes: only the last of each counts, and the others cost neither time nor memory.
func TestRaiseRepeatedNames(t *testing.T) {
	const n = 200_000
	state := `{"delivered":{"consumer_seq":3,"stream_seq":48},` + strings.Repeat(`"delivered":{},`, n) + `"ack_floor":{}}`
	raw := `{"config":{},` + strings.Repeat(`"state":{},`, n) + `"state":` + state + `}`
	up, raised, err := Consumer{JSON: []byte(raw)}.Raise(100)
	if err != nil || !raised {
		t.Fatal(raised, err)
	}
	if len(up.JSON) > 2*len(raw) {
		t.Errorf("%d bytes became %d", len(raw), len(up.JSON))
	}
	s, err := ParseConsumer(up.JSON)
	if want := (SequencePair{3, 99}); err != nil || s.Delivered != want || s.AckFloor != want {
		t.Errorf("%+v, %v", s, err)
	}
}
