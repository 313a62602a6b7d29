package streamlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"jetsam/blob"
	"jetsam/internal/digits"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
)

// Mender makes snapshots in which nothing is missing of what is left of damaged ones, for repo.RepairSnapshots. Messages that are lost are gaps, as if
// they had been deleted, and nothing is renumbered. A stream whose documents are lost is left out, and named in account.json.
//
// A stream that lost messages is marked as torn: no later backup takes its log for the whole stream.
type Mender struct {
	streams map[directoryKey]mended
	done    map[storage.ID]*MendedSnapshot
}

// NewMender returns a Mender that has seen nothing.
func NewMender() *Mender {
	return &Mender{streams: make(map[directoryKey]mended), done: make(map[storage.ID]*MendedSnapshot)}
}

// MendedSnapshot is what was lost with a snapshot.
type MendedSnapshot struct {
	Account error          // why account.json was made anew; nil: it was not
	Streams []MendedStream // that are not as they were, in the order of their names
}

// MendedStream is what was lost of a stream.
type MendedStream struct {
	Name      string
	Out       error          // why it is left out; nil: it is not
	Lost      []LostMessages // in the order of their sequences
	Left      uint64         // messages that are left
	Head      error          // why its consumers are lost; nil: they are not
	Consumers []string       // names of those
}

// LostMessages are messages that follow one another and are lost.
type LostMessages struct {
	First, Last uint64    // nothing in between is left
	Messages    uint64    // how many; 0 where that is lost too
	From, To    time.Time // lowest and highest time of them, or wider bounds; zero where that is lost too
	Reason      error     // why the first of them cannot be read
}

// String says which messages these are.
func (l LostMessages) String() string {
	s := fmt.Sprintf("messages %d to %d", l.First, l.Last)
	if l.First == l.Last {
		s = fmt.Sprintf("message %d", l.First)
	}
	var known []string
	if l.Messages > 0 && l.First != l.Last {
		known = append(known, digits.Grouped(l.Messages)+" of them")
	}
	switch {
	case l.To.IsZero():
	case l.From.IsZero():
		known = append(known, "up to "+l.To.UTC().Format(time.RFC3339))
	case l.First == l.Last && l.From.Equal(l.To):
		known = append(known, l.To.UTC().Format(time.RFC3339))
	default:
		known = append(known, l.From.UTC().Format(time.RFC3339)+" to "+l.To.UTC().Format(time.RFC3339))
	}
	if len(known) > 0 {
		s += " (" + strings.Join(known, ", ") + ")"
	}
	return s
}

// Done is what became of a snapshot that was mended.
func (m *Mender) Done(id storage.ID) *MendedSnapshot { return m.done[id] }

// remains is what is left of a snapshot. What is missing is an error like any other; what is there and cannot be read is in unreadable too.
type remains struct {
	checked
	unreadable error
}

func (r *remains) Load(ctx context.Context, h blob.Handle, dst []byte) ([]byte, error) {
	if err := r.Lost(h); err != nil {
		return nil, fmt.Errorf("%v: %w", h, err)
	}
	p, err := r.checked.Load(ctx, h, dst)
	return p, r.note(err)
}

func (r *remains) LoadTree(ctx context.Context, id blob.ID) (*snapshot.Tree, error) {
	h := blob.Handle{Kind: blob.Tree, ID: id}
	if err := r.Lost(h); err != nil {
		return nil, fmt.Errorf("%v: %w", h, err)
	}
	t, err := r.checked.LoadTree(ctx, id)
	return t, r.note(err)
}

func (r *remains) note(err error) error {
	switch {
	case err == nil || r.unreadable != nil:
	case repo.IsUnread(err):
		r.unreadable = err
	default:
		r.unreadable = fmt.Errorf("%w; that is no loss yet: `jetsam repair packs` for that pack comes first", err)
	}
	return err
}

// Mend is a repo.Mender.
func (m *Mender) Mend(ctx context.Context, src *repo.Checked, dst repo.Saver, s *snapshot.Snapshot) (blob.ID, error) {
	x := &mending{src: src, left: &remains{checked: src}, dst: dst, known: m.streams}
	root, err := x.run(ctx, s)
	if x.left.unreadable != nil {
		err = x.left.unreadable
	}
	if err != nil {
		return blob.ID{}, err
	}
	m.done[s.ID()] = &x.out
	return root, nil
}

// mending is one snapshot at work.
type mending struct {
	src   interface{ Whole(blob.ID) bool }
	left  *remains
	dst   Saver
	known map[directoryKey]mended
	out   MendedSnapshot
}

// mended is what became of a stream's directory.
type mended struct {
	node *snapshot.Node // nil: it is left out
	MendedStream
}

func (x *mending) run(ctx context.Context, s *snapshot.Snapshot) (root blob.ID, err error) {
	dir, t, err := accountTree(ctx, x.left, s.Tree)
	if errors.Is(err, ErrNoStreams) {
		return root, notOurs(s)
	}
	if err != nil {
		return root, fmt.Errorf("nothing that could be restored is left of it: %w", err)
	}
	account, err := openAccount(ctx, x.left, dir, t)
	switch {
	case errors.Is(err, errNoNode):
		return root, notOurs(s)
	case errors.Is(err, ErrUnsupported), x.left.unreadable != nil:
		return root, err
	case err != nil:
		x.out.Account = err
		if account, err = x.newAccount(ctx, dir, t, s.Time); err != nil {
			return root, err
		}
	}
	var kept []*snapshot.Node
	for _, n := range t.Nodes {
		if n.Type != snapshot.TypeDir {
			continue
		}
		done, err := x.stream(ctx, n)
		if err != nil {
			return root, err
		}
		if done.node != nil {
			kept = append(kept, done.node)
		} else {
			leaveOut(account, done)
		}
	}
	if len(kept) == 0 {
		return root, errors.New("no stream that could be restored is left of it")
	}
	root, _, err = SaveAccount(ctx, x.dst, account, kept, s.Time)
	return root, err
}

func notOurs(s *snapshot.Snapshot) error {
	return fmt.Errorf("%w: restic wrote it, or another program, and `restic repair snapshots %s` repairs it", ErrNoStreams, s.ID().Short())
}

// newAccount is what account.json would say, as far as the streams tell.
func (x *mending) newAccount(ctx context.Context, dir *snapshot.Node, t *snapshot.Tree, at time.Time) (*Account, error) {
	name, err := UnescapeName(dir.Name)
	if err != nil {
		return nil, err
	}
	a := &Account{Format: FormatVersion, Account: name, Captured: []CapturedStream{}, Failed: []FailedStream{}}
	for _, n := range t.Nodes {
		if n.Type != snapshot.TypeDir {
			continue
		}
		s := OpenDir(ctx, x.left, n)
		if s.Err != nil {
			a.Captured = append(a.Captured, CapturedStream{Name: s.Name, Captured: at}) // until it is left out
			continue
		}
		state, err := archive.ParseState(s.Document.State)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", s.Name, err)
		}
		a.Captured = append(a.Captured, CapturedStream{Name: s.Name, Created: s.Document.Jetsam.Created, Captured: at, LastSeq: state.LastSeq})
	}
	return a, nil
}

// leaveOut says in account.json that a stream is not there.
func leaveOut(a *Account, s mended) {
	a.Captured = slices.DeleteFunc(a.Captured, func(c CapturedStream) bool { return c.Name == s.Name })
	a.Failed = append(a.Failed, FailedStream{Name: s.Name, Error: fmt.Sprintf("it was in the snapshot, and is lost to damage of the repository: %s", s.Out)})
	slices.SortFunc(a.Failed, func(x, y FailedStream) int { return cmp.Compare(x.Name, y.Name) })
}

// stream returns what takes the place of a stream's directory.
func (x *mending) stream(ctx context.Context, dir *snapshot.Node) (mended, error) {
	if x.src.Whole(dir.Subtree) {
		return mended{node: dir}, nil
	}
	key := directoryKey{dir.Name, dir.Subtree}
	done, ok := x.known[key]
	if !ok {
		s := OpenDir(ctx, x.left, dir)
		p := &patch{mending: x, stream: s}
		done.Name = s.Name
		err := p.run(ctx)
		var out *leftOutError
		switch {
		case x.left.unreadable != nil:
			return mended{}, x.left.unreadable
		case errors.As(err, &out):
			done.Out = out.why
		case err != nil:
			return mended{}, fmt.Errorf("stream %s: %w", s.Name, err)
		default:
			done = mended{p.node, p.out}
		}
		x.known[key] = done
	}
	x.out.Streams = append(x.out.Streams, done.MendedStream)
	return done, nil
}

// leftOutError says that a stream cannot be restored from what is left of it.
type leftOutError struct{ why error }

func (e *leftOutError) Error() string { return e.why.Error() }

// patch makes a stream of what is left of it.
type patch struct {
	*mending
	stream *Stream
	node   *snapshot.Node
	out    MendedStream

	dead     *Dead
	file     *DeadFile // of dead
	doc      Document
	head     *archive.Head
	state    archive.State // of the stream
	lib      *library
	entries  uint64 // that are left
	lost     []span // sections and groups
	adjacent bool   // nothing was kept since the last of lost
	bytes    uint64 // of the living entries that are lost, about
	unknown  int    // how many of lost do not say how many messages they had
}

func (p *patch) run(ctx context.Context) error {
	s := p.stream
	if errors.Is(s.Err, ErrUnsupported) {
		return s.Err
	}
	if s.Err != nil {
		return &leftOutError{withoutName(s.Err, s.Name)}
	}
	p.out.Name, p.doc = s.Name, *s.Document
	if err := p.readDead(ctx); err != nil {
		return &leftOutError{withoutName(err, s.Name)}
	}
	var err error
	if p.state, err = archive.ParseState(s.Document.State); err != nil {
		return &leftOutError{err}
	}
	if err := p.readHead(ctx); err != nil {
		return err
	}
	tree, at, err := p.messages(ctx)
	if err != nil {
		return err
	}
	if err := p.describe(); err != nil {
		return err
	}
	m := &Messages{Tree: tree, Time: at, Count: p.entries, First: p.lib.first(), Dead: p.file}
	p.node, _, err = SaveStream(ctx, p.dst, s.Name, &p.doc, p.head, m)
	return err
}

// withoutName is an error without the name of the stream that it is about.
func withoutName(err error, name string) error {
	if text, ok := strings.CutPrefix(err.Error(), "stream "+name+": "); ok {
		return errors.New(text)
	}
	return err
}

// readDead reads which entries are not alive. Without that they would come back, so that the stream is lost.
func (p *patch) readDead(ctx context.Context) (err error) {
	if p.dead, err = p.stream.Dead(ctx); err != nil || p.stream.dead == nil {
		return err
	}
	segments, err := p.stream.segments(ctx)
	if err != nil {
		return err
	}
	p.file = &DeadFile{Segments: p.stream.dead, Sequences: p.dead.Len()}
	for _, x := range segments {
		p.file.Size += x.size
	}
	return nil
}

// readHead reads the head. One that is lost is made from the document, which has all of it but the consumers.
func (p *patch) readHead(ctx context.Context) error {
	head, err := p.stream.Head(ctx)
	if p.left.unreadable != nil {
		return err
	}
	if err != nil {
		p.out.Head = withoutName(err, p.stream.Name)
		for _, c := range p.doc.Jetsam.Consumers {
			p.out.Consumers = append(p.out.Consumers, c.Name)
		}
		p.doc.Jetsam.Consumers = nil
		head = &archive.Head{}
	}
	if err != nil || p.file != nil { // a head beside dead entries has the state of the log
		head = (&archive.Head{State: p.doc.State}).WithConsumers(head.Consumers)
	}
	p.head = head
	return nil
}

// messages puts together what is left of the log. It returns the directory "messages", and the highest time of a message in it.
func (p *patch) messages(ctx context.Context) (tree blob.ID, at time.Time, err error) {
	sections, err := p.stream.Sections(ctx, p.state.FirstSeq, p.state.LastSeq)
	if err != nil {
		return tree, at, err
	}
	p.lib = &library{dst: p.dst}
	for _, x := range sections {
		if err := p.section(ctx, x); err != nil {
			return tree, at, err
		}
		if err := p.lib.cutPart(ctx); err != nil {
			return tree, at, err
		}
	}
	return p.lib.finish(ctx)
}

func (p *patch) section(ctx context.Context, x Section) (err error) {
	if x.Part != nil && x.Groups == nil {
		// What each blob holds, the blobs say as well.
		if x.Groups, err = regroup(ctx, p.left, x.Part); err != nil {
			x.Err = err
		}
	}
	if p.left.unreadable != nil {
		return p.left.unreadable
	}
	if x.Groups == nil {
		lost := span{first: x.First, last: x.Last, err: x.Err}
		if !x.Latest.IsZero() {
			lost.to = x.Latest.UnixNano()
		}
		p.lose(lost, 0)
		return nil
	}
	ids := x.Part.Blobs
	for _, g := range x.Groups {
		mine := ids[:len(g.Blobs):len(g.Blobs)]
		ids = ids[len(g.Blobs):]
		if err := lostBlob(p.left, mine); err != nil {
			p.lose(span{g.First, g.Last, g.From, g.To, g.Messages, err}, g.Bytes)
			continue
		}
		if err := p.keep(ctx, g, mine); err != nil {
			return err
		}
	}
	return nil
}

func (p *patch) keep(ctx context.Context, g Group, ids []blob.ID) error {
	var size uint64
	for _, id := range ids {
		n, _ := p.left.Size(blob.Handle{Kind: blob.Data, ID: id})
		size += uint64(n)
	}
	alive := g.Alive(p.dead)
	p.entries += g.Messages
	p.out.Left += alive
	p.adjacent = p.adjacent && alive == 0
	return p.lib.place(ctx, &savedGroup{pieces: &pieces{Group: g}, ids: ids, size: size})
}

// lose notes what cannot be read, in one piece with what lies before it where that can be. Dead messages are no loss.
func (p *patch) lose(s span, bytes uint64) {
	whole := s.messages
	s, some := s.living(p.dead)
	if !some {
		return
	}
	if whole > 0 {
		p.bytes += uint64(float64(bytes) * float64(s.messages) / float64(whole))
	} else {
		p.unknown++
	}
	n := len(p.lost)
	if !p.adjacent || p.lost[n-1].messages == 0 || s.messages == 0 {
		p.lost, p.adjacent = append(p.lost, s), true
		return
	}
	l := &p.lost[n-1]
	l.last, l.from, l.to, l.messages = s.last, min(l.from, s.from), max(l.to, s.to), l.messages+s.messages
}

// describe makes the document and the head say what is left.
func (p *patch) describe() error {
	c := &p.doc.Jetsam
	if err := p.count(c.Messages); err != nil {
		return err
	}
	if len(p.lost) > 0 {
		c.MessageBytes = uint64(float64(c.MessageBytes) * float64(p.out.Left) / float64(max(c.Messages, 1)))
		c.Messages, c.Estimated = p.out.Left, true
		c.Torn = strings.TrimPrefix(c.Torn+"; "+p.torn(), "; ")
		p.state.Messages, p.state.Bytes = p.out.Left, p.state.Bytes-min(p.state.Bytes, p.bytes)
	}
	return p.describeState()
}

func (p *patch) describeState() error {
	if len(p.lost) == 0 && p.out.Head == nil {
		return nil
	}
	if err := p.cutConsumers(); err != nil {
		return err
	}
	said, err := (&archive.Head{State: p.doc.State, Consumers: p.head.Consumers}).WithState(p.state)
	if err != nil {
		return err
	}
	p.doc.State = said.State
	p.head, err = p.head.WithState(p.state)
	return err
}

// cutConsumers lets no consumer wait for a message that is lost.
func (p *patch) cutConsumers() (err error) {
	gone := NewDead(func(yield func(Run) bool) {
		for _, l := range p.out.Lost {
			if !yield(Run{l.First, l.Last}) {
				return
			}
		}
	})
	consumers := slices.Clone(p.head.Consumers)
	for i, c := range consumers {
		if consumers[i], _, err = c.Cut(math.MaxUint64, func(seq uint64) bool { return !gone.Has(seq) }); err != nil {
			return err
		}
	}
	p.head = p.head.WithConsumers(consumers)
	return nil
}

// count holds what is left and what is lost against the messages that the stream had.
func (p *patch) count(had uint64) error {
	known := p.out.Left
	for _, s := range p.lost {
		known += s.messages
	}
	if known > had || p.unknown == 0 && known < had {
		return fmt.Errorf("its parts held %d messages, %s says %d: that is more than damage, and not repaired", known, documentName, had)
	}
	if known == had { // so nothing lived in what does not say
		p.lost = slices.DeleteFunc(p.lost, func(s span) bool { return s.messages == 0 })
	}
	for _, s := range p.lost {
		l := LostMessages{First: s.first, Last: s.last, Messages: s.messages, Reason: s.err}
		if s.messages > 0 {
			l.From = unixNano(s.from)
		} else if p.unknown == 1 {
			l.Messages = had - known
		}
		if s.to > 0 {
			l.To = unixNano(s.to)
		}
		p.out.Lost = append(p.out.Lost, l)
	}
	if p.unknown > 0 && had > 0 {
		p.bytes += uint64(float64(p.state.Bytes) * float64(had-known) / float64(had))
	}
	return nil
}

// mostTorn is how many runs of lost messages are named in a stream's document.
const mostTorn = 20

// torn says in the document what was lost.
func (p *patch) torn() string {
	var runs []string
	for _, l := range p.out.Lost[:min(len(p.out.Lost), mostTorn)] {
		runs = append(runs, l.String())
	}
	if more := len(p.out.Lost) - mostTorn; more > 0 {
		runs = append(runs, fmt.Sprintf("and %s more runs", digits.Grouped(more)))
	}
	return "lost to damage of the repository, and left out by its repair: " + strings.Join(runs, ", ")
}

// regroup finds out what the blobs of a part hold, of which chunks.json is lost. All of them must be there.
func regroup(ctx context.Context, src Loader, p *Part) ([]Group, error) {
	var groups []Group
	for ids := p.Blobs; len(ids) > 0; {
		g, n, err := groupAt(ctx, src, ids)
		if err != nil {
			return nil, err
		}
		groups, ids = append(groups, g), ids[n:]
	}
	if err := checkGroups(groups, p.Blobs); err != nil {
		return nil, err
	}
	if groups[0].First != p.First {
		return nil, fmt.Errorf("part %s begins with message %d", seqName(p.First), groups[0].First)
	}
	return groups, nil
}

// groupAt reads the group that begins with the first of these blobs, and says how many it has.
func groupAt(ctx context.Context, src Loader, ids []blob.ID) (g Group, n int, err error) {
	plain, err := loadFramed(ctx, src, ids[0])
	if err != nil {
		return g, 0, err
	}
	found := skim(plain)
	if found.err != nil {
		return g, 0, found.err
	}
	held, missing := found.tally, found.open.Missing
	if o := found.open; o.Length > 0 {
		held.Merge(archive.Tally{Messages: 1, Bytes: uint64(o.Length), FirstSeq: o.Seq, LastSeq: o.Seq, MinTime: o.Time, MaxTime: o.Time})
	}
	for n = 1; missing > 0 && n < len(ids); n++ {
		more, err := loadFramed(ctx, src, ids[n])
		if err != nil {
			return g, 0, err
		}
		missing -= len(more)
	}
	if missing != 0 {
		return g, 0, fmt.Errorf("message %d does not end with its blobs", found.open.Seq)
	}
	g = Group{First: held.FirstSeq, Last: held.LastSeq, From: held.MinTime, To: held.MaxTime, Messages: held.Messages, Bytes: held.Bytes}
	for _, id := range ids[:n] {
		g.Blobs = append(g.Blobs, shortID(id))
	}
	return g, n, nil
}

func loadFramed(ctx context.Context, src Loader, id blob.ID) ([]byte, error) {
	framed, err := src.Load(ctx, blob.Handle{Kind: blob.Data, ID: id}, nil)
	if err != nil {
		return nil, err
	}
	return archive.AppendUnframed(nil, framed)
}
