package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"jetsam/internal/strictjson"
	"jetsam/jetstream/archive"
)

// Message asks for one message of a stream, as the stream's leader has it stored: STREAM.MSG.GET gives the header block byte for
// byte, which no delivery of nats.go does. If the stream has none of that sequence the error is ErrMessageNotFound; a server says the
// same of a message that it cannot read (nats-server 2.15, jsMsgGetRequest). A subject that is not UTF-8 is ErrNotVerbatim.
func (c *Conn) Message(ctx context.Context, stream string, seq uint64) (*archive.Message, error) {
	m, err := c.message(ctx, stream, seq)
	if err != nil {
		return nil, fmt.Errorf("get message %d of stream %s: %w", seq, stream, err)
	}
	return m, nil
}

func (c *Conn) message(ctx context.Context, stream string, seq uint64) (*archive.Message, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	if seq == 0 {
		return nil, errors.New("sequences begin at 1")
	}
	answer, err := c.request(ctx, c.getSubject(stream), getRequest(seq, false))
	if err != nil {
		return nil, err
	}
	m := new(archive.Message)
	if err := parseMessage(answer, m); err != nil {
		return nil, err
	}
	if m.Seq != seq {
		return nil, fmt.Errorf("the server answered with message %d", m.Seq)
	}
	return m, nil
}

// getSubject is where to ask for messages of a stream.
func (c *Conn) getSubject(stream string) string { return c.prefix + ".STREAM.MSG.GET." + stream }

// getRequest asks for the message of a sequence, or where following is set, for the first one from there on.
func getRequest(seq uint64, following bool) []byte {
	if following {
		return fmt.Appendf(nil, `{"seq":%d,"next_by_subj":">"}`, seq)
	}
	return fmt.Appendf(nil, `{"seq":%d}`, seq)
}

// maxGetAnswer bounds an answer to STREAM.MSG.GET, in bytes: a message in base64 takes a third more than as it is.
const maxGetAnswer = maxWirePayload

// parseMessage sets m to the message in an answer to STREAM.MSG.GET, in memory of its own, or returns the error that it is.
func parseMessage(answer []byte, m *archive.Message) error {
	if len(answer) > maxGetAnswer {
		return fmt.Errorf("decode message: %d bytes are more than %d", len(answer), maxGetAnswer)
	}
	var parts struct {
		Error   *APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Payload []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := strictjson.Unmarshal(answer, &parts); err != nil {
		return fmt.Errorf("decode message %.40q: %w", answer, err)
	}
	if parts.Error != nil {
		return parts.Error
	}
	got := parts.Message
	if got == nil {
		return errors.New("decode message: the answer has none")
	}
	nanos := got.Time.UnixNano()
	if !time.Unix(0, nanos).Equal(got.Time) {
		return fmt.Errorf("decode message %d: its time is beyond what nanoseconds can say", got.Seq)
	}
	if err := checkMessage(got.Subject, got.Seq, len(got.Header)+len(got.Payload)); err != nil {
		return err
	}
	if strings.ContainsRune(got.Subject, utf8.RuneError) {
		return fmt.Errorf("message %d: %w", got.Seq, ErrNotVerbatim)
	}
	m.Set(got.Subject, nanos, got.Seq, got.Header, got.Payload)
	return nil
}

// checkMessage refuses what a reader of archives would refuse. body is the size of headers and payload.
func checkMessage(subject string, seq uint64, body int) error {
	switch {
	case seq == 0:
		return errors.New("a message has no sequence")
	case subject == "":
		return fmt.Errorf("message %d has no subject", seq)
	case len(subject) > archive.MaxName:
		return fmt.Errorf("message %d has a subject of %d bytes, at most %d are accepted", seq, len(subject), archive.MaxName)
	case body > archive.MaxMessage:
		return fmt.Errorf("message %d has %d bytes, at most %d are accepted", seq, body, archive.MaxMessage)
	}
	return nil
}
