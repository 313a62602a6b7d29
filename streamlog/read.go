package streamlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"jetsam/blob"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
)

// Loader is where blobs and trees are read from: a *repo.Reader.
type Loader interface {
	Load(ctx context.Context, h blob.Handle, dst []byte) ([]byte, error)
	LoadTree(ctx context.Context, id blob.ID) (*snapshot.Tree, error)
}

// ErrNoStreams says that a snapshot was not written by jetsam: it holds other files than streams.
var ErrNoStreams = errors.New("snapshot holds no streams")

// Contents is what a snapshot holds.
type Contents struct {
	Account *Account  // where AccountErr is set it has nothing but the name
	Streams []*Stream // in the order of their names; damaged ones too, with Err set

	AccountErr error // why account.json cannot be read; the streams can
}

// Stream is a stream in a snapshot.
type Stream struct {
	Name     string
	Document *Document // nil where Err is set
	Err      error     // why this stream cannot be read; the others can

	src      Loader
	dir      *snapshot.Node
	head     []blob.ID
	end      []blob.ID
	messages blob.ID
	dead     []blob.ID // segments of the file of the dead; nil where there is none
}

// Open reads what the snapshot with this root tree holds. Messages are not read. What the storage does not give just now is its error:
// Contents tell of nothing but damage.
func Open(ctx context.Context, src Loader, root blob.ID) (*Contents, error) {
	d, err := OpenDirectory(ctx, src, root)
	if err == nil && errors.Is(d.AccountErr, ErrUnsupported) {
		err = d.AccountErr
	}
	if err != nil {
		return nil, err
	}
	c := &Contents{Account: d.Account, AccountErr: d.AccountErr}
	for _, dir := range d.Streams() {
		s := OpenDir(ctx, src, dir)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if repo.IsUnread(s.Err) {
			return nil, s.Err
		}
		c.Streams = append(c.Streams, s)
	}
	return c, nil
}

// OpenStream reads one stream of the snapshot with this root tree, but not its messages. Who opens several opens the Directory once.
func OpenStream(ctx context.Context, src Loader, root blob.ID, name string) (*Stream, error) {
	_, t, err := accountTree(ctx, src, root)
	if err != nil {
		return nil, err
	}
	dir, err := streamDir(t, name)
	if err != nil {
		return nil, err
	}
	s := OpenDir(ctx, src, dir)
	return s, s.Err
}

// OpenAccount reads the account.json of the snapshot with this root tree, and nothing of its streams.
func OpenAccount(ctx context.Context, src Loader, root blob.ID) (*Account, error) {
	d, err := OpenDirectory(ctx, src, root)
	if err != nil {
		return nil, err
	}
	if d.AccountErr != nil {
		return nil, d.AccountErr
	}
	return d.Account, nil
}

func openAccount(ctx context.Context, src Loader, dir *snapshot.Node, t *snapshot.Tree) (*Account, error) {
	text, err := loadFile(ctx, src, t, accountName)
	if err != nil {
		return nil, err
	}
	a, err := DecodeAccount(text)
	if err != nil {
		return nil, err
	}
	if EscapeName(a.Account) != dir.Name {
		return nil, fmt.Errorf("directory %q holds account %q", dir.Name, a.Account)
	}
	return a, nil
}

// accountTree finds the one directory of the root, and reads it.
func accountTree(ctx context.Context, src Loader, root blob.ID) (*snapshot.Node, *snapshot.Tree, error) {
	dir, err := accountDir(ctx, src, root)
	if err != nil {
		return nil, nil, err
	}
	t, err := src.LoadTree(ctx, dir.Subtree)
	if err != nil {
		return nil, nil, fmt.Errorf("account %s: %w", dir.Name, err)
	}
	return dir, t, nil
}

// accountDir finds the one directory of the root.
func accountDir(ctx context.Context, src Loader, root blob.ID) (*snapshot.Node, error) {
	t, err := src.LoadTree(ctx, root)
	if err != nil {
		return nil, err
	}
	if len(t.Nodes) != 1 || t.Nodes[0].Type != snapshot.TypeDir {
		return nil, ErrNoStreams
	}
	return t.Nodes[0], nil
}

// Node is the stream's directory.
func (s *Stream) Node() *snapshot.Node { return s.dir }

func (s *Stream) load(ctx context.Context, dir *snapshot.Node) error {
	if _, err := UnescapeName(dir.Name); err != nil {
		return err
	}
	t, err := s.src.LoadTree(ctx, dir.Subtree)
	if err != nil {
		return err
	}
	text, err := loadFile(ctx, s.src, t, documentName)
	if err != nil {
		return err
	}
	if s.Document, err = DecodeDocument(text); err != nil {
		return err
	}
	if name, err := configName(s.Document.Config); err != nil || name != s.Name {
		return fmt.Errorf("%s is the configuration of stream %q", documentName, name)
	}
	if s.head, err = content(t, headName); err != nil {
		return err
	}
	if s.end, err = content(t, endName); err != nil {
		return err
	}
	if n, err := find(t, deadName, snapshot.TypeFile); err == nil {
		s.dead = append([]blob.ID{}, n.Content...)
	}
	n, err := find(t, messagesName, snapshot.TypeDir)
	if err != nil {
		return err
	}
	s.messages = n.Subtree
	return nil
}

// Head reads the stream's state and consumers.
func (s *Stream) Head(ctx context.Context) (*archive.Head, error) {
	// Blob by blob: a head may be large, and need not be in memory three times.
	if len(s.head) > maxFileBlobs {
		return nil, fmt.Errorf("stream %s: %s: in more than %d blobs", s.Name, headName, maxFileBlobs)
	}
	rest, size := s.head, 0
	var lost error // says more than where in an archive it was met
	next := func() ([]byte, error) {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		p, err := s.src.Load(ctx, blob.Handle{Kind: blob.Data, ID: rest[0]}, nil)
		rest = rest[1:]
		if size += len(p); err == nil && size > maxHeadFile {
			err = fmt.Errorf("larger than %d bytes", maxHeadFile)
		}
		lost = err
		return p, err
	}
	h, err := archive.NewReader(archive.NewStoredReader(next), archive.Limits{}).Head()
	if lost != nil {
		err = lost
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %s: %w", s.Name, headName, err)
	}
	return h, nil
}

// Part is a piece of a stream's log of messages.
type Part struct {
	First uint64    // sequence that names it
	Blobs []blob.ID // of arc.s2, in order
	Size  uint64    // of arc.s2, framed bytes

	src    Loader
	chunks []blob.ID
}

// Groups reads chunks.json, held against the blobs of the part.
func (p *Part) Groups(ctx context.Context) ([]Group, error) {
	text, err := loadBlobs(ctx, p.src, p.chunks, maxDocument)
	if err != nil {
		return nil, err
	}
	groups, err := decodeChunks(text, p.Blobs)
	if err != nil {
		return nil, err
	}
	if groups[0].First != p.First {
		return nil, fmt.Errorf("part %s begins with message %d", seqName(p.First), groups[0].First)
	}
	return groups, nil
}

// Parts are the parts of the stream's log, in order. An error ends the sequence.
func (s *Stream) Parts(ctx context.Context) iter.Seq2[*Part, error] {
	return func(yield func(*Part, error) bool) {
		for shelf, err := range s.dirs(ctx, s.messages) {
			if err != nil {
				yield(nil, err)
				return
			}
			for dir, err := range s.dirs(ctx, shelf.Subtree) {
				if err != nil {
					yield(nil, err)
					return
				}
				p, err := s.openPart(ctx, dir)
				if !yield(p, err) || err != nil {
					return
				}
			}
		}
	}
}

// dirs are the directories of a tree, whose names must be sequences in ascending order.
func (s *Stream) dirs(ctx context.Context, id blob.ID) iter.Seq2[*snapshot.Node, error] {
	return func(yield func(*snapshot.Node, error) bool) {
		t, err := s.src.LoadTree(ctx, id)
		if err != nil {
			yield(nil, fmt.Errorf("stream %s: %w", s.Name, err))
			return
		}
		for _, n := range t.Nodes {
			if n.Type != snapshot.TypeDir {
				yield(nil, fmt.Errorf("stream %s: %s/…/%s is not a directory", s.Name, messagesName, n.Name))
				return
			}
			if !yield(n, nil) {
				return
			}
		}
	}
}

func (s *Stream) openPart(ctx context.Context, dir *snapshot.Node) (*Part, error) {
	p, err := s.readPart(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("stream %s: part %s: %w", s.Name, dir.Name, err)
	}
	return p, nil
}

func (s *Stream) readPart(ctx context.Context, dir *snapshot.Node) (*Part, error) {
	first, err := parseSeqName(dir.Name)
	if err != nil {
		return nil, err
	}
	t, err := s.src.LoadTree(ctx, dir.Subtree)
	if err != nil {
		return nil, err
	}
	arc, err := find(t, archiveName, snapshot.TypeFile)
	if err != nil {
		return nil, err
	}
	chunks, err := content(t, chunksName)
	if err != nil {
		return nil, err
	}
	if len(arc.Content) == 0 {
		return nil, fmt.Errorf("%s is empty", archiveName)
	}
	return &Part{First: first, Blobs: arc.Content, Size: arc.Size, src: s.src, chunks: chunks}, nil
}

// errNoNode says that a directory lacks a file.
var errNoNode = errors.New("is missing")

func find(t *snapshot.Tree, name string, typ snapshot.Type) (*snapshot.Node, error) {
	if n := t.Find(name); n != nil && n.Type == typ {
		return n, nil
	}
	return nil, fmt.Errorf("%s %w", name, errNoNode)
}

func content(t *snapshot.Tree, name string) ([]blob.ID, error) {
	n, err := find(t, name, snapshot.TypeFile)
	if err != nil {
		return nil, err
	}
	return n.Content, nil
}

func loadFile(ctx context.Context, src Loader, t *snapshot.Tree, name string) ([]byte, error) {
	ids, err := content(t, name)
	if err != nil {
		return nil, err
	}
	p, err := loadBlobs(ctx, src, ids, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// loadBlobs returns the joined bytes of a document's blobs, at most limit of them.
func loadBlobs(ctx context.Context, src Loader, ids []blob.ID, limit int) ([]byte, error) {
	if len(ids) > maxFileBlobs {
		return nil, fmt.Errorf("in more than %d blobs", maxFileBlobs)
	}
	var p []byte
	for _, id := range ids {
		b, err := src.Load(ctx, blob.Handle{Kind: blob.Data, ID: id}, nil)
		if err != nil {
			return nil, err
		}
		if len(p)+len(b) > limit {
			return nil, fmt.Errorf("larger than %d bytes", limit)
		}
		p = append(p, b...)
	}
	return p, nil
}
