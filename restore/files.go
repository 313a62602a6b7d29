package restore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/jetstream/legacy"
)

// simplifyExport leaves out of the configurations what no server before 2.15 knows, and says which servers know the rest, and what they cannot hold.
func (p *Plan) simplifyExport(s *StreamPlan) error {
	p.release = jetstream.Release{Major: 2, Minor: 14} // the last before 2.15
	if err := p.simplify(s); err != nil {
		return err
	}
	oldest := jetstream.Release{Major: 2, Minor: 9} // that is known to take it
	u := &unsupported{having: map[string][]string{}}
	var err error
	if _, u.stream, err = oldest.KnownOfStream(s.wanted); err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	if _, err := (&Plan{release: oldest}).simplifyConsumers(s, u); err != nil {
		return err
	}
	if len(u.stream)+len(u.consumers) > 0 {
		s.warning("older servers do not know all of its configuration, and drop that without a word, or refuse the stream: %s", u)
	}
	if s.config.Storage == "memory" {
		s.warning("it is kept in memory, and servers before 2.15 restore such a stream without its messages: export it with --storage file")
	}
	if tooLarge(s.largest()) {
		s.warning("it has, or had, a message of %s bytes, and servers before 2.15 do not read it from their store", digits.Grouped(s.largest()))
	}
	if s.unmarked() {
		s.warning("it lacks more than %s sequences, which servers before 2.10 would have to be told one by one: they do not find all of its messages", digits.Grouped(legacy.MaxMarks))
	}
	return nil
}

// unmarked says whether too much is missing between the stream's messages to mark it all.
func (s *StreamPlan) unmarked() bool {
	return s.state.FirstSeq > 0 && s.state.LastSeq-s.state.FirstSeq+1-s.state.Messages > legacy.MaxMarks
}

// exportFiles passes on the stream as the files of a store, which any server shall take.
func (f *outflow) exportFiles(ctx context.Context, out io.Writer) error {
	created := f.s.log.held.Document.Jetsam.Created
	return f.sendFiles(ctx, out, f.s.wanted, created, f.s.unmarked())
}

// sendFiles passes on the stream as the files of a store: the counterpart of sendAll. created is what the stream says of when it was created; zero: when
// it is restored. Where unmarked is set, servers before 2.10 do not find all that is in the files.
func (f *outflow) sendFiles(ctx context.Context, out io.Writer, config []byte, created time.Time, unmarked bool) error {
	plain := bufio.NewWriterSize(writerFunc(func(p []byte) (int, error) { return len(p), f.write(out, p) }), batchSize)
	w, err := legacy.NewWriter(plain, legacy.About{
		Stream: f.s.Name, Config: config, Created: created, Taken: time.Unix(0, f.s.head.StateTime), Unmarked: unmarked,
	})
	if err != nil {
		return err
	}
	for _, c := range f.s.head.Consumers {
		if err := w.Consumer(c); err != nil {
			return err
		}
	}
	if err := f.eachMessage(ctx, w.Message); err != nil {
		return err
	}
	if err := w.Close(f.s.state.LastSeq, f.s.state.LastTime); err != nil {
		return err
	}
	return plain.Flush()
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// readBackFiles reads the files as an import would, and compares them with what was sent. They are read twice: what there is, and the messages.
func (f *outflow) readBackFiles(ctx context.Context, again func(func(io.Reader) error) error, want [sha256.Size]byte) error {
	var found *legacy.Snapshot
	err := again(func(r io.Reader) (err error) {
		found, err = legacy.Scan(archive.Decompress(r, -1), f.s.Name)
		return err
	})
	if err != nil {
		return fmt.Errorf("read back %s: %w", filesFile, err)
	}
	if len(found.Consumers) != f.s.Consumers {
		return fmt.Errorf("read back: %s holds %d consumers, and is not what was written: %d", filesFile, len(found.Consumers), f.s.Consumers)
	}
	return again(func(r io.Reader) error {
		sum := sha256.New()
		in := found.Messages(io.TeeReader(archive.Decompress(r, -1), sum), 0, f.s.state.LastSeq)
		return f.compareBack(ctx, filesFile, in.Next, sum, want)
	})
}
