package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/strictjson"
	"jetsam/jetstream/archive"
)

const (
	// restoreChunk is the most that a chunk holds, if the server's max_payload allows for as much.
	restoreChunk = 128 << 10
	// pieceSize bounds how much of a long Write is buffered at a time.
	pieceSize = 1 << 20

	// keepAliveAfter is how long a restore is silent before it sends padding. Servers give up after 5 s.
	keepAliveAfter = time.Second
	keepAliveTick  = 100 * time.Millisecond
	paddingSize    = 16

	// The first chunk of a restore can come before the news that somebody listens to its subject has spread in a cluster.
	firstBackoff  = 20 * time.Millisecond
	firstPatience = 4 * time.Second

	// abortPatience is the longest that Abort waits until the server has put down what it was given.
	abortPatience = 3 * time.Second
)

// Restore is a stream on its way into a server: a writer of the S2 bytes of its archive, which ends in Finish or Abort.
//
// While nobody writes, padding keeps the server from giving up. It can only stand between two chunks of S2, so that Write
// keeps back an incomplete one, of at most 16 MiB, until it is complete.
//
// However a restore fails once bytes were written, the server can be left with a stream of the messages that it got by
// then, which looks like any other; see DeleteStream.
type Restore struct {
	conn    *Conn
	stream  string
	deliver atomic.Pointer[string] // where the server wants the chunks; nil until it has said so
	inbox   string                 // first tokens of the subjects that their answers come to
	chunk   int                    // bytes that a chunk holds
	flight  *flight
	first   chan *nats.Msg // the answer to the first chunk
	final   chan *nats.Msg // the answer to the end
	stop    []func()       // undoes in reverse order what beginning the restore needed
	once    sync.Once

	mu     sync.Mutex // held by whoever sends
	frames frames
	buf    []byte    // not sent yet
	whole  int       // how many of buf belong to complete S2 chunks
	sent   int       // chunks
	data   bool      // whether bytes of the archive were sent, and not padding only
	last   time.Time // when something was last sent
	ended  bool      // whether the end was sent
	answer *nats.Msg // what the server said to it; nil until then
	left   Left      // what Abort found
}

// Left says what a restore that was not finished leaves on the server.
type Left int

const (
	LeftUnknown    Left = iota // the server does not say
	LeftNothing                // it got nothing that it could make a stream of
	LeftForeign                // a stream of that name that somebody else created
	LeftUnfinished             // what it got by then, as a stream that looks like any other
	LeftComplete               // the whole stream: the server had everything
)

// Restore begins to restore a stream of that name. The configuration must be of the same name; state is the state that
// goes with the archive. The server checks both before it takes the first byte, and refuses a name that is in use with
// ErrStreamExists. ctx ends the restore, as Abort does; so the caller calls Finish or Abort in any case.
func (c *Conn) Restore(ctx context.Context, name string, config, state json.RawMessage) (*Restore, error) {
	if err := checkName("stream", name); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	r := &Restore{
		conn: c, stream: name,
		inbox:  c.nc.NewInbox(),
		flight: newFlight(),
		first:  make(chan *nats.Msg, 1),
		final:  make(chan *nats.Msg, 1),
		last:   time.Now(),
	}
	if err := r.begin(ctx, config, state); err != nil {
		r.close()
		return nil, r.wrap(err)
	}
	return r, nil
}

func (r *Restore) wrap(err error) error {
	return fmt.Errorf("restore of stream %s: %w", r.stream, err)
}

// begin asks the server to restore the stream and starts what keeps it waiting.
func (r *Restore) begin(ctx context.Context, config, state json.RawMessage) error {
	request, err := json.Marshal(struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}{config, state})
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	if err := r.listen(ctx); err != nil {
		return err
	}
	raw, err := r.conn.api(ctx, "STREAM.RESTORE."+r.stream, request)
	if err != nil {
		return err
	}
	var answer struct {
		Deliver string `json:"deliver_subject"`
	}
	if err := strictjson.Decode(raw, &answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	if answer.Deliver == "" {
		return errors.New("the server does not say where it wants the chunks")
	}
	r.deliver.Store(&answer.Deliver)
	stop := context.AfterFunc(ctx, func() { r.flight.fail(context.Cause(ctx)) })
	r.stop = append(r.stop, func() { stop() })
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		r.keepAlive(done)
	}()
	r.stop = append(r.stop, func() { close(done); <-ended })
	return nil
}

// listen subscribes to the answers and begins to watch the connection.
func (r *Restore) listen(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.conn.timeout, ErrTimeout)
	defer cancel()
	answers := r.inbox + ".*"
	remove, err := r.conn.events.add(ctx, &watch{publishes: r.sendsTo, subscribes: answers, fail: r.flight.fail})
	if err != nil {
		return err
	}
	r.stop = append(r.stop, remove)
	sub, err := r.conn.nc.Subscribe(answers, r.take)
	if err != nil {
		return r.conn.redact.translate(err)
	}
	// Whether it is gone already does not matter.
	r.stop = append(r.stop, func() { _ = sub.Unsubscribe() })
	r.chunk = restoreChunk
	if most := r.conn.nc.MaxPayload(); most > 0 && most < restoreChunk {
		r.chunk = int(most)
	}
	return nil
}

// sendsTo reports whether subject is where the chunks go.
func (r *Restore) sendsTo(subject string) bool {
	deliver := r.deliver.Load()
	return deliver != nil && *deliver == subject
}

// Last tokens of the subjects that answers come to. Those of chunks other than the first end in the chunk's number.
const (
	tokenFirst = "first"
	tokenEnd   = "end"
)

// take takes what the server answers.
func (r *Restore) take(m *nats.Msg) {
	switch _, token, _ := cutLast(m.Subject); token {
	case tokenFirst:
		offer(r.first, m)
	case tokenEnd:
		offer(r.final, m)
	default:
		if n, err := strconv.Atoi(token); err == nil {
			r.flight.answer(n, m)
		}
	}
}

// offer gives m to whoever waits for it. A second answer means nothing.
func offer(to chan<- *nats.Msg, m *nats.Msg) {
	select {
	case to <- m:
	default:
	}
}

// Write sends the next bytes of the archive, or keeps them until there are enough for a chunk. After an error, all that is
// left is Abort.
func (r *Restore) Write(p []byte) (written int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for piece := range slices.Chunk(p, pieceSize) {
		if err := r.add(piece); err != nil {
			return written, r.wrap(err)
		}
		written += len(piece)
	}
	return written, nil
}

// add buffers p and sends what is ready.
func (r *Restore) add(p []byte) error {
	if err := r.flight.error(); err != nil {
		return err
	}
	if r.ended {
		return ErrClosed
	}
	if seam := r.frames.advance(p); seam > 0 {
		r.whole = len(r.buf) + seam
	}
	r.buf = append(r.buf, p...)
	if r.whole < r.chunk {
		return nil
	}
	return r.flush(r.whole - r.whole%r.chunk)
}

// Push sends the complete S2 chunks that were written, also where a server could be given more at a time. It gives up where it does not come
// to the next message for 5 s, so what it is slow to store is best pushed in small pieces.
func (r *Restore) Push() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.flush(r.whole); err != nil {
		return r.wrap(err)
	}
	return nil
}

// Err is why the restore has failed; nil as long as it has not.
func (r *Restore) Err() error {
	if err := r.flight.error(); err != nil {
		return r.wrap(err)
	}
	return nil
}

// flush sends the first n bytes of the buffer.
func (r *Restore) flush(n int) error {
	for chunk := range slices.Chunk(r.buf[:n], r.chunk) {
		r.data = true
		if err := r.send(chunk); err != nil {
			return err
		}
	}
	r.buf = append(r.buf[:0], r.buf[n:]...)
	r.whole = max(r.whole-n, 0)
	return nil
}

// send sends a chunk. An error ends the restore.
func (r *Restore) send(chunk []byte) (err error) {
	if r.sent == 0 {
		err = r.sendFirst(chunk)
	} else if err = r.flight.start(r.sent, r.conn.restoreTimeout); err == nil {
		err = r.publish(strconv.Itoa(r.sent), chunk)
	}
	if err != nil {
		r.flight.fail(err)
		return err
	}
	r.sent++
	return nil
}

// sendFirst sends the first chunk and waits for its answer, again and again while nobody listens yet.
func (r *Restore) sendFirst(chunk []byte) error {
	patience := time.Now().Add(firstPatience)
	for backoff := firstBackoff; ; backoff *= 2 {
		if err := r.publish(tokenFirst, chunk); err != nil {
			return err
		}
		m, err := r.await(r.first, r.conn.restoreTimeout)
		switch {
		case err != nil:
			return err
		case isNoResponders(m) && time.Now().Add(backoff).Before(patience):
			if err := r.pause(backoff); err != nil {
				return err
			}
			continue
		case isNoResponders(m):
			return fmt.Errorf("%w: nobody listens to %s", ErrRestoreDropped, *r.deliver.Load())
		case len(m.Data) > 0:
			_, err := checkAnswer(m.Data)
			return err
		}
		return nil
	}
}

// publish sends data, to be answered to the subject that ends in token.
func (r *Restore) publish(token string, data []byte) error {
	r.last = time.Now()
	return r.conn.redact.translate(r.conn.nc.PublishRequest(*r.deliver.Load(), r.inbox+"."+token, data))
}

// await waits for an answer, or until the restore fails otherwise.
func (r *Restore) await(answer <-chan *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case m := <-answer:
		return m, nil
	case <-r.flight.failed:
		return nil, r.flight.error()
	case <-timer.C:
		return nil, fmt.Errorf("%w: no answer for %v", ErrTimeout, timeout)
	}
}

func (r *Restore) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.flight.failed:
		return r.flight.error()
	}
}

// keepAlive sends something whenever nothing was sent for a while, until done is closed.
func (r *Restore) keepAlive(done <-chan struct{}) {
	tick := time.NewTicker(keepAliveTick)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if !r.mu.TryLock() {
			continue // somebody sends
		}
		r.stayAlive()
		r.mu.Unlock()
	}
}

// stayAlive sends what is ready, else padding, if it is time for that. While a chunk is on its way it is the server that
// is slow, and there is nothing to tell it. Whoever writes next hears of an error.
func (r *Restore) stayAlive() {
	if r.ended || time.Since(r.last) < keepAliveAfter || r.flight.error() != nil || r.flight.count() > 0 {
		return
	}
	switch {
	case r.whole > 0:
		_ = r.flush(r.whole)
	case r.sent > 0:
		_ = r.send(archive.Padding(paddingSize))
	default: // padding cannot begin a stream
		_ = r.send(append([]byte(streamIdentifier), archive.Padding(paddingSize)...))
	}
}

// Finish sends what is left, tells the server that this was all and returns the stream as the server reports it. What it
// reports is for the caller to compare with what was sent: limits of the stream apply at once.
//
// The server is given Config.RestoreTimeout, or less if ctx ends before. After an error, Abort is left to be called.
func (r *Restore) Finish(ctx context.Context) (*StreamInfo, error) {
	if ctx.Err() != nil {
		r.flight.fail(context.Cause(ctx))
	}
	stop := context.AfterFunc(ctx, func() { r.flight.fail(context.Cause(ctx)) })
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := r.finish()
	if err != nil {
		r.flight.fail(err)
		return nil, r.wrap(err)
	}
	r.close()
	return info, nil
}

func (r *Restore) finish() (*StreamInfo, error) {
	if err := r.flight.error(); err != nil {
		return nil, err
	}
	if r.ended {
		return nil, ErrClosed
	}
	if err := r.flush(len(r.buf)); err != nil {
		return nil, err
	}
	if err := r.flight.drain(r.conn.restoreTimeout); err != nil {
		return nil, err
	}
	m, err := r.end(r.conn.restoreTimeout)
	if err != nil {
		return nil, err
	}
	if len(m.Data) == 0 {
		return nil, errEndNotSeen
	}
	raw, err := checkAnswer(m.Data)
	if err != nil {
		return nil, err
	}
	return parseStreamInfo(raw)
}

// errEndNotSeen: to what comes through a service import nats-server 2.15 adds a header, which processStreamRestore takes for a part of each chunk.
var errEndNotSeen = errors.New("the server did not see the end: where a connection reaches the streams of another account by an import, a server does not restore; do it as a user of that account")

// end tells the server that this was all, and waits for what it says to that.
func (r *Restore) end(timeout time.Duration) (*nats.Msg, error) {
	r.ended = true
	if err := r.publish(tokenEnd, nil); err != nil {
		return nil, err
	}
	m, err := r.await(r.final, timeout)
	if err != nil {
		return nil, err
	}
	r.answer = m
	if isNoResponders(m) {
		return nil, ErrRestoreDropped
	}
	return m, nil
}

// Abort ends a restore that shall not be finished, and says what is left on the server. It tells the server, and waits a
// moment until it has put down what it was given, so that LeftUnfinished can be deleted. After Finish has succeeded it does
// nothing; a second call says the same as the first.
//
// Only the server's word to the end tells whose stream it is: one that lost the name to somebody else meanwhile takes every
// chunk as if nothing were wrong (nats-server 2.15, processStreamRestore).
func (r *Restore) Abort() Left {
	r.flight.fail(ErrClosed)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.once.Do(func() {
		r.putDown()
		r.left = r.leaves()
		r.release()
	})
	return r.left
}

// leaves judges what the server said to the end.
func (r *Restore) leaves() Left {
	switch {
	case !r.data:
		return LeftNothing
	case r.answer == nil || isNoResponders(r.answer):
		return LeftUnknown
	}
	_, err := checkAnswer(r.answer.Data)
	switch {
	case err == nil:
		return LeftComplete
	case errors.Is(err, ErrStreamExists):
		return LeftForeign
	}
	return LeftUnfinished
}

// putDown makes the server end what it is doing.
func (r *Restore) putDown() {
	if !r.ended {
		r.ended = true
		if r.publish(tokenEnd, nil) != nil {
			return
		}
	}
	var refused *PermissionError
	if r.answer != nil || errors.As(r.flight.error(), &refused) {
		return
	}
	select {
	case r.answer = <-r.final:
	case <-time.After(min(abortPatience, r.conn.restoreTimeout)):
	}
}

// close frees what the restore needs, once.
func (r *Restore) close() {
	r.once.Do(r.release)
}

func (r *Restore) release() {
	r.flight.fail(ErrClosed)
	for _, stop := range slices.Backward(r.stop) {
		stop()
	}
}
