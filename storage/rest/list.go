package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"jetsam/storage"
)

// The types of lists: of names, and of names with sizes.
const (
	version1 = "application/vnd.x.restic.rest.v1"
	version2 = "application/vnd.x.restic.rest.v2"
)

// maxList bounds the text of a list, in bytes: some five million files.
const maxList = 512 << 20

// listing is what a server lists.
type listing struct {
	infos     []storage.Info
	namesOnly bool // the server is of the protocol's version 1, and tells no sizes
}

// entry is a file in a list.
type entry struct {
	Name string `json:"name"`
	Size *int64 `json:"size"`
}

// UnmarshalJSON reads an object or, as version 1 has it, a name.
func (e *entry) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, &e.Name)
	}
	type plain entry
	return json.Unmarshal(text, (*plain)(e))
}

// read reads the list of a kind's files. What ends early, or is no list, is an error:
// never a shorter list.
func (l *listing) read(k storage.Kind, contentType string, r io.Reader) error {
	l.namesOnly = contentType != version2
	limited := &io.LimitedReader{R: r, N: maxList}
	if err := l.decode(k, json.NewDecoder(limited)); err != nil {
		if limited.N <= 0 {
			return storage.Permanent(fmt.Errorf("the list is longer than %d MiB", maxList>>20))
		}
		return err
	}
	return nil
}

func (l *listing) decode(k storage.Kind, d *json.Decoder) error {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return noList(err)
	}
	for d.More() {
		var e entry
		if err := d.Decode(&e); err != nil {
			return noList(err)
		}
		id, err := storage.ParseID(e.Name)
		if err != nil {
			continue // no file of a repository
		}
		info := storage.Info{File: storage.File{Kind: k, ID: id}}
		switch {
		case l.namesOnly:
		case e.Size == nil || *e.Size < 0:
			return noList(fmt.Errorf("%v has no size", info.File))
		default:
			info.Size = *e.Size
		}
		l.infos = append(l.infos, info)
	}
	if _, err := d.Token(); err != nil { // the closing bracket
		return noList(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return noList(err)
	}
	return nil
}

// noList says that a server's answer is no list. What broke off on the way says so
// itself.
func noList(err error) error {
	if errors.Is(err, storage.ErrUnreachable) {
		return err
	}
	if err == nil {
		err = errors.New("something else is there")
	}
	return fmt.Errorf("what the server sent is no list of files: %v", err)
}
