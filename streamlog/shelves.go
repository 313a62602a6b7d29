package streamlog

import (
	"context"
	"time"

	"jetsam/blob"
	"jetsam/snapshot"
)

// library arranges groups in parts, parts on shelves, and shelves in the directory "messages".
// Where a part and a shelf end is decided by the IDs of their blobs, so that what did not change keeps its trees.
type library struct {
	dst     Saver
	shelves []*snapshot.Node
	shelf   shelf
	part    part
	stored  uint64
}

type shelf struct {
	parts []*snapshot.Node
	first uint64
	to    int64 // highest message time, Unix nanoseconds
}

type part struct {
	ids    []blob.ID
	groups []Group
	size   uint64 // of the framed blobs
	to     int64
}

// place adds a group to the current part, and ends the part and its shelf where they are full.
func (l *library) place(ctx context.Context, s *savedGroup) error {
	if full := l.part.add(s); !full {
		return nil
	}
	return l.cutPart(ctx)
}

// add adds a group, and says whether the part is full.
func (p *part) add(s *savedGroup) (full bool) {
	if len(p.groups) == 0 {
		p.to = s.To
	}
	p.ids = append(p.ids, s.ids...)
	p.groups = append(p.groups, s.Group)
	p.size += s.size
	p.to = max(p.to, s.To)
	return !s.Tail && endsPart(p.ids)
}

// cutPart ends the current part, and the shelf if that is full.
func (l *library) cutPart(ctx context.Context) error {
	if len(l.part.groups) == 0 {
		return nil
	}
	last := l.part.ids[len(l.part.ids)-1]
	if err := l.endPart(ctx); err != nil {
		return err
	}
	return l.cutShelf(ctx, last)
}

// cutShelf ends the shelf if it is full with a part whose last blob is last.
func (l *library) cutShelf(ctx context.Context, last blob.ID) error {
	if !endsShelf(last, len(l.shelf.parts)) {
		return nil
	}
	return l.endShelf(ctx)
}

// keep puts a part of an earlier log on the shelf as it is.
func (l *library) keep(ctx context.Context, p *logPart) error {
	if err := l.cutPart(ctx); err != nil {
		return err
	}
	l.shelve(p.First, p.node.ModTime.UnixNano(), p.node)
	return l.cutShelf(ctx, p.Blobs[len(p.Blobs)-1])
}

// shelve puts a part on the shelf: its first sequence, its highest message time in Unix nanoseconds, its directory.
func (l *library) shelve(first uint64, to int64, node *snapshot.Node) {
	s := &l.shelf
	if len(s.parts) == 0 {
		s.first, s.to = first, to
	}
	s.to = max(s.to, to)
	s.parts = append(s.parts, node)
}

// endsPart says whether a part ends after these blobs. Part of the format.
func endsPart(ids []blob.ID) bool {
	last := ids[len(ids)-1]
	return len(ids) >= maxPartBlobs || len(ids) >= minPartBlobs && last[0] == 0 && last[1]>>6 == 0
}

// endsShelf says whether a shelf of n parts ends after the part whose last blob is last. Part of the format.
func endsShelf(last blob.ID, n int) bool {
	return n >= maxShelfParts || last[0] == 0 && last[1] == 0
}

func (l *library) endPart(ctx context.Context) error {
	p := l.part
	l.part = part{}
	if len(p.groups) == 0 {
		return nil
	}
	node, stored, err := p.save(ctx, l.dst)
	if err != nil {
		return err
	}
	l.stored += stored
	l.shelve(p.groups[0].First, p.to, node)
	return nil
}

// save stores the part's directory. It returns its node, and the sealed bytes that the repository did not have.
func (p *part) save(ctx context.Context, dst Saver) (*snapshot.Node, uint64, error) {
	list, err := encodeChunks(p.groups)
	if err != nil {
		return nil, 0, err
	}
	at := unixNano(p.to)
	chunksNode, stored, err := saveFile(ctx, dst, chunksName, list, at)
	if err != nil {
		return nil, 0, err
	}
	tree := &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.FileNode(archiveName, p.ids, p.size, at), chunksNode}}
	id, saved, err := dst.SaveTree(ctx, tree)
	return snapshot.DirNode(seqName(p.groups[0].First), id, at), stored + uint64(saved.Stored), err
}

func (l *library) endShelf(ctx context.Context) error {
	s := l.shelf
	l.shelf = shelf{}
	if len(s.parts) == 0 {
		return nil
	}
	node, err := l.saveDir(ctx, seqName(s.first), &snapshot.Tree{Nodes: s.parts}, unixNano(s.to))
	if err != nil {
		return err
	}
	l.shelves = append(l.shelves, node)
	return nil
}

// first is the first sequence of all shelves; 0 where there are none.
func (l *library) first() uint64 {
	if len(l.shelves) == 0 {
		return 0
	}
	seq, _ := parseSeqName(l.shelves[0].Name) // this package named it
	return seq
}

// finish ends the last part and shelf and returns the tree of "messages" and the highest message time.
func (l *library) finish(ctx context.Context) (blob.ID, time.Time, error) {
	if err := l.endPart(ctx); err != nil {
		return blob.ID{}, time.Time{}, err
	}
	if err := l.endShelf(ctx); err != nil {
		return blob.ID{}, time.Time{}, err
	}
	id, saved, err := l.dst.SaveTree(ctx, &snapshot.Tree{Nodes: l.shelves})
	if err != nil {
		return blob.ID{}, time.Time{}, err
	}
	l.stored += uint64(saved.Stored)
	var at time.Time
	for _, n := range l.shelves {
		if n.ModTime.After(at) {
			at = n.ModTime
		}
	}
	return id, at, nil
}

func (l *library) saveDir(ctx context.Context, name string, t *snapshot.Tree, at time.Time) (*snapshot.Node, error) {
	id, saved, err := l.dst.SaveTree(ctx, t)
	if err != nil {
		return nil, err
	}
	l.stored += uint64(saved.Stored)
	return snapshot.DirNode(name, id, at), nil
}

func unixNano(ns int64) time.Time { return time.Unix(0, ns).UTC() }
