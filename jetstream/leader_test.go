package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/jetstream"
)

// ledBy is an answer of a cluster about stream S, of so many messages.
func ledBy(leader string, messages int) string {
	return fmt.Sprintf(`{"config":{"name":"S"},"state":{"messages":%d,"first_seq":1,"last_seq":%d},"cluster":{"name":"C","leader":%q}}`, messages, messages, leader)
}

// TestStreamWithoutALeader: while the servers of a stream elect a leader, one that lacks messages may answer. It is asked again, and not believed.
func TestStreamWithoutALeader(t *testing.T) {
	for _, way := range []string{"plainly", "with what is deleted"} {
		t.Run(way, func(t *testing.T) {
			script := newScript(t)
			var leader atomic.Value
			leader.Store("")
			var asked atomic.Int32
			script.answer(t, "$JS.API.STREAM.INFO.S", func([]byte) string {
				if asked.Add(1) == 3 && leader.Load() != "" {
					return ledBy("n1", 10)
				}
				return ledBy("", 7)
			})
			c := connect(t, jetstream.Config{Servers: script.url, Timeout: 2 * time.Second})
			look := func() (*jetstream.StreamInfo, error) {
				if way == "plainly" {
					return c.Stream(t.Context(), "S")
				}
				s, _, err := c.StreamDeleted(t.Context(), "S")
				return s, err
			}
			_, err := look()
			wantError(t, err, jetstream.ErrNoLeader)
			wantError(t, err, jetstream.ErrUnreachable)
			leader.Store("n1")
			asked.Store(0)
			s, err := look()
			if err != nil || s.Messages != 10 {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// TestManyStreamsWithoutALeader: where many streams are on a server that is away, they are asked for together, and do not wait for one another.
func TestManyStreamsWithoutALeader(t *testing.T) {
	script := newScript(t)
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf(`"S%d"`, i))
	}
	script.answer(t, "$JS.API.STREAM.LIST", func([]byte) string {
		return fmt.Sprintf(`{"total":40,"limit":256,"streams":[],"missing":[%s]}`, strings.Join(names, ","))
	})
	var at, most atomic.Int32
	script.answer(t, "$JS.API.STREAM.INFO.S0", func([]byte) string { return strings.Replace(ledBy("n1", 1), `"S"`, `"S0"`, 1) })
	for i := 1; i < 40; i++ {
		_, err := script.nc.Subscribe(fmt.Sprintf("$JS.API.STREAM.INFO.S%d", i), func(m *nats.Msg) {
			most.Store(max(most.Load(), at.Add(1)))
			time.AfterFunc(100*time.Millisecond, func() {
				at.Add(-1)
				_ = m.Respond([]byte(`{"error":{"code":503,"err_code":10118,"description":"stream is offline"}}`))
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := script.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	all, err := connect(t, jetstream.Config{Servers: script.url}).Streams(t.Context())
	var missing *jetstream.MissingError
	if !errors.As(err, &missing) || len(missing.Reasons) != 39 || len(all) != 1 {
		t.Fatalf("%d streams, %v", len(all), err)
	}
	wantError(t, missing.Reasons["S7"], jetstream.ErrNoLeader)
	if n := most.Load(); n < 2 || n > 16 {
		t.Errorf("%d were asked for at a time", n)
	}
}

// TestSameStream tells a stream from one that was made anew, also where the servers of a cluster do not agree on when it was created.
func TestSameStream(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	look := func(created int, leader string, first, last uint64, firstTime, lastTime int) *jetstream.StreamInfo {
		s := &jetstream.StreamInfo{Created: at(created)}
		if leader != "" {
			s.Cluster = &jetstream.ClusterInfo{Name: "C", Leader: leader}
		}
		s.FirstSeq, s.LastSeq, s.FirstTime, s.LastTime = first, last, at(firstTime), at(lastTime)
		return s
	}
	restored := look(100, "n1", 5, 9, 50, 60)
	for name, c := range map[string]struct {
		was, is *jetstream.StreamInfo
		same    bool
	}{
		"nothing happened":             {restored, restored, true},
		"another leads it":             {restored, look(130, "n2", 5, 9, 50, 60), true},
		"and messages came":            {restored, look(130, "n2", 5, 12, 50, 140), true},
		"and messages went":            {restored, look(130, "n2", 7, 9, 55, 60), true},
		"made anew":                    {restored, look(130, "n1", 5, 9, 50, 60), false},
		"made anew elsewhere, shorter": {restored, look(130, "n2", 1, 3, 131, 132), false},
		"made anew elsewhere, first":   {restored, look(130, "n2", 5, 12, 131, 140), false},
		"made anew elsewhere, last":    {restored, look(130, "n2", 7, 9, 131, 140), false},
		"made anew elsewhere, back":    {restored, look(130, "n2", 7, 8, 131, 140), false},
		"never restored":               {look(100, "n1", 5, 9, 110, 120), look(130, "n2", 5, 12, 110, 140), false},
		"on a lone server":             {look(100, "", 5, 9, 50, 60), look(130, "", 5, 9, 50, 60), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.was.IsSame(c.is); got != c.same {
				t.Errorf("same: %v", got)
			}
		})
	}
}
