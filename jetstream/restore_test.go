package jetstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
	archives "jetsam/jetstream/archive"
)

// taken is a stream ready to be restored.
type taken struct {
	archive       []byte
	config, state json.RawMessage
}

// take fills a stream S of n messages of a KiB on a server of its own, and takes a snapshot of it.
func take(t testing.TB, n int) taken {
	t.Helper()
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", n, 1<<10)
	archive, config, state := snapshot(t, connect(t, jetstream.Config{Servers: server.URL()}), "S", jetstream.SnapshotOptions{})
	server.Shutdown()
	return taken{archive, config, state}
}

// framed returns the archive as jetsam stores it, in uncompressed S2 blocks.
func (s taken) framed(t testing.TB) []byte {
	t.Helper()
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(archives.Decompress(bytes.NewReader(s.archive), 1<<30)); err != nil {
		t.Fatal(err)
	}
	return archives.AppendFrame(nil, plain.Bytes())
}

func TestRestoreOntoAnExistingName(t *testing.T) {
	s := take(t, 10)
	server := serve(t, natsd.Options{})
	addStream(t, fill(t, server.URL()), nats.StreamConfig{Name: "S", Subjects: []string{"other"}})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	_, err := c.Restore(t.Context(), "S", s.config, s.state)
	wantError(t, err, jetstream.ErrStreamExists)
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrCode != 10130 {
		t.Errorf("error %v does not carry the server's code", err)
	}
}

func TestRestoreUnderOverlappingSubjects(t *testing.T) {
	s := take(t, 10)
	server := serve(t, natsd.Options{})
	addStream(t, fill(t, server.URL()), nats.StreamConfig{Name: "OTHER", Subjects: []string{"s.1"}})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	_, err := restore(t.Context(), c, "S", s.archive, s.config, s.state)
	wantError(t, err, jetstream.ErrSubjectsOverlap)
}

func TestRestoreUnderAnotherName(t *testing.T) {
	s := take(t, 10)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	if _, err := restore(t.Context(), c, "COPY", s.archive, s.config, s.state); err == nil {
		t.Error("a configuration of another name was accepted")
	}
	renamed := bytes.Replace(s.config, []byte(`"name":"S"`), []byte(`"name":"COPY"`), 1)
	info, err := restore(t.Context(), c, "COPY", s.archive, renamed, s.state)
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != "COPY" || info.Messages != 10 {
		t.Errorf("restored %s with %d messages", info.Name, info.Messages)
	}
}

// TestRestoreInSmallPieces writes in steps of odd sizes to a server that takes little at a time.
func TestRestoreInSmallPieces(t *testing.T) {
	s := take(t, 300)
	for _, limit := range []int{0, 4 << 10} {
		for name, archive := range map[string][]byte{"compressed": s.archive, "stored": s.framed(t)} {
			for _, step := range []int{1 << 20, 10_007, 13} {
				t.Run(fmt.Sprintf("%s by %d, max_payload %d", name, step, limit), func(t *testing.T) {
					server := serve(t, natsd.Options{MaxPayload: limit})
					c := connect(t, jetstream.Config{Servers: server.URL()})
					r, err := c.Restore(t.Context(), "S", s.config, s.state)
					if err != nil {
						t.Fatal(err)
					}
					defer r.Abort()
					for rest := archive; len(rest) > 0; rest = rest[min(step, len(rest)):] {
						if _, err := r.Write(rest[:min(step, len(rest))]); err != nil {
							t.Fatal(err)
						}
					}
					if _, err := r.Finish(t.Context()); err != nil {
						t.Fatal(err)
					}
					want, err := decode(bytes.NewReader(s.archive))
					if err != nil {
						t.Fatal(err)
					}
					compare(t, read(t, c, "S"), want)
				})
			}
		}
	}
}

// TestRestoreOfASlowWriter writes nothing for longer than the server waits: before the first byte, between two chunks of
// S2, and inside one.
func TestRestoreOfASlowWriter(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 7 s")
	}
	t.Parallel()
	s := take(t, 3_000)
	framed := s.framed(t)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})

	for _, at := range []int{0, 10, 1_000_000, len(framed)} {
		t.Run(fmt.Sprintf("at byte %d", at), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("S%d", at)
			config := edit(t, s.config, "name", name, "subjects", []string{name})
			r, err := c.Restore(t.Context(), name, config, s.state)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Abort()
			if _, err := r.Write(framed[:at]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6500 * time.Millisecond) // what is tested
			if _, err := r.Write(framed[at:]); err != nil {
				t.Fatal(err)
			}
			info, err := r.Finish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.Messages != 3_000 {
				t.Errorf("restored %d messages, want 3000", info.Messages)
			}
		})
	}
}

// edit returns a configuration with fields set, given by name and value.
func edit(t testing.TB, config json.RawMessage, pairs ...any) json.RawMessage {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(config, &fields); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i].(string)] = pairs[i+1]
	}
	edited, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return edited
}

func TestRestoreOfATruncatedArchive(t *testing.T) {
	s := take(t, 5_000)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	_, err := restore(t.Context(), c, "S", s.archive[:len(s.archive)*9/10], s.config, s.state)
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrCode != 10062 {
		t.Fatalf("error %v, want code 10062", err)
	}
	// A partial stream is left, and nothing but its count tells.
	info, err := c.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if info.Messages == 0 || info.Messages >= 5_000 {
		t.Errorf("the server is left with %d messages", info.Messages)
	}
}

func TestRestoreAborted(t *testing.T) {
	checkLeaks(t)
	s := take(t, 5_000)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	r, err := c.Restore(t.Context(), "S", s.config, s.state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(s.archive[:len(s.archive)*9/10]); err != nil {
		t.Fatal(err)
	}
	if first, second := r.Abort(), r.Abort(); first != jetstream.LeftUnfinished || second != first {
		t.Errorf("left: %v, and then %v", first, second)
	}
	if _, err := r.Write(s.archive); !errors.Is(err, jetstream.ErrClosed) {
		t.Errorf("Write after Abort: %v", err)
	}
	if _, err := r.Finish(t.Context()); !errors.Is(err, jetstream.ErrClosed) {
		t.Errorf("Finish after Abort: %v", err)
	}
	// The server has put it down: what it left can be deleted, and the name is free.
	if err := c.DeleteStream(t.Context(), "S"); err != nil {
		t.Fatal(err)
	}
	_, err = c.Stream(t.Context(), "S")
	wantError(t, err, jetstream.ErrStreamNotFound)
	wantError(t, c.DeleteStream(t.Context(), "S"), jetstream.ErrStreamNotFound)
}

func TestRestoreAbortedBeforeTheFirstByte(t *testing.T) {
	checkLeaks(t)
	s := take(t, 10)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	r, err := c.Restore(t.Context(), "S", s.config, s.state)
	if err != nil {
		t.Fatal(err)
	}
	if left := r.Abort(); left != jetstream.LeftNothing {
		t.Errorf("left: %v", left)
	}
	_, err = c.Stream(t.Context(), "S")
	wantError(t, err, jetstream.ErrStreamNotFound)
}

// A server that has promised a name gives it to whoever is first, and lets the restore go on as if nothing were wrong.
func TestRestoreThatLostTheName(t *testing.T) {
	checkLeaks(t)
	s := take(t, 5_000)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	r, err := c.Restore(t.Context(), "S", s.config, s.state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateStream(t.Context(), s.config); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(s.archive[:len(s.archive)*9/10]); err != nil {
		t.Fatal(err)
	}
	if left := r.Abort(); left != jetstream.LeftForeign {
		t.Errorf("left: %v", left)
	}
}

func TestRestoreAbortedAfterFinish(t *testing.T) {
	s := take(t, 10)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	r, err := c.Restore(t.Context(), "S", s.config, s.state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(s.archive); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Abort()
	if _, err := r.Finish(t.Context()); !errors.Is(err, jetstream.ErrClosed) {
		t.Errorf("second Finish: %v", err)
	}
	info, err := c.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if info.Messages != 10 {
		t.Errorf("%d messages after Abort, want 10", info.Messages)
	}
}

func TestRestoreLosesItsServer(t *testing.T) {
	checkLeaks(t)
	s := take(t, 2_000)
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	r, err := c.Restore(t.Context(), "S", s.config, s.state)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Abort()
	if _, err := r.Write(s.archive[:200_000]); err != nil {
		t.Fatal(err)
	}
	go server.Shutdown() // which waits for the restore
	within(t, 4*time.Second, func() {
		for err == nil {
			_, err = r.Write(s.archive[200_000:])
		}
		wantError(t, err, jetstream.ErrConnectionLost)
		_, err = r.Finish(context.Background())
		wantError(t, err, jetstream.ErrConnectionLost)
	})
}

func TestRestoreEndsWithItsContext(t *testing.T) {
	checkLeaks(t)
	script := newScript(t)
	script.restore(t, "S", func(m *nats.Msg, _ int) {})
	c := connect(t, jetstream.Config{Servers: script.url, RestoreTimeout: time.Second})
	ctx, cancel := context.WithCancelCause(t.Context())
	r, err := c.Restore(ctx, "S", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Abort()
	why := errors.New("the user has changed their mind")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	within(t, 10*time.Second, func() {
		_, err := r.Write(block(200_000))
		wantError(t, err, why)
	})
}

// block returns a complete S2 stream of about n bytes.
func block(n int) []byte { return archives.AppendFrame(nil, noise(n)) }

// restore begins a restore for whoever asks for one of the stream, and calls chunk with what comes, counted from 1.
func (s *script) restore(t testing.TB, stream string, chunk func(m *nats.Msg, n int)) {
	t.Helper()
	n := 0
	s.on(t, "deliver", func(m *nats.Msg) {
		n++
		chunk(m, n)
	})
	s.answer(t, "$JS.API.STREAM.RESTORE."+stream, func([]byte) string { return `{"deliver_subject":"deliver"}` })
}

const (
	restoredInfo = `{"config":{"name":"S","subjects":["s.>"]},"state":{"messages":7}}`
	failedInfo   = `{"error":{"code":500,"err_code":10062,"description":"restore failed: no room"}}`
)

// TestRestoreJudgesItsServer plays servers that take what they are sent in different ways.
func TestRestoreJudgesItsServer(t *testing.T) {
	checkLeaks(t)
	noListener := func(s *script, m *nats.Msg) *nats.Msg {
		return &nats.Msg{Subject: m.Reply, Header: nats.Header{"Status": {"503"}}}
	}
	for _, c := range []struct {
		name   string
		answer func(s *script, m *nats.Msg, n int) *nats.Msg // nil: none
		want   error
		code   int // of an APIError
	}{
		{"takes everything", func(s *script, m *nats.Msg, n int) *nats.Msg {
			return &nats.Msg{Subject: m.Reply}
		}, nil, 0},
		{"listens late", func(s *script, m *nats.Msg, n int) *nats.Msg {
			if n <= 3 {
				return noListener(s, m)
			}
			return &nats.Msg{Subject: m.Reply}
		}, nil, 0},
		{"refuses the first chunk", func(s *script, m *nats.Msg, n int) *nats.Msg {
			return &nats.Msg{Subject: m.Reply, Data: []byte(failedInfo)}
		}, nil, 10062},
		{"refuses a chunk", func(s *script, m *nats.Msg, n int) *nats.Msg {
			if n == 5 {
				return &nats.Msg{Subject: m.Reply, Data: []byte(failedInfo)}
			}
			return &nats.Msg{Subject: m.Reply}
		}, nil, 10062},
		{"listens no longer, and then says why", func(s *script, m *nats.Msg, n int) *nats.Msg {
			switch {
			case n > 5:
				return noListener(s, m)
			case n == 5:
				time.AfterFunc(200*time.Millisecond, func() {
					_ = s.nc.PublishMsg(&nats.Msg{Subject: m.Reply, Data: []byte(failedInfo)})
				})
				return nil
			}
			return &nats.Msg{Subject: m.Reply}
		}, nil, 10062},
		{"listens no longer", func(s *script, m *nats.Msg, n int) *nats.Msg {
			if n >= 5 {
				return noListener(s, m)
			}
			return &nats.Msg{Subject: m.Reply}
		}, jetstream.ErrRestoreDropped, 0},
		{"misses a chunk, and has a stream all the same", func(s *script, m *nats.Msg, n int) *nats.Msg {
			if n == 5 {
				return noListener(s, m)
			}
			return &nats.Msg{Subject: m.Reply}
		}, jetstream.ErrRestoreDropped, 0},
		{"never answers", func(*script, *nats.Msg, int) *nats.Msg { return nil }, jetstream.ErrTimeout, 0},
		{"stops answering", func(s *script, m *nats.Msg, n int) *nats.Msg {
			if n > 5 {
				return nil
			}
			return &nats.Msg{Subject: m.Reply}
		}, jetstream.ErrTimeout, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			script := newScript(t)
			var mu sync.Mutex
			var got []byte
			script.restore(t, "S", func(m *nats.Msg, n int) {
				answer := c.answer(script, m, n)
				if answer == nil {
					return
				}
				if len(answer.Header) == 0 {
					mu.Lock()
					got = append(got, m.Data...)
					mu.Unlock()
				}
				if len(m.Data) == 0 && len(answer.Data) == 0 {
					answer.Data = []byte(restoredInfo)
				}
				script.publish(t, answer)
			})
			config := jetstream.Config{Servers: script.url}
			if c.want == jetstream.ErrTimeout {
				config.RestoreTimeout = 200 * time.Millisecond
			}
			conn := connect(t, config)
			archive := block(5_000_000) // more than may be on its way at a time
			info, err := restore(t.Context(), conn, "S", archive, json.RawMessage(`{"name":"S"}`), nil)
			if c.want == nil && c.code == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if info.Name != "S" || info.Messages != 7 {
					t.Errorf("the server's report became %+v", info)
				}
				mu.Lock()
				defer mu.Unlock()
				if !bytes.Equal(got, archive) {
					t.Errorf("the server got %d bytes, not the %d that were written", len(got), len(archive))
				}
				return
			}
			if c.want != nil {
				wantError(t, err, c.want)
			}
			var api *jetstream.APIError
			if errors.As(err, &api) != (c.code != 0) || api != nil && api.ErrCode != c.code {
				t.Errorf("error %v, want code %d", err, c.code)
			}
			if !strings.HasPrefix(err.Error(), "restore of stream S: ") {
				t.Errorf("error %q does not say what failed", err)
			}
		})
	}
}

func TestRestoreRefusedAtTheEnd(t *testing.T) {
	checkLeaks(t)
	script := newScript(t)
	script.restore(t, "S", func(m *nats.Msg, _ int) {
		answer := &nats.Msg{Subject: m.Reply}
		if len(m.Data) == 0 {
			answer.Data = []byte(failedInfo)
		}
		script.publish(t, answer)
	})
	c := connect(t, jetstream.Config{Servers: script.url})
	r, err := c.Restore(t.Context(), "S", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(block(1000)); err != nil {
		t.Fatal(err)
	}
	_, err = r.Finish(t.Context())
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.Description != "restore failed: no room" {
		t.Errorf("error %v", err)
	}
	within(t, time.Second, func() { r.Abort() }) // the server has nothing more to say
}
