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
		found, err := restore.NewSurvey(ctx, rd, sn, conn, restore.SurveyOptions{Selection: streamlog.Selection{Names: streams, All: len(streams) == 0}})
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

// nextSteps are the commands to run next; chosen is whether only some of the snapshot's streams were looked at. The snapshot is named by its ID: another backup may come first, and be latest.
func nextSteps(v *restore.Survey, chosen bool) (steps []stepReport) {
	by := map[restore.Health][]string{}
	var unfinished, lostConsumers, lateConsumers, waiting []string
	for _, s := range v.Streams {
		if s.Unfinished && s.Health.IsProblem() {
			unfinished = append(unfinished, s.Name)
			continue
		}
		by[s.Health] = append(by[s.Health], s.Name)
		health := map[restore.Health]bool{}
		for _, c := range s.Consumers {
			health[c.Health] = true
		}
		if health[restore.Lost] {
			lostConsumers = append(lostConsumers, s.Name)
		}
		if health[restore.Behind] {
			lateConsumers = append(lateConsumers, s.Name)
		}
		if s.Health == restore.CatchingUp || health[restore.CatchingUp] || health[restore.NoQuorum] {
			waiting = append(waiting, s.Name)
		}
	}
	id := v.Snapshot.ID().Short()
	add := func(names []string, why, command string) {
		if len(names) > 0 {
			steps = append(steps, stepReport{command, strings.Join(names, ", ") + ": " + why})
		}
	}
	restoreOf := func(flags string, names []string) string { return "jetsam restore " + id + flags + words(names) }
	lost := by[restore.Lost]
	if !chosen { // and --missing finds out by itself
		lost = nil
	}
	all := append(slices.Clone(by[restore.Behind]), by[restore.Diverged]...)
	slices.Sort(all)
	add(by[restore.NoQuorum], "not lost, and nothing to restore: start the servers that hold them, then look again", "")
	if len(by[restore.NoQuorum]) == 0 { // else it would stand beside other steps as something to wait for only
		add(waiting, "their servers bring them in order: leave them alone", "")
	}
	add(by[restore.Lost], "lost: this restores what does not exist, and touches nothing else", restoreOf(" --missing", lost))
	add(unfinished, "a restore of it did not end: this ends it", restoreOf("", unfinished))
	add(all, "not what the snapshot has: this says what putting the snapshot in its place would do; without --dry-run it backs up what is there, and does it", restoreOf(" --replace --dry-run", all))
	add(lostConsumers, "it has lost consumers: this makes them anew behind what they had acknowledged, unless somebody removed them on purpose", restoreOf(" --consumers-only --skip-existing", lostConsumers))
	add(lateConsumers, "its consumers went back, and deliver again what they had acknowledged; if that must not be, remove them with `nats consumer rm`, and this makes them anew", restoreOf(" --consumers-only --skip-existing", lateConsumers))
	add(by[restore.Unknown], "could not be compared, see above why", "")
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
