package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"jetsam/storage"
)

// config is what matters of a stream's configuration.
type config struct {
	Name              string   `json:"name"`
	Subjects          []string `json:"subjects"`
	Retention         string   `json:"retention"`
	Discard           string   `json:"discard"`
	Storage           string   `json:"storage"`
	Replicas          int      `json:"num_replicas"`
	MaxMsgs           int64    `json:"max_msgs"`
	MaxMsgsPerSubject int64    `json:"max_msgs_per_subject"`
	MaxBytes          int64    `json:"max_bytes"`
	MaxAge            int64    `json:"max_age"`
	MaxMsgSize        int64    `json:"max_msg_size"`
	MaxConsumers      int64    `json:"max_consumers"`
	AllowDirect       bool     `json:"allow_direct"`
	DenyDelete        bool     `json:"deny_delete"`
	DenyPurge         bool     `json:"deny_purge"`
	Sealed            bool     `json:"sealed"`
}

// streamInfo is what matters of what a server says of a stream.
type streamInfo struct {
	Config config `json:"config"`
	State  struct {
		Messages uint64            `json:"messages"`
		LastSeq  uint64            `json:"last_seq"`
		LastTime time.Time         `json:"last_ts"`
		Subjects map[string]uint64 `json:"subjects"`
	} `json:"state"`
	Total int       `json:"total"` // of subjects
	Now   time.Time `json:"ts"`    // from nats-server 2.10 on
}

// fit refuses a stream that would lose what it was given, or not give it back.
func fit(c config) error {
	switch {
	case c.Retention != "limits", c.MaxAge != 0, c.MaxMsgs > 0, c.MaxMsgsPerSubject > 0, c.Discard != "new":
		return errors.New("it removes messages by itself, so that it cannot hold a repository: wanted are retention limits, discard new, and no limit of age, messages, or messages per subject")
	case c.Storage != "file":
		return errors.New("it is in memory, so that it cannot hold a repository")
	case !c.AllowDirect:
		return errors.New("it does not allow direct gets, by which a repository is read: set allow_direct")
	}
	return nil
}

// info asks for the stream, and for the subjects of a filter from offset on.
func (b *Backend) info(ctx context.Context, filter string, offset int) (info streamInfo, err error) {
	request := map[string]any{}
	if filter != "" {
		request["subjects_filter"], request["offset"] = filter, offset
	}
	err = b.call(ctx, "STREAM.INFO", request, &info)
	b.Heard(info.Now)
	return info, err
}

func (b *Backend) create(ctx context.Context) error {
	info, err := b.info(ctx, "", 0)
	if errors.Is(err, storage.ErrNotExist) {
		var made streamInfo
		err = b.call(ctx, "STREAM.CREATE", b.config(), &made)
		info.Config = made.Config
	}
	if err != nil {
		return err
	}
	if err := fit(info.Config); err != nil {
		return err
	}
	switch _, err := b.find(ctx, storage.File{Kind: storage.Config}); {
	case err == nil:
		return fmt.Errorf("config %w", storage.ErrExist)
	case !errors.Is(err, storage.ErrNotExist):
		return err
	}
	return nil
}

// config is that of a new stream.
func (b *Backend) config() config {
	c := config{
		Name: b.place.Stream, Subjects: []string{b.prefix() + ">"}, Retention: "limits", Discard: "new", Storage: "file", AllowDirect: true,
		Replicas: b.o.Replicas, MaxBytes: b.o.MaxBytes, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = -1
	}
	if c.Replicas == 0 {
		c.Replicas = 1
		if b.nc.ConnectedClusterName() != "" {
			c.Replicas = 3
		}
	}
	return c
}

func (b *Backend) prefix() string { return "jetsam." + b.place.Stream + "." }

// headSubject is the subject of the head of a file of that size; "*" is any.
func (b *Backend) headSubject(f storage.File, size string) string {
	return b.prefix() + "f." + f.Kind.String() + "." + f.ID.String() + "." + size
}

// chunkSubject is the subject of the chunks of an upload; "*" is any.
func (b *Backend) chunkSubject(f storage.File, upload string) string {
	return b.prefix() + "c." + f.Kind.String() + "." + f.ID.String() + "." + upload
}

// headOf is the file and the size that the subject of a head names.
func (b *Backend) headOf(k storage.Kind, subject string) (storage.Info, bool) {
	rest, ok := strings.CutPrefix(subject, b.prefix()+"f."+k.String()+".")
	id, size, both := strings.Cut(rest, ".")
	n, err := strconv.ParseInt(size, 10, 64)
	if !ok || !both || err != nil || n < 0 {
		return storage.Info{}, false
	}
	parsed, err := storage.ParseID(id)
	f := storage.File{Kind: k, ID: parsed}
	return storage.Info{File: f, Size: n}, err == nil && f.Valid()
}

// lists is how often a list is begun anew when the stream changes between its parts.
const lists = 20

// subjects lists the subjects of a filter. A server gives so many at a time; while
// it is asked for one part after the other nothing may change, or some are left out.
func (b *Backend) subjects(ctx context.Context, filter string) (map[string]uint64, error) {
	for range lists {
		first, err := b.info(ctx, filter, 0)
		if err != nil {
			return nil, err
		}
		all := first.State.Subjects
		if len(all) >= first.Total {
			return all, nil
		}
		if err := b.furtherSubjects(ctx, filter, all); err != nil {
			return nil, err
		}
		last, err := b.info(ctx, "", 0)
		if err != nil {
			return nil, err
		}
		if len(all) == first.Total && last.State.LastSeq == first.State.LastSeq && last.State.Messages == first.State.Messages {
			return all, nil
		}
	}
	return nil, errors.New("the stream changes faster than it can be listed")
}

// furtherSubjects adds to a list what is behind its first part.
func (b *Backend) furtherSubjects(ctx context.Context, filter string, all map[string]uint64) error {
	for offset := len(all); ; {
		part, err := b.info(ctx, filter, offset)
		if err != nil {
			return err
		}
		maps.Copy(all, part.State.Subjects)
		if offset += len(part.State.Subjects); len(part.State.Subjects) == 0 || offset >= part.Total {
			return nil
		}
	}
}

// find asks for the size of a file.
func (b *Backend) find(ctx context.Context, f storage.File) (storage.Info, error) {
	subjects, err := b.subjects(ctx, b.headSubject(f, "*"))
	if err != nil {
		return storage.Info{}, err
	}
	for subject := range subjects {
		if info, ok := b.headOf(f.Kind, subject); ok {
			return info, nil
		}
	}
	return storage.Info{}, storage.ErrNotExist
}

// purge removes all messages of a subject, if there are any.
func (b *Backend) purge(ctx context.Context, filter string) error {
	return b.call(ctx, "STREAM.PURGE", map[string]any{"filter": filter}, &struct{}{})
}
