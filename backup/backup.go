// Package backup carries streams from a server, or from directories that the nats CLI wrote, into a repository, one snapshot a run.
//
// Every chosen stream is captured whole through the server's snapshot API, or message by message where that is not to be had, or as what became of it
// since an earlier snapshot; it is decoded, checked and stored as package streamlog lays it out.
// A stream that cannot be captured is named in the snapshot and in the result; the others are kept.
// A capture that was cut short never becomes part of a snapshot.
package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/chunker"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

// ErrNoStreams says that nothing is left to back up. Most often it is not the account that was meant, and a snapshot of nothing would
// stand among the good ones and take their place.
var ErrNoStreams = errors.New("no streams to back up")

// errOldServer: the API of older ones is another.
var errOldServer = errors.New("needs nats-server 2.9 or newer")

// Mode says how a stream is captured of which an earlier snapshot holds something.
type Mode string

// Modes of capture.
const (
	ModeAuto        Mode = ""            // as an increment, unless reading the whole stream is better or needed
	ModeFull        Mode = "full"        // whole
	ModeIncremental Mode = "incremental" // as an increment, or not at all
)

// Ways that messages came. Part of what users see.
const (
	WaySnapshot = "snapshot" // the whole stream, by the server's snapshot API
	WayConsumer = "consumer" // those that were new, or all, by an ephemeral consumer
	WayGet      = "get"      // those that were new, or all, each asked for
	WayNone     = "none"     // none was new
)

// Options says what to back up, and how. The zero value of each field works.
type Options struct {
	Selection   streamlog.Selection
	Host        string         // groups snapshots; empty: the cluster's name, the server's name, or its address
	Tags        []string       // of the snapshot
	NoConsumers bool           // leave consumers out
	Mode        Mode           // whether earlier snapshots are gone on from
	SkipSame    bool           // save no snapshot that is as the one before
	Concurrency int            // streams captured at a time; 0: as many as there are processors, at most four
	Time        time.Time      // of the snapshot; zero: when the run began
	IdleTimeout time.Duration  // how long a server may send nothing; 0: the default of package jetstream
	Patience    time.Duration  // how long to wait for a server that went away, once a run; 0: 30 s
	ChunkSize   int            // bytes that a server sends at a time; 0: the default of package jetstream
	WindowSize  int            // bytes that it sends ahead; 0: the default of package jetstream
	Unsafe      bool           // take a server's snapshot also where that may harm the stream (jetstream.ServerInfo.FreezesForSnapshots)
	Index       *Index         // kept from run to run; nil: the repository's index is loaded for this one
	Progress    func(Progress) // called from several goroutines, often; must be quick
}

// Index keeps a repository's index from one run to the next, so that it is loaded once. The zero Index has none yet. Only one run at a time can use it,
// and all of one repository.
type Index struct{ rd *repo.Reader }

// reader is the index of the run before, if there is one.
func (x *Index) reader() *repo.Reader {
	if x == nil {
		return nil
	}
	return x.rd
}

// keep takes over the index of a run that has ended. One that ended without a snapshot may have stored packs that are in its index, and in no file of the
// repository's: who went on with that would save a snapshot of blobs that nobody finds.
func (x *Index) keep(w *repo.Writer, committed bool) {
	switch {
	case x == nil:
	case committed || w.Stats().Packs == 0:
		x.rd = w.Reader()
	default:
		x.rd = nil
	}
}

// Progress tells how far the capture of a stream is.
type Progress struct {
	Stream        string
	Messages      uint64 // so far
	TotalMessages uint64 // that the stream had when the capture began
	Bytes         uint64 // of subjects, headers and payloads, so far
	TotalBytes    uint64 // that the server reports for the stream in its store; an estimate for Bytes
	Done          bool   // the capture ended
	Err           error  // why it failed
}

// Result is what a run did.
type Result struct {
	Snapshot *snapshot.Snapshot
	ID       storage.ID // zero where nothing was saved
	Same     storage.ID // the earlier snapshot that holds all of this already, and in place of which none was saved; zero: one was
	Host     string     // of the source, as snapshots have it; empty: it was imported
	Account  string
	Streams  []StreamResult // in the order of their names
	Stats    repo.WriteStats
	Began    time.Time
	Took     time.Duration

	Unread error // why it may not be known that a stream was created anew since an earlier snapshot
}

// StreamResult is what became of one stream.
type StreamResult struct {
	Name            string
	Dir             string // that it was imported from; empty: it came from a server
	Messages        uint64
	Bytes           uint64 // of subjects, headers and payloads
	FirstSeq        uint64 // of the first and last message, 0 where there are none
	LastSeq         uint64
	Consumers       int
	LeftOut         int                        // consumers that the stream had and its imported directory has not
	NewBytes        uint64                     // stored bytes that the repository did not have
	Removed         uint64                     // messages that the server removed while the stream was captured
	Torn            string                     // why what was captured is not the stream as it was at one time; empty: it is
	Retried         string                     // why the first attempt was not taken; empty: it was
	Resumed         []Resumption               // where it broke off and went on
	Created         time.Time                  // the stream, as the server says
	FailedConsumers []streamlog.FailedConsumer // that are not in the snapshot, because no server says how they stand
	Recreated       string                     // that it is not the stream which an earlier snapshot holds under its name, and why; empty: it is, or there is none
	WentBack        storage.ID                 // the earlier snapshot that holds messages of it which the server has lost; zero: none is known
	Life            time.Time                  // when this life of it began, see [streamlog.CapturedStream.Began]
	Captured        time.Time
	Took            time.Duration
	Err             error // why it is not in the snapshot

	Way       string     // how its messages came
	Instead   string     // why a stream that was read whole was not read by the server's snapshot API; empty: it was
	Received  uint64     // bytes that the server sent for it, about
	New       uint64     // messages that came
	Parent    storage.ID // the snapshot that it goes on from; zero: it was read whole
	Through   uint64     // the last sequence that both hold
	Whole     string     // why it was read whole, though an earlier snapshot holds it; empty: it was not
	Damaged   bool       // Whole is that the repository is damaged
	Unchanged bool       // it is, to the byte, what the parent holds
}

// Failed are the streams that are not in the snapshot, or not whole: consumers may be missing.
func (r *Result) Failed() []StreamResult {
	return slices.DeleteFunc(slices.Clone(r.Streams), func(s StreamResult) bool { return s.Err == nil && s.Torn == "" && len(s.FailedConsumers) == 0 })
}

// Plan returns the streams that Run would capture, in the order of their names. Of one that no server leads just now, only the name is known:
// Raw is nil.
func Plan(ctx context.Context, conn *jetstream.Conn, sel streamlog.Selection) ([]*jetstream.StreamInfo, error) {
	all, err := conn.Streams(ctx)
	var missing *jetstream.MissingError
	if errors.As(err, &missing) {
		for name := range missing.Reasons {
			all = append(all, &jetstream.StreamInfo{Name: name})
		}
	} else if err != nil {
		return nil, err
	}
	byName := make(map[string]*jetstream.StreamInfo, len(all))
	names := make([]string, len(all))
	for i, s := range all {
		names[i], byName[s.Name] = s.Name, s
	}
	picked, err := sel.Pick(names)
	if err != nil {
		return nil, err
	}
	out := make([]*jetstream.StreamInfo, len(picked))
	for i, name := range picked {
		out[i] = byName[name]
	}
	return out, nil
}

// Run captures the chosen streams and stores them as one snapshot.
//
// The result tells of each stream; an error means that no snapshot was written. Where every chosen stream fails,
// Run returns the result and the first stream's error. What is selected and does not exist is *streamlog.UnmatchedError.
func Run(ctx context.Context, conn *jetstream.Conn, r *repo.Repo, o Options) (*Result, error) {
	began := time.Now()
	server := conn.Server()
	if !server.AtLeast(2, 9) {
		return nil, fmt.Errorf("server %s has version %s: backup %w", server.Name, server.Version, errOldServer)
	}
	account, err := conn.Account(ctx)
	if err != nil {
		return nil, err
	}
	streams, err := Plan(ctx, conn, o.Selection)
	if err != nil {
		return nil, err
	}
	if len(streams) == 0 {
		return nil, fmt.Errorf("nothing was saved: account %s on %s: %w", account.Name, server.URL, ErrNoStreams)
	}
	w, err := r.NewWriter(ctx, o.Index.reader())
	if err != nil {
		return nil, err
	}
	committed := false
	defer func() { w.Abort(); o.Index.keep(w, committed) }()
	cut, err := chunker.New(r.Polynomial())
	if err != nil {
		return nil, err
	}
	b := &run{conn: conn, server: server, w: w, cut: cut, account: account, o: o, began: began}
	res, err := b.run(ctx, r, streams)
	committed = err == nil && res.ID != (storage.ID{})
	return res, err
}

type run struct {
	conn    *jetstream.Conn
	server  jetstream.ServerInfo // as it was when the run began: it may go away
	w       *repo.Writer
	cut     *chunker.Cutter // of which every capture has a fresh one
	account jetstream.AccountInfo
	o       Options
	began   time.Time
	outage  outage
	away    atomic.Bool // servers are, on which alone some consumers are

	ancestors map[string]ancestor
}

func (b *run) run(ctx context.Context, r *repo.Repo, streams []*jetstream.StreamInfo) (*Result, error) {
	var unread error
	b.ancestors, unread = b.findAncestors(ctx, r, namesOf(streams))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	captures, err := b.captureAll(ctx, streams)
	if err != nil {
		return nil, err
	}
	res := &Result{Host: Host(b.server, b.o), Account: b.account.Name, Began: b.began, Unread: unread}
	var same storage.ID
	if b.o.SkipSame {
		same = b.same(ctx, captures)
	}
	for _, c := range captures {
		res.Streams = append(res.Streams, c.StreamResult)
	}
	if err := nothingCaptured(res.Streams); err != nil {
		res.Took = time.Since(b.began)
		return res, err
	}
	if same != (storage.ID{}) {
		if err := b.w.Certain(); err != nil {
			return nil, err
		}
		res.Same, res.Took = same, time.Since(b.began)
		return res, nil
	}
	root, _, err := streamlog.SaveAccount(ctx, b.w, b.describeAccount(res.Streams), nodes(captures), b.snapshotTime())
	if err != nil {
		return nil, err
	}
	res.Snapshot = b.snapshot()
	res.Snapshot.Parent = b.parent(res.Streams)
	res.Snapshot.Tree = root
	res.Snapshot.Summary = b.summary(res.Streams)
	if res.ID, err = b.w.Commit(ctx, res.Snapshot); err != nil {
		return nil, err
	}
	res.Stats = b.w.Stats()
	res.Took = time.Since(b.began)
	return res, nil
}

func namesOf(streams []*jetstream.StreamInfo) []string {
	names := make([]string, len(streams))
	for i, s := range streams {
		names[i] = s.Name
	}
	return names
}

// captureAll captures the streams, several at a time. Its error is one that ends the run: of the repository, or of ctx.
func (b *run) captureAll(ctx context.Context, streams []*jetstream.StreamInfo) ([]*capture, error) {
	captures := make([]*capture, len(streams))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(b.concurrency())
	for i, s := range streams {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			var err error
			captures[i], err = b.capture(gctx, s)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return captures, ctx.Err()
}

func (b *run) concurrency() int {
	if b.o.Concurrency > 0 {
		return b.o.Concurrency
	}
	return min(4, runtime.GOMAXPROCS(0))
}

// nothingCaptured is the first failure where all streams failed.
func nothingCaptured(streams []StreamResult) error {
	if len(streams) == 0 {
		return nil
	}
	for _, s := range streams {
		if s.Err == nil {
			return nil
		}
	}
	return fmt.Errorf("none of %d streams could be captured: %w", len(streams), streams[0].Err)
}

func nodes(captures []*capture) []*snapshot.Node {
	var out []*snapshot.Node
	for _, c := range captures {
		if c.Err == nil {
			out = append(out, c.node)
		}
	}
	return out
}

func (b *run) describeAccount(streams []StreamResult) *streamlog.Account {
	a := &streamlog.Account{
		Format:   streamlog.FormatVersion,
		Account:  b.account.Name,
		Server:   streamlog.AccountServer{Name: b.server.Name, Version: b.server.Version, Cluster: b.server.Cluster, Domain: b.account.Domain},
		Limits:   b.account.Raw,
		Excluded: b.o.Selection.Exclude,
	}
	listStreams(a, streams)
	return a
}

// listStreams puts into account.json what became of each stream whose name is known.
func listStreams(a *streamlog.Account, streams []StreamResult) {
	a.Captured, a.Failed = []streamlog.CapturedStream{}, []streamlog.FailedStream{}
	for _, s := range streams {
		switch {
		case s.Err == nil:
			c := streamlog.CapturedStream{Name: s.Name, Created: s.Created, Captured: s.Captured, LastSeq: s.LastSeq}
			if !s.Life.Equal(s.Created) {
				c.Life = s.Life
			}
			a.Captured = append(a.Captured, c)
		case s.Name != "":
			a.Failed = append(a.Failed, streamlog.FailedStream{Name: s.Name, Error: s.Err.Error()})
		}
	}
}

func (b *run) snapshotTime() time.Time {
	if !b.o.Time.IsZero() {
		return b.o.Time
	}
	return b.began
}

func (b *run) snapshot() *snapshot.Snapshot {
	return &snapshot.Snapshot{
		Time:     b.snapshotTime(),
		Paths:    b.paths(),
		Hostname: b.host(),
		Tags:     b.o.Tags,
	}
}

// summary tells restic's users what the run did. Its files are streams.
func (b *run) summary(streams []StreamResult) *snapshot.Summary {
	stats := b.w.Stats()
	s := &snapshot.Summary{
		BackupStart:     b.began,
		BackupEnd:       time.Now(),
		DataBlobs:       uint64(stats.Data.New),
		TreeBlobs:       uint64(stats.Tree.New),
		DataAdded:       stats.Data.NewPlain + stats.Tree.NewPlain,
		DataAddedPacked: stats.Data.NewStored + stats.Tree.NewStored,
	}
	for _, c := range streams {
		if c.Err == nil {
			s.TotalFilesProcessed++
			s.TotalBytesProcessed += c.Bytes
		}
	}
	return s
}

// paths are what was selected, so that snapshots of the same selection form a group.
func (b *run) paths() []string {
	account := "/" + streamlog.EscapeName(b.account.Name)
	if b.o.Selection.All {
		return []string{account}
	}
	var out []string
	for _, name := range b.o.Selection.Names {
		out = append(out, account+"/"+name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (b *run) host() string { return Host(b.server, b.o) }

// Host is what snapshots of the server are grouped by. It stays the same from run to run: a server's name is empty where it was made up at start.
func Host(s jetstream.ServerInfo, o Options) string {
	return cmp.Or(o.Host, s.Cluster, s.Name, s.Host)
}
