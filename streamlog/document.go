package streamlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"jetsam/internal/strictjson"
	"jetsam/jetstream/archive"
)

// FormatVersion is the version of the stored form that this package writes. Part of the format.
const FormatVersion = 1

// What is read, and so what may be written, in bytes.
const (
	maxDocument = 64 << 20                 // of a JSON document
	maxHeadFile = archive.MaxHead + 64<<10 // of the head, with its framing
)

// maxFileBlobs is in how many blobs a document or a head may be: each takes a read, even one that holds nothing.
const maxFileBlobs = 1024

// ErrUnsupported says that a snapshot needs a newer jetsam.
var ErrUnsupported = errors.New("written by a newer version of jetsam")

// supportedFeatures are the required features that this version knows.
var supportedFeatures = []string{featureDead}

// Document is backup.json: what `nats stream backup` writes there (config and state), and a block of our own.
type Document struct {
	Config json.RawMessage `json:"config"` // as the server sent it
	State  json.RawMessage `json:"state"`  // as the server sent it, when the capture began
	Jetsam Capture         `json:"jetsam"`
}

// Capture is what jetsam knows of one stream's capture.
type Capture struct {
	Format         int                 `json:"format"`
	Requires       []string            `json:"requires"`                   // features without which a reader would restore something wrong
	Created        time.Time           `json:"created"`                    // when the stream was created, as the server says
	Messages       uint64              `json:"messages"`                   // live messages in this snapshot
	Stored         uint64              `json:"stored,omitempty"`           // entries in the log, where they are others than the live ones
	Dead           *DeadSummary        `json:"dead,omitempty"`             // of the file of the dead; nil where there is none
	MessageBytes   uint64              `json:"message_bytes"`              // subjects, headers and payloads of the live ones
	Estimated      bool                `json:"estimated,omitempty"`        // MessageBytes is about right only, as messages died
	LargestMessage uint64              `json:"largest_message"`            // headers and payload of the largest, in bytes
	Removed        uint64              `json:"removed,omitempty"`          // messages of State that the server removed while it was captured
	Torn           string              `json:"torn,omitempty"`             // why the messages are not the stream as it was at one time; empty where they are
	Recreated      string              `json:"recreated,omitempty"`        // that this is not the stream which the snapshot before holds under its name, and why
	Consumers      []ConsumerFidelity  `json:"consumers,omitempty"`        // in the order of their names
	Failed         []FailedConsumer    `json:"failed_consumers,omitempty"` // likewise: those that are not in the snapshot
	Continues      *ContinuationOrigin `json:"continues_from,omitempty"`   // absent in a full capture
}

// Entries is how many entries the log has: the live messages, and those that died.
func (c *Capture) Entries() uint64 { return max(c.Stored, c.Messages) }

// checkDead holds what is said of the dead in one place against what is said in another.
func (c *Capture) checkDead() error {
	switch {
	case (c.Dead != nil) != slices.Contains(c.Requires, featureDead):
		return fmt.Errorf("decode %s: requires and dead do not agree", documentName)
	case c.Dead == nil && c.Stored != 0:
		return fmt.Errorf("decode %s: more entries are stored than messages are alive, but none is dead", documentName)
	case c.Dead != nil && (c.Dead.Segments < 1 || c.Dead.Sequences == 0):
		return fmt.Errorf("decode %s: dead has %d segments and %d sequences", documentName, c.Dead.Segments, c.Dead.Sequences)
	case c.Stored != 0 && c.Stored <= c.Messages:
		return fmt.Errorf("decode %s: of %d stored entries %d are alive", documentName, c.Stored, c.Messages)
	}
	return nil
}

// ConsumerFidelity says how true a consumer's stored state is.
type ConsumerFidelity struct {
	Name     string    `json:"name"`
	Fidelity string    `json:"fidelity"`         // FidelityExact or FidelityAckFloor
	Created  time.Time `json:"created,omitzero"` // when the consumer was created, as its server says; zero: not known
}

// FailedConsumer is one that the stream had, and that is not in the snapshot.
type FailedConsumer struct {
	Name  string `json:"name"`
	Error string `json:"error"` // why
}

// Fidelities of a consumer's state. Part of the format.
const (
	FidelityExact    = "exact"     // as it stood: pending and redelivered messages included
	FidelityAckFloor = "ack-floor" // what was pending is delivered again after a restore, nothing is skipped
)

// ContinuationOrigin names the snapshot that a log goes on from.
type ContinuationOrigin struct {
	Snapshot string `json:"snapshot"` // its ID
	Sequence uint64 `json:"sequence"` // the last sequence that both hold
}

// Encode returns the document's bytes: equal documents give equal bytes.
func (d *Document) Encode() ([]byte, error) {
	if d.Jetsam.Requires == nil {
		d.Jetsam.Requires = []string{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("encode %s: %w", documentName, err)
	}
	return readable(documentName, b.Bytes())
}

// readable returns p unless no reader would take it.
func readable(name string, p []byte) ([]byte, error) {
	if err := strictjson.CheckForeign(p); err != nil {
		return nil, fmt.Errorf("encode %s: it could not be read again: %w", name, err)
	}
	return p, nil
}

// DecodeDocument reads backup.json. A document that needs features this version lacks is ErrUnsupported.
func DecodeDocument(p []byte) (*Document, error) {
	var d Document
	if err := strictjson.UnmarshalForeign(p, &d); err != nil {
		return nil, fmt.Errorf("decode %s: %w", documentName, err)
	}
	if err := checkSupported(documentName, d.Jetsam.Format, d.Jetsam.Requires); err != nil {
		return nil, err
	}
	if len(d.Config) == 0 || len(d.State) == 0 {
		return nil, fmt.Errorf("decode %s: config or state is missing", documentName)
	}
	if err := d.Jetsam.checkDead(); err != nil {
		return nil, err
	}
	return &d, nil
}

func checkSupported(name string, format int, requires []string) error {
	if format < 1 {
		return fmt.Errorf("decode %s: no format version", name)
	}
	if format > FormatVersion {
		return fmt.Errorf("%s has format version %d, this jetsam reads up to %d: %w", name, format, FormatVersion, ErrUnsupported)
	}
	var lacking []string
	for _, f := range requires {
		if !slices.Contains(supportedFeatures, f) {
			lacking = append(lacking, f)
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("%s requires %s, which this jetsam does not know: %w", name, strings.Join(lacking, ", "), ErrUnsupported)
	}
	return nil
}

// Account is account.json: what one run captured of an account.
type Account struct {
	Format   int              `json:"format"`
	Account  string           `json:"account"`
	Server   AccountServer    `json:"server"`
	Limits   json.RawMessage  `json:"limits,omitempty"`   // the server's answer to $JS.API.INFO
	Captured []CapturedStream `json:"streams"`            // in the order of their names
	Failed   []FailedStream   `json:"failed"`             // what could not be read, in the order of their names
	Excluded []string         `json:"excluded,omitempty"` // names and globs of streams that were left out
}

// Excludes says whether a stream of that name was left out.
func (a *Account) Excludes(name string) bool { return matchesAny(a.Excluded, name) }

// AccountServer names the server that an account was captured from.
type AccountServer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Cluster string `json:"cluster,omitempty"`
	Domain  string `json:"domain,omitempty"`
}

// CapturedStream says when a stream was captured, and how far.
type CapturedStream struct {
	Name     string    `json:"name"`
	Created  time.Time `json:"created,omitzero"` // the stream, as the server says
	Life     time.Time `json:"life,omitzero"`    // when this life of the stream began, where that is not Created
	Captured time.Time `json:"captured"`         // when the server took the state that the capture began with
	LastSeq  uint64    `json:"last_seq"`
}

// Began is when this life of the stream began: the same in all snapshots of a stream that only went on, and another in those of a stream of its
// name that was made anew or has lost its newest messages. It is zero where that is not known.
func (c *CapturedStream) Began() time.Time {
	if c.Life.IsZero() {
		return c.Created
	}
	return c.Life
}

// FailedStream names a stream that is not in the snapshot, and why.
type FailedStream struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// Encode returns the bytes of account.json.
func (a *Account) Encode() ([]byte, error) {
	p, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", accountName, err)
	}
	return readable(accountName, append(p, '\n'))
}

// DecodeAccount reads account.json.
func DecodeAccount(p []byte) (*Account, error) {
	var a Account
	if err := strictjson.UnmarshalForeign(p, &a); err != nil {
		return nil, fmt.Errorf("decode %s: %w", accountName, err)
	}
	if err := checkSupported(accountName, a.Format, nil); err != nil {
		return nil, err
	}
	return &a, nil
}

// configName is the name in a stream's configuration.
func configName(config json.RawMessage) (string, error) {
	var c struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return "", fmt.Errorf("decode stream configuration: %w", err)
	}
	return c.Name, nil
}
