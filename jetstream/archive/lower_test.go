package archive

import "testing"

func TestLower(t *testing.T) {
	const config = `{"config":{"durable_name":"C", "new":[1]},"state":`
	for _, tt := range []struct {
		name        string
		state, want string // want is empty where nothing changes
	}{
		{"waits for nothing", `{"delivered":{"consumer_seq":5,"stream_seq":9},"ack_floor":{"consumer_seq":5,"stream_seq":9}}`, ""},
		{"waits above the floor",
			`{"delivered":{"consumer_seq":5,"stream_seq":9},"ack_floor":{"consumer_seq":3,"stream_seq":7},"pending":{"8":{"Sequence":4},"9":{"Sequence":5}}}`, ""},
		{"a delivery that was counted before", // as after many were delivered again
			`{"delivered":{"consumer_seq":5,"stream_seq":9},"ack_floor":{"consumer_seq":3,"stream_seq":7},"pending":{"8":{"Sequence":2}}}`, ""},
		{"waits below the floor",
			`{"delivered":{"consumer_seq":6,"stream_seq":9}, "ack_floor":{"consumer_seq":5,"stream_seq":8},"pending":{"9":{"Sequence":6},"3":{"Sequence":2},"4":{"Sequence":1}},"new":1}`,
			`{"delivered":{"consumer_seq":6,"stream_seq":9}, "ack_floor":{"consumer_seq":0,"stream_seq":2},"pending":{"9":{"Sequence":6},"3":{"Sequence":2},"4":{"Sequence":1}},"new":1}`},
		{"waits at the floor, nobody says for which delivery",
			`{"delivered":{"consumer_seq":6,"stream_seq":9},"ack_floor":{"consumer_seq":5,"stream_seq":8},"pending":{"8":null}}`,
			`{"delivered":{"consumer_seq":6,"stream_seq":9},"ack_floor":{"consumer_seq":5,"stream_seq":7},"pending":{"8":null}}`},
		{"never delivered anything", `{}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if want == "" {
				want = tt.state
			}
			got, lowered, err := Consumer{Name: "C", JSON: []byte(config + tt.state + "}")}.Lower()
			if err != nil || lowered != (tt.want != "") || string(got.JSON) != config+want+"}" {
				t.Errorf("%v, %v\n got %s\nwant %s", lowered, err, got.JSON, config+want+"}")
			}
		})
	}
	for _, pending := range []string{`{"x":{}}`, `{"5":{"Sequence":"x"}}`} {
		if _, _, err := (Consumer{JSON: []byte(config + `{"pending":` + pending + `}}`)}).Lower(); err == nil {
			t.Errorf("%s was accepted", pending)
		}
	}
}
