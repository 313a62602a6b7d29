package command

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// selector chooses snapshots as the flags say.
type selector struct {
	filter  snapshot.Filter
	streams []string // a snapshot must have been told to hold one of these
}

func snapshotSelector(c *cli.Context) selector {
	s := selector{streams: c.StringSlice("stream")}
	s.filter.Hosts = c.StringSlice("host")
	s.filter.Tags = tagLists(c.StringSlice("tag"))
	if account := c.String("account"); account != "" {
		s.filter.Below = []string{"/" + streamlog.EscapeName(account)}
	}
	return s
}

// tagLists are lists of tags, each with commas between them.
func tagLists(texts []string) (lists [][]string) {
	for _, text := range texts {
		lists = append(lists, splitTags([]string{text}))
	}
	return lists
}

func (s selector) match(sn *snapshot.Snapshot) bool {
	if !s.filter.Match(sn) {
		return false
	}
	return len(s.streams) == 0 || slices.ContainsFunc(s.streams, func(name string) bool { return wasToHold(sn, name) })
}

// wasToHold says whether the stream was among what the snapshot was told to hold: its paths are /ACCOUNT for all streams, or
// /ACCOUNT/NAME-or-glob.
func wasToHold(sn *snapshot.Snapshot, stream string) bool {
	for _, p := range sn.Paths {
		_, selected, one := strings.Cut(strings.TrimPrefix(p, "/"), "/")
		if !one || selected == stream {
			return true
		}
		if ok, err := path.Match(selected, stream); err == nil && ok {
			return true
		}
	}
	return false
}

// list returns the chosen snapshots, the oldest first.
func (s selector) list(ctx context.Context, r *repo.Repo) ([]*snapshot.Snapshot, error) {
	all, err := allSnapshots(ctx, r)
	return slices.DeleteFunc(all, func(sn *snapshot.Snapshot) bool { return !s.match(sn) }), err
}

// allSnapshots returns the snapshots of the repository, the oldest first.
func allSnapshots(ctx context.Context, r *repo.Repo) ([]*snapshot.Snapshot, error) {
	var all []*snapshot.Snapshot
	for sn, err := range r.Snapshots(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, sn)
	}
	snapshot.Sort(all)
	return all, nil
}

type snapshotReport struct {
	MessageType string `json:"message_type"` // "snapshot"
	ID          string `json:"id"`
	ShortID     string `json:"short_id"`
	*snapshot.Snapshot
}

func newSnapshotReport(sn *snapshot.Snapshot) snapshotReport {
	return snapshotReport{"snapshot", sn.ID().String(), sn.ID().Short(), sn}
}

// groupReport is a group of snapshots with what they have in common.
type groupReport struct {
	MessageType string           `json:"message_type"` // "snapshot_group"
	Host        string           `json:"host,omitempty"`
	Accounts    []string         `json:"accounts,omitempty"`
	Paths       []string         `json:"paths,omitempty"`
	Tags        []string         `json:"tags,omitempty"`
	Snapshots   []snapshotReport `json:"snapshots"`
}

func newGroupReport(k snapshot.GroupKey) groupReport {
	return groupReport{MessageType: "snapshot_group", Host: k.Hostname, Accounts: k.Accounts, Paths: k.Paths, Tags: k.Tags}
}

func (g groupReport) text(o *output) {
	if heading := g.heading(); heading != "" {
		o.printf("%s\n", heading)
	}
	l := newListing("ID", "Time", "Host", "Paths", "Tags", "Size>", "Added>")
	for _, s := range g.Snapshots {
		size, added := "", ""
		if s.Summary != nil {
			size, added = formatSize(s.Summary.TotalBytesProcessed), formatSize(s.Summary.DataAddedPacked)
		}
		l.row(s.ShortID, localTime(s.Time), s.Hostname, strings.Join(s.Paths, ", "), strings.Join(s.Tags, ", "), size, added)
	}
	o.table(l)
}

func (g groupReport) heading() string {
	var parts []string
	for _, part := range []struct{ name, value string }{
		{"host", g.Host}, {"account", strings.Join(g.Accounts, ", ")}, {"paths", strings.Join(g.Paths, ", ")}, {"tags", strings.Join(g.Tags, ", ")},
	} {
		if part.value != "" {
			parts = append(parts, part.name+" "+part.value)
		}
	}
	return strings.Join(parts, "; ")
}

// localTime writes a time for people.
func localTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func (p *program) snapshotsCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:      "snapshots",
		Usage:     "list the snapshots",
		ArgsUsage: "[SNAPSHOT…]",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "latest", Usage: "only the newest `N` of each group; where there is no --group-by, of each host and paths", DefaultText: "all"},
			&cli.StringFlag{Name: "group-by", Usage: "one table for each of these that differs: `host,account,paths,tags`"},
		},
		Action: p.snapshots,
	})
}

func (p *program) snapshots(c *cli.Context) error {
	latest := c.Int("latest")
	if c.IsSet("latest") && latest < 1 {
		return usagef("--latest %d: a number of snapshots is 1 or more", latest)
	}
	by, err := parseGroupBy(c.String("group-by"))
	if err != nil {
		return err
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		chosen, err := p.chosenSnapshots(ctx, c, r)
		if err != nil {
			return err
		}
		if latest > 0 {
			chosen = newestOfEach(chosen, by, latest)
		}
		p.printSnapshots(chosen, by)
		return nil
	})
}

// chosenSnapshots are those that the arguments name, or where there are none, those that the flags choose.
func (p *program) chosenSnapshots(ctx context.Context, c *cli.Context, r *repo.Repo) ([]*snapshot.Snapshot, error) {
	s := snapshotSelector(c)
	if c.NArg() == 0 {
		return s.list(ctx, r)
	}
	var chosen []*snapshot.Snapshot
	for _, name := range c.Args().Slice() {
		sn, err := s.find(ctx, r, name)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, sn)
	}
	return chosen, nil
}

// find returns the snapshot that name means: an ID or the beginning of one, or "latest" among the chosen, which must be of one account: nobody
// wants another's streams by chance. Unless tags are asked for, latest is none of those that were taken before a stream was replaced: they hold
// what was not wanted.
func (s selector) find(ctx context.Context, r *repo.Repo, name string) (*snapshot.Snapshot, error) {
	if name != snapshot.Latest {
		return r.Snapshot(ctx, name, snapshot.Filter{})
	}
	chosen, err := s.list(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(s.filter.Tags) == 0 {
		chosen = slices.DeleteFunc(chosen, func(sn *snapshot.Snapshot) bool { return slices.Contains(sn.Tags, safetyTag) })
	}
	if names := accountsOf(chosen); len(names) > 1 && len(s.filter.Below) == 0 {
		return nil, usagef("%s: there are snapshots of several accounts (%s): choose with --account, or name a snapshot by its ID", snapshot.Latest, strings.Join(names, ", "))
	}
	if sn := snapshot.Newest(chosen, snapshot.Filter{}); sn != nil {
		return sn, nil
	}
	return nil, repo.ErrNotFound
}

// accountsOf are the accounts that snapshots are of, sorted and each once. Of other files than streams it is the folder that they were in.
func accountsOf(snapshots []*snapshot.Snapshot) []string {
	var names []string
	for _, sn := range snapshots {
		for _, escaped := range sn.Accounts() {
			name, err := streamlog.UnescapeName(escaped)
			if err != nil {
				name = escaped
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func parseGroupBy(text string) (by snapshot.GroupBy, err error) {
	if text == "" {
		return by, nil
	}
	for name := range strings.SplitSeq(text, ",") {
		switch strings.TrimSuffix(strings.TrimSpace(name), "s") {
		case "host":
			by.Host = true
		case "account":
			by.Accounts = true
		case "path":
			by.Paths = true
		case "tag":
			by.Tags = true
		default:
			return by, usagef("--group-by %q is not known; it is one or more of host, account, paths, tags", name)
		}
	}
	return by, nil
}

// newestOfEach keeps the n newest snapshots of each group, the oldest first.
func newestOfEach(snapshots []*snapshot.Snapshot, by snapshot.GroupBy, n int) []*snapshot.Snapshot {
	if by == (snapshot.GroupBy{}) {
		by = snapshot.GroupBy{Host: true, Paths: true}
	}
	var out []*snapshot.Snapshot
	for _, g := range snapshot.Groups(snapshots, by) {
		out = append(out, g.Snapshots[max(0, len(g.Snapshots)-n):]...)
	}
	snapshot.Sort(out)
	return out
}

func (p *program) printSnapshots(snapshots []*snapshot.Snapshot, by snapshot.GroupBy) {
	if len(snapshots) == 0 {
		p.out.note("no snapshots")
		return
	}
	grouped := by != snapshot.GroupBy{}
	for i, g := range snapshot.Groups(snapshots, by) {
		group := newGroupReport(g.Key)
		for _, sn := range g.Snapshots {
			group.Snapshots = append(group.Snapshots, newSnapshotReport(sn))
		}
		if p.out.json && !grouped {
			for _, s := range group.Snapshots {
				p.out.printJSON(s)
			}
			continue
		}
		if i > 0 && !p.out.json {
			p.out.printf("\n")
		}
		p.out.print(group)
	}
	if !p.out.json {
		p.out.printf("%s\n", plural(len(snapshots), "snapshot"))
	}
}
