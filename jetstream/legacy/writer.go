package legacy

import (
	"archive/tar"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"jetsam/jetstream/archive"
)

const (
	// blockSize is when a block is full. Servers make them of 8 MiB at most, and read a block as a whole.
	blockSize = 8 << 20
	// maxSpan is how many sequences a block may span: servers take four bytes of memory for each of them, whether there is a message or not, when
	// they read it (nats-server 2.10 to 2.14, indexCacheBuf).
	maxSpan = 1 << 20
	// MaxMarks is how many missing sequences may be marked in all. Servers remember each of them.
	MaxMarks = 20_000_000
	// maxGap is how many missing sequences a block may have in one place.
	maxGap = 8 << 10
	// MaxRecord is the largest record that servers read, in bytes: they cut a block off in front of a larger one (nats-server 2.9 to 2.14, rlBadThresh).
	MaxRecord = 32 << 20
)

// RecordSize is how many bytes a message takes in a block, with the length of headers that it may not have.
func RecordSize(subject, content int) int {
	return recordHeader + subject + headersLength + content + checksumSize
}

// Writer writes the snapshot of a stream, a plain tar, as every server from 2.9 on takes it: configuration, consumers, messages. It ends in Close;
// its errors are final. Memory is bounded by one block, of 8 MiB or a larger message.
//
// A block holds the messages that are alive, and a mark of 30 bytes for each sequence that is missing between two of them; it ends before a long run of
// missing ones, which takes no marks. Where the stream ends in missing ones, a block without messages says how far it goes.
type Writer struct {
	tar      *tar.Writer
	stream   string
	taken    time.Time
	unmarked bool

	number      uint64 // of the block
	hash        hash.Hash
	block       []byte
	first, last uint64 // sequences of the block
	marks       uint64 // in all blocks
	err         error
}

// About says what a snapshot is of.
type About struct {
	Stream  string          // its name
	Config  json.RawMessage // of the same name
	Created time.Time       // zero: when it is restored
	Taken   time.Time       // dates the files

	// Unmarked leaves out the marks of missing sequences. Servers from 2.10 on see themselves what a block lacks; 2.9 does not find what lies behind
	// that, though it counts it.
	Unmarked bool
}

// NewWriter begins a snapshot.
func NewWriter(w io.Writer, a About) (*Writer, error) {
	s := &Writer{tar: tar.NewWriter(w), stream: a.Stream, taken: a.Taken, unmarked: a.Unmarked}
	text, err := withFields(a.Config, map[string]any{"Created": a.Created.UTC()})
	if err != nil {
		return nil, err
	}
	return s, s.meta("", a.Stream, text)
}

// meta writes a meta.inf and its checksum.
func (w *Writer) meta(dir, key string, text []byte) error {
	h, err := keyed(key)
	if err != nil {
		return err
	}
	h.Write(text)
	w.file(dir+metaName, text)
	return w.file(dir+sumName, fmt.Appendf(nil, "%x", h.Sum(nil)))
}

func (w *Writer) file(name string, p []byte) error {
	if w.err == nil {
		w.err = w.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(p)), ModTime: w.taken, Format: tar.FormatPAX})
	}
	if w.err == nil {
		_, w.err = w.tar.Write(p)
	}
	return w.err
}

// Consumer writes a consumer. It is created when it is restored.
func (w *Writer) Consumer(c archive.Consumer) error {
	config, state, err := parseConsumer(c)
	if err == nil {
		config, err = withFields(config, map[string]any{"Name": c.Name})
	}
	if err == nil && (c.Name == "" || c.Name == "." || c.Name == ".." || strings.ContainsAny(c.Name, "/\\\x00")) {
		err = malformed("a name that no directory can have")
	}
	if err != nil {
		return fmt.Errorf("consumer %q: %w", abridge(c.Name), err)
	}
	dir := consumersDir + "/" + c.Name + "/"
	if err := w.meta(dir, w.stream+"/"+c.Name, config); err != nil {
		return err
	}
	return w.file(dir+stateName, state.encode(w.taken))
}

// Message writes a message. Sequences ascend.
func (w *Writer) Message(m *archive.Message) error {
	if w.err != nil {
		return w.err
	}
	size := RecordSize(len(m.Subject), len(m.Header)+len(m.Payload))
	if err := w.admit(m, size); err != nil {
		w.err = err
		return err
	}
	if !w.fits(m.Seq, size) {
		if err := w.endBlock(); err != nil {
			return err
		}
	}
	if len(w.block) == 0 {
		if err := w.beginBlock(m.Seq); err != nil {
			return err
		}
	}
	if err := w.mark(m); err != nil {
		return err
	}
	w.record(m.Seq, m.Time, m.Subject, m.Header, m.Payload)
	w.last = m.Seq
	return nil
}

// mark marks what is missing between the message before and m.
func (w *Writer) mark(m *archive.Message) error {
	if w.unmarked {
		return nil
	}
	if w.marks += m.Seq - w.last - 1; w.marks > MaxMarks {
		w.err = fmt.Errorf("%w: more than %d sequences are missing between messages", archive.ErrLimit, MaxMarks)
	}
	for seq := w.last + 1; seq < m.Seq && w.err == nil; seq++ {
		w.record(seq|erased, m.Time, nil, nil, nil)
	}
	return w.err
}

func (w *Writer) admit(m *archive.Message, size int) error {
	switch {
	case m.Seq <= w.last || m.Seq >= tombstone:
		return fmt.Errorf("%w: sequence %d after %d", archive.ErrOrder, m.Seq, w.last)
	case size > MaxRecord:
		return fmt.Errorf("%w: message %d would take %d bytes, and servers read %d", archive.ErrLimit, m.Seq, size, MaxRecord)
	}
	return nil
}

// fits says whether a message of so many bytes belongs to the block at hand.
func (w *Writer) fits(seq uint64, size int) bool {
	if len(w.block) == 0 {
		return true
	}
	gap := seq - w.last - 1
	if gap > maxGap || seq-w.first >= maxSpan {
		return false
	}
	if !w.unmarked {
		size += int(gap) * (recordHeader + checksumSize)
	}
	return len(w.block)+size <= blockSize
}

func (w *Writer) beginBlock(first uint64) (err error) {
	if w.number++; w.number > maxBlocks {
		w.err = fmt.Errorf("%w: more than %d blocks", archive.ErrLimit, maxBlocks)
		return w.err
	}
	w.first, w.last = first, first-1
	if w.hash, err = keyed(w.stream + "-" + strconv.FormatUint(w.number, 10)); err != nil {
		w.err = err
	}
	return err
}

// record adds a record to the block.
func (w *Writer) record(seq uint64, time int64, subject, header, payload []byte) {
	length := uint32(recordHeader + len(subject) + len(header) + len(payload) + checksumSize)
	if len(header) > 0 {
		length = (length + headersLength) | hasHeaders
	}
	at := len(w.block)
	p := binary.LittleEndian.AppendUint32(w.block, length)
	p = binary.LittleEndian.AppendUint64(p, seq)
	p = binary.LittleEndian.AppendUint64(p, uint64(time))
	p = append(binary.LittleEndian.AppendUint16(p, uint16(len(subject))), subject...)
	if len(header) > 0 {
		p = append(binary.LittleEndian.AppendUint32(p, uint32(len(header))), header...)
	}
	p = append(p, payload...)
	w.hash.Reset()
	w.hash.Write(p[at+4 : at+20])
	w.hash.Write(subject)
	w.hash.Write(header)
	w.hash.Write(payload)
	w.block = w.hash.Sum(p)
}

func (w *Writer) endBlock() error {
	if len(w.block) == 0 {
		return w.err
	}
	err := w.file(fmt.Sprintf("%s/%d%s", messagesDir, w.number, blockSuffix), w.block)
	w.block = w.block[:0]
	return err
}

// Close writes what is left of a stream that ends at last, and the end of the tar. It does not close the writer underneath.
func (w *Writer) Close(last uint64, at time.Time) error {
	if err := w.endBlock(); err != nil {
		return err
	}
	if last > w.last {
		w.tail(last, at.UnixNano())
	}
	if w.err == nil {
		w.err = w.tar.Close()
	}
	return w.err
}

// tail writes a block without messages that ends at last. Servers from 2.10 on take the stream's end from its one mark; 2.9 takes it from the index of
// the block, and drops one without messages that has none.
func (w *Writer) tail(last uint64, at int64) {
	if w.beginBlock(last) != nil {
		return
	}
	w.record(last|erased, at, nil, nil, nil)
	p := []byte{fileMagic, 1, 0, 0} // no messages, no bytes
	p = binary.AppendVarint(binary.AppendUvarint(p, last+1), 0)
	p = binary.AppendVarint(binary.AppendUvarint(p, last), at)
	p = append(append(p, 0), w.block[len(w.block)-checksumSize:]...) // nothing more is deleted
	if w.endBlock() == nil {
		w.file(fmt.Sprintf("%s/%d%s", messagesDir, w.number, indexSuffix), p)
	}
}
