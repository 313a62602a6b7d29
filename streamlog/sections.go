package streamlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jetsam/repo"
	"jetsam/snapshot"
)

// Section is a stretch of a stream's log: a part, or where parts should be that cannot be read.
type Section struct {
	First  uint64    // sequence of its first message
	Last   uint64    // no message in it has a higher sequence
	Latest time.Time // highest time of a message in it; zero where that is not known
	Part   *Part     // nil where it is lost which blobs hold the messages
	Groups []Group   // nil where it is lost what each blob holds
	Err    error     // what could not be read, where Part or Groups are nil
}

// Sections lists a stream's whole log; first and last are the sequences of its state. Unlike Parts it goes on behind what cannot be
// read: what is lost there is known from the names of what stands before and after it. The error is about what is no damage.
func (s *Stream) Sections(ctx context.Context, first, last uint64) ([]Section, error) {
	shelves, err := s.sectionsOf(ctx, snapshot.DirNode(messagesName, s.messages, time.Time{}), first)
	if err != nil {
		return nil, err
	}
	if len(shelves) == 1 && shelves[0].section.Err != nil {
		shelves[0].section.Last = last
		return []Section{shelves[0].section}, nil
	}
	var out []Section
	for _, shelf := range shelves {
		parts, err := s.sectionsOf(ctx, shelf.dir, shelf.section.First)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			if p.section.Err == nil {
				s.readSection(ctx, p.dir, &p.section)
			}
			if ctx.Err() != nil || errors.Is(p.section.Err, ErrUnsupported) {
				return nil, errors.Join(context.Cause(ctx), p.section.Err)
			}
			if repo.IsUnread(p.section.Err) {
				return nil, fmt.Errorf("stream %s: %w", s.Name, p.section.Err)
			}
			out = append(out, p.section)
		}
	}
	return out, s.bound(out, last)
}

// place is a directory named by a sequence, and the section that it begins.
type place struct {
	dir     *snapshot.Node
	section Section
}

// sectionsOf lists the directories in dir. If dir cannot be read, that is one section, which begins at first.
func (s *Stream) sectionsOf(ctx context.Context, dir *snapshot.Node, first uint64) ([]place, error) {
	t, err := s.src.LoadTree(ctx, dir.Subtree)
	if err != nil {
		t, err = s.src.LoadTree(ctx, dir.Subtree)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if repo.IsUnread(err) {
		return nil, fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if err != nil {
		return []place{{dir, Section{First: first, Latest: dir.ModTime, Err: fmt.Errorf("%s: %w", dir.Name, err)}}}, nil
	}
	var out []place
	for _, n := range t.Nodes {
		if n.Type != snapshot.TypeDir {
			return nil, fmt.Errorf("stream %s: %s/…/%s is not a directory", s.Name, messagesName, n.Name)
		}
		seq, err := parseSeqName(n.Name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", s.Name, err)
		}
		out = append(out, place{n, Section{First: seq, Latest: n.ModTime}})
	}
	return out, nil
}

// readSection reads what the section's directory says, and again what cannot be read: what a storage fails to give once is not lost yet.
func (s *Stream) readSection(ctx context.Context, dir *snapshot.Node, x *Section) {
	part, err := s.readPart(ctx, dir)
	if err != nil {
		part, err = s.readPart(ctx, dir)
	}
	if err == nil {
		x.Part = part
		x.Groups, err = part.Groups(ctx)
	}
	if err != nil && x.Part != nil {
		x.Groups, err = part.Groups(ctx)
	}
	if err != nil {
		x.Err = fmt.Errorf("part %s: %w", dir.Name, err)
	}
}

// bound sets where each section ends at the latest, and holds its groups against that.
func (s *Stream) bound(sections []Section, last uint64) error {
	for i := len(sections) - 1; i >= 0; i-- {
		x := &sections[i]
		x.Last = last
		if i+1 < len(sections) {
			x.Last = sections[i+1].First - 1
		}
		highest := x.First
		if n := len(x.Groups); n > 0 {
			highest = x.Groups[n-1].Last
		}
		if highest > x.Last {
			return fmt.Errorf("stream %s: part %s holds message %d, but ends at %d", s.Name, seqName(x.First), highest, x.Last)
		}
	}
	return nil
}
