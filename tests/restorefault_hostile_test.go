package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/blob"
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
	at                        time.Time       // of its messages; zero: the first of 2026
	dead                      []streamlog.Run // of these
	consumers                 []archive.Consumer
	change                    func(plain []byte) []byte // what is stored of the messages and of what lists them; nil: as it is
}

// forger saves other bytes than it is given.
type forger struct {
	streamlog.Saver
	change func([]byte) []byte
}

func (f forger) Save(ctx context.Context, kind blob.Kind, plain []byte) (blob.ID, repo.Saved, error) {
	if kind == blob.Data && f.change != nil {
		plain = f.change(plain)
	}
	return f.Saver.Save(ctx, kind, plain)
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
	at := f.at
	if at.IsZero() {
		at = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	m, err := streamlog.WriteMessages(t.Context(), forger{w, f.change}, cut, func() (*archive.Message, error) {
		if len(seqs) == 0 {
			return nil, io.EOF
		}
		raw := archive.AppendMessage(nil, "s", at.UnixNano(), seqs[0], nil, []byte("payload"))
		seqs = seqs[1:]
		return archive.NewMessageReader(bytes.NewReader(raw), archive.Limits{}).Next()
	})
	must(t, err)
	m.Dead, err = streamlog.SaveDead(t.Context(), forger{w, f.change}, nil, streamlog.NewDead(slices.Values(f.dead)))
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
	set := func(text, field, value string) string { return setField(t, text, field, value) }
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
		{"messages published anew wherever it pleases", with(func(f *forgedStream) { f.config = set(f.config, "republish", `{"src":">","dest":">"}`) }), 22},
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

// TestForgedGroups restores snapshots whose lists of messages lie: what was sent is held against them before it becomes a stream, and is
// removed.
func TestForgedGroups(t *testing.T) {
	t.Parallel()
	lie := func(was, is string) func([]byte) []byte {
		return func(p []byte) []byte { return bytes.Replace(p, []byte(was), []byte(is), 1) }
	}
	for _, c := range []struct {
		name   string
		change func(f *forgedStream)
		says   string
	}{
		{"more messages than there are", func(f *forgedStream) {
			f.state = strings.Replace(f.state, `"messages":3`, `"messages":4`, 1)
			f.head, f.messages, f.change = f.state, 4, lie(`"messages":3`, `"messages":4`)
		}, "gave 3 messages, the snapshot says 4"},
		{"sequences beyond the last", func(f *forgedStream) {
			f.seqs, f.change = []uint64{5, 7, 10}, lie(`"last":10`, `"last":9`)
		}, "gave messages 5 to 10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := honest()
			c.change(&f)
			dst := startServer(t, natsd.Options{})
			out := (command{repo: forge(t, f)}).run(t, 23, "restore", "--server", dst.URL())
			t.Log(out)
			if !strings.Contains(out, c.says) {
				t.Errorf("it does not say that the repository %s", c.says)
			}
			if _, err := dst.js.Stream(t.Context(), "S"); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("the stream was left on the server: %v", err)
			}
		})
	}
}

// TestRestoreRefusedByStream restores streams that a server cannot take as they are configured: the plan refuses, and names limit and value.
func TestRestoreRefusedByStream(t *testing.T) {
	t.Parallel()
	consumers := []archive.Consumer{consumerOf("a"), consumerOf("b")}
	for _, c := range []struct {
		name   string
		server natsd.Options
		field  string
		value  string
		says   []string
		setup  func(f *forgedStream)
	}{
		{"replicas", natsd.Options{}, "num_replicas", "3", []string{"3 replicas", "no cluster"}, nil},
		{"max_msg_size", natsd.Options{}, "max_msg_size", "3", []string{"largest message has 7 bytes", "max_msg_size is 3"}, nil},
		{"max_consumers", natsd.Options{}, "max_consumers", "1", []string{"2 consumers", "max_consumers is 1"}, func(f *forgedStream) {
			f.state = strings.Replace(f.state, `"consumer_count":0`, `"consumer_count":2`, 1)
			f.head, f.consumers = f.state, consumers
		}},
		{"the account's consumers", limitedAccount("max_consumers: 1"), "", "", []string{"2 consumers", "account", "may have 1"}, func(f *forgedStream) {
			f.state = strings.Replace(f.state, `"consumer_count":0`, `"consumer_count":2`, 1)
			f.head, f.consumers = f.state, consumers
		}},
		{"max_consumers above the account's", limitedAccount("max_consumers: 5"), "max_consumers", "9", []string{"max_consumers is 9", "account", "5"}, nil},
		{"max_bytes above the account's storage", limitedAccount("max_file: 5000000"), "max_bytes", "6000000", []string{"max_bytes is 6000000", "5000000 bytes in file storage"}, nil},
		{"an account without file storage", limitedAccount("max_file: 0, max_mem: 1000000"), "", "", []string{"no file storage"}, nil},
		{"an account without memory", limitedAccount("max_mem: 0, max_file: 1000000"), "storage", `"memory"`, []string{"no memory storage"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := honest()
			if c.field != "" {
				f.config = setField(t, f.config, c.field, c.value)
			}
			if c.setup != nil {
				c.setup(&f)
			}
			dst := startServer(t, c.server)
			cmd := command{repo: forge(t, f), env: []string{"NATS_URL=" + dst.URL()}}
			out := cmd.run(t, 22, "restore", "--dry-run") + cmd.run(t, 22, "restore")
			t.Log(out)
			for _, text := range append(c.says, "nothing was changed") {
				if strings.Count(out, text) < 2 {
					t.Errorf("plan and restore do not both say %q", text)
				}
			}
			if _, err := dst.js.Stream(t.Context(), "S"); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("the stream was created: %v", err)
			}
		})
	}
}

// limitedAccount is a server whose clients are in an account with these limits.
func limitedAccount(limits string) natsd.Options {
	return natsd.Options{Config: `accounts { X { jetstream { ` + limits + ` }, users [ { user: u, password: p } ] } }
		no_auth_user: u`}
}

func consumerOf(name string) archive.Consumer {
	return archive.Consumer{Name: name, JSON: json.RawMessage(`{"config":{"name":"` + name + `","durable_name":"` + name + `","ack_policy":"explicit","deliver_policy":"all","replay_policy":"instant"},` +
		`"state":{"delivered":{"consumer_seq":0,"stream_seq":0},"ack_floor":{"consumer_seq":0,"stream_seq":0}}}`)}
}

// setField sets a field of a JSON object.
func setField(t *testing.T, text, field, value string) string {
	t.Helper()
	var fields map[string]json.RawMessage
	must(t, json.Unmarshal([]byte(text), &fields))
	fields[field] = json.RawMessage(value)
	p, err := json.Marshal(fields)
	must(t, err)
	return string(p)
}
