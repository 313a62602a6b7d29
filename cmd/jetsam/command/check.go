package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/storage"
	"jetsam/streamlog"
)

// findingReport is something that a check noticed.
type findingReport struct {
	MessageType string `json:"message_type"` // "finding"
	Severity    string `json:"severity"`     // "damage" or "note"
	Type        string `json:"type"`         // of the file that it is about; of a loss, "snapshot"
	ID          string `json:"id"`
	Path        string `json:"path,omitempty"` // what is lost in the snapshot, in whole or in part
	Error       string `json:"error"`
	Advice      string `json:"advice,omitempty"` // what it means, and what can be done
}

// checkReport is what a check found.
type checkReport struct {
	MessageType string `json:"message_type"` // "summary"
	Damaged     bool   `json:"damaged"`
	Findings    int    `json:"findings"`
	Losses      int    `json:"losses"` // files and directories of snapshots
	Snapshots   int    `json:"snapshots"`
	Trees       int    `json:"trees"`
	Blobs       int    `json:"blobs"`
	IndexFiles  int    `json:"index_files"`
	Packs       int    `json:"packs"`
	PacksRead   int    `json:"packs_read"` // of which every byte was checked
	BytesRead   int64  `json:"bytes_read"`
	disturbances

	findings []repo.Finding
	more     int
}

func newCheckReport(r *repo.Report) *checkReport {
	return &checkReport{
		MessageType: "summary", Damaged: r.Damaged(), Findings: len(r.Findings) + r.More, Losses: len(r.Losses()),
		Snapshots: r.Snapshots, Trees: r.Trees, Blobs: r.Blobs, IndexFiles: r.IndexFiles,
		Packs: r.Packs, PacksRead: r.PacksRead, BytesRead: r.BytesRead,
		findings: r.Findings, more: r.More,
	}
}

func (r *checkReport) text(o *output) {
	advised := map[storage.File]bool{} // once is enough
	for _, f := range r.findings {
		line := f.String()
		if a := advice(f); a != "" && !advised[f.File] {
			advised[f.File] = true
			line += "; " + a
		}
		o.printf("%s\n", line)
	}
	if r.more > 0 {
		o.printf("and %s more findings\n", formatCount(r.more))
	}
	o.printf("checked %s, %s, %s, %s\n", plural(r.Snapshots, "snapshot"), plural(r.Trees, "tree"), plural(r.IndexFiles, "index file"), plural(r.Packs, "pack"))
	if r.PacksRead > 0 {
		o.printf("read every byte of %s, %s\n", plural(r.PacksRead, "pack"), formatSize(r.BytesRead))
	}
	if !r.Damaged {
		o.printf("no damage was found\n")
	}
}

func (p *program) checkCommand() *cli.Command {
	return p.command(scheduled|needsRepository, &cli.Command{
		Name:  "check",
		Usage: "look for damage, and tell what it costs",
		Description: "Reads keys, locks, index files, snapshots, trees and what streams say of themselves, and compares the packs and their headers\n" +
			"with the index. With --read-data it also reads every byte of the packs, and compares the messages in them with what is said of\n" +
			"them. Damage is exit code 1; the streams that are not named can be restored all the same.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "read-data", DisableDefaultText: true, Usage: "read every byte of every pack"},
			&cli.StringFlag{Name: "read-data-subset", Usage: "read only part of the packs: `N/M|P%|SIZE`, such as 1/10, 5% or 2G"},
		},
		Action: p.check,
	})
}

func (p *program) check(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	o := repo.CheckOptions{ReadData: c.Bool("read-data"), Contents: streamlog.NewChecker()}
	if text := c.String("read-data-subset"); text != "" {
		if o.ReadData {
			return usagef("--read-data reads all packs, --read-data-subset a part of them; which is it?")
		}
		subset, err := repo.ParseSubset(text)
		if err != nil {
			return usagef("--read-data-subset: %v", err)
		}
		o.ReadData, o.Subset = true, subset
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		found, err := p.runCheck(ctx, r, o)
		if err != nil {
			return err
		}
		report := newCheckReport(found)
		if p.out.json {
			for _, f := range report.findings {
				p.out.printJSON(newFindingReport(f))
			}
		}
		p.out.print(report)
		return checkDamage(report)
	})
}

func (p *program) runCheck(ctx context.Context, r *repo.Repo, o repo.CheckOptions) (*repo.Report, error) {
	bars := p.showProgress("item")
	defer bars.finish()
	return r.Check(ctx, o, func(x repo.CheckProgress) {
		bars.report(step{name: x.Step, done: uint64(x.Done), total: uint64(x.Total), ended: x.Total > 0 && x.Done == x.Total})
	})
}

func newFindingReport(f repo.Finding) findingReport {
	return findingReport{"finding", f.Severity.String(), f.File.Kind.String(), f.File.Name(), f.Path, f.Reason(), advice(f)}
}

// advice says what damage to a file means, and what can be done about it. What is lost in a snapshot is said of all at the end.
func advice(f repo.Finding) string {
	if f.Severity != repo.Damage || f.Path != "" {
		return ""
	}
	short := f.File.ID.Short()
	switch f.File.Kind {
	case storage.Key:
		return "other keys open the repository as before; `jetsam key add` makes a new one for its password, then `jetsam key remove " + short + "` removes it"
	case storage.Lock:
		return "nobody knows whose it is; when no other program is at work, `jetsam unlock --remove-all` removes it"
	case storage.Index:
		return "what no other index file lists cannot be found, though it is there: `jetsam repair index` lists it anew"
	case storage.Snapshot:
		return "this backup cannot be restored, others can; put the file back from a copy of the repository, or `jetsam repair snapshots --forget` removes it"
	case storage.Pack:
		if errors.Is(f.Err, storage.ErrNotExist) {
			return "what is lost by it is said of the snapshots; put it back from a copy of the repository, or `jetsam repair index` takes it out of the index"
		}
		return "what is lost by it is said of the snapshots; put it back from a copy of the repository, or `jetsam repair packs " + short + "` saves what can be read of it"
	}
	return ""
}

// checkDamage is the error of a check that found damage.
func checkDamage(r *checkReport) error {
	switch {
	case !r.Damaged:
		return nil
	case r.Losses == 0:
		return &damageError{"the repository is damaged, see above; no snapshot that could be read loses anything\n" +
			"make a copy of the repository before anything else, then see `jetsam repair --help`; backups go on as before"}
	}
	return &damageError{fmt.Sprintf("the repository is damaged, see above: snapshots lose %s, in whole or in part\n"+
		"everything that is not named can be restored; make a copy of the repository before anything else; then see `jetsam repair --help`, and back up again", plural(r.Losses, "path"))}
}
