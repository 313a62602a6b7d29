package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"jetsam/storage"
)

// session is a connection, and what is known of the server at its other end.
type session struct {
	client *sftp.Client
	conn   *watched
	ended  chan struct{} // closed when the connection has ended

	probing sync.Mutex
	placing placing // how files get their names; nil: not tried out yet
}

// watched is a connection that knows when something came or went over it last.
type watched struct {
	Conn
	moved atomic.Int64 // in nanoseconds since 1970
}

func (w *watched) touch() { w.moved.Store(time.Now().UnixNano()) }

// still is how long nothing moved.
func (w *watched) still() time.Duration { return time.Duration(time.Now().UnixNano() - w.moved.Load()) }

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.touch()
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.touch()
	return n, err
}

// close ends the session in order.
func (s *session) close() {
	_ = s.client.Close()
	_ = s.conn.Close()
}

// session returns one that lives.
func (b *Backend) session(ctx context.Context) (*session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live != nil {
		select {
		case <-b.live.ended:
			b.live.close()
			b.live = nil
		default:
			return b.live, nil
		}
	}
	s, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	b.live = s
	return s, nil
}

// connect starts a session. The server greets, or the connection ends.
func (b *Backend) connect(ctx context.Context) (*session, error) {
	dialled, err := b.o.Dial()
	if err != nil {
		return nil, err
	}
	conn := &watched{Conn: dialled}
	conn.touch()
	s := &session{conn: conn, ended: make(chan struct{})}
	err = attend(ctx, conn, b.o.Idle, func() (err error) {
		// What a write that fails leaves is thrown away, so that its pieces may arrive in any order.
		s.client, err = sftp.NewClientPipe(conn, conn, sftp.UseConcurrentWrites(true))
		return err
	})
	if err != nil {
		conn.Kill()
		err = lost(conn, err)
		_ = conn.Close()
		return nil, unlessRefused(err)
	}
	go func() {
		_ = s.client.Wait()
		close(s.ended)
	}()
	return s, nil
}

// unlessRefused marks an error in which ssh says that one side does not take the other
// for what it should be. Who tries that again and again is locked out by some servers.
func unlessRefused(err error) error {
	for _, said := range []string{"Permission denied", "Host key verification failed", "Too many authentication failures"} {
		if strings.Contains(err.Error(), said) {
			return storage.Permanent(err)
		}
	}
	return err
}

// with is do for something that is done to a file.
func (b *Backend) with(ctx context.Context, f storage.File, do func(*session) error) error {
	if err := storage.Check(ctx, f); err != nil {
		return err
	}
	return b.do(ctx, do)
}

// do does something over a session, and translates its error.
func (b *Backend) do(ctx context.Context, do func(*session) error) error {
	if err := storage.Cancelled(ctx); err != nil {
		return err
	}
	s, err := b.session(ctx)
	if err != nil {
		return err
	}
	s.conn.touch()
	err = attend(ctx, s.conn, b.o.Idle, func() error { return do(s) })
	if err == nil {
		return nil
	}
	if cancelled := storage.Cancelled(ctx); cancelled != nil {
		return cancelled
	}
	return s.translate(err)
}

// patience is how long something that was cancelled has to end by itself, which lets
// it clean up, before the connection is ended.
const patience = 2 * time.Second

// errIdle says that a connection stood still.
var errIdle = errors.New("nothing came or went")

// attend does something over a connection, and ends the connection if that stands still
// or goes on after its context has ended.
func attend(ctx context.Context, conn *watched, idle time.Duration, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	tick := time.NewTicker(max(idle/10, time.Millisecond))
	defer tick.Stop()
	cancelled := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case err := <-done:
			return err
		case <-cancelled:
			cancelled, late = nil, time.After(patience)
		case <-late:
			conn.Kill()
			<-done
			return storage.Cancelled(ctx)
		case <-tick.C:
			if conn.still() < idle {
				continue
			}
			conn.Kill()
			<-done
			return fmt.Errorf("%w: %w for %v", storage.ErrUnreachable, errIdle, idle)
		}
	}
}

// translate adds to an error the storage error that it means.
func (s *session) translate(err error) error {
	if storage.IsPermanent(err) || errors.Is(err, storage.ErrUnreachable) {
		return err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", storage.ErrNotExist, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, err)
	}
	var status *sftp.StatusError
	if errors.As(err, &status) && status.FxCode() != sftp.ErrSSHFxConnectionLost {
		return err
	}
	return lost(s.conn, err)
}

// lost says that a connection ended. Of the error only the text stays: that the
// connection ended does not mean that a file does.
func lost(conn *watched, err error) error {
	if ended := conn.Err(); ended != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnreachable, ended)
	}
	return fmt.Errorf("%w: %v", storage.ErrUnreachable, err)
}
