package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"jetsam/internal/strictjson"
)

// Limits on trees that are read.
const (
	// MaxTreeSize is the longest encoded tree, in bytes.
	MaxTreeSize = 128 << 20
	// MaxTreeNodes bounds the nodes of one directory.
	MaxTreeNodes = 500_000
	// MaxTreeMemory bounds what the nodes of one directory take once they are
	// decoded, in bytes: many times the length of their encoding if somebody sees
	// to that. A tree of MaxTreeSize that a backup wrote takes less.
	MaxTreeMemory = 200 << 20
	// MaxDepth is how deep directories may nest below the root tree. Whoever
	// walks trees stops there.
	MaxDepth = 1000
)

// Tree is a directory. Its nodes are in strictly ascending order of their
// names, compared bytewise.
type Tree struct {
	Nodes []*Node
}

// Find returns the node called name, or nil. It looks at few of the nodes, as they are in order.
func (t *Tree) Find(name string) *Node {
	i, found := slices.BinarySearchFunc(t.Nodes, name, func(n *Node, name string) int { return strings.Compare(n.Name, name) })
	if !found {
		return nil
	}
	return t.Nodes[i]
}

// treeJSON is the document. A line feed follows it.
type treeJSON struct {
	Nodes []Node `json:"nodes"`
}

// EncodeTree returns the tree's bytes: the content of a tree blob. Equal trees
// give equal bytes. It refuses what DecodeTree would refuse.
func EncodeTree(t *Tree) ([]byte, error) {
	doc := treeJSON{Nodes: make([]Node, 0, len(t.Nodes))}
	var c treeChecker
	for _, n := range t.Nodes {
		if err := c.next(n); err != nil {
			return nil, fmt.Errorf("encode tree: %w", err)
		}
		quoted := *n
		quoted.Name = quote(n.Name)
		doc.Nodes = append(doc.Nodes, quoted)
	}
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(doc); err != nil {
		return nil, fmt.Errorf("encode tree: %w", err)
	}
	if buf.Len() > MaxTreeSize {
		return nil, fmt.Errorf("encode tree: %d bytes are more than %d", buf.Len(), MaxTreeSize)
	}
	return buf.Bytes(), nil
}

// DecodeTree reads a tree. It refuses nodes out of order, names that are not
// one element of a path, unknown types, files without a list of blobs and
// directories without a subtree. Fields it does not know are ignored.
func DecodeTree(data []byte) (*Tree, error) {
	if len(data) > MaxTreeSize {
		return nil, fmt.Errorf("decode tree: %d bytes are more than %d", len(data), MaxTreeSize)
	}
	if err := strictjson.CheckDepth(data); err != nil {
		return nil, fmt.Errorf("decode tree: %w", err)
	}
	t, err := decodeTree(data)
	if err != nil {
		return nil, fmt.Errorf("decode tree: %w", err)
	}
	return t, nil
}

// decodeTree goes through the object key by key and the list node by node, so
// that a list of a million empty nodes fails at the first.
func decodeTree(data []byte) (t *Tree, err error) {
	for key, value := range strictjson.Members(data) {
		if key != "nodes" {
			continue
		}
		if t != nil {
			return nil, errors.New("it has two lists of nodes")
		}
		if t, err = decodeNodes(value); err != nil {
			return nil, err
		}
	}
	if t == nil {
		return nil, errors.New("it has no list of nodes")
	}
	return t, nil
}

func decodeNodes(list json.RawMessage) (*Tree, error) {
	if list[0] != '[' {
		return nil, errors.New("its nodes are no list")
	}
	t := &Tree{}
	var c treeChecker
	for text := range strictjson.Elements(list) {
		n := new(Node)
		if err := strictjson.Decode(text, n); err != nil {
			return nil, fmt.Errorf("node %d: %w", len(t.Nodes), err)
		}
		name, err := unquote(n.Name)
		if err != nil {
			return nil, fmt.Errorf("node %d: %w", len(t.Nodes), err)
		}
		n.Name = name
		if err := c.next(n); err != nil {
			return nil, err
		}
		t.Nodes = append(t.Nodes, n)
	}
	return t, nil
}

// treeChecker looks at the nodes of one tree in turn.
type treeChecker struct {
	count  int
	memory int
	last   string
}

func (c *treeChecker) next(n *Node) error {
	if err := n.check(); err != nil {
		return fmt.Errorf("node %d, %.80q: %w", c.count, n.Name, err)
	}
	if c.count > 0 && n.Name <= c.last {
		return fmt.Errorf("node %d, %.80q: not in order after %.80q", c.count, n.Name, c.last)
	}
	if c.count == MaxTreeNodes {
		return fmt.Errorf("more than %d nodes", MaxTreeNodes)
	}
	if c.memory += n.memory(); c.memory > MaxTreeMemory {
		return fmt.Errorf("node %d, %.80q: the nodes take more than %d MiB of memory", c.count, n.Name, MaxTreeMemory>>20)
	}
	c.count++
	c.last = n.Name
	return nil
}
