package archive

import (
	"strings"
	"testing"
)

// FuzzConsumer: the JSON of a consumer is read without counting more than it has room for, or is one of our errors.
func FuzzConsumer(f *testing.F) {
	f.Add([]byte(`{"config":{"name":"C","durable_name":"C","ack_policy":"explicit","filter_subjects":["a","b.>"]},"state":{"delivered":{"consumer_seq":3,"stream_seq":18446744073709551615},"ack_floor":{},"pending":{"1":{"sequence":1,"ts":2}},"redelivered":{"1":2}}}`))
	f.Add([]byte(`{"config":{},"state":{"pending":null,"redelivered":[]}}`))
	f.Add([]byte(`{"config":null}`))
	f.Add([]byte(`{"config":{},"State":{"delivered":{"consumer_seq":7,"stream_seq":120},"ack_floor":{"consumer_seq":1,"stream_seq":90},"pending":{"95":{"sequence":9},"120":{"sequence":7}},"redelivered":{"95":2,"120":3}}}`))
	f.Add([]byte(`{"config":{"filter_subjects":[` + strings.Repeat(`"",`, 50) + `""],"filter_subject":"x"},"state":{"pending":{"a":{"b":{}}}}}`))
	f.Add([]byte(strings.Repeat(`{"config":`, 70) + strings.Repeat(`}`, 70)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConsumer(raw)
		if err != nil {
			wantOurs(t, err)
			return
		}
		if c.AckPending+c.Redelivered+len(c.FilterSubjects) > len(raw) {
			t.Fatalf("%d pending, %d redelivered, %d filters in %d bytes", c.AckPending, c.Redelivered, len(c.FilterSubjects), len(raw))
		}
		const first = 100
		up, raised, err := Consumer{JSON: raw}.Raise(first)
		if err != nil {
			wantOurs(t, err)
			return
		}
		if len(up.JSON) > 4*len(raw)+200 { // null is four times as long as a digit
			t.Fatalf("%d bytes became %d", len(raw), len(up.JSON))
		}
		high, err := ParseConsumer(up.JSON)
		if err != nil || high.AckFloor.Stream < first-1 || raised && high.AckFloor.Stream > high.Delivered.Stream || high.AckPending > c.AckPending {
			t.Fatalf("raised %v to %+v, %v: %s", raised, high, err, up.JSON)
		}
		if _, again, err := up.Raise(first); again || err != nil {
			t.Fatalf("raised twice, or %v: %s", err, up.JSON)
		}
	})
}

// FuzzConsumerCut: a consumer that is cut is one that a reader takes, stands nowhere beyond the cut, and does not change when it is cut again;
// other filters change nothing else of it.
func FuzzConsumerCut(f *testing.F) {
	f.Add([]byte(`{"config":{"opt_start_seq":150},"state":{"delivered":{"consumer_seq":7,"stream_seq":120},"ack_floor":{"consumer_seq":1,"stream_seq":90},"pending":{"95":{"sequence":2},"120":{"Sequence":7}},"redelivered":{"95":2,"120":3}}}`))
	f.Add([]byte(`{"config":{"filter_subjects":["a","b.>"],"filter_subject":"x"},"state":{"pending":null,"redelivered":[]}}`))
	f.Add([]byte(`{"config":{},"state":{},"Config":{"Opt_Start_Seq":18446744073709551615},"STATE":{"Pending":{"7":1,"7":{}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		const last = 100
		kept := func(seq uint64) bool { return seq%3 > 0 }
		cut, _, err := Consumer{JSON: raw}.Cut(last, kept)
		if err != nil {
			wantOurs(t, err)
			return
		}
		c, err := ParseConsumer(cut.JSON)
		if err != nil || c.Delivered.Stream > last || c.AckFloor.Stream > last || c.StartSeq > last+1 {
			t.Fatalf("cut to %+v, %v: %s", c, err, cut.JSON)
		}
		err = cut.Waiting(func(seq uint64) {
			if seq > last || !kept(seq) {
				t.Fatalf("waits for %d: %s", seq, cut.JSON)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, again, err := cut.Cut(last, kept); again || err != nil {
			t.Fatalf("cut twice, or %v: %s", err, cut.JSON)
		}
		other, err := cut.WithFilters(func(s string) string { return "new." + s })
		if err != nil {
			wantOurs(t, err)
			return
		}
		o, err := ParseConsumer(other.JSON)
		if err != nil || len(o.FilterSubjects) != len(c.FilterSubjects) || o.Delivered != c.Delivered {
			t.Fatalf("filters %q became %q, %v: %s", c.FilterSubjects, o.FilterSubjects, err, other.JSON)
		}
	})
}

// A filter of a consumer takes three bytes in JSON, and sixteen at least in memory.
func TestFiltersAreBounded(t *testing.T) {
	raw := []byte(`{"config":{"filter_subjects":[` + strings.Repeat(`"",`, MaxFilters+1) + `""]},"state":{}}`)
	if _, err := ParseConsumer(raw); err == nil {
		t.Error("accepted")
	} else {
		wantOurs(t, err)
	}
}
