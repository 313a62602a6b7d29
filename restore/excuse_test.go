package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"jetsam/jetstream/archive"
)

// TestCompareSalvaged: that a server forgot lost messages is no difference; that it forgot others, or passed over them, is.
func TestCompareSalvaged(t *testing.T) {
	const state = `{"config":{"durable_name":"c"},"state":{"delivered":{"consumer_seq":9,"stream_seq":9},"ack_floor":{"consumer_seq":%d,"stream_seq":%d},"pending":%s}}`
	consumer := func(floor int, pending string) []archive.Consumer {
		return []archive.Consumer{{Name: "c", JSON: json.RawMessage(fmt.Sprintf(state, floor, floor, pending))}}
	}
	want := consumer(2, `{"3":{"Sequence":3},"4":{"Sequence":4},"7":{"Sequence":7}}`)
	lost := &DamageError{Lost: []Loss{{First: 1, Last: 4}}}
	for _, c := range []struct {
		name string
		got  []archive.Consumer
		same bool
	}{
		{"as it was", want, true},
		{"forgot what is lost", consumer(6, `{"7":{"Sequence":7}}`), true},
		{"forgot some of it", consumer(2, `{"4":{"Sequence":4},"7":{"Sequence":7}}`), true},
		{"forgot what is there", consumer(6, `null`), false},
		{"passed over what waits", consumer(7, `{"7":{"Sequence":7}}`), false},
		{"went back", consumer(1, `{"7":{"Sequence":7}}`), false},
		{"beyond what was delivered", consumer(10, `{"7":{"Sequence":7}}`), false},
		{"waits for more", consumer(6, `{"7":{"Sequence":7},"8":{"Sequence":8}}`), false},
		{"is gone", nil, false},
		{"another as well", append(consumer(2, `{}`), archive.Consumer{Name: "d", JSON: json.RawMessage(`{}`)}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			diff := &DifferenceError{}
			compareSalvaged(want, c.got, lost, diff)
			if (diff.Count == 0) != c.same {
				t.Errorf("differences: %q", diff.Differences)
			}
		})
	}
}

// TestLossesJoin: a run of losses has the widest times and the sum of the messages, unless one of them is not known.
func TestLossesJoin(t *testing.T) {
	known := Loss{First: 1, Last: 4, Messages: 3, From: unix(10), To: unix(20), Reason: errTest}
	for _, c := range []struct {
		name string
		next Loss
		want string
	}{
		{"known", Loss{First: 5, Last: 9, Messages: 5, From: unix(5), To: unix(15)}, "messages 1 to 9 (8 messages, 1970-01-01 00:00:05 to 1970-01-01 00:00:20 UTC) are lost: rot (and 1 more such reasons)"},
		{"number is lost", Loss{First: 5, Last: 9, To: unix(30)}, "messages 1 to 9 (up to 1970-01-01 00:00:30 UTC) are lost: rot (and 1 more such reasons)"},
		{"all is lost", Loss{First: 5, Last: 9}, "messages 1 to 9 are lost: rot (and 1 more such reasons)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := known.join(c.next).String(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

var errTest = errors.New("rot")

func unix(s int64) time.Time { return time.Unix(s, 0) }
