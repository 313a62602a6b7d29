package streamlog

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"jetsam/blob"
)

// featureDead is the required feature of a stream with a file of the dead. Part of the format.
const featureDead = "dead"

const (
	// maxDeadFile is how many bytes all segments of a stream may have together. Part of the format.
	maxDeadFile = 64 << 20
	// maxSegments is how many segments are read. Part of the format.
	maxSegments = 1024
	// mostSegments is how many segments are written.
	mostSegments = 24
	// segmentsAlike is how many segments of about a size are merged.
	segmentsAlike = 4
)

// ErrTooManyDead says that a set is larger in its stored form than what is read.
var ErrTooManyDead = errors.New("too many runs of dead sequences")

// DeadSummary is what backup.json says of the file of the dead.
type DeadSummary struct {
	Segments  int    `json:"segments"`
	Sequences uint64 `json:"sequences"` // in the union of the segments
}

// DeadFile is the stored set of the dead of a stream.
type DeadFile struct {
	Segments  []blob.ID
	Size      uint64 // of all segments, in bytes
	Sequences uint64 // in their union
	NewBytes  uint64 // sealed bytes that the repository did not have
}

// Alive is how many messages of the group are alive where d is the set of the dead. Either no sequence of the group is in d, and all of
// its messages are alive; or d has every sequence from First to Last that is not alive, whether it was ever stored or not.
func (g *Group) Alive(d *Dead) uint64 { return alive(g.First, g.Last, g.Messages, d) }

func alive(first, last, messages uint64, d *Dead) uint64 {
	dead := d.Count(first, last)
	if dead == 0 {
		return messages
	}
	return last - first + 1 - dead
}

// Dead reads which sequences of the stream's log are not alive, and holds that against backup.json.
func (s *Stream) Dead(ctx context.Context) (*Dead, error) {
	segments, err := s.segments(ctx)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %s: %w", s.Name, deadName, err)
	}
	d := union(segments)
	if want := s.Document.Jetsam.Dead; want != nil && d.Len() != want.Sequences {
		return nil, fmt.Errorf("stream %s: %s: it holds %d sequences, %s says %d", s.Name, deadName, d.Len(), documentName, want.Sequences)
	}
	return d, nil
}

// segment is a stored part of the set of the dead.
type segment struct {
	id   blob.ID
	size uint64
	set  *Dead
}

func union(segments []segment) *Dead {
	sets := make([]*Dead, len(segments))
	for i, x := range segments {
		sets[i] = x.set
	}
	return unionOf(sets)
}

// segments reads the segments of the stream's file.
func (s *Stream) segments(ctx context.Context) ([]segment, error) {
	said := s.Document.Jetsam.Dead
	switch {
	case said == nil && s.dead == nil:
		return nil, nil
	case said == nil:
		return nil, fmt.Errorf("%s does not speak of it", documentName)
	case s.dead == nil:
		return nil, errNoNode
	case len(s.dead) != said.Segments:
		return nil, fmt.Errorf("it has %d segments, %s says %d", len(s.dead), documentName, said.Segments)
	case len(s.dead) > maxSegments:
		return nil, fmt.Errorf("in more than %d segments", maxSegments)
	}
	var out []segment
	var size int
	for _, id := range s.dead {
		p, err := s.src.Load(ctx, blob.Handle{Kind: blob.Data, ID: id}, nil)
		if err != nil {
			return nil, err
		}
		if size += len(p); size > maxDeadFile {
			return nil, fmt.Errorf("larger than %d bytes", maxDeadFile)
		}
		set, err := DecodeSegment(p)
		if err != nil {
			return nil, err
		}
		out = append(out, segment{id, uint64(len(p)), set})
	}
	return out, nil
}

// SaveDead stores d as the set of the dead of a stream. parent is the stream as an earlier snapshot in the same repository has it, or nil: what
// its set holds is not written again, but for segments that are merged with newer ones. So the work is about what died since.
// The result is nil where d is empty; a set that no reader would take is ErrTooManyDead.
func SaveDead(ctx context.Context, dst Saver, parent *Stream, d *Dead) (*DeadFile, error) {
	if d.Len() == 0 {
		return nil, nil
	}
	var kept []segment
	if parent != nil {
		var err error
		if kept, err = parent.segments(ctx); err != nil {
			return nil, fmt.Errorf("stream %s: %s: %w", parent.Name, deadName, err)
		}
	}
	f := &DeadFile{Sequences: d.Len()}
	for _, x := range arrange(kept, d) {
		if err := f.add(ctx, dst, x); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// arrange returns the segments of d, of which those that are new, merged or reduced have no size yet.
func arrange(kept []segment, d *Dead) []segment {
	var all []segment
	var old *Dead
	for _, x := range kept {
		if gone := x.set.Minus(d); gone.Len() > 0 { // not dead any more, as where a group was stored without its dead entries
			x = segment{set: x.set.Minus(gone)}
		}
		if x.set.Len() > 0 {
			all, old = append(all, x), old.Union(x.set)
		}
	}
	if fresh := d.Minus(old); fresh.Len() > 0 {
		all = append(all, segment{set: fresh})
	}
	for n := mergeable(all); n > 1; n = mergeable(all) {
		rest := len(all) - n
		all = append(all[:rest], segment{set: union(all[rest:])})
	}
	return all
}

// mergeable is how many segments at the end are to become one.
func mergeable(all []segment) (n int) {
	if len(all) == 0 {
		return 0
	}
	alike := segmentClass(all[len(all)-1])
	for n < len(all) && segmentClass(all[len(all)-1-n]) <= alike {
		n++
	}
	switch {
	case n >= segmentsAlike:
		return n
	case len(all) > mostSegments:
		return max(n, 2)
	}
	return 0
}

// segmentClass is about how large a segment is: each class is four times as large as the one before.
func segmentClass(x segment) int { return bits.Len64(x.set.Len()) / 2 }

// add stores a segment, unless it is stored already.
func (f *DeadFile) add(ctx context.Context, dst Saver, x segment) error {
	if x.size == 0 {
		if f.Size+uint64(segmentSize(x.set)) > maxDeadFile {
			return fmt.Errorf("store %s: %d of %d sequences in more than %d bytes: %w", deadName, x.set.Len(), f.Sequences, maxDeadFile, ErrTooManyDead)
		}
		p := EncodeSegment(x.set)
		id, saved, err := dst.Save(ctx, blob.Data, p)
		if err != nil {
			return fmt.Errorf("store %s: %w", deadName, err)
		}
		x.id, x.size = id, uint64(len(p))
		f.NewBytes += uint64(saved.Stored)
	}
	f.Segments = append(f.Segments, x.id)
	f.Size += x.size
	return nil
}
