package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"jetsam/internal/strictjson"
)

// maxAnswer bounds the answers of the API that are decoded, in bytes: the largest payload that servers can be set to.
const maxAnswer = 64 << 20

// api sends a request to the JetStream API and returns the answer, as JSON, if it is not an error.
// The endpoint is what follows the API's prefix: "STREAM.INFO.ORDERS".
func (c *Conn) api(ctx context.Context, endpoint string, body []byte) (json.RawMessage, error) {
	answer, err := c.request(ctx, c.prefix+"."+endpoint, body)
	if err != nil {
		return nil, err
	}
	return checkAnswer(answer)
}

// checkAnswer returns an answer of the API, or the error that it is.
func checkAnswer(answer []byte) (json.RawMessage, error) {
	return judgeAnswer(answer, strictjson.CheckForeign)
}

// checkLongAnswer is checkAnswer without a bound on the number of values, for an answer that is mostly a list of numbers.
func checkLongAnswer(answer []byte) (json.RawMessage, error) {
	return judgeAnswer(answer, strictjson.CheckDepth)
}

func judgeAnswer(answer []byte, check func([]byte) error) (json.RawMessage, error) {
	var envelope struct {
		Error *APIError `json:"error"`
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("decode answer: %d bytes are more than %d", len(answer), maxAnswer)
	}
	err := check(answer)
	if err == nil {
		err = strictjson.Decode(answer, &envelope)
	}
	if err != nil {
		return nil, fmt.Errorf("decode answer %.40q: %w", answer, err)
	}
	if envelope.Error != nil {
		return nil, envelope.Error
	}
	return answer, nil
}

// request sends a request and waits for the answer, which it returns as it is. It fails at once when the connection is
// lost or the server refuses the subject.
func (c *Conn) request(ctx context.Context, subject string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, ErrTimeout)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	remove, err := c.events.add(ctx, &watch{
		publishes:  func(refused string) bool { return refused == subject },
		subscribes: c.answers,
		fail:       fail,
	})
	if err != nil {
		return nil, err
	}
	defer remove()
	answer, err := c.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, c.redact.translate(err)
	}
	return answer.Data, nil
}

// checkName refuses what cannot be the name of a stream or consumer before it becomes part of a subject, where a dot or
// a wildcard would make it mean something else.
// CheckStreamName returns an error for what no stream can be called.
func CheckStreamName(name string) error { return checkName("stream", name) }

func checkName(kind, name string) error {
	if name == "" {
		return fmt.Errorf("%s without a name", kind)
	}
	if i := strings.IndexAny(name, " \t\r\n\f.*>/\\"); i >= 0 {
		return fmt.Errorf("%q is not a %s name: it contains %q", name, kind, name[i])
	}
	return nil
}
