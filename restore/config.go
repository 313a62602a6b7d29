package restore

import (
	"encoding/json"
	"fmt"
	"time"
)

// streamConfig are the fields of a stream's configuration that a plan looks at. It is for reading only: what is sent is the raw JSON.
type streamConfig struct {
	Name         string        `json:"name"`
	Subjects     []string      `json:"subjects"`
	Retention    string        `json:"retention"`
	Storage      string        `json:"storage"`
	Replicas     int           `json:"num_replicas"`
	MaxBytes     int64         `json:"max_bytes"`
	MaxMsgSize   int64         `json:"max_msg_size"`
	MaxAge       time.Duration `json:"max_age"`
	MaxConsumers int           `json:"max_consumers"`
	Mirror       *struct {
		Name string `json:"name"`
	} `json:"mirror"`
	Sources []struct {
		Name string `json:"name"`
	} `json:"sources"`
}

// parseConfig reads a configuration as a server sends it. A stream without subjects, mirror and sources listens to its own name.
func parseConfig(raw json.RawMessage) (streamConfig, error) {
	c := streamConfig{MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("decode stream configuration: %w", err)
	}
	if len(c.Subjects) == 0 && c.Mirror == nil && len(c.Sources) == 0 {
		c.Subjects = []string{c.Name}
	}
	return c, nil
}
