package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/strictjson"
)

const (
	// DefaultIdleTimeout is how long a snapshot waits for a server that sends nothing.
	DefaultIdleTimeout = 10 * time.Second
	// trickleTick is how often a snapshot looks whether its server waits for an answer.
	trickleTick = 100 * time.Millisecond
	// hastyChunk is the size of the chunks of a server that does not wait for answers, but 10 ms with each that is beyond its window.
	hastyChunk = 128 << 10
)

// SnapshotOptions say how a snapshot is taken. The zero value takes all of a stream, as fast as it goes.
type SnapshotOptions struct {
	NoConsumers bool

	ChunkSize   int           // bytes that the server sends at a time, 1 KiB to 1 MiB; 0: as much as is good
	WindowSize  int           // bytes that it sends ahead of our answers, at most 32 MiB; 0: as much as is good
	IdleTimeout time.Duration // how long the server may send nothing; 0: DefaultIdleTimeout
}

// Snapshot is a stream on its way out of a server: a reader of the S2 bytes of its archive.
//
// Read returns io.EOF only if the server says that it sent all; any other error means that bytes are missing. That is the
// transport's word: servers were seen to call a snapshot complete that was not, so the reader must find the archive's end
// mark too, and compare what it counts with State, from which a busy stream differs.
//
// Memory is bounded by the window, and by another 64 MiB where the reader does not keep up for longer than a second:
// the server ends a snapshot that is not answered, so that some of it is answered before it is read.
type Snapshot struct {
	Config json.RawMessage // the stream's configuration
	State  json.RawMessage // its state when the snapshot began

	conn   *Conn
	stream string
	hasty  bool // a server before 2.10 sends it, which does not wait for answers, and never says how it ended
	idle   time.Duration
	chunks *chunks
	acks   atomic.Pointer[string] // first tokens of the subjects that answers go to
	stop   []func()               // undoes in reverse order what taking the snapshot needed
	once   sync.Once

	// What follows belongs to Read.
	timer *time.Timer
	rest  []byte // of the chunk being read; part of a message that nobody else refers to
	next  int    // index of the chunk to come, from 1
	last  bool   // the chunk that is not answered has come: it is the last
	err   error
}

// Snapshot begins to take a snapshot of a stream. ctx ends it, as Close does; so the caller calls one of them.
//
// Errors are those of every request; of Read, ErrConnectionLost, ErrTimeout where the server sends nothing, *StatusError
// where it gives up, ErrSlowReader, ErrStreamNotFound where the stream was deleted meanwhile, *PermissionError.
// After each of them but the last two, another attempt may succeed.
func (c *Conn) Snapshot(ctx context.Context, stream string, o SnapshotOptions) (*Snapshot, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	window := c.windows.take(o.WindowSize)
	s := &Snapshot{conn: c, stream: stream, idle: o.IdleTimeout, next: 1}
	if s.idle <= 0 {
		s.idle = DefaultIdleTimeout
	}
	s.chunks = newChunks(window, s.answer)
	if !c.Server().AtLeast(2, 14) {
		s.chunks.owed = oldWindow
	}
	s.stop = append(s.stop, func() { c.windows.give(window) })
	if err := s.begin(ctx, o, window); err != nil {
		s.Close()
		return nil, fmt.Errorf("snapshot of stream %s: %w", stream, err)
	}
	return s, nil
}

// begin listens for chunks and asks the server for them.
func (s *Snapshot) begin(ctx context.Context, o SnapshotOptions, window int) error {
	inbox := s.conn.nc.NewInbox()
	if err := s.listen(ctx, inbox); err != nil {
		return err
	}
	size := chunkSize(o.ChunkSize, window)
	if s.hasty = !s.conn.Server().AtLeast(2, 10); s.hasty && o.ChunkSize <= 0 {
		size = hastyChunk
	}
	request, err := json.Marshal(struct {
		Deliver     string `json:"deliver_subject"`
		NoConsumers bool   `json:"no_consumers,omitempty"`
		Chunk       int    `json:"chunk_size"`
		Window      int    `json:"window_size"`
	}{inbox, o.NoConsumers, size, window})
	if err != nil {
		return err
	}
	raw, err := s.conn.api(ctx, "STREAM.SNAPSHOT."+s.stream, request)
	if errors.Is(err, ErrTimeout) && s.gone(ctx) {
		err = ErrStreamNotFound // in a cluster only the stream's leader answers, and there is none
	}
	if err != nil {
		return err
	}
	var answer struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}
	if err := strictjson.Decode(raw, &answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	if err := isNamed(answer.Config, s.stream); err != nil {
		return err
	}
	s.Config, s.State = answer.Config, answer.State
	stop := context.AfterFunc(ctx, func() { s.chunks.fail(context.Cause(ctx)) })
	s.stop = append(s.stop, func() { stop() })
	return nil
}

// listen subscribes to inbox and starts what keeps the server waiting.
func (s *Snapshot) listen(ctx context.Context, inbox string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.conn.timeout, ErrTimeout)
	defer cancel()
	remove, err := s.conn.events.add(ctx, &watch{publishes: s.answersTo, subscribes: inbox, fail: s.chunks.fail})
	if err != nil {
		return err
	}
	s.stop = append(s.stop, remove)
	sub, err := s.conn.nc.Subscribe(inbox, s.push)
	if err != nil {
		return s.conn.redact.translate(err)
	}
	// Whether it is gone already does not matter.
	s.stop = append(s.stop, func() { _ = sub.Unsubscribe() })
	// The window bounds what may be pending. What exceeds it is an error, see chunks, and never dropped in silence.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return s.conn.redact.translate(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.pace(done)
	}()
	s.stop = append(s.stop, func() { close(done); <-ended })
	return nil
}

// pace answers for the reader where it does not, until done is closed.
func (s *Snapshot) pace(done <-chan struct{}) {
	tick := time.NewTicker(trickleTick)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			if s.chunks.trickle(now) != nil {
				return // Read has the error
			}
		}
	}
}

// push takes what the server sends.
func (s *Snapshot) push(m *nats.Msg) {
	if s.acks.Load() == nil && m.Reply != "" {
		if subject, _, _, ok := parseReply(m.Reply); ok {
			s.acks.Store(&subject)
		}
	}
	s.chunks.push(m)
}

func (s *Snapshot) answer(reply string) error {
	return s.conn.redact.translate(s.conn.nc.Publish(reply, nil))
}

// answersTo reports whether subject is one that the snapshot's chunks are answered to.
func (s *Snapshot) answersTo(subject string) bool {
	acks := s.acks.Load()
	return acks != nil && strings.HasPrefix(subject, *acks+".")
}

// Read reads the next bytes of the archive, as soon as there are any.
func (s *Snapshot) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.fill(); err != nil {
		return 0, err
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// WriteTo writes what has not been read to w, chunk by chunk and without copying it.
func (s *Snapshot) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if err := s.fill(); err == io.EOF {
			return written, nil
		} else if err != nil {
			return written, err
		}
		n, err := w.Write(s.rest)
		s.rest = s.rest[n:]
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// fill sees to it that rest holds something, or returns why there is nothing more.
func (s *Snapshot) fill() error {
	if len(s.rest) > 0 {
		return nil
	}
	if s.err != nil {
		return s.err
	}
	m, err := s.wait()
	if err == nil {
		s.rest, err = s.accept(m)
	}
	if err == nil {
		return nil
	}
	if err != io.EOF {
		err = fmt.Errorf("snapshot of stream %s: %w", s.stream, err)
	}
	s.err = err
	s.Close()
	return err
}

// wait returns the next message that the server sends.
func (s *Snapshot) wait() (*nats.Msg, error) {
	if m, err := s.chunks.take(); m != nil || err != nil {
		return m, err
	}
	if s.timer == nil {
		s.timer = time.NewTimer(s.idle)
	} else {
		s.timer.Reset(s.idle)
	}
	for {
		if m, err := s.chunks.take(); m != nil || err != nil {
			return m, err
		}
		select {
		case <-s.chunks.ready:
		case <-s.timer.C:
			return nil, s.silence()
		}
	}
}

// silence says why a server sends nothing, as far as that can be found out.
func (s *Snapshot) silence() error {
	if s.gone(context.Background()) {
		return fmt.Errorf("deleted while it was read: %w", ErrStreamNotFound)
	}
	return fmt.Errorf("%w: nothing came for %v", ErrTimeout, s.idle)
}

// gone reports whether the stream is known not to exist.
func (s *Snapshot) gone(ctx context.Context) bool {
	_, err := s.conn.streamRequest(ctx, "INFO", s.stream, nil)
	return errors.Is(err, ErrStreamNotFound)
}

// accept returns the data of the next message, or io.EOF if it is the end.
//
// A chunk's reply subject ends in its size and its index, from 1. Only the last chunk may be smaller than the others; it
// has no reply subject and is not to be answered. After it comes an empty message with a status. A stream that fits into
// one chunk has no status either (nats-server 2.15, streamSnapshot).
func (s *Snapshot) accept(m *nats.Msg) ([]byte, error) {
	switch {
	case len(m.Data) == 0:
		return nil, s.end(m)
	case s.last:
		return nil, errors.New("data after the last chunk")
	case m.Reply == "":
		s.last = true
		return m.Data, nil
	}
	_, size, index, ok := parseReply(m.Reply)
	if !ok {
		return nil, fmt.Errorf("chunk %d has the unknown reply subject %q", s.next, printable(m.Reply))
	}
	if index != s.next {
		return nil, fmt.Errorf("chunk %d came instead of chunk %d", index, s.next)
	}
	if size != len(m.Data) {
		return nil, fmt.Errorf("chunk %d has %d bytes, not %d", index, len(m.Data), size)
	}
	s.next++
	return m.Data, nil
}

// StatusTimeout ends a snapshot whose chunks were not answered in time.
const StatusTimeout = 408

// end judges the empty message that ends a snapshot.
func (s *Snapshot) end(m *nats.Msg) error {
	status := m.Header.Get("Status")
	switch {
	case status == "204", status == "" && s.next == 1:
		s.conn.windows.well()
		return io.EOF
	case status == "" && s.hasty:
		return io.EOF // and whether that is all, the end of what it sent must say
	case status == "":
		return fmt.Errorf("the server ended it after %d chunks without a status", s.next-1)
	}
	code, err := strconv.Atoi(status)
	if err != nil {
		return fmt.Errorf("the server ended it with the status %q", printable(status))
	}
	early := &StatusError{Code: code, Text: m.Header.Get("Description")}
	switch {
	case s.chunks.exhausted():
		return fmt.Errorf("%w: %w", ErrSlowReader, early)
	case s.gone(context.Background()):
		return fmt.Errorf("deleted while it was read: %w: %w", ErrStreamNotFound, early)
	case code == StatusTimeout:
		s.conn.windows.slow()
	}
	return early
}

// Close ends the snapshot and frees what it needs. It may be called at any time, also while Read waits, and again.
// It always returns nil.
func (s *Snapshot) Close() error {
	s.once.Do(func() {
		s.chunks.fail(ErrClosed)
		for _, stop := range slices.Backward(s.stop) {
			stop()
		}
	})
	return nil
}

// parseReply takes a chunk's reply subject apart: $JS.SNAPSHOT.ACK.<stream>.<id>.<size>.<index>, or another subject that
// ends in the same tokens, where an account imports it.
func parseReply(reply string) (subject string, size, index int, ok bool) {
	rest, last, ok1 := cutLast(reply)
	subject, middle, ok2 := cutLast(rest)
	if !ok1 || !ok2 {
		return "", 0, 0, false
	}
	size, err1 := strconv.Atoi(middle)
	index, err2 := strconv.Atoi(last)
	return subject, size, index, err1 == nil && err2 == nil
}

func cutLast(subject string) (before, token string, ok bool) {
	i := strings.LastIndexByte(subject, '.')
	if i < 0 {
		return "", "", false
	}
	return subject[:i], subject[i+1:], true
}
