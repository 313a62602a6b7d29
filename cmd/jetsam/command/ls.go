package command

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// streamReport is one stream of a snapshot.
type streamReport struct {
	MessageType string     `json:"message_type"` // "stream"
	Name        string     `json:"name"`
	Messages    uint64     `json:"messages"`
	Bytes       uint64     `json:"bytes"` // of subjects, headers and payloads
	FirstSeq    uint64     `json:"first_seq"`
	LastSeq     uint64     `json:"last_seq"`
	FirstTime   *time.Time `json:"first_time,omitempty"`
	LastTime    *time.Time `json:"last_time,omitempty"`
	Captured    *time.Time `json:"captured,omitempty"` // when the server took the state; absent where that is lost
	Consumers   []string   `json:"consumers"`
	Torn        string     `json:"torn,omitempty"`      // why messages may be missing
	Recreated   string     `json:"recreated,omitempty"` // that an earlier snapshot holds another stream of that name
	Error       string     `json:"error,omitempty"`     // why the stream cannot be read; the rest is unknown then

	Failed []failedConsumerReport `json:"failed_consumers,omitempty"`
}

// failedReport is a stream that the backup could not read.
type failedReport struct {
	MessageType string `json:"message_type"` // "failed_stream"
	Name        string `json:"name"`
	Error       string `json:"error"`
}

// contentsReport is what a snapshot holds.
type contentsReport struct {
	MessageType string                  `json:"message_type"` // "snapshot_contents"
	ID          string                  `json:"id"`
	Time        time.Time               `json:"time"`
	Account     string                  `json:"account"`
	Server      streamlog.AccountServer `json:"server"`
	Streams     int                     `json:"streams"`
	Failed      int                     `json:"failed_streams"`

	streams []streamReport
	failed  []streamlog.FailedStream
}

func (r contentsReport) text(o *output) {
	o.printf("snapshot %s of account %s, %s\n\n", r.ID[:10], r.Account, localTime(r.Time))
	l := newListing("Stream", "Messages>", "Size>", "Sequences", "Times", "Consumers>", "")
	for _, s := range r.streams {
		if s.Error != "" {
			l.row(s.Name, "", "", "", "", "", "DAMAGED: "+s.Error)
			continue
		}
		remark := ""
		if s.Torn != "" {
			remark = "torn: " + s.Torn
		} else if len(s.Failed) > 0 {
			remark = "without " + plural(len(s.Failed), "consumer") + " that no server told of"
		} else if s.Recreated != "" {
			remark = s.Recreated
		}
		l.row(s.Name, formatCount(s.Messages), formatSize(s.Bytes), sequences(s.FirstSeq, s.LastSeq), span(s.FirstTime, s.LastTime), len(s.Consumers), remark)
	}
	for _, f := range r.failed {
		l.row(f.Name, "", "", "", "", "", "not backed up: "+f.Error)
	}
	o.table(l)
	o.printf("%s%s\n", plural(len(r.streams), "stream"), r.spread())
}

// spread says how far apart the streams were captured.
func (r contentsReport) spread() string {
	var first, last time.Time
	for _, s := range r.streams {
		if s.Captured == nil {
			return ""
		}
		if first.IsZero() || s.Captured.Before(first) {
			first = *s.Captured
		}
		if s.Captured.After(last) {
			last = *s.Captured
		}
	}
	switch {
	case len(r.streams) == 0:
		return ""
	case len(r.streams) == 1:
		return ", captured on " + localTime(first)
	}
	return fmt.Sprintf(", captured within %v from %s on", last.Sub(first).Round(time.Millisecond), localTime(first))
}

func sequences(first, last uint64) string { return fmt.Sprintf("%d to %d", first, last) }

// span writes a range of times for people, the day only once.
func span(first, last *time.Time) string {
	switch {
	case first == nil || last == nil:
		return ""
	case localTime(*first)[:10] == localTime(*last)[:10]:
		return localTime(*first) + " to " + localTime(*last)[11:]
	}
	return localTime(*first) + " to " + localTime(*last)
}

func (p *program) lsCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:      "ls",
		Usage:     "list the streams in a snapshot, or the subjects of one",
		ArgsUsage: "SNAPSHOT [STREAM]",
		Description: "SNAPSHOT is an ID, the beginning of one, or latest.\n" +
			"Sequences and times are those that the server reported when the stream was captured.\n" +
			"With a stream, its subjects are listed: all of its messages are read for that.",
		Action: p.ls,
	})
}

func (p *program) ls(c *cli.Context) error {
	args, err := arguments(c, 1, 2)
	if err != nil {
		return err
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		sn, err := snapshotSelector(c).find(ctx, r, args[0])
		if err != nil {
			return err
		}
		rd, err := p.loadIndex(ctx, r)
		if err != nil {
			return err
		}
		if len(args) > 1 {
			return p.lsSubjects(ctx, rd, sn, args[1])
		}
		report, err := p.contentsOf(ctx, rd, sn)
		if err != nil {
			return err
		}
		p.printContents(report)
		return report.damage()
	})
}

// contentsOf reads what a snapshot holds. Streams that cannot be read are in the report, with the reason.
func (p *program) contentsOf(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot) (*contentsReport, error) {
	held, err := streamlog.Open(ctx, rd, sn.Tree)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", sn.ID().Short(), err)
	}
	if held.AccountErr != nil {
		p.out.warn("what the snapshot says of the whole account cannot be read, the streams can: %v", held.AccountErr)
	}
	r := &contentsReport{
		MessageType: "snapshot_contents", ID: sn.ID().String(), Time: sn.Time,
		Account: held.Account.Account, Server: held.Account.Server,
		Streams: len(held.Streams), Failed: len(held.Account.Failed), failed: held.Account.Failed,
	}
	captured := map[string]time.Time{}
	for _, c := range held.Account.Captured {
		captured[c.Name] = c.Captured
	}
	for _, s := range held.Streams {
		report, err := describeStream(ctx, s)
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if repo.IsUnread(err) {
				return nil, err
			}
			report = streamReport{MessageType: "stream", Name: s.Name, Error: err.Error()}
		}
		report.Captured = known(captured[s.Name])
		r.streams = append(r.streams, report)
	}
	return r, nil
}

func describeStream(ctx context.Context, s *streamlog.Stream) (streamReport, error) {
	if s.Err != nil {
		return streamReport{}, s.Err
	}
	head, err := s.Head(ctx)
	if err != nil {
		return streamReport{}, err
	}
	state, err := archive.ParseState(s.Document.State)
	if err != nil {
		return streamReport{}, fmt.Errorf("stream %s: %w", s.Name, err)
	}
	capture := s.Document.Jetsam
	r := streamReport{
		MessageType: "stream", Name: s.Name, Messages: capture.Messages, Bytes: capture.MessageBytes,
		FirstSeq: state.FirstSeq, LastSeq: state.LastSeq, Consumers: []string{}, Torn: capture.Torn, Recreated: capture.Recreated, Failed: newFailedConsumerReports(capture.Failed),
	}
	if state.Messages > 0 {
		r.FirstTime, r.LastTime = &state.FirstTime, &state.LastTime
	}
	for _, consumer := range head.Consumers {
		r.Consumers = append(r.Consumers, consumer.Name)
	}
	return r, nil
}

func (p *program) printContents(r *contentsReport) {
	p.out.print(r)
	if !p.out.json {
		return
	}
	for _, s := range r.streams {
		p.out.printJSON(s)
	}
	for _, f := range r.failed {
		p.out.printJSON(failedReport{"failed_stream", f.Name, f.Error})
	}
}

// damage is the error of a listing in which some streams cannot be read.
func (r *contentsReport) damage() error {
	var damaged []string
	for _, s := range r.streams {
		if s.Error != "" {
			damaged = append(damaged, s.Name)
		}
	}
	if len(damaged) == 0 {
		return nil
	}
	return &damageError{fmt.Sprintf("snapshot %s: %s cannot be read: %s\n`jetsam check --read-data` tells what is damaged; the other streams can be restored",
		r.ID[:10], plural(len(damaged), "stream"), abridged(damaged))}
}
