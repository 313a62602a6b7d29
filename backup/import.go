package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/chunker"
	"jetsam/internal/digits"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// Names for what directories do not tell.
const (
	ImportAccount = "$G"     // the account of a server that has no others
	ImportHost    = "import" // no server's: what is imported is not the latest of any
)

// ImportOptions says how dumps become a snapshot. The zero value of each field works.
type ImportOptions struct {
	Account     string         // that the streams are of; empty: ImportAccount
	Host        string         // groups snapshots; empty: ImportHost
	Tags        []string       // of the snapshot
	Time        time.Time      // of the snapshot; zero: when the last of the dumps' files was written
	Concurrency int            // dumps read at a time; 0: as many as there are processors, at most four
	Progress    func(Progress) // called from several goroutines, often; must be quick
}

func (o ImportOptions) withDefaults() ImportOptions {
	o.Account, o.Host = cmp.Or(o.Account, ImportAccount), cmp.Or(o.Host, ImportHost)
	return o
}

// Import stores the streams of dumps, as FindDumps or FindDumpsIn found them, as one snapshot. A dump that cannot be taken is in the result with the reason, and named in the snapshot where
// its stream's name is known; the others are kept.
//
// An error means that no snapshot was written. Where every dump fails it is the first one's, and the result tells of each.
func Import(ctx context.Context, r *repo.Repo, dumps []*Dump, o ImportOptions) (*Result, error) {
	began := time.Now()
	if err := wantOneOfEach(dumps); err != nil {
		return nil, err
	}
	w, err := r.NewWriter(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	cut, err := chunker.New(r.Polynomial())
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	i := importer{run{w: w, cut: cut, o: Options{Concurrency: o.Concurrency, Progress: o.Progress}, began: began}, o}
	return i.importAll(ctx, dumps)
}

// importer is a run that has no server: its streams come from dumps, and it calls nothing of run that asks one.
type importer struct {
	run
	o ImportOptions
}

func (i *importer) importAll(ctx context.Context, dumps []*Dump) (*Result, error) {
	captures := make([]*capture, len(dumps))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(i.concurrency())
	for n, d := range dumps {
		g.Go(func() (err error) {
			captures[n], err = i.take(gctx, d)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	res := &Result{Account: i.o.Account, Began: i.began}
	for _, c := range captures {
		res.Streams = append(res.Streams, c.StreamResult)
	}
	err := nothingCaptured(res.Streams)
	if err == nil {
		err = i.commit(ctx, res, captures, newest(dumps))
	}
	res.Took = time.Since(i.began)
	return res, err
}

// newest is when the last file of the dumps that can be imported was written.
func newest(dumps []*Dump) (at time.Time) {
	for _, d := range dumps {
		if d.Err == nil && d.Time.After(at) {
			at = d.Time
		}
	}
	return at
}

// commit writes the snapshot of what was taken.
func (i *importer) commit(ctx context.Context, res *Result, captures []*capture, at time.Time) error {
	if !i.o.Time.IsZero() {
		at = i.o.Time
	}
	root, _, err := streamlog.SaveAccount(ctx, i.w, i.describe(res.Streams), nodes(captures), at)
	if err != nil {
		return err
	}
	sn := &snapshot.Snapshot{Time: at, Paths: pathsOf(i.o.Account, res.Streams), Hostname: i.o.Host, Tags: i.o.Tags, Tree: root, Summary: i.summary(res.Streams)}
	if res.ID, err = i.w.Commit(ctx, sn); err != nil {
		return err
	}
	res.Snapshot, res.Stats = sn, i.w.Stats()
	return nil
}

// describe is account.json of what was taken: no server is known.
func (i *importer) describe(streams []StreamResult) *streamlog.Account {
	a := &streamlog.Account{Format: streamlog.FormatVersion, Account: i.o.Account}
	listStreams(a, streams)
	return a
}

// pathsOf are the streams that were taken, or tried: snapshots of the same ones form a group.
func pathsOf(account string, streams []StreamResult) []string {
	var out []string
	for _, s := range streams {
		if s.Name != "" {
			out = append(out, "/"+streamlog.EscapeName(account)+"/"+s.Name)
		}
	}
	slices.Sort(out)
	return out
}

// take stores the stream of one dump. A failure of the dump's own is in the capture; the error is one that ends the run.
func (i *importer) take(ctx context.Context, d *Dump) (*capture, error) {
	began := time.Now()
	c, err := i.read(ctx, d)
	var fatal errStorage
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &fatal):
		return nil, fatal.error
	case err != nil:
		c = &capture{StreamResult: StreamResult{Name: d.Name, Err: fmt.Errorf("directory %s: %w", d.Dir, err)}}
	}
	c.Dir, c.Took = d.Dir, time.Since(began)
	i.report(Progress{Stream: d.label(), Messages: c.Messages, TotalMessages: c.Messages, Bytes: c.Bytes, TotalBytes: c.Bytes, Done: true, Err: c.Err})
	return c, nil
}

// label names a dump for people.
func (d *Dump) label() string {
	if d.Name == "" {
		return d.Dir
	}
	return d.Name
}

// read stores the stream of a dump that can be imported, as far as is known.
func (i *importer) read(ctx context.Context, d *Dump) (*capture, error) {
	if d.Err != nil {
		return nil, d.Err
	}
	doc, err := d.document(ctx)
	if err != nil {
		return nil, err
	}
	in, err := d.contents(ctx, doc)
	if err != nil {
		return nil, err
	}
	defer in.close()
	head := in.head
	if err := sameState(d.State, head); err != nil {
		return nil, fmt.Errorf("%s is not of this archive: %w", documentFile, err)
	}
	head = withoutFetches(head)
	m, err := streamlog.WriteMessages(ctx, saver{i.w}, i.cut.Fresh(), i.counted(d, in))
	if err != nil {
		return nil, err
	}
	c := &capture{StreamResult: StreamResult{
		Name: d.Name, Messages: m.Count, Bytes: m.Content, FirstSeq: m.First, LastSeq: m.Last, Consumers: len(head.Consumers),
		Captured: time.Unix(0, head.StateTime).UTC(), New: m.Count, Received: uint64(d.Size), Created: in.created, LeftOut: max(0, d.State.Consumers-len(head.Consumers)),
	}}
	c.Removed, c.Torn = notAll(d.State, m, in)
	counted, err := counting(head, m.Count)
	if err != nil {
		return nil, err
	}
	if counted != head {
		doc.State = counted.State
	}
	return c, i.save(ctx, c, doc, counted, m)
}

// counted yields the messages of a dump, and ends with an error at the first that neither its state nor its files allow.
func (i *importer) counted(d *Dump, in *contents) func() (*archive.Message, error) {
	meter := i.meter(d.Name, d.State)
	allowed := d.State
	if in.exact {
		allowed.Messages = max(allowed.Messages, in.alive)
	}
	var sofar streamlog.Messages
	return func() (*archive.Message, error) {
		msg, err := in.next()
		if err != nil {
			return nil, err
		}
		sofar.Count, sofar.Last = sofar.Count+1, msg.Seq
		meter.add(msg)
		return msg, possible(allowed, &sofar)
	}
}

// notAll says which messages of its state a dump lacks: what was removed while it was made, and why it is not the stream as it was at one time.
// The stream that could tell is not there to be asked; only files of servers from 2.10 on tell which messages were alive when they were complete.
// Where their server counted wrong, as 2.9.10 does after a purge up to a message that is gone already, there are more.
func notAll(state archive.State, m *streamlog.Messages, in *contents) (removed uint64, torn string) {
	switch missing := state.Messages - m.Count; {
	case in.exact && m.Count != in.alive:
		return 0, fmt.Sprintf("%s messages are there of the %s that should be, by what the server says of its own files", digits.Grouped(m.Count), digits.Grouped(in.alive))
	case m.Count > state.Messages:
		return 0, fmt.Sprintf("%s messages are there, as the server's files say, but the server counted %s", digits.Grouped(m.Count), digits.Grouped(state.Messages))
	case missing == 0, in.atOnce:
		return missing, ""
	default:
		return 0, fmt.Sprintf("%s of the %s that the stream had when its backup began are not there: they were removed meanwhile, or not sent",
			messages(missing), digits.Grouped(state.Messages))
	}
}

// save stores the stream's directory.
func (i *importer) save(ctx context.Context, c *capture, doc *dumpDocument, head *archive.Head, m *streamlog.Messages) (err error) {
	fidelity, err := fidelityOf(head)
	if err != nil {
		return err
	}
	c.node, c.NewBytes, err = streamlog.SaveStream(ctx, saver{i.w}, c.Name, &streamlog.Document{
		Config: doc.Config,
		State:  doc.State,
		Jetsam: streamlog.Capture{
			Format: streamlog.FormatVersion, Created: c.Created, Messages: m.Count, MessageBytes: m.Content, LargestMessage: m.Largest,
			Removed: c.Removed, Torn: c.Torn, Consumers: fidelity,
		},
	}, head, m)
	return err
}

// fidelityOf says how true the consumers' states are. Whether a cluster set them back is not known, but where one has pending messages, or can
// have none, it did not.
func fidelityOf(head *archive.Head) (out []streamlog.ConsumerFidelity, err error) {
	for _, c := range head.Consumers {
		s, err := archive.ParseConsumer(c.JSON)
		if err != nil {
			return nil, fmt.Errorf("consumer %s: %w", abridge(c.Name), err)
		}
		f := streamlog.FidelityAckFloor
		if s.AckPending > 0 || s.AckPolicy == "none" {
			f = streamlog.FidelityExact
		}
		out = append(out, streamlog.ConsumerFidelity{Name: c.Name, Fidelity: f})
	}
	return out, nil
}
