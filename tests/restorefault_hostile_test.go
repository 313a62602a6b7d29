package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/chunker"
	"jetsam/internal/natsd"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// forgedStream is a stream as somebody who has the password may write it into a repository.
type forgedStream struct {
	name, config, state, head string
	messages                  uint64 // by its document
	seqs                      []uint64
	consumers                 []archive.Consumer
}

// honest is a stream that restores.
func honest() forgedStream {
	const state = `{"messages":3,"bytes":100,"first_seq":5,"first_ts":"2026-01-01T00:00:00Z","last_seq":9,"last_ts":"2026-01-01T00:00:00Z","consumer_count":0}`
	return forgedStream{
		name: "S", config: `{"name":"S","subjects":["s"],"retention":"limits","storage":"file","discard":"old","num_replicas":1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"max_consumers":-1,"max_msg_size":-1,"max_msgs_per_subject":-1}`,
		state: state, head: state, messages: 3, seqs: []uint64{5, 7, 9},
	}
}

// forge writes the stream as the only one of a snapshot.
func forge(t *testing.T, f forgedStream) string {
	t.Helper()
	r, dir := newRepo(t, repo.Options{})
	w, err := r.NewWriter(t.Context(), nil)
	must(t, err)
	defer w.Abort()
	cut, err := chunker.New(r.Polynomial())
	must(t, err)
	seqs := slices.Clone(f.seqs)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m, err := streamlog.WriteMessages(t.Context(), w, cut, func() (*archive.Message, error) {
		if len(seqs) == 0 {
			return nil, io.EOF
		}
		raw := archive.AppendMessage(nil, "s", at.UnixNano(), seqs[0], nil, []byte("payload"))
		seqs = seqs[1:]
		return archive.NewMessageReader(bytes.NewReader(raw), archive.Limits{}).Next()
	})
	must(t, err)
	doc := &streamlog.Document{
		Config: json.RawMessage(f.config), State: json.RawMessage(f.state),
		Jetsam: streamlog.Capture{Format: streamlog.FormatVersion, Created: at, Messages: f.messages, MessageBytes: m.Content, LargestMessage: m.Largest},
	}
	node, _, err := streamlog.SaveStream(t.Context(), w, f.name, doc, &archive.Head{State: json.RawMessage(f.head), Consumers: f.consumers}, m)
	must(t, err)
	root, _, err := streamlog.SaveAccount(t.Context(), w, &streamlog.Account{Format: streamlog.FormatVersion, Account: "$G"}, []*snapshot.Node{node}, at)
	must(t, err)
	_, err = w.Commit(t.Context(), &snapshot.Snapshot{Time: at, Tree: root, Paths: []string{"/$G"}, Hostname: "forger"})
	must(t, err)
	return dir
}

// TestForgedSnapshots restores snapshots that somebody made up: what does not agree with itself is refused before a server hears of it.
func TestForgedSnapshots(t *testing.T) {
	t.Parallel()
	with := func(change func(*forgedStream)) forgedStream {
		f := honest()
		change(&f)
		return f
	}
	set := func(text, field, value string) string {
		var fields map[string]json.RawMessage
		must(t, json.Unmarshal([]byte(text), &fields))
		fields[field] = json.RawMessage(value)
		p, err := json.Marshal(fields)
		must(t, err)
		return string(p)
	}
	both := func(f *forgedStream, field, value string) {
		f.state, f.head = set(f.state, field, value), set(f.head, field, value)
	}
	deep := strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50)
	for _, c := range []struct {
		name string
		f    forgedStream
		exit int
	}{
		{"honest", honest(), 0},
		{"the configuration of another stream", with(func(f *forgedStream) { f.config = set(f.config, "name", `"OTHER"`) }), 1},
		{"no configuration", with(func(f *forgedStream) { f.config = `[]` }), 1},
		{"a deep configuration", with(func(f *forgedStream) { f.config = set(f.config, "name", deep) }), 1},
		{"metadata that is no text", with(func(f *forgedStream) { f.config = set(f.config, "metadata", `{"a":{}}`) }), 1},
		{"ten million consumers", with(func(f *forgedStream) { both(f, "consumer_count", "10000000") }), 1},
		{"fewer than no consumers", with(func(f *forgedStream) { both(f, "consumer_count", "-1") }), 1},
		{"more consumers than there are", with(func(f *forgedStream) { both(f, "consumer_count", "2") }), 1},
		{"a consumer without state", with(func(f *forgedStream) {
			both(f, "consumer_count", "1")
			f.consumers = []archive.Consumer{{Name: "c", JSON: json.RawMessage(`{"config":{"name":"c"}}`)}}
		}), 1},
		{"a consumer's name with a dot", with(func(f *forgedStream) {
			both(f, "consumer_count", "1")
			f.consumers = []archive.Consumer{{Name: "../c.>", JSON: json.RawMessage(`{"config":{"name":"c"},"state":{}}`)}}
		}), 1},
		{"the last sequence before the first", with(func(f *forgedStream) { both(f, "last_seq", "4"); both(f, "first_seq", "9") }), 1},
		{"more messages than sequences", with(func(f *forgedStream) { both(f, "messages", "6") }), 1},
		{"messages before the first sequence", with(func(f *forgedStream) { both(f, "first_seq", "6") }), 1},
		{"messages after the last sequence", with(func(f *forgedStream) { both(f, "last_seq", "8") }), 1},
		{"fewer messages by its state", with(func(f *forgedStream) { both(f, "messages", "2") }), 1},
		{"more messages by its document", with(func(f *forgedStream) { f.messages = 4 }), 1},
		{"an endless number by its document", with(func(f *forgedStream) { f.messages = 1 << 63 }), 1},
		{"a state of 8 EiB", with(func(f *forgedStream) { both(f, "bytes", "9223372036854775808") }), 1},
		{"sequences of 2^62 and more", with(func(f *forgedStream) {
			both(f, "first_seq", "4611686018427387904")
			both(f, "last_seq", "4611686018427387914")
			f.seqs = []uint64{1 << 62, 1<<62 + 1, 1<<62 + 2}
		}), 22},
		{"a state that was sent and does not hold", with(func(f *forgedStream) { f.state = set(f.state, "messages", "600") }), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := forge(t, c.f)
			dst := startServer(t, natsd.Options{})
			asked, err := dst.nc.SubscribeSync("$JS.EVENT.ADVISORY.STREAM.RESTORE_CREATE.>")
			must(t, err)
			out := (command{repo: dir}).run(t, c.exit, "restore", "--server", dst.URL())
			t.Log(out)
			must(t, dst.nc.Flush())
			n, _, err := asked.Pending()
			must(t, err)
			if c.exit != 0 && n > 0 {
				t.Errorf("the server was asked to restore")
			}
			if c.exit == 0 {
				if got := fmt.Sprint(lookAt(t, dst, "S").Messages); !strings.Contains(got, "5 ") || n != 1 {
					t.Errorf("the honest stream was not restored: %s", got)
				}
			}
		})
	}
}
