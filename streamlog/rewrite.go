package streamlog

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
)

// Unwanted says which messages of a stream are taken out of snapshots: those that fit all that it says.
type Unwanted struct {
	Stream  string
	Seqs    *Dead                     // nil: of any sequence
	Since   time.Time                 // of the message itself, as Until; both are included, zero is no bound
	Until   time.Time                 //
	Subject func(subject []byte) bool // nil: of any subject
}

// mayBeIn says whether a group can have such a message.
func (u *Unwanted) mayBeIn(g *Group) bool {
	return (u.Seqs == nil || u.Seqs.Count(g.First, g.Last) > 0) &&
		(u.Since.IsZero() || g.To >= u.Since.UnixNano()) && (u.Until.IsZero() || g.From <= u.Until.UnixNano())
}

// is says whether m is such a message.
func (u *Unwanted) is(m *archive.Message) bool {
	return (u.Seqs == nil || u.Seqs.Has(m.Seq)) &&
		(u.Since.IsZero() || m.Time >= u.Since.UnixNano()) && (u.Until.IsZero() || m.Time <= u.Until.UnixNano()) &&
		(u.Subject == nil || u.Subject(m.Subject))
}

// Rewriter takes messages out of a stream in many snapshots, for repo.Rewrite: those that live and those that had been deleted and are in the log still.
// Their sequences are gaps then, as if they had been deleted, and nothing is renumbered. Groups that hold none of them stay as they are.
//
// What snapshots have in common is read and stored once. It remembers a bit of each group of a part that holds such messages, and which groups it stored.
type Rewriter struct {
	unwanted Unwanted
	cut      *chunker.Cutter

	streams map[directoryKey]*RewrittenStream
	parts   map[partKey]*rewrittenPart
	touched map[blob.ID][]bool // which groups of a part hold unwanted messages, by the part's tree; nil: none does
	lately  [2]map[blob.ID]bool
	done    map[storage.ID]*RewrittenStream
	roots   map[storage.ID]blob.ID // what takes the place of the snapshots' trees

	fresh, freshParts map[blob.ID]struct{} // what was stored and not read back: groups by their first blobs, parts by their trees
}

// NewRewriter returns a Rewriter that has seen nothing. It uses cut, and nobody else may meanwhile.
func NewRewriter(unwanted Unwanted, cut *chunker.Cutter) *Rewriter {
	return &Rewriter{
		unwanted: unwanted, cut: cut,
		streams: make(map[directoryKey]*RewrittenStream), parts: make(map[partKey]*rewrittenPart), touched: make(map[blob.ID][]bool),
		done: make(map[storage.ID]*RewrittenStream), roots: make(map[storage.ID]blob.ID), fresh: make(map[blob.ID]struct{}), freshParts: make(map[blob.ID]struct{}),
	}
}

// RewrittenStream is what was taken out of a stream.
type RewrittenStream struct {
	Messages uint64 // that lived
	Deleted  uint64 // that had been deleted, and were in the log still
	Bytes    uint64 // subjects, headers and payloads of those that lived
	Left     uint64 // messages that live

	node *snapshot.Node // what takes its place; nil: nothing was taken out
	read bool           // it was read back
}

// Changed says whether anything was taken out.
func (s *RewrittenStream) Changed() bool { return s.node != nil }

// Done is what became of the stream in a snapshot; nil where that does not hold it.
func (r *Rewriter) Done(id storage.ID) *RewrittenStream { return r.done[id] }

// Rewrite implements repo.Rewriter.
func (r *Rewriter) Rewrite(ctx context.Context, src *repo.Reader, dst repo.Saver, s *snapshot.Snapshot) (blob.ID, error) {
	return r.rewrite(ctx, src, dst, s)
}

func (r *Rewriter) rewrite(ctx context.Context, src Source, dst Saver, s *snapshot.Snapshot) (root blob.ID, err error) {
	dir, t, err := accountTree(ctx, src, s.Tree)
	if errors.Is(err, ErrNoStreams) {
		return s.Tree, nil
	}
	if err != nil {
		return root, err
	}
	switch _, err := openAccount(ctx, src, dir, t); {
	case errors.Is(err, errNoNode):
		return s.Tree, nil
	case err != nil:
		return root, err
	}
	i := slices.IndexFunc(t.Nodes, func(n *snapshot.Node) bool {
		return n.Type == snapshot.TypeDir && n.Name == EscapeName(r.unwanted.Stream)
	})
	if i < 0 {
		return s.Tree, nil
	}
	done, err := r.stream(ctx, src, dst, t.Nodes[i])
	if err != nil {
		return root, err
	}
	r.done[s.ID()] = done
	if !done.Changed() {
		return s.Tree, nil
	}
	t.Nodes[i] = done.node
	above := *dir
	if above.Subtree, _, err = dst.SaveTree(ctx, t); err != nil {
		return root, err
	}
	root, _, err = dst.SaveTree(ctx, &snapshot.Tree{Nodes: []*snapshot.Node{&above}})
	r.roots[s.ID()] = root
	return root, err
}

// stream takes what is unwanted out of a stream's directory.
func (r *Rewriter) stream(ctx context.Context, src Source, dst Saver, dir *snapshot.Node) (*RewrittenStream, error) {
	key := directoryKey{dir.Name, dir.Subtree}
	if done, ok := r.streams[key]; ok {
		return done, nil
	}
	s := OpenDir(ctx, src, dir)
	if s.Err != nil {
		return nil, s.Err
	}
	x := &rewriting{Rewriter: r, src: src, dst: dst, stream: s, out: &RewrittenStream{}}
	if err := x.run(ctx); err != nil {
		return nil, fmt.Errorf("stream %s: %w", s.Name, withoutStream(err, s.Name))
	}
	r.streams[key] = x.out
	return x.out, nil
}

// shortError is an error of which the beginning of the text is left out.
type shortError struct {
	error
	text string
}

func (e shortError) Error() string { return e.text }
func (e shortError) Unwrap() error { return e.error }

// withoutStream is an error without the name of the stream that it is about, and without the words that its log cannot be gone on with: nobody wants to.
func withoutStream(err error, name string) error {
	text := err.Error()
	for _, prefix := range []string{ErrUnfit.Error() + ": ", "stream " + name + ": "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return shortError{err, text}
}

// rewriting is one stream's directory at work.
type rewriting struct {
	*Rewriter
	src    Source
	dst    Saver
	stream *Stream
	log    *Log
	config struct {
		Storage string `json:"storage"`
	}
	out *RewrittenStream
	lib *library

	seqs    *Dead  // of living messages that are taken out
	bytes   uint64 // of these, as a server counts them
	largest uint64 // headers and payload of the largest of them
	entries uint64 // that are left in the log
	cleared []Run  // nothing is dead there, whatever the log says
}

func (x *rewriting) run(ctx context.Context) (err error) {
	if x.log, err = openLog(ctx, x.src, x.stream); err != nil {
		return err
	}
	x.out.Left = x.stream.Document.Jetsam.Messages
	changed := false
	for i := range x.log.parts {
		touched, err := x.scan(ctx, i)
		if err != nil {
			return err
		}
		changed = changed || touched != nil
	}
	if !changed {
		return nil
	}
	if err := json.Unmarshal(x.stream.Document.Config, &x.config); err != nil {
		return fmt.Errorf("decode stream configuration: %w", err)
	}
	if err := x.assemble(ctx); err != nil {
		return err
	}
	return x.save(ctx)
}

// scan says which groups of part i hold unwanted messages; nil: none does.
func (x *rewriting) scan(ctx context.Context, i int) ([]bool, error) {
	tree := x.log.parts[i].node.Subtree
	if touched, known := x.touched[tree]; known {
		return touched, nil
	}
	groups, err := x.groups(ctx, i)
	if err != nil {
		return nil, err
	}
	touched, asked := make([]bool, len(groups)), make([]bool, len(groups))
	readers, rctx := errgroup.WithContext(ctx)
	readers.SetLimit(runtime.GOMAXPROCS(0))
	for j, y := range groups {
		if !x.unwanted.mayBeIn(&y.Group) {
			continue
		}
		if touched[j], asked[j] = x.recall(y.ids[0]); asked[j] {
			continue
		}
		asked[j] = true
		readers.Go(func() (err error) {
			touched[j], err = x.holds(rctx, y)
			return err
		})
	}
	if err := readers.Wait(); err != nil {
		return nil, err
	}
	for j, y := range groups {
		if asked[j] {
			x.remember(y.ids[0], touched[j])
		}
	}
	if !slices.Contains(touched, true) {
		touched = nil
	}
	x.touched[tree] = touched
	return touched, nil
}

// groups reads the groups of part i, and does not keep them: a log has very many.
func (x *rewriting) groups(ctx context.Context, i int) ([]logGroup, error) {
	groups, err := x.log.groupsOf(ctx, i)
	x.log.parts[i].groups = nil
	return groups, err
}

// holds reads a group, and says whether it holds an unwanted message.
func (x *rewriting) holds(ctx context.Context, y logGroup) (bool, error) {
	for next := x.log.entries(ctx, y); ; {
		m, err := next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil || x.unwanted.is(m) {
			return err == nil, err
		}
	}
}

// manyLately is of how many groups it is remembered twice what they hold: of more than a log's last part has, which is another part in each snapshot.
const manyLately = 2 * maxPartBlobs

// remember keeps what was found out of a group, by its first blob.
func (r *Rewriter) remember(id blob.ID, touched bool) {
	if len(r.lately[0]) >= manyLately || r.lately[0] == nil {
		r.lately = [2]map[blob.ID]bool{make(map[blob.ID]bool), r.lately[0]}
	}
	r.lately[0][id] = touched
}

func (r *Rewriter) recall(id blob.ID) (touched, known bool) {
	if touched, known = r.lately[0][id]; !known {
		touched, known = r.lately[1][id]
	}
	return touched, known
}

// partKey is a part, what of it is dead, and how a server counts its bytes.
type partKey struct {
	tree    blob.ID
	dead    [sha256.Size]byte
	storage string
}

// rewrittenPart is what takes the place of a part.
type rewrittenPart struct {
	parts   []shelvedPart
	seqs    *Dead // of living messages that were taken out
	deleted uint64
	content uint64
	bytes   uint64
	largest uint64
	less    uint64 // entries that its groups had
	more    uint64 // entries of the groups that take their place
	cleared []Run  // the ranges of those
}

// shelvedPart is a part as it comes on a shelf.
type shelvedPart struct {
	first uint64
	to    int64
	last  blob.ID // of its blobs
	node  *snapshot.Node
}

// assemble puts the parts together, those that hold nothing unwanted as they are.
func (x *rewriting) assemble(ctx context.Context) error {
	x.lib, x.entries = &library{dst: x.dst}, x.stream.Document.Jetsam.Entries()
	for i, p := range x.log.parts {
		touched := x.touched[p.node.Subtree]
		if touched == nil {
			if err := x.lib.keep(ctx, p); err != nil {
				return err
			}
			continue
		}
		part, err := x.part(ctx, i, touched)
		if err != nil {
			return err
		}
		for _, q := range part.parts {
			x.lib.shelve(q.first, q.to, q.node)
			if err := x.lib.cutShelf(ctx, q.last); err != nil {
				return err
			}
		}
		if err := x.count(part); err != nil {
			return err
		}
	}
	return nil
}

// count takes a part that was rewritten into account.
func (x *rewriting) count(p *rewrittenPart) error {
	if x.entries+p.more < p.less || x.out.Left < p.seqs.Len() {
		return fmt.Errorf("its parts hold more messages than %s says: %w", documentName, repo.ErrCorrupt)
	}
	x.entries = x.entries + p.more - p.less
	x.out.Left -= p.seqs.Len()
	x.out.Messages += p.seqs.Len()
	x.out.Deleted += p.deleted
	x.out.Bytes += p.content
	x.seqs = x.seqs.Union(p.seqs)
	x.bytes += p.bytes
	x.largest = max(x.largest, p.largest)
	x.cleared = append(x.cleared, p.cleared...)
	return nil
}

// part takes the unwanted messages out of part i. Groups that hold some are stored anew, from what lives in them.
func (x *rewriting) part(ctx context.Context, i int, touched []bool) (*rewrittenPart, error) {
	groups, err := x.groups(ctx, i)
	if err != nil {
		return nil, err
	}
	within := x.log.Dead.Within(groups[0].First, groups[len(groups)-1].Last)
	key := partKey{x.log.parts[i].node.Subtree, sha256.Sum256(EncodeSegment(within)), x.config.Storage}
	if known, ok := x.parts[key]; ok {
		return known, nil
	}
	w := &partWriter{rewriting: x, saver: newMessageWriter(x.dst), gone: newDeadBuilder(0)}
	if err := w.run(ctx, groups, touched); err != nil {
		return nil, err
	}
	w.out.seqs = w.gone.dead()
	x.parts[key] = &w.out
	return &w.out, nil
}

// partWriter rewrites a part.
type partWriter struct {
	*rewriting
	saver *messageWriter
	gone  *deadBuilder
	part  part
	out   rewrittenPart
}

func (w *partWriter) run(ctx context.Context, groups []logGroup, touched []bool) error {
	w.cut.Reset()
	g := &grouper{cut: w.cut, bufs: w.saver.bufs, yield: func(p *pieces) error { return w.store(ctx, p) }}
	for j, y := range groups {
		if !touched[j] {
			if err := w.keep(ctx, y); err != nil {
				return err
			}
			continue
		}
		w.out.less += y.Messages
		if err := g.addAll(w.wanted(ctx, y)); err != nil {
			return err
		}
		if j+1 < len(groups) && touched[j+1] && groups[j+1].Tail == y.Tail {
			continue
		}
		if err := flush(g, y.Tail); err != nil {
			return err
		}
	}
	return w.endPart(ctx)
}

// flush has the grouper pass on what it has, in the tail or before it, and begin afresh.
func flush(g *grouper, tail bool) error {
	if !tail {
		return g.cutHere()
	}
	err := g.end()
	g.cut.Reset()
	return err
}

// wanted yields what lives in a group and is not unwanted, and counts what is.
func (w *partWriter) wanted(ctx context.Context, y logGroup) func() (*archive.Message, error) {
	next, isDead := w.log.entries(ctx, y), w.log.Dead.Ascending()
	return func() (*archive.Message, error) {
		for {
			m, err := next()
			if err != nil {
				return nil, err
			}
			dead, unwanted := isDead(m.Seq), w.unwanted.is(m)
			switch {
			case unwanted && dead:
				w.out.deleted++
			case unwanted:
				w.take(m)
			case !dead:
				return m, nil
			}
		}
	}
}

// take counts a living message that is taken out.
func (w *partWriter) take(m *archive.Message) {
	e := entryOf(m, 0)
	w.gone.add(Run{m.Seq, m.Seq})
	w.out.content += e.content
	w.out.bytes += m.StoredSize(w.config.Storage)
	w.out.largest = max(w.out.largest, e.size)
}

// store stores a group.
func (w *partWriter) store(ctx context.Context, p *pieces) error {
	s := &savedGroup{pieces: p, done: make(chan struct{})}
	if err := w.saver.save(ctx, s); err != nil {
		return err
	}
	w.fresh[s.ids[0]] = struct{}{}
	w.out.more += s.Messages
	w.out.cleared = append(w.out.cleared, Run{s.First, s.Last})
	return w.place(ctx, s)
}

// keep leaves a group as it is.
func (w *partWriter) keep(ctx context.Context, y logGroup) error {
	size, err := w.log.sizeOf(y)
	if err != nil {
		return err
	}
	return w.place(ctx, &savedGroup{pieces: &pieces{Group: y.Group}, ids: y.ids, size: size})
}

func (w *partWriter) place(ctx context.Context, s *savedGroup) error {
	if full := w.part.add(s); !full {
		return nil
	}
	return w.endPart(ctx)
}

func (w *partWriter) endPart(ctx context.Context) error {
	p := w.part
	w.part = part{}
	if len(p.groups) == 0 {
		return nil
	}
	node, _, err := p.save(ctx, w.dst)
	if err != nil {
		return err
	}
	w.freshParts[node.Subtree] = struct{}{}
	w.out.parts = append(w.out.parts, shelvedPart{p.groups[0].First, p.to, p.ids[len(p.ids)-1], node})
	return nil
}

// save stores the stream's directory.
func (x *rewriting) save(ctx context.Context) error {
	tree, at, err := x.lib.finish(ctx)
	if err != nil {
		return err
	}
	var dead *Dead
	if x.lib.first() > 0 {
		dead = x.log.Dead.Minus(NewDead(slices.Values(x.cleared)))
	}
	file, err := SaveDead(ctx, x.dst, x.stream, dead)
	if err != nil {
		return err
	}
	doc, head, err := x.describe(ctx, file != nil)
	if err != nil {
		return err
	}
	m := &Messages{Tree: tree, Time: at, Count: x.entries, First: x.lib.first(), Dead: file}
	x.out.node, _, err = SaveStream(ctx, x.dst, x.stream.Name, doc, head, m)
	return err
}

// describe is the document and the head of the stream without the messages.
func (x *rewriting) describe(ctx context.Context, withDead bool) (*Document, *archive.Head, error) {
	doc := *x.stream.Document
	c := &doc.Jetsam
	c.Messages = x.out.Left
	c.MessageBytes -= min(c.MessageBytes, x.out.Bytes)
	// How large the largest of the others is, nobody knows who has not read them all.
	c.Estimated = c.Estimated || x.out.Messages > 0 && x.largest >= c.LargestMessage
	if !withDead {
		if x.entries != c.Messages {
			return nil, nil, fmt.Errorf("%d entries are left of its log, and %d messages: %w", x.entries, c.Messages, repo.ErrCorrupt)
		}
		c.Requires = slices.DeleteFunc(slices.Clone(c.Requires), func(f string) bool { return f == featureDead })
		c.Dead, c.Stored = nil, 0
	}
	head, err := x.stream.Head(ctx)
	if err != nil {
		return nil, nil, err
	}
	if doc.State, err = x.state(ctx); err != nil {
		return nil, nil, err
	}
	consumers := slices.Clone(head.Consumers)
	for i, c := range consumers {
		if consumers[i], _, err = c.Cut(math.MaxUint64, func(seq uint64) bool { return !x.seqs.Has(seq) }); err != nil {
			return nil, nil, fmt.Errorf("consumer %s: %w", c.Name, err)
		}
	}
	return &doc, (&archive.Head{State: doc.State}).WithConsumers(consumers), nil
}

// state is the stream's state as a server has it when the messages were deleted.
func (x *rewriting) state(ctx context.Context) ([]byte, error) {
	raw := x.stream.Document.State
	s, err := archive.ParseState(raw)
	if err != nil || x.out.Messages == 0 {
		return raw, err
	}
	was, err := x.log.lowest(ctx, nil)
	if err != nil {
		return nil, err
	}
	if was != nil && x.seqs.Has(was.seq) {
		s.FirstSeq, s.FirstTime = s.LastSeq+1, time.Time{}
		is, err := x.log.lowest(ctx, x.seqs)
		if err != nil {
			return nil, err
		}
		if is != nil {
			s.FirstSeq, s.FirstTime = is.seq, unixNano(is.time)
		}
	}
	s.Messages = min(s.Messages-min(s.Messages, x.out.Messages), s.LastSeq+1-s.FirstSeq)
	s.Bytes -= min(s.Bytes, x.bytes)
	return s.Reduced(raw)
}

// lowest returns the entry of the lowest sequence that lives and is not in gone; nil if there is none.
func (l *Log) lowest(ctx context.Context, gone *Dead) (*entry, error) {
	for i := range l.parts {
		groups, err := l.groupsOf(ctx, i)
		l.parts[i].groups = nil
		if err != nil {
			return nil, err
		}
		for _, y := range groups {
			if y.Alive(l.Dead) <= gone.Count(y.First, y.Last) {
				continue
			}
			for next := l.entries(ctx, y); ; {
				m, err := next()
				if err == io.EOF {
					break
				}
				if err != nil {
					return nil, err
				}
				if !l.Dead.Has(m.Seq) && !gone.Has(m.Seq) {
					e := entryOf(m, 0)
					return &e, nil
				}
			}
		}
	}
	return nil, nil
}

// ReadBack implements repo.Rewriter: it reads what Rewrite stored for a snapshot, and wants nothing unwanted in it.
func (r *Rewriter) ReadBack(ctx context.Context, src *repo.Reader, s *snapshot.Snapshot) error {
	return r.readBack(ctx, src, s.ID())
}

func (r *Rewriter) readBack(ctx context.Context, src Source, id storage.ID) error {
	done := r.done[id]
	if done == nil || !done.Changed() {
		return nil
	}
	s, err := OpenStream(ctx, src, r.roots[id], r.unwanted.Stream)
	if err != nil || done.read {
		return err
	}
	if _, err := s.Head(ctx); err != nil {
		return err
	}
	x := &rewriting{Rewriter: r, stream: s}
	if x.log, err = openLog(ctx, src, s); err == nil {
		err = x.readFresh(ctx)
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, withoutStream(err, s.Name))
	}
	done.read = true
	return nil
}

// readFresh reads the groups that were stored and not read back.
func (x *rewriting) readFresh(ctx context.Context) error {
	for i, p := range x.log.parts {
		if _, fresh := x.freshParts[p.node.Subtree]; !fresh {
			continue
		}
		groups, err := x.groups(ctx, i)
		if err != nil {
			return err
		}
		for _, y := range groups {
			if _, fresh := x.fresh[y.ids[0]]; !fresh {
				continue
			}
			unwanted, err := x.holds(ctx, y)
			if err != nil {
				return err
			}
			if unwanted {
				return fmt.Errorf("messages %d to %d, which were stored anew, hold one that should not be among them", y.First, y.Last)
			}
			delete(x.fresh, y.ids[0])
		}
		delete(x.freshParts, p.node.Subtree)
	}
	return nil
}
