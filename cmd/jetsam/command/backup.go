package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/backup"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/storage"
	"jetsam/streamlog"
)

// backedUpReport is what became of one stream.
type backedUpReport struct {
	MessageType string          `json:"message_type"` // "stream"
	Name        string          `json:"name"`
	Messages    uint64          `json:"messages"`
	Bytes       uint64          `json:"bytes"` // of subjects, headers and payloads
	FirstSeq    uint64          `json:"first_seq"`
	LastSeq     uint64          `json:"last_seq"`
	Consumers   int             `json:"consumers"`
	Added       uint64          `json:"bytes_added"`              // stored, after compression and encryption
	Removed     uint64          `json:"removed,omitempty"`        // messages that the server removed meanwhile
	Torn        string          `json:"torn,omitempty"`           // why it is not the stream as it was at one time
	Retried     string          `json:"retried,omitempty"`        // why it was read twice
	Resumed     []resumedReport `json:"resumed,omitempty"`        // where it broke off and went on
	Recreated   string          `json:"recreated,omitempty"`      // that it is not the stream which an earlier snapshot holds under its name
	WentBack    string          `json:"went_back,omitempty"`      // the earlier snapshot that holds messages of it which the server has lost
	Way         string          `json:"way,omitempty"`            // how its messages came: snapshot, consumer, get or none
	Instead     string          `json:"no_snapshot,omitempty"`    // why it was read whole without the server's snapshot API
	New         uint64          `json:"new_messages"`             // that came
	Received    uint64          `json:"bytes_received"`           // from the server, about
	Parent      string          `json:"continues_from,omitempty"` // the snapshot that it goes on from
	Through     uint64          `json:"continues_seq,omitempty"`  // the last sequence that both hold
	Whole       string          `json:"whole,omitempty"`          // why it was read whole, though an earlier snapshot holds it
	Unchanged   bool            `json:"unchanged,omitempty"`
	Seconds     float64         `json:"seconds"`
	Error       string          `json:"error,omitempty"` // why it is not in the snapshot

	FailedConsumers []failedConsumerReport `json:"failed_consumers,omitempty"`
}

// failedConsumerReport is a consumer that is not in the snapshot, though its stream is.
type failedConsumerReport struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

func newFailedConsumerReports(failed []streamlog.FailedConsumer) (out []failedConsumerReport) {
	for _, f := range failed {
		out = append(out, failedConsumerReport(f))
	}
	return out
}

// resumedReport is a break in a capture that went on from there.
type resumedReport struct {
	After uint64 `json:"after_seq"` // the last sequence that had come
	Why   string `json:"why"`
}

// backupReport is what a run did.
type backupReport struct {
	MessageType string    `json:"message_type"`        // "summary"
	ID          string    `json:"snapshot_id"`         // the earlier one where Unchanged is set
	Unchanged   bool      `json:"unchanged,omitempty"` // nothing was saved, because that snapshot holds all of it
	Parent      string    `json:"parent,omitempty"`
	Time        time.Time `json:"time"`
	Host        string    `json:"host"`
	Account     string    `json:"account"`
	Streams     int       `json:"streams"` // in the snapshot
	Failed      int       `json:"failed_streams"`
	Messages    uint64    `json:"messages"`
	Bytes       uint64    `json:"bytes"`
	Added       uint64    `json:"bytes_added"` // to the repository, its bookkeeping included
	Seconds     float64   `json:"seconds"`
	disturbances

	streams []backedUpReport
}

func newBackupReport(res *backup.Result) *backupReport {
	r := &backupReport{MessageType: "summary", ID: res.ID.String(), Account: res.Account, Seconds: res.Took.Seconds(), Added: res.Stats.AddedBytes()}
	if sn := res.Snapshot; sn != nil {
		r.Time, r.Host = sn.Time, sn.Hostname
		if sn.Parent != (storage.ID{}) {
			r.Parent = sn.Parent.String()
		}
	} else {
		r.ID, r.Unchanged, r.Time, r.Host = res.Same.String(), true, res.Began, res.Host
	}
	for _, s := range res.Streams {
		report := backedUpReport{
			MessageType: "stream", Name: s.Name, Messages: s.Messages, Bytes: s.Bytes, FirstSeq: s.FirstSeq, LastSeq: s.LastSeq,
			Consumers: s.Consumers, Added: s.NewBytes, Removed: s.Removed, Torn: s.Torn, Retried: s.Retried, Recreated: s.Recreated, Seconds: s.Took.Seconds(),
			Way: s.Way, Instead: s.Instead, New: s.New, Received: s.Received, Through: s.Through, Whole: s.Whole, Unchanged: s.Unchanged,
			FailedConsumers: newFailedConsumerReports(s.FailedConsumers),
		}
		for _, x := range s.Resumed {
			report.Resumed = append(report.Resumed, resumedReport(x))
		}
		if s.Parent != (storage.ID{}) {
			report.Parent = s.Parent.String()
		}
		if s.WentBack != (storage.ID{}) {
			report.WentBack = s.WentBack.String()
		}
		if s.Err != nil {
			report.Error = s.Err.Error()
			r.Failed++
		} else {
			r.Streams++
			r.Messages += s.Messages
			r.Bytes += s.Bytes
		}
		r.streams = append(r.streams, report)
	}
	return r
}

func (r *backupReport) text(o *output) {
	l := newListing("Stream", "Messages>", "Size>", "New>", "Received>", "Added>", "Consumers>", "")
	for _, s := range r.streams {
		if s.Error != "" {
			l.row(s.Name, "", "", "", "", "", "", "FAILED")
			continue
		}
		l.row(s.Name, formatCount(s.Messages), formatSize(s.Bytes), formatCount(s.New), formatSize(s.Received), formatSize(s.Added), s.Consumers, s.remark())
	}
	o.table(l)
	if r.Unchanged {
		o.printf("nothing changed since snapshot %s, which holds all of it: no snapshot was saved; took %s\n", r.ID[:10], took(r.Seconds))
		return
	}
	o.printf("snapshot %s saved: %s, %s messages, %s; added %s to the repository in %s\n",
		r.ID[:10], plural(r.Streams, "stream"), formatCount(r.Messages), formatSize(r.Bytes), formatSize(r.Added), took(r.Seconds))
}

// remark is what stands out of a stream that was backed up.
func (s *backedUpReport) remark() string {
	switch {
	case s.Torn != "":
		return "TORN"
	case len(s.FailedConsumers) > 0:
		return "WITHOUT " + plural(len(s.FailedConsumers), "CONSUMER")
	case s.Recreated != "":
		return "recreated"
	case s.Unchanged:
		return "unchanged"
	}
	return ""
}

func (p *program) backupCommand() *cli.Command {
	return p.command(scheduled|needsRepository|needsServer, &cli.Command{
		Name:      "backup",
		Usage:     "back up streams: one snapshot a run",
		ArgsUsage: "[STREAM…]",
		Description: "Streams are chosen by name or glob ('KV_*'), or with --all. Of each, the snapshot holds configuration, state, messages\n" +
			"and consumers. A stream that cannot be read is reported, the others are kept, and the exit code is 3.\n\n" +
			"Where an earlier snapshot of the same host and account holds a stream, only what changed since is read from the server and\n" +
			"stored; every snapshot restores by itself all the same. --verbose says how each stream was read.\n\n" +
			"Several accounts are backed up one after the other, each into a snapshot of its own, with --context given several times or\n" +
			"with --jobs. One that fails does not keep the others from being backed up; then the exit code is 3.",
		Flags: append(selectionFlags(),
			&cli.StringFlag{Name: "jobs", Usage: "back up the accounts that a JSON `FILE` lists, each with its own connection and streams"},
			&cli.StringSliceFlag{Name: "tag", Usage: "add `TAG[,TAG…]` to the snapshot"},
			&cli.StringFlag{Name: "host", Usage: "call the source `NAME` instead of by its cluster's or server's name; snapshots are grouped by it"},
			&cli.BoolFlag{Name: "no-consumers", DisableDefaultText: true, Usage: "leave consumers out"},
			&cli.StringFlag{Name: "mode", Value: "auto", Usage: "`MODE` full reads every stream whole, incremental none, auto what is less work"},
			&cli.BoolFlag{Name: "skip-if-unchanged", DisableDefaultText: true, Usage: "save no snapshot where the one before holds all of it"},
			&cli.BoolFlag{Name: "allow-unsafe-snapshot", DisableDefaultText: true, Usage: "take the server's snapshot also where that of an old server harms the stream"},
			concurrencyFlag("capture `N` streams"),
			&cli.StringFlag{Name: "time", Usage: "date the snapshot `TIME` instead of now"},
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be backed up, and stop there"},
		),
		Action: p.backup,
	})
}

func (p *program) backup(c *cli.Context) error {
	jobs, err := p.backupJobs(c)
	if err != nil {
		return err
	}
	if jobs != nil {
		return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
			return p.backUpAccounts(ctx, r, jobs, c.Bool("dry-run"))
		})
	}
	o, err := p.backupOptions(c)
	if err != nil {
		return err
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		conn, err := p.connect(ctx, c)
		if err != nil {
			return err
		}
		defer conn.Close()
		if c.Bool("dry-run") {
			return p.planBackup(ctx, conn, o)
		}
		return p.runBackup(ctx, conn, r, o)
	})
}

func (p *program) backupOptions(c *cli.Context) (backup.Options, error) {
	o, err := p.captureOptions(c)
	if err != nil {
		return o, err
	}
	if o.Selection, err = selection(c, c.Args().Slice()); err != nil {
		return o, err
	}
	if !o.Selection.All && len(o.Selection.Names) == 0 {
		return o, usagef("which streams? give names or globs, or --all")
	}
	o.Host = c.String("host")
	return o, nil
}

// captureOptions are those of the flags that may be the same for several accounts.
func (p *program) captureOptions(c *cli.Context) (o backup.Options, err error) {
	o = backup.Options{Tags: splitTags(c.StringSlice("tag")), NoConsumers: c.Bool("no-consumers")}
	if o.Concurrency, err = concurrency(c); err != nil {
		return o, err
	}
	o.SkipSame, o.Unsafe = c.Bool("skip-if-unchanged"), c.Bool("allow-unsafe-snapshot")
	switch mode := c.String("mode"); mode {
	case "auto":
	case "full", "incremental":
		o.Mode = backup.Mode(mode)
	default:
		return o, usagef("--mode %q is none; it is auto, full or incremental", mode)
	}
	if text := c.String("time"); text != "" {
		if o.Time, err = parseTime(text, p.now()); err != nil {
			return o, err
		}
	}
	return o, nil
}

// splitTags takes lists apart at their commas, as restic does: no tag holds a comma.
func splitTags(lists []string) []string {
	var tags []string
	for _, list := range lists {
		for tag := range strings.SplitSeq(list, ",") {
			if tag = strings.TrimSpace(tag); tag != "" && !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// maxConcurrency is the most streams at a time; each takes tens of MiB of memory.
const maxConcurrency = 64

// concurrencyFlag says how much of what, such as "restore `N` streams", is done at a time.
func concurrencyFlag(what string) cli.Flag {
	return &cli.IntFlag{Name: "concurrency", Usage: what + " at a time", DefaultText: "as many as there are processors, at most 4"}
}

func concurrency(c *cli.Context) (int, error) {
	n := c.Int("concurrency")
	if c.IsSet("concurrency") && (n < 1 || n > maxConcurrency) {
		return 0, usagef("--concurrency %d is out of range; it is 1 to %d", n, maxConcurrency)
	}
	return n, nil
}

// plannedReport is a stream that would be backed up.
type plannedReport struct {
	MessageType string `json:"message_type"` // "planned_stream"
	Name        string `json:"name"`
	Messages    uint64 `json:"messages"`
	Bytes       uint64 `json:"bytes"` // in the server's store
	Consumers   int    `json:"consumers"`
}

func (p *program) planBackup(ctx context.Context, conn *jetstream.Conn, o backup.Options) error {
	streams, err := backup.Plan(ctx, conn, o.Selection)
	if err != nil {
		return err
	}
	p.out.warnOfLeaderless(streams)
	planned := newPlannedReports(streams)
	if p.out.json {
		for _, s := range planned {
			p.out.printJSON(s)
		}
		return nil
	}
	p.out.tellPlanned(planned)
	return nil
}

func newPlannedReports(streams []*jetstream.StreamInfo) []plannedReport {
	out := make([]plannedReport, len(streams))
	for i, s := range streams {
		out[i] = plannedReport{"planned_stream", s.Name, s.Messages, s.Bytes, s.Consumers}
	}
	return out
}

// warnOfLeaderless names streams of which no server says more.
func (o *output) warnOfLeaderless(streams []*jetstream.StreamInfo) {
	for _, s := range streams {
		if s.Raw == nil {
			o.warn("stream %s: no server leads it just now, so that it is not known what it holds", s.Name)
		}
	}
}

// tellPlanned says for people what would be backed up.
func (o *output) tellPlanned(streams []plannedReport) {
	l := newListing("Stream", "Messages>", "On the server>", "Consumers>")
	var messages, bytes uint64
	for _, s := range streams {
		l.row(s.Name, formatCount(s.Messages), formatSize(s.Bytes), s.Consumers)
		messages, bytes = messages+s.Messages, bytes+s.Bytes
	}
	o.table(l)
	o.printf("would back up %s, %s messages, %s on the server; nothing was written\n", plural(len(streams), "stream"), formatCount(messages), formatSize(bytes))
}

func backupStep(x backup.Progress) step {
	return step{name: x.Stream, done: x.Messages, total: x.TotalMessages, bytes: x.Bytes, ended: x.Done}
}

func (p *program) runBackup(ctx context.Context, conn *jetstream.Conn, r *repo.Repo, o backup.Options) error {
	res, err := p.capture(ctx, conn, r, o)
	if err != nil {
		return err
	}
	report := newBackupReport(res)
	if p.out.json {
		for _, s := range report.streams {
			p.out.printJSON(s)
		}
	}
	p.out.print(report)
	return partialBackup(res)
}

// capture backs up one account, shows how far it is, and tells of what was not as it should be. As of backup.Run, there may be a result beside an error.
func (p *program) capture(ctx context.Context, conn *jetstream.Conn, r *repo.Repo, o backup.Options) (*backup.Result, error) {
	if err := p.apart(conn, r, &o); err != nil {
		return nil, err
	}
	bars := p.showProgress("message")
	o.Progress = func(x backup.Progress) { bars.report(backupStep(x)) }
	res, err := backup.Run(ctx, conn, r, o)
	bars.finish()
	if res == nil {
		return nil, err
	}
	p.warnOfStreams(res.Streams)
	if err == nil && res.Unread != nil {
		p.out.warn("whether a stream was created anew since earlier snapshots is not known, and streams may have been read whole that need not be, because some cannot be read: %v", res.Unread)
	}
	return res, err
}

// lostSequence is the first sequence that servers lose: the two highest bits of one are marks in their stores (nats-server 2.15, filestore.go).
const lostSequence = 1 << 62

// warnOfStreams tells of each stream that is not in the snapshot, or not whole.
func (p *program) warnOfStreams(streams []backup.StreamResult) {
	var all crowd
	for _, s := range streams {
		for _, x := range s.Resumed {
			p.out.warn("stream %s: %s at message %d; the backup went on from there", s.Name, x.Why, x.After)
		}
		switch {
		case s.Err != nil:
			all.add(p.out.warn, s.Name, fmt.Sprintf("stream %s was not backed up: %v", s.Name, s.Err), " were not backed up: "+withoutStream(s.Err, s.Name))
		case s.Torn != "":
			p.out.warn("%s", tornInWords(s))
		case s.Retried != "":
			p.out.detail("stream %s was read a second time and is whole; the first time it was not: %s", s.Name, s.Retried)
		case s.Removed > 0:
			p.out.detail("stream %s: the server removed %s while it was backed up", s.Name, plural(s.Removed, "message"))
		}
		for _, c := range s.FailedConsumers {
			p.out.warn("consumer %s of stream %s was not backed up, no server says how it stands: %s\nits stream is in the snapshot; start the server that holds it, and back the stream up again", c.Name, s.Name, c.Error)
		}
		p.tellWay(s)
		if s.Recreated != "" {
			all.add(p.out.warn, s.Name,
				fmt.Sprintf("stream %s is not the one of that name in earlier snapshots, but was %s\nthis snapshot holds the new one; the earlier snapshots still restore the old one", s.Name, s.Recreated),
				" are not the ones of those names in earlier snapshots, --json says why of each\nthis snapshot holds the new ones; the earlier snapshots still restore the old ones")
		}
		if s.WentBack != (storage.ID{}) {
			all.add(p.out.warn, s.Name,
				fmt.Sprintf("stream %s went back: it has lost messages that snapshot %s holds\nthat snapshot still restores them; `jetsam doctor --against %[2]s` compares it with the stream", s.Name, s.WentBack.Short()),
				fmt.Sprintf(" went back: they have lost messages that snapshot %s holds\nthat snapshot still restores them; `jetsam doctor --against %[1]s` compares it with the streams", s.WentBack.Short()))
		}
		if s.Err == nil && s.LastSeq >= lostSequence {
			p.out.warn("stream %s has sequences of 2^62 and more, up to %d: it is in the snapshot, but a server that such a stream is restored into loses them when it starts anew", s.Name, s.LastSeq)
		}
	}
	all.tell()
}

// withoutStream is an error's text without the stream that it begins with.
func withoutStream(err error, name string) string {
	return strings.TrimPrefix(err.Error(), "stream "+name+": ")
}

// tornInWords says of a stream that what was captured is not the stream as it was at one time, and what came of another attempt, if there was one.
func tornInWords(s backup.StreamResult) string {
	if s.Retried == "" { // which is where it would have been in vain
		return fmt.Sprintf("stream %s is torn: %s\nwhat was captured is kept and marked; another attempt would find the same", s.Name, s.Torn)
	}
	return fmt.Sprintf("stream %s is torn: %s\nit was tried twice, and this is the attempt that was kept; of the other: %s\nwhat was captured is kept and marked; back the stream up again when nobody purges it",
		s.Name, s.Torn, s.Retried)
}

// tellWay says how a stream was read.
func (p *program) tellWay(s backup.StreamResult) {
	switch {
	case s.Err != nil:
	case s.Damaged:
		p.out.warn("stream %s was read whole, because what earlier snapshots hold of it is damaged: %s\nthis snapshot may need the same damaged data: see `jetsam check --read-data`", s.Name, s.Whole)
	case s.Whole != "":
		p.out.detail("stream %s was read whole, %s%s: %s", s.Name, formatSize(s.Received), wayOf(s), s.Whole)
	case s.Parent == (storage.ID{}):
		p.out.detail("stream %s was read whole, %s%s", s.Name, formatSize(s.Received), wayOf(s))
	case s.Way == backup.WayNone:
		p.out.detail("stream %s goes on from snapshot %s at sequence %d; nothing new, %s received", s.Name, s.Parent.Short(), s.Through, formatSize(s.Received))
	default:
		p.out.detail("stream %s goes on from snapshot %s at sequence %d: %s new, by %s, %s received",
			s.Name, s.Parent.Short(), s.Through, plural(s.New, "message"), wayInWords(s.Way), formatSize(s.Received))
	}
}

// wayOf says by what way a stream was read whole, where that is not the server's snapshot, and why.
func wayOf(s backup.StreamResult) string {
	if s.Instead == "" {
		return ""
	}
	return fmt.Sprintf(", by %s (%s)", wayInWords(s.Way), s.Instead)
}

func wayInWords(way string) string {
	return map[string]string{backup.WayConsumer: "a consumer", backup.WayGet: "asking for each"}[way]
}

// partialBackup is the error of a run that saved a snapshot, but not all of what was asked for.
func partialBackup(res *backup.Result) error {
	failed := res.Failed()
	if len(failed) == 0 {
		return nil
	}
	names := make([]string, len(failed))
	for i, s := range failed {
		names[i] = s.Name
	}
	return &partialError{fmt.Sprintf("snapshot %s was saved, but %s streams are not in it, or not whole: %s\nthe warnings above say why; mend that and run the backup again",
		res.ID.Short(), share(len(failed), len(res.Streams)), abridged(names))}
}
