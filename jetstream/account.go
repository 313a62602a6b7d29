package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"jetsam/internal/strictjson"
)

// userInfoTimeout bounds the wait for what is only the account's name. Servers answer this from memory, at once.
const userInfoTimeout = time.Second

// userInfoSubject asks the server who this connection is. A server answers this to every user whose permissions do not
// rule it out, which it says at once; with JWTs the key and the name of the account differ (nats-server 2.15, events.go,
// userInfoReq).
const userInfoSubject = "$SYS.REQ.USER.INFO"

// AccountInfo describes the account of a connection.
type AccountInfo struct {
	Name   string // the account's name if the server told, else Config.Account
	Key    string // how the server identifies it: of a JWT account its public key, else its name; empty if it did not tell
	Domain string // JetStream domain, often empty

	Memory, Store uint64 // bytes in use
	Streams       int
	Consumers     int

	APILevel int // of the server that answers the JetStream API, which counts up when that learns something; 0 before 2.11

	Limits Limits          // of the account; all zero where there are tiers
	Tiers  map[string]Tier // limits by number of replicas, "R1", "R3"; empty where there are none

	Raw json.RawMessage // the answer to $JS.API.INFO
}

// Limits of an account or tier. -1 is no limit. MaxStreamMemory and MaxStreamStore are the most that one stream may
// reserve, in bytes; 0 or -1 is no limit there.
type Limits struct {
	MaxMemory       int64 `json:"max_memory"`
	MaxStore        int64 `json:"max_storage"`
	MaxStreams      int   `json:"max_streams"`
	MaxConsumers    int   `json:"max_consumers"`
	MaxStreamMemory int64 `json:"memory_max_stream_bytes"`
	MaxStreamStore  int64 `json:"storage_max_stream_bytes"`
	MaxBytesNeeded  bool  `json:"max_bytes_required"` // streams without max_bytes are refused
}

// Tier is what is in use and allowed of streams with a certain number of replicas.
type Tier struct {
	Memory    uint64 `json:"memory"`
	Store     uint64 `json:"storage"`
	Streams   int    `json:"streams"`
	Consumers int    `json:"consumers"`
	Limits    Limits `json:"limits"`
}

// CheckJetStream returns nil if JetStream is there for the account, ErrNoJetStream if it is not.
func (c *Conn) CheckJetStream(ctx context.Context) error {
	if _, err := c.api(ctx, "INFO", nil); err != nil {
		return fmt.Errorf("check JetStream: %w", err)
	}
	return nil
}

// Account asks what the account has and may have. Its name is only known where the server tells it: to a user whose
// permissions leave out $SYS.REQ.USER.INFO it is Config.Account, as it is where no server answers that.
func (c *Conn) Account(ctx context.Context) (AccountInfo, error) {
	raw, err := c.api(ctx, "INFO", nil)
	if err != nil {
		return AccountInfo{}, fmt.Errorf("get account information: %w", err)
	}
	a := AccountInfo{Raw: raw}
	if err := a.parse(); err != nil {
		return AccountInfo{}, fmt.Errorf("decode account information: %w", err)
	}
	u, _ := c.User(ctx) // nothing else depends on it
	if a.Name, a.Key = u.Account, u.Key; a.Name == "" {
		a.Name = c.account
	}
	return a, nil
}

func (a *AccountInfo) parse() error {
	var info struct {
		Tier
		Domain string          `json:"domain"`
		Tiers  map[string]Tier `json:"tiers"`
		API    struct {
			Level int `json:"level"`
		} `json:"api"`
	}
	if err := strictjson.Decode(a.Raw, &info); err != nil {
		return err
	}
	a.Domain, a.Tiers, a.Limits, a.APILevel = info.Domain, info.Tiers, info.Limits, info.API.Level
	a.Memory, a.Store, a.Streams, a.Consumers = info.Memory, info.Store, info.Streams, info.Consumers
	return nil
}
