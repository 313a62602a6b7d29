package archive

import (
	"slices"
	"testing"
)

func TestCut(t *testing.T) {
	const config = `{"config":{"durable_name":"C", "new":[1]},"state":`
	tests := []struct {
		name        string
		last        uint64
		gone        []uint64
		state, want string // want is empty where nothing changes
	}{
		{"stands below the cut", 100, nil,
			`{"delivered":{"consumer_seq":36,"stream_seq":48}, "ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"41":{"sequence":31,"ts":1}}}`, ""},
		{"has acknowledged all, beyond the cut", 40, nil,
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":36,"stream_seq":48},"pending":null,"new":1}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":40},"ack_floor":{"consumer_seq":36,"stream_seq":40},"pending":null,"new":1}`},
		{"waits above the cut only: what is below is acknowledged", 45, nil,
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"46":{"sequence":34,"ts":1},"48":{"sequence":36,"ts":1}},"redelivered":{"46":2}}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":45},"ack_floor":{"consumer_seq":36,"stream_seq":45},"pending":{},"redelivered":{}}`},
		{"waits on both sides", 45, nil,
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"41": {"sequence":31, "ts":1},"48":{"sequence":36,"ts":1}},"redelivered":{"41":2,"48":3}}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":45},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"41":{"sequence":31, "ts":1}},"redelivered":{"41":2}}`},
		{"what it waits for first is left out", 100, []uint64{41},
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"41":{"sequence":31,"ts":1},"46":{"sequence":34,"ts":1}},"redelivered":{"41":2}}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":33,"stream_seq":45},"pending":{"46":{"sequence":34,"ts":1}},"redelivered":{}}`},
		{"all that it waits for is left out", 100, []uint64{41, 46},
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"41":{"sequence":31,"ts":1},"46":{"sequence":34,"ts":1}}}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":36,"stream_seq":48},"pending":{}}`},
		{"the order of the entries is any", 100, []uint64{45},
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":30,"stream_seq":40},"pending":{"48":{"sequence":36,"ts":1},"45":{"sequence":33,"ts":1},"43":{"sequence":32,"ts":1}}}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":31,"stream_seq":42},"pending":{"48":{"sequence":36,"ts":1},"43":{"sequence":32,"ts":1}}}`},
		{"a stream cut to nothing", 0, nil,
			`{"delivered":{"consumer_seq":36,"stream_seq":48},"ack_floor":{"consumer_seq":36,"stream_seq":48}}`,
			`{"delivered":{"consumer_seq":36,"stream_seq":0},"ack_floor":{"consumer_seq":36,"stream_seq":0}}`},
		{"never delivered anything", 7, nil, `{}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if want == "" {
				want = tt.state
			}
			c := Consumer{Name: "C", JSON: []byte(config + tt.state + "}")}
			got, changed, err := c.Cut(tt.last, func(seq uint64) bool { return !slices.Contains(tt.gone, seq) })
			if err != nil || changed != (tt.want != "") || string(got.JSON) != config+want+"}" {
				t.Errorf("%v, %v\n got %s\nwant %s", changed, err, got.JSON, config+want+"}")
			}
			if _, again, err := got.Cut(tt.last, func(seq uint64) bool { return !slices.Contains(tt.gone, seq) }); again || err != nil {
				t.Errorf("cut again: %v, %v", again, err)
			}
		})
	}
	late := Consumer{JSON: []byte(`{"config":{"opt_start_seq":900,"a":1},"state":{"delivered":{"consumer_seq":0,"stream_seq":899},"ack_floor":{"consumer_seq":0,"stream_seq":899}}}`)}
	const early = `{"config":{"opt_start_seq":501,"a":1},"state":{"delivered":{"consumer_seq":0,"stream_seq":500},"ack_floor":{"consumer_seq":0,"stream_seq":500}}}`
	if got, changed, err := late.Cut(500, func(uint64) bool { return true }); err != nil || !changed || string(got.JSON) != early {
		t.Errorf("one that begins beyond the cut: %v, %v, %s", changed, err, got.JSON)
	}
	for _, state := range []string{`{"pending":{"x":{}}}`, `{"redelivered":{"-1":2}}`, `{"pending":{"5":{"sequence":-1}}}`} {
		if _, _, err := (Consumer{JSON: []byte(config + state + "}")}).Cut(100, func(uint64) bool { return true }); err == nil {
			t.Errorf("%s was accepted", state)
		}
	}
}

func TestWaiting(t *testing.T) {
	var got []uint64
	c := Consumer{JSON: []byte(`{"config":{},"state":{"pending":{"5":{},"9223372036854775808":{},"7":1}}}`)}
	if err := c.Waiting(func(seq uint64) { got = append(got, seq) }); err != nil || !slices.Equal(got, []uint64{5, 1 << 63, 7}) {
		t.Error(got, err)
	}
	for _, text := range []string{`[]`, `{"config":{},"state":{"pending":{"x":1}}}`} {
		if err := (Consumer{JSON: []byte(text)}).Waiting(func(uint64) {}); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

func TestWithFilters(t *testing.T) {
	spell := func(s string) string { return "new." + s }
	for in, want := range map[string]string{
		`{"config":{"a":1},"state":{}}`:                                              `{"config":{"a":1},"state":{}}`,
		`{"config":{"filter_subject":"a", "b":2},"state":{ }}`:                       `{"config":{"filter_subject":"new.a", "b":2},"state":{ }}`,
		`{"config":{"filter_subjects":["a","b.>"]},"state":{}}`:                      `{"config":{"filter_subjects":["new.a","new.b.>"]},"state":{}}`,
		`{"config":{"filter_subjects":null,"Filter_Subject":"\u0061"},"state":null}`: `{"config":{"filter_subjects":null,"Filter_Subject":"new.a"},"state":null}`,
	} {
		if got, err := (Consumer{JSON: []byte(in)}).WithFilters(spell); err != nil || string(got.JSON) != want {
			t.Errorf("%s became %s, %v, want %s", in, got.JSON, err, want)
		}
	}
	for _, bad := range []string{`[]`, `{"config":1}`, `{}`, `{"config":{"filter_subjects":1}}`} {
		if _, err := (Consumer{JSON: []byte(bad)}).WithFilters(spell); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}
