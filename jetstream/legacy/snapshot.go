package legacy

import (
	"archive/tar"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"jetsam/jetstream/archive"
)

// Names of the files in a snapshot. Part of the format.
const (
	metaName      = "meta.inf"
	sumName       = "meta.sum"
	stateName     = "o.dat"
	indexName     = "index.db"
	errorsName    = "errors.txt" // of a snapshot that failed, and ended like a good one
	messagesDir   = "msgs"
	consumersDir  = "obs"
	blockSuffix   = ".blk"
	indexSuffix   = ".idx"
	subjectSuffix = ".fss" // which subjects a block has, of 2.9
)

// BeginSize is how many bytes IsBegin needs.
const BeginSize = 512

// IsBegin says whether p is the beginning of a tar.
func IsBegin(p []byte) bool { return len(p) >= BeginSize && string(p[257:262]) == "ustar" }

// Snapshot is what there is in a snapshot beside its messages.
type Snapshot struct {
	Stream    string
	Created   time.Time
	Taken     time.Time          // when the server wrote it
	Consumers []archive.Consumer // in the order of their names, dated Taken

	index   *index // nil: there is none, and what the blocks say must do
	dead    block  // deletions that the blocks tell of
	tooMany error  // why these are not all
}

// Indexed says whether it is known which messages of the blocks were alive when all of these had been written. Else deletions are known as far as
// the blocks tell of them, which is not all.
func (s *Snapshot) Indexed() bool { return s.index != nil }

// AtOnce says whether what is indexed is the stream at one time: 2.9 wrote the index of each block when it read that.
func (s *Snapshot) AtOnce() bool {
	return s.index != nil && (!s.index.inPieces || len(s.index.blocks) < 2)
}

// Alive is how many messages from first to last there should be, where the snapshot is indexed.
func (s *Snapshot) Alive(first, last uint64) (n uint64) {
	for _, b := range s.index.blocks {
		n += b.alive(first, last)
	}
	return n
}

// Gone yields the sequences from first to last that are not alive, as runs in ascending order: as the index has it, or without one, those that the
// blocks tell of.
func (s *Snapshot) Gone(first, last uint64) iter.Seq2[uint64, uint64] {
	blocks := []*block{{first: first, last: last, dead: s.dead.dead}}
	if s.Indexed() {
		blocks = slices.SortedFunc(maps.Values(s.index.blocks), func(a, b *block) int { return cmp.Compare(a.first, b.first) })
	}
	return func(yield func(uint64, uint64) bool) {
		next := first
		for _, b := range blocks {
			if b.first > b.last || b.last < next || next > last {
				continue
			}
			if b.first > next && !yield(next, min(b.first-1, last)) || !b.yieldMarked(max(next, b.first), min(b.last, last), yield) {
				return
			}
			if b.last >= last {
				return
			}
			next = b.last + 1
		}
		if next <= last {
			yield(next, last)
		}
	}
}

// Scan reads the snapshot of a stream, a plain tar, to its end.
func Scan(r io.Reader, stream string) (*Snapshot, error) {
	s := newScan(stream)
	if err := eachFile(r, s.take); err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	return s.s, nil
}

// file is a file of the tar: where it belongs to a block, the number of that is in its name.
type file struct {
	name string // "msgs/1.blk"
	dir  string // "msgs", "obs/NAME", or empty
	base string
	tar.Header
	io.Reader
}

// eachFile calls f for each file, and wants the tar to be complete.
func eachFile(r io.Reader, f func(*file) error) error {
	end := &ending{r: r}
	in := tar.NewReader(end)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return end.check()
		}
		if err != nil {
			return tarError(err)
		}
		entry, err := newFile(h, in)
		if err == nil {
			err = f(entry)
		}
		if err != nil {
			return fmt.Errorf("file %q: %w", abridge(h.Name), tarError(err))
		}
	}
}

// tarError makes the errors of the tar's own form ours.
func tarError(err error) error {
	switch {
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w: not a tar: %w", archive.ErrFormat, err)
	case errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, archive.ErrTruncated):
		return fmt.Errorf("%w: %w", archive.ErrTruncated, err)
	}
	return err
}

// ending notes how many zero bytes a reader ends in. A tar ends in 1,024 at least; the reader of tars takes one without them for complete.
type ending struct {
	r     io.Reader
	zeros int
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	other := n
	for other > 0 && p[other-1] == 0 {
		other--
	}
	if other > 0 {
		e.zeros = 0
	}
	e.zeros = min(e.zeros+n-other, math.MaxInt32)
	return n, err
}

func (e *ending) check() error {
	if _, err := io.Copy(io.Discard, e); err != nil {
		return err
	}
	if e.zeros < 1024 {
		return fmt.Errorf("%w: the tar has no end", archive.ErrTruncated)
	}
	return nil
}

// newFile refuses what servers do not write.
func newFile(h *tar.Header, r io.Reader) (*file, error) {
	f := &file{name: strings.ReplaceAll(h.Name, `\`, "/"), Header: *h, Reader: r} // servers on Windows name consumers' files so
	if h.Typeflag != tar.TypeReg {
		return nil, malformed("it is not a regular file")
	}
	parts := strings.Split(f.name, "/")
	f.dir, f.base = strings.Join(parts[:len(parts)-1], "/"), parts[len(parts)-1]
	known := false
	switch {
	case len(parts) == 1:
		known = f.base == metaName || f.base == sumName || f.base == errorsName
	case len(parts) == 2 && parts[0] == messagesDir:
		_, _, numbered := f.block()
		known = numbered || f.base == indexName
	case len(parts) == 3 && parts[0] == consumersDir && parts[1] != "" && !strings.ContainsRune(parts[1], 0):
		known = f.base == metaName || f.base == sumName || f.base == stateName
	}
	if !known {
		return nil, malformed("servers write no file of that name")
	}
	return f, nil
}

// block is the number in the name of a block's file, and what that is.
func (f *file) block() (number uint64, suffix string, ok bool) {
	if f.dir != messagesDir {
		return 0, "", false
	}
	for _, suffix := range []string{blockSuffix, indexSuffix, subjectSuffix} {
		if digits, found := strings.CutSuffix(f.base, suffix); found {
			n, err := strconv.ParseUint(digits, 10, 32)
			return n, suffix, err == nil && strconv.FormatUint(n, 10) == digits
		}
	}
	return 0, "", false
}

// read reads a file that has at most so many bytes.
func (f *file) read(most int64) ([]byte, error) {
	p, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(p)) > most {
		err = fmt.Errorf("%w: more than %d bytes", archive.ErrLimit, most)
	}
	return p, err
}

// abridge shortens what may be of any length for an error.
func abridge(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// scan is the first reading of a snapshot.
type scan struct {
	s         *Snapshot
	meta      meta
	consumers map[string]*consumer
	blocks    records
	last      uint64 // the number of the last block
	count     int    // of blocks
	dead      *index // counts what s.dead takes
	room      int    // for what consumers are made of
}

func newScan(stream string) *scan {
	return &scan{s: &Snapshot{Stream: stream}, consumers: map[string]*consumer{}, dead: &index{}, room: archive.MaxHead}
}

func (s *scan) take(f *file) error {
	s.date(f)
	if number, suffix, _ := f.block(); suffix == blockSuffix {
		return s.block(f, number)
	}
	return s.file(f)
}

// date dates the snapshot by its files.
func (s *scan) date(f *file) {
	if f.ModTime.After(s.s.Taken) {
		s.s.Taken = f.ModTime
	}
}

// file takes a file that is no block.
func (s *scan) file(f *file) error {
	switch number, suffix, _ := f.block(); {
	case f.base == errorsName:
		return s.failed(f)
	case suffix == indexSuffix:
		p, err := f.read(maxIndex)
		if err != nil {
			return err
		}
		return s.indexes().readBlockIndex(p, number)
	case suffix == subjectSuffix:
		return nil
	case f.base == indexName:
		p, err := f.read(maxIndex)
		if err != nil {
			return err
		}
		return s.indexes().readIndex(p, s.s.Stream)
	case f.dir == "":
		return s.meta.take(f)
	}
	return s.consumer(f)
}

func (s *scan) indexes() *index {
	if s.s.index == nil {
		s.s.index = &index{}
	}
	return s.s.index
}

// failed is the error of a snapshot that says of itself that it is none.
func (s *scan) failed(f *file) error {
	const most = 200
	why, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err
	}
	return malformed("the server could not make this snapshot, and says: %s", strings.ToValidUTF8(string(why), ""))
}

// block looks for deletions in a block.
func (s *scan) block(f *file, number uint64) error {
	if err := s.follows(number); err != nil {
		return err
	}
	if err := s.blocks.reset(f, "", number); err != nil {
		return err
	}
	for {
		r, err := s.blocks.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		s.note(&r)
	}
}

// follows wants blocks in the order of their numbers.
func (s *scan) follows(number uint64) error {
	if number <= s.last && s.last > 0 {
		return fmt.Errorf("%w: block %d after block %d", archive.ErrOrder, number, s.last)
	}
	s.last = number
	s.count++
	return nil
}

// note notes a deletion that a record tells of.
func (s *scan) note(r *record) {
	if r.gone && s.s.tooMany == nil {
		s.s.tooMany = s.dead.markOne(&s.s.dead, r.seq)
	}
}

func (m *meta) take(f *file) (err error) {
	switch f.base {
	case metaName:
		m.text, err = f.read(maxMeta)
	case sumName:
		m.sum, err = f.read(64)
	}
	return err
}

// consumer takes a file of a consumer.
func (s *scan) consumer(f *file) error {
	name := strings.TrimPrefix(f.dir, consumersDir+"/")
	c := s.consumers[name]
	if c == nil {
		if len(s.consumers) == archive.MaxConsumers {
			return fmt.Errorf("%w: more than %d consumers", archive.ErrLimit, archive.MaxConsumers)
		}
		c = &consumer{name: name}
		s.consumers[name] = c
	}
	if f.base != stateName {
		err := c.meta.take(f)
		return errors.Join(err, s.spend(len(name)+len(c.meta.text)))
	}
	p, err := f.read(maxConsumerState)
	if err != nil {
		return err
	}
	state, err := parseConsumerState(p)
	if err != nil {
		return err
	}
	c.state = state.json()
	return s.spend(len(c.state))
}

// spend takes n bytes of the room for consumers.
func (s *scan) spend(n int) error {
	if s.room -= n; s.room < 0 {
		return fmt.Errorf("%w: consumers of more than %d bytes", archive.ErrLimit, archive.MaxHead)
	}
	return nil
}

// finish checks the configuration and makes the consumers. Where some blocks have an index and others have none, as Writer leaves them, there is none:
// what the blocks say is all.
func (s *scan) finish() error {
	if x := s.s.index; x != nil && x.inPieces && len(x.blocks) < s.count {
		s.s.index = nil
	}
	if err := s.meta.check(s.s.Stream); err != nil {
		return err
	}
	fields, err := s.meta.fields()
	if err != nil {
		return err
	}
	if created := fields["Created"]; len(created) > 0 {
		if err := json.Unmarshal(created, &s.s.Created); err != nil {
			return malformed("%s: Created: %w", metaName, err)
		}
	}
	for _, c := range s.consumers {
		entry, err := c.entry(s.s.Stream)
		if err != nil {
			return fmt.Errorf("consumer %q: %w", abridge(c.name), err)
		}
		entry.Time = s.s.Taken.UnixNano()
		s.s.Consumers = append(s.s.Consumers, entry)
	}
	slices.SortFunc(s.s.Consumers, func(a, b archive.Consumer) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}
