package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/backup"
	"jetsam/repo"
)

// importedReport is what became of one directory.
type importedReport struct {
	MessageType string  `json:"message_type"`   // "imported"
	Directory   string  `json:"directory"`      // of a snapshot: its ID's beginning, a colon, and the path
	Name        string  `json:"name,omitempty"` // of the stream
	Messages    uint64  `json:"messages"`
	Bytes       uint64  `json:"bytes"` // of subjects, headers and payloads
	FirstSeq    uint64  `json:"first_seq"`
	LastSeq     uint64  `json:"last_seq"`
	Consumers   int     `json:"consumers"`
	LeftOut     int     `json:"consumers_left_out,omitempty"` // that the stream had, and the directory has not
	Added       uint64  `json:"bytes_added"`                  // stored, after compression and encryption
	Torn        string  `json:"torn,omitempty"`               // why it is not the stream as it was at one time
	Seconds     float64 `json:"seconds"`
	Error       string  `json:"error,omitempty"` // why it is not in the snapshot
}

// importReport is what a run did.
type importReport struct {
	*backupReport
	Source string `json:"source_snapshot_id,omitempty"` // of the repository that it was imported from

	directories []importedReport
}

func newImportReport(res *backup.Result) *importReport {
	r := &importReport{backupReport: newBackupReport(res)}
	for _, s := range res.Streams {
		d := importedReport{
			MessageType: "imported", Directory: s.Dir, Name: s.Name, Messages: s.Messages, Bytes: s.Bytes, FirstSeq: s.FirstSeq, LastSeq: s.LastSeq,
			Consumers: s.Consumers, LeftOut: s.LeftOut, Added: s.NewBytes, Torn: s.Torn, Seconds: s.Took.Seconds(),
		}
		if s.Err != nil {
			d.Error = s.Err.Error()
		}
		r.directories = append(r.directories, d)
	}
	return r
}

func (r *importReport) text(o *output) {
	l := newListing("Stream", "Messages>", "Size>", "Added>", "Consumers>", "Directory", "")
	for _, d := range r.directories {
		if d.Error != "" {
			l.row(d.Name, "", "", "", "", d.Directory, "FAILED")
			continue
		}
		remark := ""
		if d.Torn != "" {
			remark = "TORN"
		}
		l.row(d.Name, formatCount(d.Messages), formatSize(d.Bytes), formatSize(d.Added), d.Consumers, d.Directory, remark)
	}
	o.table(l)
	o.printf("snapshot %s of %s saved: %s, %s messages, %s; added %s to the repository in %s\n", r.ID[:10], localTime(r.Time),
		plural(r.Streams, "stream"), formatCount(r.Messages), formatSize(r.Bytes), formatSize(r.Added), took(r.Seconds))
}

func (p *program) importCommand() *cli.Command {
	return p.command(needsRepository|namesAccount, &cli.Command{
		Name:      "import",
		Usage:     "take in directories that `nats stream backup` wrote, also out of a restic repository",
		ArgsUsage: "DIR… | --from-repo LOCATION [PATH…]",
		Description: "Finds in and below each DIR what `nats stream backup` and `nats account backup` wrote: a backup.json with an archive beside\n" +
			"it. The streams become one snapshot, as if they had been backed up when the last of these files was written. What the\n" +
			"repository has already is not stored again. A directory that cannot be taken is reported, the others are, and the exit\n" +
			"code is 3. Nothing in the directories is changed.\n\n" +
			"With --from-repo they are looked for in the snapshots of a repository that restic wrote, all of them or below each PATH. Each\n" +
			"snapshot with such directories becomes one here, with its time; those that were imported before are passed over.",
		Flags: append(sourceFlags(),
			&cli.StringSliceFlag{Name: "tag", Usage: "add `TAG[,TAG…]` to the snapshot"},
			&cli.StringFlag{Name: "host", Usage: "call the cluster or server that the streams are from `NAME`; snapshots are grouped by it", DefaultText: backup.ImportHost},
			concurrencyFlag("read `N` directories"),
			&cli.StringFlag{Name: "time", Usage: "date the snapshot `TIME` instead of by the files"},
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be imported, and stop there"},
		),
		Action: p.importCalled,
	})
}

func (p *program) importCalled(c *cli.Context) error {
	o, err := p.importOptions(c)
	if err != nil {
		return err
	}
	if c.IsSet("from-repo") {
		return p.importRepository(c, o)
	}
	for _, name := range sourceFlags() {
		if c.IsSet(name.Names()[0]) {
			return usagef("--%s without --from-repo: it is about the repository to import from", name.Names()[0])
		}
	}
	dirs, err := arguments(c, 1, -1)
	if err != nil {
		return err
	}
	dumps, err := backup.FindDumps(c.Context, dirs)
	if err != nil {
		return err
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		if c.Bool("dry-run") {
			return p.planImport(dumps)
		}
		_, err := p.runImport(ctx, r, dumps, o, "")
		return err
	})
}

func (p *program) importOptions(c *cli.Context) (o backup.ImportOptions, err error) {
	o = backup.ImportOptions{Account: c.String("account"), Host: c.String("host"), Tags: splitTags(c.StringSlice("tag"))}
	if o.Concurrency, err = concurrency(c); err != nil {
		return o, err
	}
	if text := c.String("time"); text != "" {
		o.Time, err = parseTime(text, p.now())
	}
	return o, err
}

// plannedImportReport is a directory that would be imported.
type plannedImportReport struct {
	MessageType string `json:"message_type"` // "planned_import"
	Directory   string `json:"directory"`
	Name        string `json:"name,omitempty"`
	Form        string `json:"form,omitempty"` // "archive" or "files"
	Messages    uint64 `json:"messages"`       // that the stream had
	Bytes       uint64 `json:"bytes"`          // in its server's store
	Consumers   int    `json:"consumers"`      // that the stream had
	Error       string `json:"error,omitempty"`
}

func (p *program) planImport(dumps []*backup.Dump) error {
	l := newListing("Stream", "Messages>", "On its server>", "Form", "Directory", "")
	var failed []string
	for _, d := range dumps {
		r := plannedImportReport{"planned_import", d.Dir, d.Name, string(d.Form), d.State.Messages, d.State.Bytes, d.State.Consumers, ""}
		remark := ""
		if d.Err != nil {
			failed = append(failed, d.Dir)
			r.Error, remark = d.Err.Error(), "FAILED"
			p.out.warn("directory %s would not be imported: %v", d.Dir, d.Err)
		}
		if p.out.json {
			p.out.printJSON(r)
		}
		l.row(r.Name, formatCount(r.Messages), formatSize(r.Bytes), r.Form, r.Directory, remark)
	}
	if !p.out.json {
		p.out.table(l)
		p.out.printf("would import %s; nothing was written\n", plural(len(dumps)-len(failed), "stream"))
	}
	switch len(failed) {
	case 0:
		return nil
	case len(dumps):
		return errors.New("none of the directories can be imported; the warnings above say why")
	}
	return &partialError{fmt.Sprintf("%s directories would not be imported: %s\nthe warnings above say why", share(len(failed), len(dumps)), strings.Join(failed, ", "))}
}

// runImport imports dumps as one snapshot. source is the ID of the snapshot that they come from; empty: they are directories. As of backup.Import, there
// may be a result beside an error.
func (p *program) runImport(ctx context.Context, r *repo.Repo, dumps []*backup.Dump, o backup.ImportOptions, source string) (*backup.Result, error) {
	bars := p.showProgress("message")
	o.Progress = func(x backup.Progress) { bars.report(backupStep(x)) }
	res, err := backup.Import(ctx, r, dumps, o)
	bars.finish()
	if res != nil {
		p.tellImported(res.Streams)
	}
	if err != nil {
		return res, err
	}
	report := newImportReport(res)
	report.Source = source
	if p.out.json {
		for _, d := range report.directories {
			p.out.printJSON(d)
		}
	}
	p.out.print(report)
	var failed []string
	for _, s := range res.Failed() {
		failed = append(failed, s.Dir)
	}
	if len(failed) == 0 {
		return res, nil
	}
	return res, &partialError{fmt.Sprintf("snapshot %s was saved, but %s directories are not in it, or not whole: %s\nthe warnings above say why",
		res.ID.Short(), share(len(failed), len(dumps)), strings.Join(failed, ", "))}
}

// tellImported tells of each directory that is not in the snapshot, or not whole.
func (p *program) tellImported(streams []backup.StreamResult) {
	for _, s := range streams {
		switch {
		case s.Err != nil:
			p.out.warn("not imported: %v", s.Err)
		case s.Torn != "":
			p.out.warn("stream %s in directory %s is torn: %s\nwhat is there is kept and marked", s.Name, s.Dir, s.Torn)
		}
		if s.LeftOut > 0 {
			p.out.note("stream %s had %s that directory %s does not hold", s.Name, plural(s.LeftOut, "consumer"), s.Dir)
		}
	}
}
