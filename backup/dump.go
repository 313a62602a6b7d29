package backup

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"jetsam/internal/strictjson"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/jetstream/legacy"
)

// ErrNoDumps says that a directory is not, and has not below it, what the nats CLI writes.
var ErrNoDumps = errors.New("there is no backup.json and no archive of a stream in it or below it")

// Form is how the messages of a dump are written down.
type Form string

// Forms of dumps. Part of what users see.
const (
	FormArchive Form = "archive" // an archive of messages, as servers from 2.15 on send
	FormFiles   Form = "files"   // the files of the server's own store, as servers before 2.15 send
)

const (
	// maxDumpDocument is the largest backup.json that is read, in bytes. It holds a configuration, which servers take in one message.
	maxDumpDocument = 8 << 20
	// maxStreamName is the longest name of a stream that servers take, in bytes (nats-server, JSMaxNameLen).
	maxStreamName = 255
)

// documentFile is the file that the nats CLI writes beside a stream's archive.
const documentFile = "backup.json"

// archiveFiles are the names that versions of the nats CLI gave the archive. They say nothing of what is in it.
func archiveFiles() []string { return []string{"stream.arc.s2", "stream.tar.s2", "stream.tgz"} }

// Dump is a directory that `nats stream backup` wrote, or `nats account backup` for one of its streams.
type Dump struct {
	Dir   string
	Name  string // of the stream; empty where it cannot be told
	State archive.State
	Form  Form
	Size  int64     // bytes of the archive's file
	Time  time.Time // when the last of its files was written
	Err   error     // why it cannot be imported

	in   folder
	file string // the archive's name in it
}

// FindDumps finds the dumps in the directories and below them, in the order of their streams' names. What looks like one and cannot be imported is
// among them, with the reason. Two dumps of one stream are an error, and so is a directory that has none.
func FindDumps(ctx context.Context, dirs []string) ([]*Dump, error) {
	var all []*Dump
	known := map[string]bool{} // by their directories
	for _, dir := range dirs {
		found, err := findBelow(ctx, dir)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("directory %s: %w", dir, ErrNoDumps)
		}
		for _, d := range found {
			if !known[d.Dir] {
				known[d.Dir] = true
				all = append(all, d)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *Dump) int { return strings.Compare(a.Name, b.Name) })
	return all, wantOneOfEach(all)
}

// findBelow finds the dumps of one tree. Links to directories are not followed, but for the one that leads to it.
func findBelow(ctx context.Context, dir string) (found []*Dump, err error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil: // what is in there nobody knows
			found = append(found, &Dump{Dir: path, Err: err})
		case e.IsDir():
			if d := lookAtDump(ctx, path, directory(path)); d != nil {
				found = append(found, d)
			}
		}
		return nil
	})
	return found, err
}

// wantOneOfEach refuses two dumps of one stream: a snapshot holds a stream once, and which of the two is meant is not for us to say.
func wantOneOfEach(sorted []*Dump) error {
	var twice []string
	for i, d := range sorted[min(1, len(sorted)):] {
		if before := sorted[i]; d.Name != "" && d.Name == before.Name {
			twice = append(twice, fmt.Sprintf("%s is in %s and in %s", d.Name, before.Dir, d.Dir))
		}
	}
	if len(twice) > 0 {
		return fmt.Errorf("a snapshot holds a stream once: stream %s; import them one after the other, or under other accounts", strings.Join(twice, ", stream "))
	}
	return nil
}

// lookAtDump says what a directory holds; nil where that is none of a dump's files. People know it as dir.
func lookAtDump(ctx context.Context, dir string, in folder) *Dump {
	d := &Dump{Dir: dir, in: in}
	var archives []string
	for _, name := range archiveFiles() {
		if d.dated(ctx, name) {
			archives = append(archives, name)
		}
	}
	document := d.dated(ctx, documentFile)
	if !document && len(archives) == 0 {
		return nil
	}
	if d.Err = d.readDocument(ctx, document); d.Err == nil {
		d.Err = d.readKind(ctx, archives)
	}
	return d
}

// dated says whether the directory has the file, and notes when it was written.
func (d *Dump) dated(ctx context.Context, name string) bool {
	at, exists := d.in.written(ctx, name)
	if exists && at.After(d.Time) {
		d.Time = at
	}
	return exists
}

func (d *Dump) readDocument(ctx context.Context, exists bool) error {
	if !exists {
		return fmt.Errorf("there is an archive, but no %s beside it, which says whose it is", documentFile)
	}
	doc, err := d.document(ctx)
	if err != nil {
		return err
	}
	if d.Name, _, err = jetstream.ParseSettings(doc.Config); err != nil {
		return fmt.Errorf("read %s: %w", documentFile, err)
	}
	if err := checkStreamName(d.Name); err != nil {
		name := d.Name
		d.Name = ""
		return fmt.Errorf("read %s: %q: %w", documentFile, abridge(name), err)
	}
	if d.State, err = archive.ParseState(doc.State); err == nil {
		err = d.State.Check()
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", documentFile, err)
	}
	return nil
}

// dumpDocument is backup.json, as the nats CLI writes it.
type dumpDocument struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// document reads backup.json. It is not kept, since there may be many.
func (d *Dump) document(ctx context.Context) (*dumpDocument, error) {
	f, _, err := d.in.open(ctx, documentFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, maxDumpDocument+1))
	switch {
	case err != nil:
		return nil, err
	case len(p) == 0:
		return nil, fmt.Errorf("%s is empty: the backup that began to write this directory did not finish", documentFile)
	case len(p) > maxDumpDocument:
		return nil, fmt.Errorf("%s has more than the %d bytes that are read", documentFile, maxDumpDocument)
	}
	var doc dumpDocument
	if err := strictjson.UnmarshalForeign(p, &doc); err != nil {
		return nil, fmt.Errorf("decode %s: %w", documentFile, err)
	}
	if len(doc.Config) == 0 || len(doc.State) == 0 {
		return nil, fmt.Errorf("decode %s: config or state is missing", documentFile)
	}
	return &doc, nil
}

func checkStreamName(name string) error {
	if len(name) > maxStreamName {
		return fmt.Errorf("not a stream name: it has %d bytes, and servers take %d", len(name), maxStreamName)
	}
	return jetstream.CheckStreamName(name)
}

// abridge shortens what may be of any length for an error.
func abridge(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// readKind finds out what the archive is, whatever it is called.
func (d *Dump) readKind(ctx context.Context, names []string) error {
	switch len(names) {
	case 0:
		return fmt.Errorf("there is %s, but no archive beside it: none of %s", documentFile, strings.Join(archiveFiles(), ", "))
	case 1:
	default:
		return fmt.Errorf("it holds %s, and which of them %s belongs to is not known; move the other away", strings.Join(names, " and "), documentFile)
	}
	d.file = names[0]
	a, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	d.Form, d.Size = a.form, a.size
	return nil
}

// dumpArchive is the file of a dump with its messages, read from its beginning without its compression.
type dumpArchive struct {
	io.Reader
	io.Closer
	form Form
	size int64
}

// open opens the archive and looks at what it is. Where ctx ends, reading it does.
func (d *Dump) open(ctx context.Context) (*dumpArchive, error) {
	f, size, err := d.in.open(ctx, d.file)
	if err != nil {
		return nil, err
	}
	plain, form, err := plainOf(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", d.file, err)
	}
	return &dumpArchive{plain, f, form, size}, nil
}

// plainOf is what r holds without its compression, and what that is. However much it is, it is read piece by piece.
func plainOf(r io.Reader) (io.Reader, Form, error) {
	f := bufio.NewReader(r)
	first, err := f.Peek(2)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	if string(first) == "\x1f\x8b" {
		z, err := gzip.NewReader(f)
		return z, FormFiles, err
	}
	plain := archive.Decompress(f, -1)
	begin := make([]byte, archive.MagicSize)
	n, err := io.ReadFull(plain, begin)
	switch begin = begin[:n]; {
	case archive.HasMagic(begin):
		return io.MultiReader(strings.NewReader(string(begin)), plain), FormArchive, nil
	case err == nil:
		return io.MultiReader(strings.NewReader(string(begin)), plain), FormFiles, nil
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, "", fmt.Errorf("%w: it is empty, or ends at once", archive.ErrTruncated)
	}
	return nil, "", err
}

// contents are a dump's head and messages, as an archive has them.
type contents struct {
	head    *archive.Head
	next    func() (*archive.Message, error)
	created time.Time // the stream; zero: not known
	alive   uint64    // messages that there should be, where exact
	exact   bool      // the dump says which messages it should have
	atOnce  bool      // these are the stream as it was at one time, when the dump was complete
	close   func() error
}

// contents reads the beginning of the dump's archive, or all of it once where that is files. Who calls it closes them.
func (d *Dump) contents(ctx context.Context, doc *dumpDocument) (*contents, error) {
	a, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	if a.form == FormFiles {
		defer a.Close()
		return d.files(ctx, doc, a)
	}
	in := archive.NewReader(a, archive.Limits{})
	head, err := in.Head()
	if err != nil {
		a.Close()
		return nil, err
	}
	return &contents{head: head, next: in.Next, close: a.Close}, nil
}

// files scans files, and opens them a second time for the messages.
func (d *Dump) files(ctx context.Context, doc *dumpDocument, a *dumpArchive) (*contents, error) {
	s, err := legacy.Scan(a, d.Name)
	if err != nil {
		return nil, err
	}
	c := &contents{created: s.Created, exact: s.Indexed(), atOnce: s.AtOnce()}
	c.head = (&archive.Head{State: doc.State, StateTime: s.Taken.UnixNano()}).WithConsumers(s.Consumers)
	for i, consumer := range c.head.Consumers {
		// They are written last: a consumer of a busy stream may have got further than the state.
		if c.head.Consumers[i], _, err = consumer.Cut(d.State.LastSeq, func(uint64) bool { return true }); err != nil {
			return nil, err
		}
	}
	if c.exact {
		c.alive = s.Alive(d.State.FirstSeq, d.State.LastSeq)
	}
	again, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	c.next, c.close = s.Messages(again, d.State.FirstSeq, d.State.LastSeq).Next, again.Close
	return c, nil
}
