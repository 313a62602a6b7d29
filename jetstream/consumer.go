package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"jetsam/internal/strictjson"
)

// ConsumerInfo is what a server says of a consumer. Raw and Config are its own words; the other fields are read from them.
type ConsumerInfo struct {
	Name    string
	Created time.Time

	Config json.RawMessage
	Raw    json.RawMessage // the whole answer, of which Config is a part

	Durable     bool
	Delivered   Position
	AckFloor    Position
	AckPending  int    // messages delivered and not yet acknowledged
	Redelivered int    // messages delivered more than once and not yet acknowledged
	Pending     uint64 // messages not yet delivered

	Cluster *ClusterInfo // nil on a lone server
}

// Position is how far a consumer has come, counted in its own deliveries and in sequences of the stream.
type Position struct {
	Consumer uint64 `json:"consumer_seq"`
	Stream   uint64 `json:"stream_seq"`
}

// Consumers lists all consumers of a stream by name. If the server knows of consumers that it cannot say more about,
// those that it can come with a *MissingError.
func (c *Conn) Consumers(ctx context.Context, stream string) ([]*ConsumerInfo, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, fmt.Errorf("list consumers: %w", err)
	}
	l, err := c.list(ctx, "CONSUMER.LIST."+stream, nameIn)
	if err != nil {
		return nil, fmt.Errorf("list consumers of %s: %w", stream, err)
	}
	all, missing, err := collect(l, parseConsumerInfo, func(name string) (*ConsumerInfo, error) {
		return c.consumerInfo(ctx, stream, name)
	})
	if err != nil {
		return nil, fmt.Errorf("list consumers of %s: %w", stream, err)
	}
	slices.SortFunc(all, func(a, b *ConsumerInfo) int { return cmp.Compare(a.Name, b.Name) })
	if len(missing) > 0 {
		return all, &MissingError{Of: "consumers of " + stream, Reasons: missing}
	}
	return all, nil
}

// Consumer asks for one consumer of a stream. If there is none of that name the error is ErrConsumerNotFound.
func (c *Conn) Consumer(ctx context.Context, stream, name string) (*ConsumerInfo, error) {
	info, err := c.consumerInfo(ctx, stream, name)
	if err != nil {
		return nil, fmt.Errorf("get consumer %s of %s: %w", name, stream, err)
	}
	return info, nil
}

// CreateConsumer makes a consumer of a stream from its configuration, as the API takes it. A consumer of that name but of another
// configuration is an *APIError.
func (c *Conn) CreateConsumer(ctx context.Context, stream, name string, config json.RawMessage) error {
	err := errors.Join(checkName("stream", stream), checkName("consumer", name))
	if err == nil {
		err = c.createConsumer(ctx, stream, name, config)
	}
	if err != nil {
		return fmt.Errorf("create consumer %s of %s: %w", name, stream, err)
	}
	return nil
}

func (c *Conn) createConsumer(ctx context.Context, stream, name string, config json.RawMessage) error {
	body, err := json.Marshal(struct {
		Stream string          `json:"stream_name"`
		Config json.RawMessage `json:"config"`
		Action string          `json:"action"`
	}{stream, config, "create"})
	if err != nil {
		return err
	}
	_, err = c.api(ctx, "CONSUMER.CREATE."+stream+"."+name, body)
	return err
}

func (c *Conn) consumerInfo(ctx context.Context, stream, name string) (*ConsumerInfo, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	if err := checkName("consumer", name); err != nil {
		return nil, err
	}
	raw, err := c.api(ctx, "CONSUMER.INFO."+stream+"."+name, nil)
	if err != nil {
		return nil, err
	}
	return parseConsumerInfo(raw)
}

// parseConsumerInfo reads raw, which becomes a part of the result.
func parseConsumerInfo(raw json.RawMessage) (*ConsumerInfo, error) {
	var parts struct {
		Name        string          `json:"name"`
		Created     time.Time       `json:"created"`
		Config      json.RawMessage `json:"config"`
		Delivered   Position        `json:"delivered"`
		AckFloor    Position        `json:"ack_floor"`
		AckPending  int             `json:"num_ack_pending"`
		Redelivered int             `json:"num_redelivered"`
		Pending     uint64          `json:"num_pending"`
		Cluster     *ClusterInfo    `json:"cluster"`
	}
	if err := strictjson.Decode(raw, &parts); err != nil {
		return nil, fmt.Errorf("decode consumer information: %w", err)
	}
	var config struct {
		Durable string `json:"durable_name"`
	}
	if err := strictjson.Decode(parts.Config, &config); err != nil {
		return nil, fmt.Errorf("decode consumer configuration: %w", err)
	}
	return &ConsumerInfo{
		Name: parts.Name, Created: parts.Created, Config: parts.Config, Raw: raw, Durable: config.Durable != "",
		Delivered: parts.Delivered, AckFloor: parts.AckFloor, AckPending: parts.AckPending, Redelivered: parts.Redelivered,
		Pending: parts.Pending, Cluster: clustered(parts.Cluster),
	}, nil
}

// nameIn is the name that a configuration, or an entry of a list, says is its own.
func nameIn(raw json.RawMessage) (string, error) {
	var entry struct {
		Name string `json:"name"`
	}
	err := strictjson.Decode(raw, &entry)
	return entry.Name, err
}
