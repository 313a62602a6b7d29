package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxMetadata is the most that a stream's metadata may have, names and values together, in bytes (nats-server 2.15, JSMaxMetadataLen).
const maxMetadata = 128 << 10

// ServerMetadata begins the names of metadata that a server sets itself, from 2.11 on. It sets them anew whatever it is sent.
const ServerMetadata = "_nats."

// ErrMetadataFull says that a stream's metadata has no room for another entry.
var ErrMetadataFull = errors.New("the stream's metadata is full")

// WithMetadata returns a stream's configuration with one more entry of metadata. What else it says keeps its bytes, numbers and
// unknown fields included, but not the order of the outermost names. Where there is no room for the entry it is ErrMetadataFull.
func WithMetadata(config json.RawMessage, name, value string) (json.RawMessage, error) {
	return editMetadata(config, func(entries map[string]string) { entries[name] = value })
}

// WithoutMetadata returns a stream's configuration without an entry of its metadata, and fit to be sent: a server that adds entries
// of its own, and then counts them as the user's, refuses metadata that it has accepted once. One that needs no change is returned as it is.
func WithoutMetadata(config json.RawMessage, name string) (json.RawMessage, error) {
	_, s, err := ParseSettings(config)
	if err != nil {
		return nil, err
	}
	if _, found := s.Metadata[name]; !found && metadataSize(s.Metadata) <= maxMetadata {
		return config, nil
	}
	return editMetadata(config, func(entries map[string]string) { delete(entries, name) })
}

// WithChanges returns a stream's configuration with other values of some of its outermost fields; nil takes a field out. What else it says
// keeps its bytes, but not the order of the outermost names. Without changes it is returned as it is.
func WithChanges(config json.RawMessage, changes map[string]any) (json.RawMessage, error) {
	if len(changes) == 0 {
		return config, nil
	}
	raws := make(map[string]json.RawMessage, len(changes))
	for name, value := range changes {
		if value == nil {
			raws[name] = nil
			continue
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode %s of a stream configuration: %w", name, err)
		}
		raws[name] = raw
	}
	return editFields(config, func(fields map[string]json.RawMessage) {
		for name, raw := range raws {
			dropField(fields, name)
			if raw != nil {
				fields[name] = raw
			}
		}
	})
}

// editFields changes the outermost fields of a stream's configuration.
func editFields(config json.RawMessage, edit func(map[string]json.RawMessage)) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fmt.Errorf("decode stream configuration: %w", err)
	}
	edit(fields)
	return json.Marshal(fields)
}

// dropField drops a field under all its names: encoding/json, which servers use, reads them without regard to case.
func dropField(fields map[string]json.RawMessage, name string) {
	for field := range fields {
		if strings.EqualFold(field, name) {
			delete(fields, field)
		}
	}
}

func editMetadata(config json.RawMessage, edit func(map[string]string)) (json.RawMessage, error) {
	_, s, err := ParseSettings(config)
	if err != nil {
		return nil, err
	}
	entries := s.Metadata
	if entries == nil {
		entries = map[string]string{}
	}
	edit(entries)
	dropServers(entries)
	if metadataSize(entries) > maxMetadata {
		return nil, ErrMetadataFull
	}
	raw, err := json.Marshal(entries)
	if err != nil {
		return nil, fmt.Errorf("encode stream metadata: %w", err)
	}
	return editFields(config, func(fields map[string]json.RawMessage) {
		dropField(fields, "metadata")
		if len(entries) > 0 {
			fields["metadata"] = raw
		}
	})
}

// dropServers drops the server's own entries where there is no room for them.
func dropServers(entries map[string]string) {
	if metadataSize(entries) <= maxMetadata {
		return
	}
	for name := range entries {
		if strings.HasPrefix(name, ServerMetadata) {
			delete(entries, name)
		}
	}
}

func metadataSize(entries map[string]string) int {
	n := 0
	for name, value := range entries {
		n += len(name) + len(value)
	}
	return n
}

// MayUpdate returns nil if this user may change the configuration of a stream of that name, which need not exist. It asks for a
// change that no server can make.
func (c *Conn) MayUpdate(ctx context.Context, name string) error {
	if err := checkName("stream", name); err != nil {
		return err
	}
	_, err := c.api(ctx, "STREAM.UPDATE."+name, []byte("{}"))
	var answer *APIError
	if err == nil || errors.As(err, &answer) {
		return nil
	}
	return fmt.Errorf("update stream %s: %w", name, err)
}

// Fields returns some of the outermost fields of a stream's configuration, those that it has.
func Fields(config json.RawMessage, names ...string) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(config, &all); err != nil {
		return nil, fmt.Errorf("decode stream configuration: %w", err)
	}
	some := map[string]json.RawMessage{}
	for field, raw := range all {
		for _, name := range names {
			if strings.EqualFold(field, name) {
				some[name] = raw
			}
		}
	}
	return some, nil
}
