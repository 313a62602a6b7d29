package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"jetsam/storage"
)

// apiError is what a server says is wrong.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// The server's codes for errors, by which it is told what to do.
const (
	errAccountExceeded = 10002
	errNoResources     = 10023
	errNoMessage       = 10037
	errStorageExceeded = 10047
	errStreamNotFound  = 10059
	errWrongLast       = 10071
	errStoreFailed     = 10077 // the text says why
	errWrongLastNow    = 10164 // somebody else is at it
)

// Unwrap says what the error means to storage.
func (e *apiError) Unwrap() error {
	switch {
	case e.ErrCode == errAccountExceeded, e.ErrCode == errNoResources, e.ErrCode == errStorageExceeded, e.ErrCode == errStoreFailed && strings.Contains(e.Description, "exceeded"):
		return storage.ErrFull
	case e.ErrCode == errNoMessage, e.ErrCode == errStreamNotFound:
		return storage.ErrNotExist
	}
	return nil
}

func (e *apiError) wrongLast() bool { return e.ErrCode == errWrongLast || e.ErrCode == errWrongLastNow }

// passing reports whether the error is gone when a leader was elected, or a server
// is up.
func (e *apiError) passing() bool { return e.Code == 503 && e.Unwrap() == nil }

// refused notes a subject that may not be used.
func (b *Backend) refused(err error) {
	if !errors.Is(err, natsgo.ErrPermissionViolation) {
		return
	}
	if m := quoted.FindStringSubmatch(err.Error()); m != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.denied[m[1]] = err
	}
}

var quoted = regexp.MustCompile(`"([^"]+)"`)

func (b *Backend) denial(subject string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.denied[subject]; err != nil {
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, err)
	}
	return nil
}

// ask sends a message and returns the answer. While there is none it asks again, so
// that a message may be stored twice.
func (b *Backend) ask(ctx context.Context, subject string, header natsgo.Header, data []byte) (*natsgo.Msg, error) {
	var answer *natsgo.Msg
	err := b.persist(ctx, func() (again bool, err error) {
		once, cancel := context.WithTimeout(ctx, min(defaultTimeout, b.patience))
		defer cancel()
		answer, err = b.nc.RequestMsgWithContext(once, &natsgo.Msg{Subject: subject, Header: header, Data: data})
		if err != nil && storage.Cancelled(ctx) == nil {
			if denied := b.denial(subject); denied != nil {
				return false, denied
			}
			if errors.Is(err, natsgo.ErrConnectionClosed) || errors.Is(err, natsgo.ErrMaxPayload) {
				return false, err
			}
			return true, fmt.Errorf("%w: %v", ErrUnreachable, err)
		}
		return false, err
	})
	return answer, err
}

// persist calls f until it does not want to be called again, or patience ends.
func (b *Backend) persist(ctx context.Context, f func() (again bool, err error)) error {
	pause := firstPause
	for end := time.Now().Add(b.patience); ; pause = min(2*pause, longestPause) {
		again, err := f()
		if cancelled := storage.Cancelled(ctx); cancelled != nil && err != nil {
			return cancelled
		}
		if !again || time.Now().Add(pause).After(end) {
			return err
		}
		if err := storage.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// call asks the JetStream API, and reads the answer into response.
func (b *Backend) call(ctx context.Context, operation string, request, response any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return b.exchange(ctx, b.api+operation+"."+b.place.Stream, nil, data, response)
}

// exchange sends a message and reads the answer into response, where it is no error.
func (b *Backend) exchange(ctx context.Context, subject string, header natsgo.Header, data []byte, response any) error {
	return b.persist(ctx, func() (again bool, err error) {
		answer, err := b.ask(ctx, subject, header, data)
		if err != nil {
			return false, err
		}
		var failed struct {
			Error *apiError `json:"error"`
		}
		if err := json.Unmarshal(answer.Data, &failed); err != nil {
			return false, fmt.Errorf("answer of the server: %w", err)
		}
		if failed.Error != nil {
			return failed.Error.passing(), failed.Error
		}
		if err := json.Unmarshal(answer.Data, response); err != nil {
			return false, fmt.Errorf("answer of the server: %w", err)
		}
		return false, nil
	})
}

// published is the answer to a message that was stored.
type published struct {
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
}

// publish stores a message and returns its sequence.
func (b *Backend) publish(ctx context.Context, subject string, header natsgo.Header, data []byte) (uint64, error) {
	var ack published
	if err := b.exchange(ctx, subject, header, data, &ack); err != nil {
		return 0, err
	}
	if ack.Stream != b.place.Stream || ack.Seq == 0 {
		return 0, fmt.Errorf("stream %q stored a message for stream %s", ack.Stream, b.place.Stream)
	}
	return ack.Seq, nil
}
