package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"jetsam/blob"
)

// Type tells what a node is. The values are part of the format.
type Type string

// The types of node.
const (
	TypeFile    Type = "file"
	TypeDir     Type = "dir"
	TypeSymlink Type = "symlink"
	TypeDev     Type = "dev"
	TypeCharDev Type = "chardev"
	TypeFifo    Type = "fifo"
	TypeSocket  Type = "socket"
)

// MaxNameLength is the longest name of a node, in bytes. File systems stop at
// 255; names of streams are longer where characters had to be escaped.
const MaxNameLength = 4096

// Modes of the nodes made here: only their owner may read what was restored.
const (
	fileMode = fs.FileMode(0o600)
	dirMode  = fs.ModeDir | 0o700
)

// Node is an entry of a directory. The order of the fields is part of the
// format. Name is the plain name here; trees hold it quoted.
type Node struct {
	Name               string             `json:"name"`
	Type               Type               `json:"type"`
	Mode               fs.FileMode        `json:"mode,omitempty"` // Go's bits, not Unix's
	ModTime            time.Time          `json:"mtime"`
	AccessTime         time.Time          `json:"atime"`
	ChangeTime         time.Time          `json:"ctime"`
	UID                uint32             `json:"uid"`
	GID                uint32             `json:"gid"`
	User               string             `json:"user,omitempty"`
	Group              string             `json:"group,omitempty"`
	Inode              uint64             `json:"inode,omitempty"`
	DeviceID           uint64             `json:"device_id,omitempty"`
	Size               uint64             `json:"size,omitempty"` // bytes
	Links              uint64             `json:"links,omitempty"`
	LinkTarget         string             `json:"linktarget,omitempty"`
	LinkTargetRaw      []byte             `json:"linktarget_raw,omitempty"` // where LinkTarget is not UTF-8
	ExtendedAttributes ExtendedAttributes `json:"extended_attributes,omitempty"`
	GenericAttributes  GenericAttributes  `json:"generic_attributes,omitempty"`
	Device             uint64             `json:"device,omitempty"`
	Content            Content            `json:"content"`          // of a file: its data blobs in order, not nil
	Subtree            blob.ID            `json:"subtree,omitzero"` // of a directory
	Error              string             `json:"error,omitempty"`
}

// ExtendedAttribute is a name and value that a file system keeps with a file.
type ExtendedAttribute struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// Lists that hostile JSON could make many times their length in memory, so that
// they are measured before they are decoded.
type (
	// Content is the IDs of a file's blobs, in order.
	Content []blob.ID
	// ExtendedAttributes are a file's, as its file system lists them.
	ExtendedAttributes []ExtendedAttribute
	// GenericAttributes are what other systems' file systems keep, by name.
	GenericAttributes map[string]json.RawMessage
)

// MaxAttributes is how many extended, and how many generic attributes a node may
// have.
const MaxAttributes = 1 << 16

// idText is how long an ID is as JSON: hexadecimal digits in quotes.
const idText = 2*blob.IDSize + 2

// UnmarshalJSON refuses a list with more elements than IDs could be in it.
func (c *Content) UnmarshalJSON(text []byte) error {
	if ids := plainIDs(text); ids != nil {
		*c = ids
		return nil
	}
	if most := len(text)/idText + 1; bytes.Count(text, []byte{','}) > most {
		return errors.New("content is not a list of blob IDs")
	}
	return json.Unmarshal(text, (*[]blob.ID)(c))
}

// plainIDs reads a list of IDs in the form that backups write, without white
// space: some six times faster than encoding/json, and a large repository has
// millions. It returns nil for anything else.
func plainIDs(text []byte) []blob.ID {
	const each = idText + 1 // with what follows it
	if len(text) < each || len(text)%each != 1 || text[0] != '[' {
		return nil
	}
	ids := make([]blob.ID, len(text)/each)
	for i := range ids {
		next := byte(',')
		if i == len(ids)-1 {
			next = ']'
		}
		p := text[1+i*each:][:each]
		if p[0] != '"' || p[idText-1] != '"' || p[idText] != next || ids[i].UnmarshalText(p[1:idText-1]) != nil {
			return nil
		}
	}
	return ids
}

// UnmarshalJSON refuses more than MaxAttributes.
func (a *ExtendedAttributes) UnmarshalJSON(text []byte) error {
	if err := checkAttributes(text); err != nil {
		return err
	}
	return json.Unmarshal(text, (*[]ExtendedAttribute)(a))
}

// UnmarshalJSON refuses more than MaxAttributes.
func (a *GenericAttributes) UnmarshalJSON(text []byte) error {
	if err := checkAttributes(text); err != nil {
		return err
	}
	return json.Unmarshal(text, (*map[string]json.RawMessage)(a))
}

// checkAttributes counts commas, of which an attribute has one or two.
func checkAttributes(text []byte) error {
	if bytes.Count(text, []byte{','}) > 2*MaxAttributes {
		return fmt.Errorf("more than %d attributes", MaxAttributes)
	}
	return nil
}

// memory returns about how many bytes the decoded node takes.
func (n *Node) memory() int {
	const node, extended, generic = 400, 96, 128 // lists grow by being copied
	size := node + extended*len(n.ExtendedAttributes) + generic*len(n.GenericAttributes) + blob.IDSize*len(n.Content)
	for _, text := range []string{n.Name, n.User, n.Group, n.LinkTarget, n.Error} {
		size += len(text)
	}
	size += len(n.LinkTargetRaw)
	for _, a := range n.ExtendedAttributes {
		size += len(a.Name) + len(a.Value)
	}
	for name, value := range n.GenericAttributes {
		size += len(name) + len(value)
	}
	return size
}

// DirNode returns a directory. All three of its times are mtime and all else is
// fixed, so that it depends on nothing but the arguments.
func DirNode(name string, subtree blob.ID, mtime time.Time) *Node {
	n := newNode(name, TypeDir, dirMode, mtime)
	n.Subtree = subtree
	return n
}

// FileNode returns a file of size bytes, made of the data blobs content. Its
// times and mode are as DirNode's. The node keeps content.
func FileNode(name string, content []blob.ID, size uint64, mtime time.Time) *Node {
	n := newNode(name, TypeFile, fileMode, mtime)
	n.Content, n.Size = content, size
	if content == nil {
		n.Content = []blob.ID{}
	}
	return n
}

func newNode(name string, t Type, mode fs.FileMode, mtime time.Time) *Node {
	mtime = mtime.UTC().Round(0)
	return &Node{Name: name, Type: t, Mode: mode, ModTime: mtime, AccessTime: mtime, ChangeTime: mtime}
}

// check reports what makes the node one that must not be restored or stored.
func (n *Node) check() error {
	if err := checkName(n.Name); err != nil {
		return err
	}
	switch n.Type {
	case TypeFile:
		return n.checkContent()
	case TypeDir:
		if n.Subtree.IsZero() {
			return errors.New("directory without subtree")
		}
	case TypeSymlink, TypeDev, TypeCharDev, TypeFifo, TypeSocket:
	default:
		return fmt.Errorf("unknown type %.20q", string(n.Type))
	}
	return nil
}

func (n *Node) checkContent() error {
	if n.Content == nil {
		return errors.New("file without content list")
	}
	for _, id := range n.Content {
		if id.IsZero() {
			return errors.New("file with a zero blob ID")
		}
	}
	return nil
}

// checkName refuses names that are not one element of a path: a tree could
// otherwise point out of the directory it is restored to.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case name == "." || name == "..":
		return errors.New("name is a path to another directory")
	case len(name) > MaxNameLength:
		return fmt.Errorf("name has %d bytes, more than %d", len(name), MaxNameLength)
	case strings.ContainsAny(name, "/\x00"):
		return errors.New("name holds a slash or a zero byte")
	}
	return nil
}

// quote returns name as trees hold it: a Go string literal without its quotes.
func quote(name string) string {
	q := strconv.Quote(name)
	return q[1 : len(q)-1]
}

// unquote is the reverse of quote.
func unquote(quoted string) (string, error) {
	name, err := strconv.Unquote(`"` + quoted + `"`)
	if err != nil {
		return "", errors.New("name is not quoted as it should be")
	}
	return name, nil
}
