package streamlog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jetsam/blob"
	"jetsam/jetstream/archive"
	"jetsam/snapshot"
)

// SaveStream stores a stream's directory: its document, head, messages and end mark, and the file of the dead where m has one.
// It returns the directory's node and the sealed bytes that were new, those of m included.
// The times in head are replaced by one that follows from the messages, so that an unchanged stream keeps its head.
//
// doc and head say how the stream is, with its live messages. With m.Dead, what doc says of the dead and of the log is set here, and so is
// the state in the head, which is then that of the log.
func SaveStream(ctx context.Context, dst Saver, name string, doc *Document, head *archive.Head, m *Messages) (*snapshot.Node, uint64, error) {
	at := m.Time
	if at.IsZero() {
		at = doc.Jetsam.Created.UTC()
	}
	if at.IsZero() { // neither a message nor a time of creation
		at = time.Unix(0, 0).UTC()
	}
	d := directory{ctx: ctx, dst: dst, at: at, stored: m.NewBytes}
	if m.Dead != nil {
		var err error
		if doc, head, err = withDead(doc, head, m); err != nil {
			return nil, 0, fmt.Errorf("stream %s: %w", name, err)
		}
		d.nodes = append(d.nodes, snapshot.FileNode(deadName, m.Dead.Segments, m.Dead.Size, at))
		d.stored += m.Dead.NewBytes
	}
	text, err := doc.Encode()
	if err != nil {
		return nil, 0, err
	}
	d.file(documentName, text)
	d.archive(endName, archive.AppendEnd(nil))
	d.archive(headName, timeless(head, at).Append(nil))
	d.nodes = append(d.nodes, snapshot.DirNode(messagesName, m.Tree, at))
	node := d.save(EscapeName(name))
	return node, d.stored, d.err
}

// withDead returns the document and head of a stream whose log is m, with entries that are not alive.
func withDead(doc *Document, head *archive.Head, m *Messages) (*Document, *archive.Head, error) {
	with := *doc
	c := &with.Jetsam
	if !slices.Contains(c.Requires, featureDead) {
		c.Requires = append(slices.Clone(c.Requires), featureDead)
	}
	c.Dead = &DeadSummary{Segments: len(m.Dead.Segments), Sequences: m.Dead.Sequences}
	if c.Stored = 0; m.Count != c.Messages {
		c.Stored = m.Count
	}
	state, err := archive.ParseState(head.State)
	if err != nil {
		return nil, nil, err
	}
	if state.Messages = m.Count; m.Count > 0 {
		state.FirstSeq = min(state.FirstSeq, m.First)
	}
	head, err = head.WithState(state)
	return &with, head, err
}

// timeless returns head with all entries dated at.
func timeless(head *archive.Head, at time.Time) *archive.Head {
	h := &archive.Head{State: head.State, StateTime: at.UnixNano(), Consumers: slices.Clone(head.Consumers)}
	for i := range h.Consumers {
		h.Consumers[i].Time = h.StateTime
	}
	return h
}

// SaveAccount stores the account's directory, with the directories of its streams, and the root above it. It returns the root's tree.
func SaveAccount(ctx context.Context, dst Saver, a *Account, streams []*snapshot.Node, at time.Time) (blob.ID, uint64, error) {
	text, err := a.Encode()
	if err != nil {
		return blob.ID{}, 0, err
	}
	d := directory{ctx: ctx, dst: dst, at: at, nodes: slices.Clone(streams)}
	d.file(accountName, text)
	root := directory{ctx: ctx, dst: dst, at: at}
	if node := d.save(EscapeName(a.Account)); node != nil {
		root.nodes = append(root.nodes, node)
	}
	if d.err != nil {
		return blob.ID{}, 0, d.err
	}
	id, saved, err := dst.SaveTree(ctx, &snapshot.Tree{Nodes: root.nodes})
	return id, d.stored + uint64(saved.Stored), err
}

// directory gathers the nodes of one directory; its first error sticks.
type directory struct {
	ctx    context.Context
	dst    Saver
	at     time.Time
	nodes  []*snapshot.Node
	stored uint64
	err    error
}

func (d *directory) file(name string, p []byte) {
	d.add(func() (*snapshot.Node, uint64, error) { return saveFile(d.ctx, d.dst, name, p, d.at) })
}

func (d *directory) archive(name string, plain []byte) {
	d.add(func() (*snapshot.Node, uint64, error) { return saveArchiveFile(d.ctx, d.dst, name, plain, d.at) })
}

func (d *directory) add(save func() (*snapshot.Node, uint64, error)) {
	if d.err != nil {
		return
	}
	n, stored, err := save()
	d.nodes, d.stored, d.err = append(d.nodes, n), d.stored+stored, err
}

// save stores the tree and returns the directory's node under that name, or nil and the error in d.
func (d *directory) save(name string) *snapshot.Node {
	if d.err != nil {
		return nil
	}
	slices.SortFunc(d.nodes, func(a, b *snapshot.Node) int { return strings.Compare(a.Name, b.Name) })
	id, saved, err := d.dst.SaveTree(d.ctx, &snapshot.Tree{Nodes: d.nodes})
	if err != nil {
		d.err = err
		return nil
	}
	d.stored += uint64(saved.Stored)
	return snapshot.DirNode(name, id, d.at)
}
