// Package snapshot holds the JSON documents of a repository: snapshots, and the
// trees of nodes they point to.
//
//	Snapshot   when, what and by whom was backed up; names the root tree
//	Tree       a directory: nodes in ascending order of their names
//	Node       a file (the IDs of its data blobs), a directory (the ID of its
//	           tree), or one of the other things a file system holds
//
// Field names, their order and the bytes a tree is encoded to are restic's,
// repository format version 2. Equal trees encode to equal bytes, so that a
// directory that did not change is stored once.
//
// Decoding treats its input as hostile: whatever a tree or snapshot names has
// been checked when it is returned. Selecting and grouping are pure functions
// over snapshots that are in memory.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"jetsam/blob"
	"jetsam/internal/strictjson"
	"jetsam/storage"
)

// Snapshot is one backup. The order of the fields is part of the format.
type Snapshot struct {
	Time           time.Time  `json:"time"`
	Parent         storage.ID `json:"parent,omitzero"` // may be gone
	Tree           blob.ID    `json:"tree"`
	Paths          []string   `json:"paths"` // absolute; with the host name what retention groups by
	Hostname       string     `json:"hostname,omitempty"`
	Username       string     `json:"username,omitempty"`
	UID            uint32     `json:"uid,omitempty"`
	GID            uint32     `json:"gid,omitempty"`
	Excludes       []string   `json:"excludes,omitempty"`
	Tags           []string   `json:"tags,omitempty"`    // none holds a comma
	Original       storage.ID `json:"original,omitzero"` // the ID it had before its metadata was rewritten
	ProgramVersion string     `json:"program_version,omitempty"`
	Summary        *Summary   `json:"summary,omitempty"`

	id storage.ID
}

// Summary tells what the run that made a snapshot did. Sizes are in bytes.
type Summary struct {
	BackupStart         time.Time `json:"backup_start"`
	BackupEnd           time.Time `json:"backup_end"`
	FilesNew            uint64    `json:"files_new"`
	FilesChanged        uint64    `json:"files_changed"`
	FilesUnmodified     uint64    `json:"files_unmodified"`
	DirsNew             uint64    `json:"dirs_new"`
	DirsChanged         uint64    `json:"dirs_changed"`
	DirsUnmodified      uint64    `json:"dirs_unmodified"`
	DataBlobs           uint64    `json:"data_blobs"`
	TreeBlobs           uint64    `json:"tree_blobs"`
	DataAdded           uint64    `json:"data_added"`        // before compression
	DataAddedPacked     uint64    `json:"data_added_packed"` // as stored
	TotalFilesProcessed uint64    `json:"total_files_processed"`
	TotalBytesProcessed uint64    `json:"total_bytes_processed"`
}

// ID returns the name of the file the snapshot was read from. It is zero for a
// snapshot that was not read from a repository.
func (s *Snapshot) ID() storage.ID { return s.id }

// Encode returns the snapshot as JSON. It refuses one without a tree, a time or
// paths, and tags that restic could not name.
func (s *Snapshot) Encode() ([]byte, error) {
	if err := s.checkNew(); err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	p, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	return p, nil
}

// Decode reads the snapshot stored as file id. It refuses one without a tree.
// Fields it does not know are ignored.
func Decode(id storage.ID, data []byte) (*Snapshot, error) {
	s := &Snapshot{id: id}
	if err := strictjson.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w", err)
	}
	if s.Tree.IsZero() {
		return nil, fmt.Errorf("decode snapshot: %w", errNoTree)
	}
	return s, nil
}

var errNoTree = errors.New("it has no tree")

// checkNew holds a snapshot that is about to be written to more than one that
// is read: what others wrote must stay readable.
func (s *Snapshot) checkNew() error {
	switch {
	case s.Tree.IsZero():
		return errNoTree
	case s.Time.IsZero():
		return errors.New("it has no time")
	case len(s.Paths) == 0:
		return errors.New("it has no paths")
	}
	return CheckTags(s.Tags)
}

// CheckTags refuses tags that restic could not name.
func CheckTags(tags []string) error {
	for _, tag := range tags {
		if tag == "" || strings.Contains(tag, ",") {
			return fmt.Errorf("tag %q is empty or holds a comma", tag)
		}
	}
	return nil
}
