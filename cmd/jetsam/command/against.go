package command

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// conditionReport is how a stream of a snapshot stands on the server.
type conditionReport struct {
	MessageType     string                    `json:"message_type"` // "stream_condition"
	Name            string                    `json:"name"`
	Health          string                    `json:"health"`
	Why             string                    `json:"why,omitempty"`
	SnapshotContent extentReport              `json:"in_snapshot"`
	ServerContent   *extentReport             `json:"on_server,omitempty"`
	Changes         []string                  `json:"config_changes,omitempty"`
	Damage          string                    `json:"damage,omitempty"`
	Unfinished      bool                      `json:"unfinished_restore,omitempty"`
	Consumers       []consumerConditionReport `json:"consumers,omitempty"`
}

type extentReport struct {
	Messages uint64 `json:"messages"`
	LastSeq  uint64 `json:"last_seq"`
}

type consumerConditionReport struct {
	Name   string `json:"name"`
	Health string `json:"health"`
	Why    string `json:"why,omitempty"`
}

// stepReport is what to do next.
type stepReport struct {
	Command string `json:"command,omitempty"` // empty where there is none
	Why     string `json:"why"`
}

// surveyReport is what there is to say of all.
type surveyReport struct {
	MessageType string       `json:"message_type"` // "survey"
	Snapshot    string       `json:"snapshot_id"`
	Streams     int          `json:"streams"`
	Problems    int          `json:"problems"` // streams and consumers for which something has to be done
	Missing     []string     `json:"not_captured,omitempty"`
	Next        []stepReport `json:"next"` // empty: nothing is to be done
	disturbances

	streams []conditionReport
}

func (r *surveyReport) text(o *output) {
	l := newListing("Stream", "Messages>", "Last seq>", "In snapshot>", "Last seq>", "", "")
	for _, s := range r.streams {
		messages, last := "-", "-"
		if s.ServerContent != nil {
			messages, last = formatCount(s.ServerContent.Messages), formatCount(s.ServerContent.LastSeq)
		}
		l.row(s.Name, messages, last, formatCount(s.SnapshotContent.Messages), formatCount(s.SnapshotContent.LastSeq), s.Health, s.Why)
		for _, c := range s.Consumers {
			if c.Health != string(restore.Healthy) {
				l.row("  consumer "+c.Name, "", "", "", "", c.Health, c.Why)
			}
		}
	}
	o.table(l)
	for _, step := range r.Next {
		o.printf("%s\n", step.Why)
		if step.Command != "" {
			o.printf("  %s\n", step.Command)
		}
	}
	if len(r.Next) == 0 {
		o.printf("nothing is to be done\n")
	}
}

// against looks how the streams of a snapshot stand on the server.
func (p *program) against(c *cli.Context, name string, streams []string) error {
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		sn, err := snapshotSelector(c).find(ctx, r, name)
		if err != nil {
			return err
		}
		rd, err := p.loadIndex(ctx, r)
		if err != nil {
			return err
		}
		conn, err := p.connect(ctx, c)
		if err != nil {
			return err
		}
		defer conn.Close()
		found, err := restore.NewSurvey(ctx, rd, sn, conn, streamlog.Selection{Names: streams, All: len(streams) == 0})
		if err != nil {
			return err
		}
		report := newSurveyReport(found, len(streams) > 0)
		p.tellSurvey(found, report)
		if report.Problems > 0 {
			return &damageError{fmt.Sprintf("%s on the server not as in snapshot %s, or not to be seen; what to do is said above", are(report.Problems), sn.ID().Short())}
		}
		return nil
	})
}

// are counts things that have to be cared for.
func are(n int) string {
	if n == 1 {
		return "1 stream or consumer is"
	}
	return formatCount(uint64(n)) + " streams and consumers are"
}

func newSurveyReport(v *restore.Survey, chosen bool) *surveyReport {
	r := &surveyReport{MessageType: "survey", Snapshot: v.Snapshot.ID().String(), Streams: len(v.Streams)}
	for _, f := range v.Missing {
		r.Missing = append(r.Missing, f.Name)
	}
	for _, s := range v.Streams {
		report := conditionReport{
			MessageType: "stream_condition", Name: s.Name, Health: string(s.Health), Why: s.Why, Changes: s.Changes, Unfinished: s.Unfinished,
			SnapshotContent: extentReport(s.Snapshot),
		}
		if s.Server != nil {
			report.ServerContent = &extentReport{s.Server.Messages, s.Server.LastSeq}
		}
		if s.Damage != nil {
			report.Damage = s.Damage.Error()
		}
		if s.Health.IsProblem() {
			r.Problems++
		}
		for _, c := range s.Consumers {
			report.Consumers = append(report.Consumers, consumerConditionReport{c.Name, string(c.Health), c.Why})
			if c.Health.IsProblem() {
				r.Problems++
			}
		}
		r.streams = append(r.streams, report)
	}
	r.Next = nextSteps(v, chosen)
	return r
}

func (p *program) tellSurvey(v *restore.Survey, r *surveyReport) {
	for _, w := range v.Warnings {
		p.out.warn("%s", w)
	}
	for _, s := range r.streams {
		for _, change := range s.Changes {
			p.out.note("stream %s: its configuration has changed since: %s", s.Name, change)
		}
		if s.Damage != "" {
			p.out.warn("the snapshot does not hold stream %s whole: %s", s.Name, s.Damage)
		}
		if p.out.json {
			p.out.printJSON(s)
		}
	}
	p.out.print(r)
}

// nextSteps are the commands to run next; chosen is whether only some of the snapshot's streams were looked at. The snapshot is named by its ID:
// another backup may come first, and be latest.
func nextSteps(v *restore.Survey, chosen bool) (steps []stepReport) {
	var unfinished, away, waiting, lost, others, unknown, lostConsumers, lateConsumers []string
	for _, s := range v.Streams {
		put := func(list *[]string, here bool) {
			if here {
				*list = append(*list, s.Name)
			}
		}
		consumers := func(h restore.Health) bool {
			return slices.ContainsFunc(s.Consumers, func(c restore.ConsumerCondition) bool { return c.Health == h })
		}
		if s.Unfinished && s.Health.IsProblem() {
			put(&unfinished, true)
			continue
		}
		put(&away, s.Health == restore.NoQuorum || consumers(restore.NoQuorum))
		put(&waiting, s.Health == restore.CatchingUp || consumers(restore.CatchingUp))
		put(&lost, s.Health == restore.Lost)
		put(&others, s.Health == restore.Behind || s.Health == restore.Diverged)
		put(&unknown, s.Health == restore.Unknown || consumers(restore.Unknown))
		put(&lostConsumers, consumers(restore.Lost))
		put(&lateConsumers, consumers(restore.Behind))
	}
	step := func(names []string, why, flags string, chosen []string) {
		if len(names) == 0 {
			return
		}
		s := stepReport{Why: strings.Join(names, ", ") + ": " + why}
		if chosen != nil {
			s.Command = "jetsam restore " + v.Snapshot.ID().Short() + flags + words(chosen)
		}
		steps = append(steps, s)
	}
	missing := []string{} // which --missing finds out by itself
	if chosen {
		missing = lost
	}
	step(away, "not lost, and nothing to restore: start the servers that hold them, then look again", "", nil)
	step(waiting, "their servers bring them in order: leave them alone", "", nil)
	step(lost, "lost: this restores what does not exist, and touches nothing else", " --missing", missing)
	step(unfinished, "a restore did not end: this ends it", "", unfinished)
	step(others, "not what the snapshot has: this says what putting the snapshot in their place would do; without --dry-run it backs up what is there, and does it", " --replace --dry-run", others)
	step(lostConsumers, "consumers are lost: this makes them anew behind what they had acknowledged, unless somebody removed them on purpose", " --consumers-only --skip-existing", lostConsumers)
	step(lateConsumers, "consumers went back, and deliver again what they had acknowledged; if that must not be, remove them with `nats consumer rm`, and this makes them anew", " --consumers-only --skip-existing", lateConsumers)
	step(unknown, "could not be compared, the table says why", "", nil)
	return steps
}

// words are names of streams as a shell takes them.
func words(names []string) string {
	var b strings.Builder
	if slices.ContainsFunc(names, func(name string) bool { return name[0] == '-' }) {
		b.WriteString(" --")
	}
	for _, name := range names {
		if strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(plainRunes, r) }) {
			name = "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
		}
		b.WriteString(" " + name)
	}
	return b.String()
}

// plainRunes mean nothing to a shell.
const plainRunes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+.,:@"
