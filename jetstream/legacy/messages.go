package legacy

import (
	"archive/tar"
	"fmt"
	"io"

	"jetsam/jetstream/archive"
)

// Messages reads the messages of a snapshot from first to last. Its errors are final.
type Messages struct {
	s           *Snapshot
	scan        *scan                 // finds out what there is meanwhile; nil: that is known
	gone        func(seq uint64) bool // says what is known to be deleted, where scan is set
	first, last uint64
	end         *ending
	tar         *tar.Reader
	block       uint64 // the number of the block at hand; 0 before the first
	alive       *block
	records     records
	before      uint64 // sequence of the message before
	msg         archive.Message
	err         error
}

// Messages returns a reader of the messages with sequences from first to last that are alive, in r, which is the tar that was scanned. A live
// stream may have had others when its blocks were written than when it was asked how it stands.
func (s *Snapshot) Messages(r io.Reader, first, last uint64) *Messages {
	end := &ending{r: r}
	return &Messages{s: s, first: max(first, 1), last: last, end: end, tar: tar.NewReader(end)}
}

// Read reads the snapshot of a stream, a plain tar, once: for one that does not come a second time. Its messages are those from first to last of the
// blocks, but for those that are marked as deleted before they come, and those that gone says. When Next has returned io.EOF, the snapshot is what Scan
// would return, and which of the messages are deleted after all is in Snapshot.Gone.
func Read(r io.Reader, stream string, first, last uint64, gone func(seq uint64) bool) (*Snapshot, *Messages) {
	scan := newScan(stream)
	m := scan.s.Messages(r, first, last)
	m.scan, m.gone = scan, gone
	return scan.s, m
}

// Next returns the next message, and io.EOF after the last. The message and its slices are valid until the next call. The checksum of every
// record is compared, also of those that are not alive.
func (m *Messages) Next() (*archive.Message, error) {
	if m.err == nil && m.scan == nil && !m.s.Indexed() {
		m.err = m.s.tooMany
	}
	for m.err == nil {
		var r record
		if r, m.err = m.nextRecord(); m.err != nil {
			break
		}
		if !m.wants(&r) {
			continue
		}
		if m.err = m.admit(&r); m.err == nil {
			m.msg.Set(string(r.subject), r.time, r.seq, r.header, r.payload)
			return &m.msg, nil
		}
	}
	return nil, m.err
}

// nextRecord returns the next record, of the next block where this one has ended.
func (m *Messages) nextRecord() (record, error) {
	for {
		if m.block > 0 {
			r, err := m.records.next()
			if err == nil {
				if m.scan != nil {
					m.scan.note(&r)
				}
				return r, nil
			}
			if err != io.EOF {
				return r, fmt.Errorf("block %d: %w", m.block, tarError(err))
			}
		}
		if err := m.nextBlock(); err != nil {
			return record{}, err
		}
	}
}

func (m *Messages) nextBlock() error {
	for {
		h, err := m.tar.Next()
		if err == io.EOF {
			return m.complete()
		}
		if err != nil {
			return tarError(err)
		}
		f, err := newFile(h, m.tar)
		if err != nil {
			return err
		}
		if m.scan != nil {
			m.scan.date(f)
		}
		number, suffix, _ := f.block()
		switch {
		case suffix == blockSuffix:
			return m.begin(f, number)
		case m.scan != nil:
			if err := m.scan.file(f); err != nil {
				return fmt.Errorf("file %q: %w", abridge(h.Name), tarError(err))
			}
		}
	}
}

// begin begins with a block.
func (m *Messages) begin(f *file, number uint64) error {
	m.block, m.alive = number, nil
	if m.s.Indexed() {
		m.alive = m.s.index.blocks[number]
	}
	if m.scan != nil {
		if err := m.scan.follows(number); err != nil {
			return err
		}
	}
	return m.records.reset(f, m.s.Stream, number)
}

// complete is io.EOF where the tar has an end.
func (m *Messages) complete() error {
	if err := m.end.check(); err != nil {
		return err
	}
	if m.scan != nil {
		if err := m.scan.finish(); err != nil {
			return err
		}
		if !m.s.Indexed() && m.s.tooMany != nil {
			return m.s.tooMany
		}
	}
	return io.EOF
}

// wants says whether a record is a message that is alive and within the bounds.
func (m *Messages) wants(r *record) bool {
	switch {
	case r.gone, r.seq < m.first, r.seq > m.last:
		return false
	case m.scan != nil:
		return !m.s.dead.marks(r.seq) && !m.gone(r.seq)
	case m.s.Indexed():
		return m.alive.has(r.seq)
	}
	return !m.s.dead.marks(r.seq)
}

// admit checks that a message is in order. Its errors name sequences, not subjects.
func (m *Messages) admit(r *record) error {
	switch {
	case len(r.subject) == 0:
		return malformed("message %d has no subject", r.seq)
	case r.seq <= m.before:
		return fmt.Errorf("%w: sequence %d after %d, in block %d", archive.ErrOrder, r.seq, m.before, m.block)
	case len(r.header)+len(r.payload) > archive.MaxMessage:
		return fmt.Errorf("%w: message %d has more than %d bytes", archive.ErrLimit, r.seq, archive.MaxMessage)
	}
	m.before = r.seq
	return nil
}
