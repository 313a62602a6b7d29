package streamlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"jetsam/blob"
	"jetsam/internal/digits"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
)

// maxProblems is how many problems are remembered of one stream or part.
const maxProblems = 100

// Checker judges the streams in a repository's snapshots, for repo.Check: a stream's documents, head and end mark, that its
// shelves, parts and groups are in order, hold together and hold as many messages as they say, and which messages are lost.
// Of blobs whose bytes were read it also compares the messages in them with what chunks.json says, and with which of them are dead.
// What has not changed from snapshot to snapshot is looked at once.
type Checker struct {
	mu    sync.Mutex
	blobs map[blob.ID]contents // that were read
	gaps  int                  // bytes of the gaps in them

	streams map[directoryKey]problems
	parts   map[directoryKey]*checkedPart

	buffers sync.Pool // of *[]byte
}

// directoryKey is a directory by its name and what is in it.
type directoryKey struct {
	name string
	tree blob.ID
}

// contents is what a framed blob was found to hold.
type contents struct {
	tally archive.Tally
	open  archive.Open // the message that it ends in
	gaps  *Dead        // the sequences between its messages
	many  bool         // gaps are not kept, as they take too much memory
	size  int          // plain bytes
	err   error        // why these are not the messages that a group begins with
}

// problem is something that is wrong with a path below some directory.
type problem struct {
	severity repo.Severity
	path     string // begins with a slash; empty for the directory itself
	err      error
}

// problems is a list that does not grow without bound.
type problems struct {
	list []problem
	more int
}

func (p *problems) add(severity repo.Severity, path string, err error) {
	if len(p.list) >= maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, problem{severity, path, err})
}

func (p *problems) damage(path, format string, args ...any) {
	p.add(repo.Damage, path, fmt.Errorf(format, args...))
}

// addAll adds what is wrong below the directory at path.
func (p *problems) addAll(path string, below problems) {
	for _, b := range below.list {
		p.add(b.severity, path+b.path, b.err)
	}
	p.more += below.more
}

// NewChecker returns a Checker that has seen nothing.
func NewChecker() *Checker {
	return &Checker{
		blobs:   make(map[blob.ID]contents),
		streams: make(map[directoryKey]problems),
		parts:   make(map[directoryKey]*checkedPart),
		buffers: sync.Pool{New: func() any { return new([]byte) }},
	}
}

// Blob implements repo.Contents. Blobs that are not framed are documents, and passed over.
func (c *Checker) Blob(id blob.ID, framed []byte) {
	buf := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buf)
	plain, err := archive.AppendUnframed((*buf)[:0], framed)
	if err != nil {
		return
	}
	*buf = plain
	found := skim(plain)
	c.mu.Lock()
	defer c.mu.Unlock()
	if found.many = c.gaps+found.gaps.memory() > maxGaps; found.many {
		found.gaps = nil
	}
	c.gaps += found.gaps.memory()
	c.blobs[id] = found
}

// contents returns what a blob holds, if it was read.
func (c *Checker) contents(id blob.ID) (contents, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.blobs[id]
	return found, ok
}

// checked is where a check reads: a *repo.Checked.
type checked interface {
	Loader
	Lost(blob.Handle) error
	Size(blob.Handle) (uint32, bool)
}

// asked is a checked that asks no more once the storage gave nothing: what is not there then is not lost.
type asked struct {
	checked
	unread error
}

func (a *asked) Load(ctx context.Context, h blob.Handle, dst []byte) (p []byte, err error) {
	if a.unread != nil {
		return nil, a.unread
	}
	if p, err = a.checked.Load(ctx, h, dst); repo.IsUnread(err) {
		a.unread = err
	}
	return p, err
}

func (a *asked) LoadTree(ctx context.Context, id blob.ID) (t *snapshot.Tree, err error) {
	if a.unread != nil {
		return nil, a.unread
	}
	if t, err = a.checked.LoadTree(ctx, id); repo.IsUnread(err) {
		a.unread = err
	}
	return t, err
}

// Snapshot implements repo.Contents. A snapshot of another program's is in order.
func (c *Checker) Snapshot(ctx context.Context, src *repo.Checked, s *snapshot.Snapshot, found func(repo.Severity, string, error)) error {
	from := &asked{checked: src}
	p, err := c.snapshot(ctx, from, s.Tree)
	if from.unread != nil && storage.Cancelled(ctx) == nil {
		err = from.unread
	}
	if err != nil {
		return err
	}
	for _, x := range p.list {
		found(x.severity, x.path, x.err)
	}
	if p.more > 0 {
		found(repo.Damage, "/", fmt.Errorf("%d more problems with its streams", p.more))
	}
	return nil
}

func (c *Checker) snapshot(ctx context.Context, src checked, root blob.ID) (out problems, err error) {
	dir, t, err := accountTree(ctx, src, root)
	if err != nil {
		return out, storage.Cancelled(ctx) // not ours, or a tree that is lost, as is known by now
	}
	path := "/" + dir.Name
	account, err := openAccount(ctx, src, dir, t)
	if cancelled := storage.Cancelled(ctx); cancelled != nil {
		return out, cancelled
	}
	switch {
	case errors.Is(err, errNoNode):
		return out, nil // not ours
	case errors.Is(err, ErrUnsupported):
		out.add(repo.Note, path, err)
		return out, nil
	case err != nil:
		out.add(repo.Damage, path+"/"+accountName, err)
	default:
		compareAccount(&out, path, account, t)
	}
	for _, n := range t.Nodes {
		if n.Type != snapshot.TypeDir {
			continue
		}
		below, err := c.stream(ctx, src, n)
		if err != nil {
			return out, err
		}
		out.addAll(path+"/"+n.Name, below)
	}
	return out, nil
}

// compareAccount holds account.json against the directories beside it.
func compareAccount(out *problems, path string, a *Account, t *snapshot.Tree) {
	listed := make(map[string]struct{}, len(a.Captured))
	for _, s := range a.Captured {
		name := EscapeName(s.Name)
		listed[name] = struct{}{}
		if n := t.Find(name); n == nil || n.Type != snapshot.TypeDir {
			out.damage(path+"/"+name, "stream %s was captured, says %s, but it is not there", s.Name, accountName)
		}
	}
	for _, n := range t.Nodes {
		if _, ok := listed[n.Name]; !ok && n.Type == snapshot.TypeDir {
			out.damage(path+"/"+n.Name, "%s does not list this stream", accountName)
		}
	}
}

// stream returns what is wrong with a stream's directory.
func (c *Checker) stream(ctx context.Context, src checked, dir *snapshot.Node) (problems, error) {
	key := directoryKey{dir.Name, dir.Subtree}
	if known, ok := c.streams[key]; ok {
		return known, nil
	}
	s := OpenDir(ctx, src, dir)
	j := &judge{checker: c, src: src, stream: s}
	switch {
	case errors.Is(s.Err, ErrUnsupported):
		j.out.add(repo.Note, "", s.Err)
	case s.Err != nil:
		j.out.add(repo.Damage, "", s.Err)
	default:
		j.run(ctx)
	}
	if err := storage.Cancelled(ctx); err != nil {
		return problems{}, err
	}
	c.streams[key] = j.out
	return j.out, nil
}

// judge looks at one stream. What it finds while its context ends is worth nothing.
type judge struct {
	checker *Checker
	src     checked
	stream  *Stream
	state   archive.State // of the log, as the head has it
	live    archive.State // of the stream
	last    uint64        // sequence of the last message so far
	dead    *Dead         // what of the log is not alive
	doubt   bool          // that cannot be read
	entries uint64        // in the log so far
	count   uint64        // live messages so far
	hidden  bool          // some part cannot be read
	lost    []span        // messages that cannot be read, in order
	out     problems
}

// span is messages that cannot be read.
type span struct {
	first, last uint64
	from, to    int64  // Unix nanoseconds
	messages    uint64 // 0: nobody knows how many, nor of when
	err         error
}

func (j *judge) run(ctx context.Context) {
	j.head(ctx)
	j.end(ctx)
	j.deadFile(ctx)
	j.shelves(ctx)
	for _, s := range j.lost {
		j.out.add(repo.Damage, "", s.describe())
	}
	said := j.stream.Document.Jetsam
	if len(j.lost) == 0 && !j.hidden && !j.doubt && j.count != said.Messages {
		j.out.damage("", "its parts hold %d messages, %s says %d", j.count, documentName, said.Messages)
	}
	if said.Dead != nil && !j.hidden && j.entries != said.Entries() {
		j.out.damage("", "its parts hold %d entries, dead ones with them, %s says %d", j.entries, documentName, said.Entries())
	}
}

func (s span) describe() error {
	if s.messages == 0 {
		return fmt.Errorf("messages from %d to %d cannot be read: %w", s.first, s.last, s.err)
	}
	at := func(ns int64) string { return unixNano(ns).Format(time.RFC3339) }
	if s.first == s.last && s.from == s.to {
		return fmt.Errorf("message %d cannot be read, of %s: %w", s.first, at(s.from), s.err)
	}
	return fmt.Errorf("messages %d to %d cannot be read, %s of them, from %s to %s: %w", s.first, s.last, digits.Grouped(s.messages), at(s.from), at(s.to), s.err)
}

// head reads the head, and takes the state from it, or from the document where that cannot be.
func (j *judge) head(ctx context.Context) {
	var err error
	if j.state, err = archive.ParseState(j.stream.Document.State); err != nil {
		j.out.add(repo.Damage, "/"+documentName, err)
		j.state.LastSeq = math.MaxUint64
	}
	j.live = j.state
	if j.stream.Document.Jetsam.Dead != nil {
		j.state.FirstSeq = min(j.state.FirstSeq, 1) // where the log begins only the head says
	}
	h, err := j.stream.Head(ctx)
	if err != nil {
		j.out.add(repo.Damage, "/"+headName, err)
		return
	}
	state, err := archive.ParseState(h.State)
	if err != nil {
		j.out.add(repo.Damage, "/"+headName, err)
		return
	}
	j.state = state
	if err := state.Check(); err != nil {
		j.out.add(repo.Damage, "/"+headName, err)
	}
	j.compareStates()
	var names, said []string
	for _, c := range h.Consumers {
		names = append(names, c.Name)
		if _, err := archive.ParseConsumer(c.JSON); err != nil {
			j.out.damage("/"+headName, "consumer %s: %w", c.Name, err)
		}
	}
	for _, c := range j.stream.Document.Jetsam.Consumers {
		said = append(said, c.Name)
	}
	slices.Sort(names) // the head has them in the server's order
	slices.Sort(said)
	if !slices.Equal(names, said) {
		j.out.damage("/"+headName, "it has %d consumers, others than the %d in %s", len(names), len(said), documentName)
	}
}

// end reads the end mark.
func (j *judge) end(ctx context.Context) {
	framed, err := loadBlobs(ctx, j.src, j.stream.end, maxDocument)
	var plain []byte
	if err == nil {
		plain, err = archive.AppendUnframed(nil, framed)
	}
	switch {
	case err != nil:
		j.out.add(repo.Damage, "/"+endName, err)
	case !bytes.Equal(plain, archive.AppendEnd(nil)):
		j.out.damage("/"+endName, "it is not the end mark of an archive")
	}
}

// shelves goes through the directory of messages.
func (j *judge) shelves(ctx context.Context) {
	const path = "/" + messagesName
	shelves, err := j.numbered(ctx, path, j.stream.messages)
	if err != nil {
		j.lose(span{first: j.state.FirstSeq, last: j.state.LastSeq, err: err})
		return
	}
	for i, shelf := range shelves {
		next := j.after()
		if i+1 < len(shelves) {
			next = shelves[i+1].first
		}
		j.shelf(ctx, path+"/"+shelf.node.Name, shelf, next)
	}
}

// after is the first sequence that the stream does not have.
func (j *judge) after() uint64 { return max(j.state.LastSeq, j.state.LastSeq+1) }

// shelf goes through a shelf, behind which the sequence next begins another.
func (j *judge) shelf(ctx context.Context, path string, shelf numberedNode, next uint64) {
	parts, err := j.numbered(ctx, path, shelf.node.Subtree)
	switch {
	case err != nil:
		j.lose(span{first: shelf.first, last: next - 1, err: err})
		return
	case len(parts) == 0:
		j.out.damage(path, "the shelf is empty")
		return
	case parts[0].first != shelf.first:
		j.out.damage(path, "the shelf begins with part %d", parts[0].first)
	}
	for i, part := range parts {
		end := next
		if i+1 < len(parts) {
			end = parts[i+1].first
		}
		j.part(ctx, path+"/"+part.node.Name, part, end)
	}
}

// numberedNode is a directory that is named by a sequence.
type numberedNode struct {
	first uint64
	node  *snapshot.Node
}

// numbered returns the directories of a tree, which must be named by sequences. Names of one length in order are in order as numbers.
func (j *judge) numbered(ctx context.Context, path string, id blob.ID) ([]numberedNode, error) {
	t, err := j.src.LoadTree(ctx, id)
	if err != nil {
		return nil, err
	}
	var out []numberedNode
	for _, n := range t.Nodes {
		first, err := parseSeqName(n.Name)
		switch {
		case err != nil:
			j.out.add(repo.Damage, path+"/"+n.Name, err)
		case n.Type != snapshot.TypeDir:
			j.out.damage(path+"/"+n.Name, "it is not a directory")
		default:
			out = append(out, numberedNode{first, n})
		}
	}
	return out, nil
}

// part takes a part into account, behind which the sequence next begins another.
func (j *judge) part(ctx context.Context, path string, part numberedNode, next uint64) {
	p := j.checker.part(ctx, j.src, j.stream, part.node)
	j.out.addAll(path, p.problems)
	if p.err != nil {
		j.lose(span{first: part.first, last: next - 1, err: p.err})
		j.last = max(j.last, part.first)
		return
	}
	j.entries += p.messages
	if p.first <= j.last {
		j.out.damage(path, "message %d does not follow message %d of the part before", p.first, j.last)
		j.count += p.messages // and no more is asked: parts that overlap would be held against the dead again and again
	} else {
		j.count += j.alive(ctx, path, part.node, p)
		if p.first < j.state.FirstSeq || p.last > j.state.LastSeq {
			j.out.damage(path, "it holds messages %d to %d, the stream's state says %d to %d", p.first, p.last, j.state.FirstSeq, j.state.LastSeq)
		}
	}
	j.last = max(j.last, p.last)
	for _, s := range p.lost {
		j.lose(s)
	}
}

// lose notes messages that cannot be read, in one piece with those before where that can be. Dead ones are no loss.
func (j *judge) lose(s span) {
	j.hidden = j.hidden || s.messages == 0
	s, some := s.living(j.dead)
	if !some {
		return
	}
	if n := len(j.lost); n > 0 && j.lost[n-1].messages > 0 == (s.messages > 0) && (j.follows(j.lost[n-1].last, s.first) || n >= maxProblems) {
		l := &j.lost[n-1]
		l.last, l.from, l.to, l.messages = s.last, min(l.from, s.from), max(l.to, s.to), l.messages+s.messages
		return
	}
	j.lost = append(j.lost, s)
}

// follows says whether no message can be between these.
func (j *judge) follows(last, first uint64) bool {
	_, between := j.dead.Living(last+1, first-1)
	return !between
}

// checkedPart is what was found in a part.
type checkedPart struct {
	first, last, messages uint64
	lost                  []span // groups that cannot be read
	problems              problems
	err                   error // why nothing else is known

	living livingPart // as of the set of the dead that it was last held against
}

// part returns what is in a part's directory.
func (c *Checker) part(ctx context.Context, src checked, s *Stream, dir *snapshot.Node) *checkedPart {
	key := directoryKey{dir.Name, dir.Subtree}
	if known, ok := c.parts[key]; ok {
		return known
	}
	out := &checkedPart{}
	p, err := s.readPart(ctx, dir)
	var groups []Group
	if err == nil {
		groups, err = p.Groups(ctx)
	}
	if out.err = err; err == nil {
		c.groups(out, src, p.Blobs, groups)
	}
	c.parts[key] = out
	return out
}

// groups looks at the groups of a part, and what is known of their blobs.
func (c *Checker) groups(out *checkedPart, src checked, ids []blob.ID, groups []Group) {
	out.first, out.last = groups[0].First, groups[len(groups)-1].Last
	for _, g := range groups {
		mine := ids[:len(g.Blobs)]
		ids = ids[len(g.Blobs):]
		out.messages += g.Messages
		if err := lostBlob(src, mine); err != nil {
			out.lost = append(out.lost, span{g.First, g.Last, g.From, g.To, g.Messages, err})
			continue
		}
		err := compareSize(src, mine, g)
		if err == nil {
			err = c.compareMessages(mine, g)
		}
		if err != nil {
			out.problems.damage("/"+archiveName, "group of messages %d to %d: %w", g.First, g.Last, err)
		}
	}
	out.lost = slices.Clip(out.lost)
}

func lostBlob(src checked, ids []blob.ID) error {
	for _, id := range ids {
		h := blob.Handle{Kind: blob.Data, ID: id}
		if err := src.Lost(h); err != nil {
			return fmt.Errorf("%v: %w", h, err)
		}
	}
	return nil
}

// compareSize holds the length of a group's blobs against its entry. How a large message's bytes are spread over blobs is not written down.
func compareSize(src checked, ids []blob.ID, g Group) error {
	if len(ids) != 1 || g.Bytes > math.MaxInt32 {
		return nil
	}
	size, ok := src.Size(blob.Handle{Kind: blob.Data, ID: ids[0]})
	if want := archive.FramedSize(int(g.Bytes)); ok && int(size) != want {
		return fmt.Errorf("%s says %d bytes, which are %d in frames; its blob has %d", chunksName, g.Bytes, want, size)
	}
	return nil
}

// compareMessages holds the messages in a group against its entry, if all its blobs were read.
func (c *Checker) compareMessages(ids []blob.ID, g Group) error {
	first, ok := c.contents(ids[0])
	if !ok {
		return nil
	}
	if first.err != nil {
		return fmt.Errorf("it does not hold messages: %w", first.err)
	}
	held, missing := first.tally, first.open.Missing
	if first.open.Length > 0 {
		at := first.open.Time
		held.Merge(archive.Tally{Messages: 1, Bytes: uint64(first.open.Length), FirstSeq: first.open.Seq, LastSeq: first.open.Seq, MinTime: at, MaxTime: at})
	}
	for _, id := range ids[1:] {
		more, ok := c.contents(id)
		if !ok {
			return nil
		}
		missing -= more.size
	}
	if missing != 0 {
		return fmt.Errorf("its blobs hold %d bytes less than its last message has", missing)
	}
	said := archive.Tally{Messages: g.Messages, Bytes: g.Bytes, FirstSeq: g.First, LastSeq: g.Last, MinTime: g.From, MaxTime: g.To}
	if held != said {
		return fmt.Errorf("%s says %s; it holds %s", chunksName, describe(said), describe(held))
	}
	return nil
}

func describe(t archive.Tally) string {
	return fmt.Sprintf("%d messages, %d to %d, %d bytes, times %d to %d", t.Messages, t.FirstSeq, t.LastSeq, t.Bytes, t.MinTime, t.MaxTime)
}
