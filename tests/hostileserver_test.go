package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage/mem"
)

// hostile plays a JetStream on a server that has none: it says whatever a test wants.
type hostile struct {
	url  string
	nc   *nats.Conn
	done chan struct{} // closed when the test ends
}

func newHostile(t testing.TB) *hostile {
	t.Helper()
	srv, err := natsd.Start(natsd.Options{MaxPayload: 64 << 20})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	nc, err := nats.Connect(srv.URL())
	must(t, err)
	h := &hostile{srv.URL(), nc, make(chan struct{})}
	t.Cleanup(nc.Close)
	t.Cleanup(func() { close(h.done) })
	return h
}

// on answers all requests to subject with what f returns.
func (h *hostile) on(t testing.TB, subject string, f func(request []byte) string) {
	t.Helper()
	_, err := h.nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(f(m.Data))) })
	must(t, err)
	must(t, h.nc.Flush())
}

// memoryRepo is a repository that costs no disk.
func memoryRepo(t testing.TB) *repo.Repo {
	t.Helper()
	r, err := repo.Init(t.Context(), mem.New(), secret.New(password), repo.Options{KDF: cheapKDF})
	must(t, err)
	return r
}

const hostileState = `{"messages":3,"bytes":300,"first_seq":1,"last_seq":3,"first_ts":"2026-01-01T00:00:00Z","last_ts":"2026-01-01T00:00:03Z","consumer_count":0}`

const hostileInfo = `{"config":{"name":"S","subjects":["s"],"storage":"file"},"created":"2026-01-01T00:00:00Z","state":` + hostileState + `}`

// account has one stream, S, of three messages. Its snapshot begins with the answer and is what send sends to deliver.
func (h *hostile) account(t testing.TB, answer string, send func(deliver string)) {
	t.Helper()
	h.on(t, "$JS.API.INFO", func([]byte) string { return `{"streams":1}` })
	h.on(t, "$JS.API.STREAM.LIST", func([]byte) string { return `{"total":1,"offset":0,"limit":256,"streams":[` + hostileInfo + `]}` })
	h.on(t, "$JS.API.STREAM.INFO.S", func([]byte) string { return hostileInfo })
	_, err := h.nc.Subscribe("$JS.API.STREAM.SNAPSHOT.S", func(m *nats.Msg) {
		var request struct {
			Deliver string `json:"deliver_subject"`
		}
		if err := json.Unmarshal(m.Data, &request); err != nil {
			t.Error(err)
		}
		_ = m.Respond([]byte(answer))
		go send(request.Deliver)
	})
	must(t, err)
	must(t, h.nc.Flush())
}

// chunk sends a chunk, and reports whether the test still goes on.
func (h *hostile) chunk(deliver string, index int, data []byte) bool {
	select {
	case <-h.done:
		return false
	default:
	}
	err := h.nc.PublishMsg(&nats.Msg{Subject: deliver, Reply: fmt.Sprintf("$JS.SNAPSHOT.ACK.S.x.%d.%d", len(data), index), Data: data})
	return err == nil && h.nc.Flush() == nil
}

func (h *hostile) end(deliver, status, text string) {
	_ = h.nc.PublishMsg(&nats.Msg{Subject: deliver, Header: nats.Header{"Status": {status}, "Description": {text}}})
	_ = h.nc.Flush()
}

// forged is an archive, framed, as the server's own package writes it: state and messages of these sequences, and the end mark if there is one.
func forged(t testing.TB, state string, mark bool, seqs ...uint64) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := s2.NewWriter(&out)
	w := archive.NewWriter(enc)
	put := func(h archive.Header, body string) {
		h.PayloadSize = int64(len(body))
		must(t, w.WriteHeader(&h))
		_, err := w.Write([]byte(body))
		must(t, err)
	}
	put(archive.Header{Name: "state.json", Timestamp: 1}, state)
	for _, seq := range seqs {
		put(archive.Header{Name: "s", Timestamp: int64(seq), Sequence: seq}, fmt.Sprint("message ", seq))
	}
	if mark {
		put(archive.Header{}, "")
	}
	must(t, w.Flush())
	must(t, enc.Close())
	return out.Bytes()
}

// plainly frames bytes that are no archive.
func plainly(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := s2.NewWriter(&out)
	_, err := enc.Write(plain)
	must(t, err)
	must(t, enc.Close())
	return out.Bytes()
}

// varints is an entry's head as nobody writes it.
func varints(name string, values ...uint64) []byte {
	p := []byte("NATSARC1")
	for _, v := range values {
		for ; v >= 0x80; v >>= 7 {
			p = append(p, byte(v)|0x80)
		}
		p = append(p, byte(v))
	}
	return append(p, name...)
}

// hostileSnapshots are what a server may send for a snapshot of three messages, and a part of what is said of it.
func hostileSnapshots(t testing.TB, h *hostile) map[string]struct {
	answer string
	send   func(deliver string)
	says   string
} {
	type fault = struct {
		answer string
		send   func(deliver string)
		says   string
	}
	good := forged(t, hostileState, true, 1, 2, 3)
	all := func(data []byte) func(string) {
		return func(deliver string) {
			h.chunk(deliver, 1, data)
			h.end(deliver, "204", "")
		}
	}
	long := strings.Repeat("x", 1<<20)
	return map[string]fault{
		"endless": {"", func(deliver string) {
			h.chunk(deliver, 1, forged(t, hostileState, false, 1, 2, 3))
			p := plainly(t, bytes.Repeat([]byte{0}, 1<<20))
			for i := 2; h.chunk(deliver, i, p); i++ {
			}
		}, "end mark"},
		"endless messages": {"", func(deliver string) {
			for i := uint64(1); ; i++ {
				if !h.chunk(deliver, int(i), forged(t, hostileState, false, i)) {
					return
				}
			}
		}, "received 2 messages"},
		"endless empty frames": {"", func(deliver string) {
			h.chunk(deliver, 1, forged(t, hostileState, false, 1))
			p := bytes.Repeat([]byte("\xfe\x00\x00\x00"), 1<<18)
			for i := 2; h.chunk(deliver, i, p); i++ {
			}
		}, "more bytes"},
		"no end":             {"", func(deliver string) { h.chunk(deliver, 1, good) }, "nothing came"},
		"nothing":            {"", func(string) {}, "nothing came"},
		"chunk after end":    {"", func(deliver string) { _ = h.nc.Publish(deliver, good); _ = h.nc.Publish(deliver, good) }, "after the last chunk"},
		"wrong index":        {"", func(deliver string) { h.chunk(deliver, 7, good) }, "chunk 7 came instead of chunk 1"},
		"negative index":     {"", func(deliver string) { h.chunk(deliver, -1, good) }, "chunk -1"},
		"500 at length":      {"", func(deliver string) { h.chunk(deliver, 1, good[:40]); h.end(deliver, "500", long) }, "500 xxx"},
		"end mark missing":   {"", all(forged(t, hostileState, false, 1, 2, 3)), "cut short"},
		"cut in the middle":  {"", all(good[:len(good)/2]), "cut short"},
		"backwards":          {"", all(forged(t, hostileState, true, 1, 3, 2)), "order"},
		"twice the same":     {"", all(forged(t, hostileState, true, 1, 2, 2)), "order"},
		"beyond the state":   {"", all(forged(t, hostileState, true, 1, 2, 9)), "received 3 messages up to sequence 9"},
		"more than counted":  {"", all(forged(t, strings.Replace(hostileState, `"last_seq":3`, `"last_seq":9`, 1), true, 1, 2, 3, 4)), "answered for"},
		"another state":      {"", all(forged(t, strings.Replace(hostileState, `"messages":3`, `"messages":2`, 1), true, 1, 2)), "answered for"},
		"not S2":             {"", all(bytes.Repeat([]byte("garbage "), 1000)), "malformed"},
		"flipped":            {"", all(flipped(good, len(good)/2)), ""},
		"not an archive":     {"", all(plainly(t, []byte("PK\x03\x04 something else altogether"))), "NATSARC1"},
		"name of 2^40":       {"", all(plainly(t, varints("", 1<<40, 0, 0, 0, 0))), "limit"},
		"payload of 2^62":    {"", all(plainly(t, varints("state.json", 10, 2, 0, 0, 1<<62))), "limit"},
		"header of 2^63":     {"", all(plainly(t, varints("state.json", 10, 2, 0, 1<<63, 1<<63))), ""},
		"varint without end": {"", all(plainly(t, append([]byte("NATSARC1"), bytes.Repeat([]byte{0xff}, 100)...))), ""},
		"2^31 consumers": {strings.Replace(snapshotAnswer, `"consumer_count":0`, `"consumer_count":2147483647`, 1),
			all(forged(t, strings.Replace(hostileState, `"consumer_count":0`, `"consumer_count":2147483647`, 1), true)), "consumers"},
		"state of 2^64": {strings.ReplaceAll(snapshotAnswer, ":3,", fmt.Sprintf(":%d,", uint64(math.MaxUint64))),
			all(forged(t, strings.ReplaceAll(hostileState, ":3,", fmt.Sprintf(":%d,", uint64(math.MaxUint64))), true)), ""},
		"deep state":     {`{"config":{"name":"S"},"state":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + `}`, all(good), ""},
		"no state":       {`{"config":{"name":"S"}}`, all(good), ""},
		"another stream": {strings.Replace(snapshotAnswer, `"name":"S"`, `"name":"OTHER"`, 1), all(good), "OTHER"},
		"no answer":      {`not JSON`, all(good), "decode"},
		"bomb":           {"", func(deliver string) { bomb(t, h, deliver) }, ""},
	}
}

const snapshotAnswer = `{"config":{"name":"S","subjects":["s"],"storage":"file"},"state":` + hostileState + `}`

func flipped(p []byte, at int) []byte {
	p = bytes.Clone(p)
	p[at] ^= 1
	return p
}

// bomb sends few bytes that unpack to very many: a message of 64 MiB of zeros and another and another, each a few KiB on the wire.
func bomb(t testing.TB, h *hostile, deliver string) {
	zeros := plainly(t, make([]byte, 64<<20))
	h.chunk(deliver, 1, plainly(t, append(varints("state.json", 10, 2, 0, 0, uint64(len(hostileState))), hostileState...)))
	for i := 2; h.chunk(deliver, i, zeros); i++ {
	}
}

// memoryLimit is what no hostile input may make the program exceed.
const memoryLimit = 512 << 20

// timeLimit is how long it may occupy it; a machine that has other work besides is given longer.
func timeLimit() time.Duration {
	if proof() {
		return 30 * time.Second
	}
	return 3 * time.Minute
}

// bounded runs f and wants it to stay within memory and time.
func bounded(t testing.TB, f func()) {
	t.Helper()
	debug.FreeOSMemory()
	var peak atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	began := time.Now()
	f()
	took := time.Since(began)
	close(stop)
	<-stopped
	if peak.Load() > memoryLimit || took > timeLimit() {
		t.Errorf("it took %v and %d MiB", took, peak.Load()>>20)
	}
}

// TestHostileSnapshots is sent snapshots as no server sends them: each is an error that says what is wrong, within bounds of memory and time,
// and nothing is saved.
func TestHostileSnapshots(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit))
	for _, name := range sortedKeys(hostileSnapshots(t, &hostile{})) {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			fault := hostileSnapshots(t, h)[name]
			answer := fault.answer
			if answer == "" {
				answer = snapshotAnswer
			}
			h.account(t, answer, fault.send)
			r := memoryRepo(t)
			var res *backup.Result
			var err error
			bounded(t, func() {
				res, err = backup.Run(t.Context(), connectTo(t, h.url), r, backup.Options{Selection: allStreams, IdleTimeout: time.Second, Patience: time.Second})
			})
			if err == nil && len(res.Failed()) == 1 {
				t.Logf("kept as torn: %s", res.Streams[0].Torn)
				return
			}
			says := []string{fault.says}
			if strings.HasPrefix(name, "endless") {
				says = append(says, "does not wait for answers") // which limit it meets first is a matter of speed
			}
			wantHostile(t, err, says...)
			noSnapshot(t, r)
		})
	}
}

// TestHostileAnswers asks a server that answers what nobody asked for.
func TestHostileAnswers(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit))
	n := 0
	endless := func(of string, total int, entry func(n int) string) func([]byte) string {
		return func([]byte) string {
			var page []string
			for range 256 {
				n++
				page = append(page, entry(n))
			}
			return fmt.Sprintf(`{"total":%d,"offset":0,"limit":256,"%s":[%s]}`, total, of, strings.Join(page, ","))
		}
	}
	for _, c := range []struct {
		name, subject string
		answer        func([]byte) string
		says          string
	}{
		{"streams without end", "STREAM.LIST", endless("streams", math.MaxInt32, func(n int) string { return strings.Replace(hostileInfo, `"S"`, fmt.Sprintf(`"S%d"`, n), 1) }), "limit"},
		{"large streams without end", "STREAM.LIST", endless("streams", 1<<20, func(n int) string {
			return strings.Replace(hostileInfo, `"S"`, fmt.Sprintf(`"S%d","description":"%s"`, n, strings.Repeat("d", 16_000)), 1)
		}), "limit"},
		{"missing streams without end", "STREAM.LIST", endless("missing", math.MaxInt32, func(n int) string { return fmt.Sprintf(`"S%d"`, n) }), "limit"},
		{"the same page for ever", "STREAM.LIST", func([]byte) string { return `{"total":1000000,"streams":[` + hostileInfo + `]}` }, "list changed"},
		{"a total below nothing", "STREAM.LIST", func([]byte) string { return `{"total":-5,"streams":[]}` }, ""},
		{"JSON of 20 MiB", "STREAM.LIST", func([]byte) string { return `{"total":1,"streams":[` + strings.Repeat(" ", 20<<20) + `]}` }, ""},
		{"JSON of brackets", "STREAM.LIST", func([]byte) string { return strings.Repeat("[", 20<<20) }, ""},
		{"an account of 20 MiB", "INFO", func([]byte) string { return `{"domain":"` + strings.Repeat("d", 20<<20) + `"}` }, ""},
		{"another stream's information", "STREAM.INFO.S", func([]byte) string { return strings.Replace(hostileInfo, `"S"`, `"OTHER"`, 1) }, "OTHER"},
		{"a name that is a path", "STREAM.LIST", func([]byte) string {
			return `{"total":1,"streams":[` + strings.Replace(hostileInfo, `"S"`, `"../../etc"`, 1) + `]}`
		}, "name"},
		{"an error of 1 MiB", "STREAM.LIST", func([]byte) string {
			return `{"error":{"code":500,"err_code":1,"description":"` + strings.Repeat("e", 1<<20) + `"}}`
		}, "eee"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n = 0
			h := newHostile(t)
			answers := map[string]func([]byte) string{
				"INFO":          func([]byte) string { return `{"streams":1}` },
				"STREAM.LIST":   func([]byte) string { return `{"total":1,"offset":0,"limit":256,"streams":[` + hostileInfo + `]}` },
				"STREAM.INFO.S": func([]byte) string { return hostileInfo },
			}
			answers[c.subject] = c.answer
			for subject, answer := range answers {
				h.on(t, "$JS.API."+subject, answer)
			}
			r := memoryRepo(t)
			var err error
			bounded(t, func() {
				_, err = backup.Run(t.Context(), connectTo(t, h.url), r, backup.Options{Selection: allStreams, IdleTimeout: time.Second, Patience: time.Second})
			})
			wantHostile(t, err, c.says)
			noSnapshot(t, r)
		})
	}
}

// wantHostile wants an error of bounded length that says one of these things.
func wantHostile(t testing.TB, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	t.Logf("%.600s", err)
	if len(err.Error()) > 4000 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	if !slices.ContainsFunc(says, func(text string) bool { return strings.Contains(err.Error(), text) }) {
		t.Errorf("it does not say %q", says)
	}
	if errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("the connection broke before anything was tried: %v", err)
	}
}

// TestUnknownSettingsAreKept backs up a stream of a server from the future: every byte of its configuration is in the snapshot, and every message.
func TestUnknownSettingsAreKept(t *testing.T) {
	const config = `{"name":"S","from_the_future":{"deep":[1,2.50,{"x":null}]},"subjects":["s"],"big":18446744073709551615,"storage":"file"}`
	h := newHostile(t)
	h.account(t, `{"config":`+config+`,"state":`+hostileState+`}`, func(deliver string) {
		h.chunk(deliver, 1, forged(t, hostileState, true, 1, 2, 3))
		h.end(deliver, "204", "")
	})
	r := memoryRepo(t)
	res, err := backup.Run(t.Context(), connectTo(t, h.url), r, backup.Options{Selection: allStreams})
	must(t, err)
	if len(res.Failed()) > 0 {
		t.Fatalf("%+v", res.Failed())
	}
	if got := string(document(t, r, "S").Config); got != config {
		t.Errorf("configuration\n%s, want\n%s", got, config)
	}
	if n := len(stored(t, r, "S").Messages); n != 3 {
		t.Errorf("%d messages", n)
	}
}
