package restore

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/internal/chance"
)

// waiting is a consumer with n messages that wait, without those that leave says, in the order of a server or shuffled.
func waiting(n int, spacing string, shuffle *rand.Rand, leave func(i int) bool) json.RawMessage {
	var b strings.Builder
	b.Grow(80 * n)
	b.WriteString(`{"config":{"durable_name":"c","metadata":{"_nats.level":"1"}},"state":{"delivered":{"consumer_seq":9007199254740993,"stream_seq":9},"pending":{`)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if shuffle != nil {
		shuffle.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	comma := ""
	for _, i := range order {
		if leave != nil && leave(i) {
			continue
		}
		fmt.Fprintf(&b, `%s"%d":%s{"Sequence":%d,"Timestamp":17953416000000000%02d}`, comma, i+1, spacing, i+1, i%100)
		comma = ","
	}
	b.WriteString(`}}}`)
	return json.RawMessage(b.String())
}

// TestCompareLarge compares consumers with many messages that wait: exactly, in whichever order, and with far less memory
// than they would take as values.
func TestCompareLarge(t *testing.T) {
	n := 50_000
	if os.Getenv("JETSAM_PROOF") != "" {
		n = 1_000_000
	}
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	want := waiting(n, "", nil, nil)
	other := func(old, with string) json.RawMessage {
		return json.RawMessage(strings.Replace(string(want), old, with, 1))
	}
	for _, c := range []struct {
		name string
		got  json.RawMessage
		says string
		n    int
	}{
		{"as it was", slices.Clone(want), "", 0},
		{"with spaces", waiting(n, " ", nil, nil), "", 0},
		{"shuffled", waiting(n, "", r, nil), "", 0},
		{"what the server adds", other(`"_nats.level":"1"`, `"_nats.level":"2","_nats.ver":"3"`), "", 0},
		{"first is missing", waiting(n, "", nil, func(i int) bool { return i == 0 }), "state pending 1 Sequence", 2},
		{"last is missing", waiting(n, "", nil, func(i int) bool { return i == n-1 }), fmt.Sprintf("pending %d ", n), 2},
		{"half is missing", waiting(n, "", r, func(i int) bool { return i%2 == 1 }), "pending", n},
		{"one time differs", other(`"Timestamp":1795341600000000042`, `"Timestamp":1795341600000000043`), "pending 43 Timestamp is 1795341600000000043, in the snapshot 1795341600000000042", 1},
		{"beyond floating point", other("9007199254740993", "9007199254740992"), "delivered consumer_seq", 1},
		{"a field of the future", other(`"stream_seq":9`, `"stream_seq":9,"future":{"a":[1]}`), "delivered future a", 1},
		{"nothing waits", waiting(0, "", nil, nil), "pending", 2 * n},
		{"another kind", json.RawMessage(`{"config":{"durable_name":"c"},"state":[1]}`), "state is [1], in the snapshot {", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var diff DifferenceError
			extra := grown(func() { compareJSON("consumer c", want, c.got, &diff) })
			if diff.Count != c.n || c.says != "" && !strings.Contains(diff.Error(), c.says) {
				t.Errorf("%d differences, want %d, and %q: %.1000s", diff.Count, c.n, c.says, diff.Error())
			}
			if extra > 200*n+8<<20 {
				t.Errorf("it takes %d MiB", extra>>20)
			}
			t.Logf("%d MiB beside documents of %d MiB", extra>>20, (len(want)+len(c.got))>>20)
		})
	}
}

// grown is how many bytes more the heap had while f ran, at most, with a collector that runs often.
func grown(f func()) int {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, peak := m.HeapAlloc, uint64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			select {
			case <-stop:
				return
			default:
				time.Sleep(5 * time.Millisecond)
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	return int(peak) - int(min(peak, before))
}

// TestCompareIsTheSameForAllSizes: what is too large to be decoded is compared like what is not.
func TestCompareIsTheSameForAllSizes(t *testing.T) {
	filler := strings.Repeat("x", smallValue)
	for _, c := range []struct {
		want, got string
		same      bool
	}{
		{`1`, `1`, true}, {`1`, `1.0`, false}, {`1e3`, `1000`, false}, {`"a"`, `"\u0061"`, true}, {`null`, `{}`, true}, {`null`, `[]`, false},
		{`{"a":null}`, `{}`, true}, {`{"a":1}`, `{}`, false}, {`{"a":1,"b":2}`, `{"b":2,"a":1}`, true}, {`{"a":1,"a":2}`, `{"a":2}`, true},
		{`{"\u0061":1}`, `{"a":1}`, true}, {`{"_nats.x":1}`, `{"_nats.x":2}`, true}, {`{"A":1}`, `{"a":1}`, false}, {`[{"a":1,"b":2}]`, `[{"b":2,"a":1}]`, true},
		{`[{"a":null}]`, `[{}]`, false}, {`[1,2]`, `[2,1]`, false}, {`[1]`, `[1,1]`, false}, {`[ ]`, `[]`, true}, {`{"a":{}}`, `{"a":null}`, true},
		{`18446744073709551615`, `18446744073709551616`, false}, {`true`, `false`, false}, {`"]}"`, `"]}"`, true}, {`{"a,\"}":[1]}`, `{ "a,\"}" : [ 1 ] }`, true},
	} {
		for form, wrap := range map[string]func(string) string{
			"small":       func(v string) string { return `{"v":` + v + `}` },
			"object":      func(v string) string { return `{"v":` + v + `,"filler":"` + filler + `"}` },
			"other order": func(v string) string { return `{"filler":"` + filler + `","v":` + v + `}` },
			"deep":        func(v string) string { return `{"o":{"filler":"` + filler + `","v":` + v + `}}` },
		} {
			got := wrap(c.got)
			if form == "other order" {
				got = `{"v":` + c.got + `,"filler":"` + filler + `"}`
			}
			var diff DifferenceError
			compareJSON("it", json.RawMessage(wrap(c.want)), json.RawMessage(got), &diff)
			if (diff.Count == 0) != c.same {
				t.Errorf("%s and %s, %s: %d differences", c.want, c.got, form, diff.Count)
			}
		}
		array := func(v string) json.RawMessage { return json.RawMessage(`["` + filler + `",` + v + `]`) }
		lenient := strings.Contains(c.want+c.got, "null") || strings.Contains(c.want, "_nats")
		var diff DifferenceError
		if compareJSON("it", array(c.want), array(c.got), &diff); !lenient && (diff.Count == 0) != c.same {
			t.Errorf("%s and %s in an array: %d differences", c.want, c.got, diff.Count)
		}
	}
}
