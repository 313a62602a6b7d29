package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// Modes of stats.
const (
	modeStreams     = "streams"
	modeRestoreSize = "restore-size"
	modeRawData     = "raw-data"
)

// streamStats is what the snapshots hold of a stream.
type streamStats struct {
	MessageType string `json:"message_type"` // "stream_stats"
	Account     string `json:"account"`
	Name        string `json:"name"`
	Snapshots   int    `json:"snapshots"` // that hold it
	Messages    uint64 `json:"messages"`  // in the newest of them
	Bytes       uint64 `json:"bytes"`     // likewise, of subjects, headers and payloads
	RestoreSize uint64 `json:"restore_size"`
	sizes
}

// sizes are those of the blobs that something needs, each counted once.
type sizes struct {
	Blobs  int    `json:"blobs"`
	Plain  uint64 `json:"uncompressed_size"`
	Stored uint64 `json:"stored_size"` // as they lie in the repository, encrypted
}

// statsReport is what all chosen snapshots hold together.
type statsReport struct {
	MessageType string  `json:"message_type"` // "stats"
	Mode        string  `json:"mode"`
	Snapshots   int     `json:"snapshots"`
	Streams     int     `json:"streams"`
	Messages    uint64  `json:"messages"`     // the sum over the snapshots
	RestoreSize uint64  `json:"restore_size"` // likewise, in bytes
	Dedup       float64 `json:"dedup_ratio"`  // restore size over uncompressed size
	Compression float64 `json:"compression_ratio"`
	sizes
	disturbances

	streams []*streamStats
}

func (r *statsReport) text(o *output) {
	if r.Mode == modeStreams {
		l := newListing("Stream", "Snapshots>", "Messages>", "Size>", "Size in all>", "Stored>")
		for _, s := range r.streams {
			l.row(s.Name, s.Snapshots, formatCount(s.Messages), formatSize(s.Bytes), formatSize(s.RestoreSize), formatSize(s.Stored))
		}
		o.table(l)
		o.printf("Messages and Size are those of each stream's newest snapshot.\n\n")
	}
	o.printf("%s of %s\n", plural(r.Snapshots, "snapshot"), plural(r.Streams, "stream"))
	if r.Mode != modeRawData {
		o.printf("restore size   %s, %s messages\n", formatSize(r.RestoreSize), formatCount(r.Messages))
	}
	if r.Mode != modeRestoreSize {
		o.printf("stored         %s in %s, %s uncompressed\n", formatSize(r.Stored), plural(r.Blobs, "blob"), formatSize(r.Plain))
		o.printf("deduplication  %.2fx, compression %.2fx\n", r.Dedup, r.Compression)
	}
}

func (p *program) statsCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:        "stats",
		Usage:       "tell how large the snapshots are, and what they take in the repository",
		ArgsUsage:   "[SNAPSHOT…]",
		Description: "Of all snapshots, unless some are named or chosen.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "mode", Usage: "what to tell: `streams`, restore-size or raw-data", Value: modeStreams},
		},
		Action: p.stats,
	})
}

func (p *program) stats(c *cli.Context) error {
	mode := c.String("mode")
	if !slices.Contains([]string{modeStreams, modeRestoreSize, modeRawData}, mode) {
		return usagef("--mode %q is not known; it is %s, %s or %s", mode, modeStreams, modeRestoreSize, modeRawData)
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		chosen, err := p.chosenSnapshots(ctx, c, r)
		if err != nil {
			return err
		}
		rd, err := p.loadIndex(ctx, r)
		if err != nil {
			return err
		}
		report, err := gatherStats(ctx, rd, chosen, mode)
		if err != nil {
			return err
		}
		if p.out.json && mode == modeStreams {
			for _, s := range report.streams {
				p.out.printJSON(s)
			}
		}
		p.out.print(report)
		return nil
	})
}

// gatherStats walks the trees of the snapshots, the oldest first.
func gatherStats(ctx context.Context, rd *repo.Reader, snapshots []*snapshot.Snapshot, mode string) (*statsReport, error) {
	r := &statsReport{MessageType: "stats", Mode: mode, Snapshots: len(snapshots)}
	g := &gatherer{ctx: ctx, rd: rd, report: r, walk: newTreeWalk(rd), byName: make(map[string]int)}
	for _, sn := range snapshots {
		if err := g.snapshot(sn); err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", sn.ID().Short(), err)
		}
	}
	r.Streams = len(r.streams)
	whole, each := g.walk.sizes(len(r.streams))
	r.sizes = whole
	for i, s := range r.streams {
		s.sizes = each[i]
	}
	if r.Plain > 0 {
		r.Dedup, r.Compression = float64(r.RestoreSize)/float64(r.Plain), float64(r.Plain)/float64(r.Stored)
	}
	slices.SortFunc(r.streams, func(a, b *streamStats) int {
		return strings.Compare(a.Account+"/"+a.Name, b.Account+"/"+b.Name)
	})
	return r, nil
}

type gatherer struct {
	ctx    context.Context
	rd     *repo.Reader
	report *statsReport
	walk   *treeWalk
	byName map[string]int // number of the stream "ACCOUNT/NAME", in escaped form
}

func (g *gatherer) snapshot(sn *snapshot.Snapshot) error {
	size, err := g.walk.tree(g.ctx, sn.Tree, nobody)
	if err != nil {
		return err
	}
	g.report.RestoreSize += size
	held, err := streamlog.Open(g.ctx, g.rd, sn.Tree)
	if errors.Is(err, streamlog.ErrNoStreams) {
		return nil // of restic: it counts as a whole
	}
	if err != nil {
		return err
	}
	for _, s := range held.Streams {
		if s.Err != nil {
			return s.Err
		}
		if err := g.stream(held.Account.Account, s); err != nil {
			return err
		}
	}
	return nil
}

func (g *gatherer) stream(account string, s *streamlog.Stream) error {
	key := streamlog.EscapeName(account) + "/" + streamlog.EscapeName(s.Name)
	number, ok := g.byName[key]
	if !ok {
		number = len(g.report.streams)
		g.byName[key] = number
		g.report.streams = append(g.report.streams, &streamStats{MessageType: "stream_stats", Account: account, Name: s.Name})
	}
	size, err := g.walk.tree(g.ctx, s.Node().Subtree, number)
	if err != nil {
		return err
	}
	stats := g.report.streams[number]
	stats.Snapshots++
	stats.Messages, stats.Bytes = s.Document.Jetsam.Messages, s.Document.Jetsam.MessageBytes
	stats.RestoreSize += size
	g.report.Messages += stats.Messages
	return nil
}
