package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"jetsam/blob"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/streamlog"
)

// log is a snapshot's log of a stream, and what a restore takes of it.
type log struct {
	name     string
	held     *streamlog.Stream
	state    archive.State   // of the stream when it was captured
	dead     *streamlog.Dead // entries that are not alive
	want     streamlog.Run   // sequences; what lies outside is left out
	subjects []string        // filters; what matches none of them is left out, unless there are none

	overtaken *streamlog.Dead // what had been replaced by the time that the stream is restored as of

	bytes     uint64 // of all its encoded entries that are alive, about
	lastGroup uint64 // last sequence of the groups that were read so far
}

// open reads what the log says of itself, and lists its stretches.
func (l *log) open(ctx context.Context) (all []stretch, err error) {
	if l.held.Err != nil {
		return nil, l.held.Err
	}
	if err := l.readDead(ctx); err != nil {
		return nil, err
	}
	if l.state, err = archive.ParseState(l.held.Document.State); err != nil {
		return nil, fmt.Errorf("stream %s: %w", l.name, err)
	}
	if err := l.checkClaims(); err != nil {
		return nil, err
	}
	return l.chart(ctx)
}

// readDead reads which entries are not alive.
func (l *log) readDead(ctx context.Context) error {
	dead, err := l.held.Dead(ctx)
	if err != nil {
		dead, err = l.held.Dead(ctx) // what a storage fails to give once is not lost yet
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if repo.IsUnread(err) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; that says which of its stored messages had been deleted, and they would come back, "+
			"so that nothing of it is restored: an earlier snapshot may hold it", err)
	}
	if l.held.Document.Jetsam.Dead != nil {
		l.dead = dead
	}
	return nil
}

// checkHead holds the state of a log with dead entries, which the head has, against the stream's own.
func (l *log) checkHead(head *archive.Head) error {
	inHead, err := archive.ParseState(head.State)
	if err != nil {
		return fmt.Errorf("stream %s: %w", l.name, err)
	}
	own, err := archive.ParseState(l.held.Document.State)
	if err != nil {
		return fmt.Errorf("stream %s: %w", l.name, err)
	}
	if entries := l.held.Document.Jetsam.Entries(); inHead.LastSeq != own.LastSeq || inHead.FirstSeq > own.FirstSeq || inHead.Messages != entries {
		return fmt.Errorf("stream %s: its head says %d entries, %d to %d, its document %d, of a stream from %d to %d: %w",
			l.name, inHead.Messages, inHead.FirstSeq, inHead.LastSeq, entries, own.FirstSeq, own.LastSeq, repo.ErrCorrupt)
	}
	return nil
}

// stretch is a run of messages that is sent as a whole or not at all: a group, what a cut leaves of one, or a part of which it is lost what
// its groups are.
type stretch struct {
	Loss            // what would be lost with it; Reason is nil as long as nothing says that it is
	log   *log      // that it is of
	bytes uint64    // of its encoded entries, about, where not all of the group is sent; 0 where that is lost
	ids   []blob.ID // nil where they are lost

	alive  streamlog.Run // where its living messages lie, those that a cut leaves out too
	count  uint64        // how many those are; 0 where that is lost
	unread error         // why it is not known what the blobs hold; they may be whole
	narrow bool          // only some of its messages are sent: which ones is known when it was read
	probed bool          // it was read, and holds what it says
}

func (x *stretch) lost() bool { return x.Reason != nil }

// chart lists the stretches of the log, and holds what it says of them in one place against what it says in another.
func (l *log) chart(ctx context.Context) ([]stretch, error) {
	sections, err := l.held.Sections(ctx, l.state.FirstSeq, l.state.LastSeq)
	if err != nil {
		return nil, err
	}
	if l.held.Document.Jetsam.Messages == 0 { // an empty directory that is lost is no loss
		return nil, nil
	}
	var out []stretch
	for _, x := range sections {
		for _, g := range x.Groups {
			if err := l.checkGroup(g); err != nil {
				return nil, err
			}
		}
		out = append(out, l.stretchesOf(x)...)
	}
	for i := range out {
		x := &out[i]
		l.bytes += x.bytes
		x.alive, x.count = streamlog.Run{First: x.First, Last: x.Last}, x.Messages
	}
	return l.countRest(out)
}

// countRest holds the messages of all stretches of the log against the document's. A single stretch whose number is lost has the rest of them.
func (l *log) countRest(stretches []stretch) ([]stretch, error) {
	total, known := l.held.Document.Jetsam.Messages, uint64(0)
	var unknown []*stretch
	for i := range stretches {
		x := &stretches[i]
		known += x.Messages
		if x.Messages == 0 {
			unknown = append(unknown, x)
		}
	}
	var least, most uint64 // that the unknown ones have
	for _, x := range unknown {
		most += l.room(x)
		if l.dead == nil {
			least++
		}
	}
	if known+least > total || known+most < total {
		return nil, fmt.Errorf("stream %s: its parts hold %d messages, its document says %d: %w", l.name, known, total, repo.ErrCorrupt)
	}
	switch {
	case known == total: // so nothing is alive in what is unknown
		return withoutEmpty(stretches), nil
	case len(unknown) == 1:
		unknown[0].Messages = total - known
	}
	return stretches, nil
}

// withoutEmpty leaves out the stretches without messages.
func withoutEmpty(stretches []stretch) []stretch {
	kept := stretches[:0]
	for _, x := range stretches {
		if x.Messages > 0 {
			kept = append(kept, x)
		}
	}
	return kept
}

// room is how many messages a stretch can have.
func (l *log) room(x *stretch) uint64 {
	return x.Last - x.First + 1 - l.dead.Count(x.First, x.Last)
}

// stretchesOf are the stretches of a section. What has nothing alive in it is none.
func (l *log) stretchesOf(x streamlog.Section) []stretch {
	if x.Part != nil && x.Err == nil {
		return l.groupsOf(x)
	}
	bounds, some := l.dead.Living(x.First, x.Last)
	if !some {
		return nil
	}
	whole := stretch{log: l, Loss: Loss{First: bounds.First, Last: bounds.Last, To: x.Latest, Reason: x.Err}}
	if x.Part != nil {
		whole.ids, whole.unread, whole.Reason = x.Part.Blobs, x.Err, nil
	}
	return []stretch{whole}
}

func (l *log) groupsOf(x streamlog.Section) []stretch {
	out := make([]stretch, 0, len(x.Groups))
	ids := x.Part.Blobs
	for _, g := range x.Groups {
		n := len(g.Blobs)
		mine := ids[:n:n]
		ids = ids[n:]
		alive := g.Alive(l.dead)
		if alive == 0 {
			continue
		}
		loss, bytes := lossOf(g), g.Bytes
		if l.dead.Count(g.First, g.Last) > 0 {
			bounds, _ := l.dead.Living(g.First, g.Last)
			loss.First, loss.Last, loss.Messages = bounds.First, bounds.Last, alive
			bytes = share(bytes, alive, g.Messages) // how large each of them is nobody knows before they are read
		}
		out = append(out, stretch{log: l, Loss: loss, bytes: bytes, ids: mine})
	}
	return out
}

// share is what part of whole is a share of bytes.
func share(bytes, part, whole uint64) uint64 {
	if part >= whole {
		return bytes
	}
	return uint64(float64(bytes) * float64(part) / float64(whole))
}

// lossOf is what is lost with a group, without a reason.
func lossOf(g streamlog.Group) Loss {
	return Loss{First: g.First, Last: g.Last, Messages: g.Messages, From: time.Unix(0, g.From), To: time.Unix(0, g.To)}
}

// living yields those of next's messages that are alive.
func (l *log) living(next func() (*archive.Message, error)) func() (*archive.Message, error) {
	if l.dead.Len() == 0 {
		return next
	}
	gone := l.dead.Ascending()
	return func() (*archive.Message, error) {
		for {
			if m, err := next(); err != nil || !gone(m.Seq) {
				return m, err
			}
		}
	}
}

// wants says whether a message that is alive is restored.
func (l *log) wants(m *archive.Message) bool {
	if m.Seq < l.want.First || m.Seq > l.want.Last || l.overtaken.Len() > 0 && l.overtaken.Has(m.Seq) {
		return false
	}
	for _, f := range l.subjects {
		if jetstream.SubjectMatches(f, m.Subject) {
			return true
		}
	}
	return len(l.subjects) == 0
}

// wanted yields those of next's messages that are restored.
func (l *log) wanted(next func() (*archive.Message, error)) func() (*archive.Message, error) {
	next = l.living(next)
	return func() (*archive.Message, error) {
		for {
			if m, err := next(); err != nil || l.wants(m) {
				return m, err
			}
		}
	}
}

// messages yields all messages of a plan that are restored, in order, and then io.EOF. A message is valid until the next call; stop frees
// what they need.
func (p *Plan) messages(ctx context.Context, s *StreamPlan) (next func() (*archive.Message, error), stop func()) {
	blobs, stop := p.blobs(ctx, s)
	rest := s.sources()
	var from func() (*archive.Message, error)
	return p.held(s, s.respelled(func() (*archive.Message, error) {
		for {
			if from == nil && len(rest) == 0 {
				return nil, io.EOF
			}
			if from == nil {
				in := archive.NewMessageReader(archive.NewStoredReader(atMost(rest[0].blobs, blobs)), archive.Limits{})
				from, rest = rest[0].log.wanted(in.Next), rest[1:]
			}
			m, err := from()
			if !errors.Is(err, io.EOF) {
				return m, err
			}
			from = nil
		}
	})), stop
}

// source is how many of the plan's blobs in a row are of one log.
type source struct {
	log   *log
	blobs int
}

// sources are the logs that a plan takes its messages of, one after the other.
func (s *StreamPlan) sources() []source {
	var out []source
	for i := range s.stretches {
		x := &s.stretches[i]
		switch n := len(out); {
		case x.lost():
		case n > 0 && out[n-1].log == x.log:
			out[n-1].blobs += len(x.ids)
		default:
			out = append(out, source{x.log, len(x.ids)})
		}
	}
	return out
}

// dataBlob is a blob of messages.
func dataBlob(id blob.ID) blob.Handle { return blob.Handle{Kind: blob.Data, ID: id} }

// atMost ends after n blobs.
func atMost(n int, next func() ([]byte, error)) func() ([]byte, error) {
	return func() ([]byte, error) {
		if n == 0 {
			return nil, io.EOF
		}
		n--
		return next()
	}
}
