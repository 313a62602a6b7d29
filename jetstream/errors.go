package jetstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// What callers branch on. ErrTimeout, ErrConnectionLost and ErrNoLeader are kinds of ErrUnreachable.
var (
	ErrUnreachable          = errors.New("NATS is unreachable")
	ErrTimeout        error = &kind{"NATS did not answer in time", ErrUnreachable}
	ErrConnectionLost error = &kind{"connection to NATS lost", ErrUnreachable}
	ErrNoLeader       error = &kind{"no server leads it", ErrUnreachable}
	ErrClosed               = errors.New("already closed")

	// ErrAuthentication is why a server refused the connection itself; it comes in a *PermissionError.
	ErrAuthentication = errors.New("authentication failed")

	ErrNoJetStream       = errors.New("JetStream is not enabled for this account")
	ErrStreamNotFound    = errors.New("stream not found")
	ErrStreamExists      = errors.New("stream already exists")
	ErrConsumerNotFound  = errors.New("consumer not found")
	ErrMessageNotFound   = errors.New("message not found")
	ErrSubjectsOverlap   = errors.New("subjects overlap with another stream")
	ErrResourcesExceeded = errors.New("not enough resources on the server or in the account")

	// ErrRetention is why a stream's messages are not fetched by a consumer: of a work queue it would be refused, and of a stream
	// that keeps what its consumers want it would change what is kept.
	ErrRetention = errors.New("a consumer would interfere with the stream's retention")
	// ErrNotVerbatim is why a message is not had from the API: its subject is not UTF-8, and JSON has no place for it.
	ErrNotVerbatim = errors.New("the API cannot give the message as it is stored")

	// ErrStoreFailed is a server's trouble with its own files.
	ErrStoreFailed = errors.New("the server's storage failed")

	// ErrSnapshotBusy: servers before 2.15 take one snapshot of a stream at a time.
	ErrSnapshotBusy = errors.New("another snapshot of the stream is being taken")
	// ErrNoSnapshots: servers before 2.15 take none of streams in memory.
	ErrNoSnapshots = errors.New("the server takes no snapshots of such a stream")

	// ErrSlowReader is why a snapshot ended whose reader took too little for too long.
	ErrSlowReader = errors.New("snapshot was not read fast enough")
	// ErrRestoreDropped is why a restore ended that the server gave up without a word, as it does after 5 s without data.
	ErrRestoreDropped = errors.New("the server dropped the restore")
)

// kind is a sentinel that is also another, more general one.
type kind struct {
	text string
	of   error
}

func (k *kind) Error() string { return k.text }
func (k *kind) Unwrap() error { return k.of }

// Operations that a server can refuse.
const (
	OpConnect   = "connect"
	OpPublish   = "publish"
	OpSubscribe = "subscribe"
)

// PermissionError reports what the server does not let this user do.
type PermissionError struct {
	Operation string // OpConnect, OpPublish or OpSubscribe
	Subject   string // the refused subject; with OpConnect the server's address
	Reason    string // with OpConnect: why, in the server's words
}

func (e *PermissionError) Error() string {
	if e.Operation == OpConnect {
		return fmt.Sprintf("%s refused the connection: %s", e.Subject, e.Reason)
	}
	return fmt.Sprintf("permission denied: %s to %q", e.Operation, e.Subject)
}

// Is reports that a refused connection is an ErrAuthentication.
func (e *PermissionError) Is(target error) bool {
	return target == ErrAuthentication && e.Operation == OpConnect
}

// APIError is an error as the JetStream API answers it. errors.Is tells whether it means one of this package's sentinels.
type APIError struct {
	Code        int    `json:"code"`     // like an HTTP status
	ErrCode     int    `json:"err_code"` // says which error it is (nats-server, server/errors.json)
	Description string `json:"description"`
}

func (e *APIError) Error() string {
	return fmt.Sprintf("%s (%d)", printable(e.Description), e.ErrCode)
}

// Is maps the server's error codes to the sentinels of this package.
func (e *APIError) Is(target error) bool {
	if is := sentinel(e.ErrCode); is != nil {
		return errors.Is(is, target)
	}
	if inner, ok := e.innerCode(); ok {
		return errors.Is(sentinel(inner), target)
	}
	switch target {
	case ErrStoreFailed:
		return e.ErrCode == codeRestoreFailed && strings.Contains(e.Description, notInOrder)
	case ErrRestoreDropped:
		return e.ErrCode == codeRestoreFailed && strings.Contains(e.Description, closedPipe)
	case ErrSnapshotBusy:
		return e.ErrCode == codeSnapshotFailed && strings.Contains(e.Description, "snapshot in progress")
	case ErrNoSnapshots:
		return e.ErrCode == codeSnapshotFailed && strings.Contains(e.Description, "no impl")
	}
	return false
}

// closedPipe is in the description of a restore that the server gave up after 5 s without data, where it still says so (nats-server 2.15,
// processStreamRestore): for that long, nothing came through from another server of its cluster.
const closedPipe = "closed pipe"

// notInOrder is in the description of a failed restore whose new store had messages already: a server can give it some of a stream of the same
// name that was deleted a moment ago (see Conn.DeleteStream). Asked again, it does not.
const notInOrder = "expected sequence does not match store"

// codeSnapshotFailed is the error of a snapshot that does not begin. Only its text says why.
const codeSnapshotFailed = 10064

// codeRestoreFailed is the error of a failed restore. It wraps another, of which only the text is left.
const codeRestoreFailed = 10062

// innerCode returns the code of the error that a failed restore wraps: the server ends its text with it, in parentheses.
func (e *APIError) innerCode() (code int, ok bool) {
	text, found := strings.CutSuffix(e.Description, ")")
	if e.ErrCode != codeRestoreFailed || !found {
		return 0, false
	}
	code, err := strconv.Atoi(text[strings.LastIndexByte(text, '(')+1:])
	return code, err == nil
}

// sentinel returns what an error code of nats-server 2.15 (server/errors.json) means here, or nil.
func sentinel(code int) error {
	switch code {
	case 10008: // JetStream system temporarily unavailable
		return ErrUnreachable
	case 10118, 10119: // stream, consumer offline: the servers that hold it are away
		return ErrNoLeader
	case 10035, 10039, 10076: // account not found, JetStream not enabled (for account)
		return ErrNoJetStream
	case 10059:
		return ErrStreamNotFound
	case 10058, 10130: // in use with a different configuration; in use, cannot restore
		return ErrStreamExists
	case 10014:
		return ErrConsumerNotFound
	case 10037:
		return ErrMessageNotFound
	case 10098, 10099, 10100: // work queues: explicit acknowledgement, several without filters, filters that overlap
		return ErrRetention
	case 10065:
		return ErrSubjectsOverlap
	case 10002, 10023, 10026, 10027, 10028, 10047: // account, cluster, consumers, streams, memory, storage
		return ErrResourcesExceeded
	case 10077:
		return ErrStoreFailed
	}
	return nil
}

// StatusError is a snapshot that the server ended before it was complete.
type StatusError struct {
	Code int    // StatusTimeout: our answers did not arrive in time, or nobody listened; 500: the server could not read the stream
	Text string // why, in the server's words
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server ended the snapshot early: %d %s", e.Code, printable(e.Text))
}

// translate turns an error of nats.go into one of this package, without the secrets that its text may hold.
func (r redactor) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNoJetStream
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return ErrTimeout
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrReconnectBufExceeded),
		errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting), brokenPipe(err):
		return ErrConnectionLost
	}
	return errors.New(r.text(err.Error()))
}

// brokenPipe says whether err is the operating system's word that an open connection ended: who writes may hear of it before the library does.
func brokenPipe(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "write" || op.Op == "read")
}
