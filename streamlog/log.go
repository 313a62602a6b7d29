package streamlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"jetsam/blob"
	"jetsam/jetstream/archive"
	"jetsam/snapshot"
)

// Source is where an earlier log is read from, and which says what of it is there: a *repo.Reader.
type Source interface {
	Loader
	Size(h blob.Handle) (uint32, bool)
}

// ErrUnfit says that a log cannot be gone on with: it does not hold what a snapshot of the stream needs. A full capture does not need it.
var ErrUnfit = errors.New("the earlier log cannot be continued")

// Log is a stream's log in an earlier snapshot, of which every blob is in the index.
type Log struct {
	Stream *Stream
	Dead   *Dead // what is dead in that snapshot

	src   Source
	parts []*logPart
}

// logPart is a part and its directory.
type logPart struct {
	*Part
	node   *snapshot.Node
	groups []logGroup // nil until they are asked for
}

// logGroup is a group, its blobs, and what becomes of it.
type logGroup struct {
	Group
	ids []blob.ID
	fate
}

// OpenLog opens a stream's log to go on from it. No message is read. What is missing makes it ErrUnfit.
func OpenLog(ctx context.Context, src Source, s *Stream) (*Log, error) {
	if s.Err == nil && s.Document.Jetsam.Torn != "" {
		return nil, fmt.Errorf("%w: it was torn", ErrUnfit)
	}
	return openLog(ctx, src, s)
}

// openLog is OpenLog for a log that may be torn.
func openLog(ctx context.Context, src Source, s *Stream) (*Log, error) {
	l := &Log{Stream: s, src: src}
	err := l.open(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	return l, nil
}

func (l *Log) open(ctx context.Context) (err error) {
	if l.Stream.Err != nil {
		return l.Stream.Err
	}
	if l.Dead, err = l.Stream.Dead(ctx); err != nil {
		return err
	}
	for _, ids := range [][]blob.ID{l.Stream.head, l.Stream.end, l.Stream.dead} {
		if err := l.present(ids); err != nil {
			return err
		}
	}
	for shelf, err := range l.Stream.dirs(ctx, l.Stream.messages) {
		if err != nil {
			return err
		}
		for dir, err := range l.Stream.dirs(ctx, shelf.Subtree) {
			if err != nil {
				return err
			}
			if err := l.openPart(ctx, dir); err != nil {
				return fmt.Errorf("part %s: %w", dir.Name, err)
			}
		}
	}
	return nil
}

func (l *Log) openPart(ctx context.Context, dir *snapshot.Node) error {
	p, err := l.Stream.readPart(ctx, dir)
	if err != nil {
		return err
	}
	if n := len(l.parts); n > 0 && p.First <= l.parts[n-1].First {
		return fmt.Errorf("it does not follow part %s", seqName(l.parts[n-1].First))
	}
	if err := errors.Join(l.present(p.Blobs), l.present(p.chunks)); err != nil {
		return err
	}
	l.parts = append(l.parts, &logPart{Part: p, node: dir})
	return nil
}

// present is an error where one of the blobs is missing.
func (l *Log) present(ids []blob.ID) error {
	for _, id := range ids {
		if _, ok := l.src.Size(blob.Handle{Kind: blob.Data, ID: id}); !ok {
			return fmt.Errorf("blob %s is missing", id.Short())
		}
	}
	return nil
}

// end is the highest sequence that part i may hold.
func (l *Log) end(i int, last uint64) uint64 {
	if i+1 < len(l.parts) {
		return min(last, l.parts[i+1].First-1)
	}
	return last
}

// groupsOf reads the groups of part i.
func (l *Log) groupsOf(ctx context.Context, i int) ([]logGroup, error) {
	p := l.parts[i]
	if p.groups != nil {
		return p.groups, nil
	}
	groups, err := p.Groups(ctx)
	if err == nil && i+1 < len(l.parts) && groups[len(groups)-1].Last >= l.parts[i+1].First {
		err = errors.New("it reaches into the next part")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: part %s: %w", ErrUnfit, seqName(p.First), err)
	}
	out := make([]logGroup, 0, len(groups))
	ids := p.Blobs
	for _, g := range groups {
		x := logGroup{Group: g, ids: ids[:len(g.Blobs):len(g.Blobs)]}
		if size, err := l.sizeOf(x); err != nil || size < g.Bytes {
			return nil, errors.Join(err, fmt.Errorf("%w: messages %d to %d: %d bytes in blobs of %d", ErrUnfit, g.First, g.Last, g.Bytes, size))
		}
		out = append(out, x)
		ids = ids[len(g.Blobs):]
	}
	p.groups = out
	return out, nil
}

// sizeOf is how many framed bytes a group has.
func (l *Log) sizeOf(x logGroup) (size uint64, err error) {
	for _, id := range x.ids {
		n, ok := l.src.Size(blob.Handle{Kind: blob.Data, ID: id})
		if !ok {
			return 0, fmt.Errorf("%w: blob %s is missing", ErrUnfit, id.Short())
		}
		size += uint64(n)
	}
	return size, nil
}

// entries yields the messages of a group, and then io.EOF. Its errors are ErrUnfit.
func (l *Log) entries(ctx context.Context, g logGroup) func() (*archive.Message, error) {
	ids := g.ids
	in := archive.NewMessageReader(archive.NewStoredReader(func() ([]byte, error) {
		if len(ids) == 0 {
			return nil, io.EOF
		}
		p, err := l.src.Load(ctx, blob.Handle{Kind: blob.Data, ID: ids[0]}, nil)
		ids = ids[1:]
		return p, err
	}), archive.Limits{})
	var n, last uint64
	return func() (*archive.Message, error) {
		m, err := in.Next()
		if err == io.EOF && n == g.Messages && last == g.Last {
			return nil, io.EOF
		}
		if err == nil && (m.Seq < g.First || m.Seq > g.Last) || err == io.EOF {
			err = fmt.Errorf("they are not the %d messages that it lists", g.Messages)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: messages %d to %d: %w", ErrUnfit, g.First, g.Last, err)
		}
		n, last = n+1, m.Seq
		return m, nil
	}
}

// Entry is a stored message.
type Entry struct {
	Seq uint64
	Raw []byte // as the archive encodes it
}

// Highest returns the stored message of the highest sequence up to last that is not in dead; nil if there is none.
func (l *Log) Highest(ctx context.Context, last uint64, dead *Dead) (*Entry, error) {
	for i := len(l.parts) - 1; i >= 0; i-- {
		from := l.parts[i].First
		if from > last || dead.Count(from, l.end(i, last)) == l.end(i, last)-from+1 {
			continue
		}
		groups, err := l.groupsOf(ctx, i)
		if err != nil {
			return nil, err
		}
		for j := len(groups) - 1; j >= 0; j-- {
			e, err := l.highestOf(ctx, groups[j], last, dead)
			if e != nil || err != nil {
				return e, err
			}
		}
	}
	return nil, nil
}

func (l *Log) highestOf(ctx context.Context, g logGroup, last uint64, dead *Dead) (*Entry, error) {
	if last = min(last, g.Last); g.First > last || dead.Count(g.First, last) == last-g.First+1 {
		return nil, nil
	}
	var found *Entry
	next := l.entries(ctx, g)
	for {
		m, err := next()
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if m.Seq <= last && !dead.Has(m.Seq) {
			if found == nil {
				found = &Entry{}
			}
			found.Seq, found.Raw = m.Seq, append(found.Raw[:0], m.Raw...)
		}
	}
}

// Equal says whether e is that very message.
func (e *Entry) Equal(m *archive.Message) bool { return e.Seq == m.Seq && bytes.Equal(e.Raw, m.Raw) }
