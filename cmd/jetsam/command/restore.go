package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
)

// restoredReport is what became, or would become, of one stream.
type restoredReport struct {
	MessageType   string       `json:"message_type"` // "stream", or "planned_stream" of a dry run
	Name          string       `json:"name"`
	Source        string       `json:"source,omitempty"`      // its name in the snapshot, where that is another
	Snapshot      string       `json:"snapshot_id,omitempty"` // that it is taken from
	Path          string       `json:"path,omitempty"`        // of the directory that it is exported to
	Messages      uint64       `json:"messages"`
	Bytes         uint64       `json:"bytes"` // of subjects, headers and payloads, as "backup" counts them
	FirstSeq      uint64       `json:"first_seq,omitempty"`
	LastSeq       uint64       `json:"last_seq,omitempty"`
	Consumers     int          `json:"consumers"`
	Outcome       string       `json:"outcome"` // "restored", "verified", "exported", "salvaged", "skipped", "failed", "not captured"; "nothing chosen" where a cut leaves nothing; "updated", "configured" and "consumers added" where only that was wanted; of a dry run "restore", "export", "salvage", "replace", "finish", "skip", "update", "configure", "add consumers", "conflict", "damaged", "not captured"
	Lost          []lostReport `json:"lost,omitempty"`
	LostConsumers []string     `json:"lost_consumers,omitempty"`
	Warnings      []string     `json:"warnings,omitempty"`
	Changes       []string     `json:"config_changes,omitempty"`    // of a stream whose configuration is updated
	Saved         string       `json:"saved_snapshot_id,omitempty"` // of the stream that was replaced
	Seconds       float64      `json:"seconds,omitempty"`
	Error         string       `json:"error,omitempty"`
}

// deed is what is done with streams, in the words of reports.
type deed struct {
	do, done string
	verified string // the outcome of a stream that was read back
	left     string // what the warnings say of a stream that failed, besides why
}

func restoring() deed {
	return deed{"restore", "restored", "verified", ", and what is left of them on the server"}
}

// planned is the outcome in a dry run of a stream with which nothing is wrong, and ended that of a run.
func (d deed) planned(a restore.Action) string {
	switch a {
	case restore.Skip:
		return "skip"
	case restore.Replace:
		return "replace"
	case restore.Update:
		return "update"
	case restore.Configure:
		return "configure"
	case restore.AddConsumers:
		return "add consumers"
	}
	return d.do
}

func (d deed) ended(a restore.Action) string {
	switch a {
	case restore.Skip:
		return "skipped"
	case restore.Update:
		return "updated"
	case restore.Configure:
		return "configured"
	case restore.AddConsumers:
		return "consumers added"
	}
	return d.done
}

// outcomeNothing is that of a stream of which a cut leaves nothing.
const outcomeNothing = "nothing chosen"

// outcomeLeftAlone is that of a stream that exists, may not be whole, and is not touched.
const outcomeLeftAlone = "left alone"

// title is the stream's name, and the one that it had.
func (r *restoredReport) title() string {
	if r.Source == "" {
		return r.Name
	}
	return r.Source + " as " + r.Name
}

// sourceOf is the name that a stream had, where it has another now.
func sourceOf(source, name string) string {
	if source == name {
		return ""
	}
	return source
}

// restoreReport is what a run did, or would do.
type restoreReport struct {
	MessageType string  `json:"message_type"`   // "summary", or "plan" of a dry run
	Snapshot    string  `json:"snapshot_id"`    // with "at", the newest that was used
	At          string  `json:"at,omitempty"`   // the time that the streams are restored as of
	Path        string  `json:"path,omitempty"` // of the directory that they are exported to
	Streams     int     `json:"streams"`        // restored
	Skipped     int     `json:"skipped_streams"`
	LeftAlone   int     `json:"left_alone_streams,omitempty"` // that exist and may not be whole, where what exists was not to be touched
	Salvaged    int     `json:"salvaged_streams"`             // restored without what is lost
	Failed      int     `json:"failed_streams"`
	Messages    uint64  `json:"messages"`
	Bytes       uint64  `json:"bytes"`
	Verified    bool    `json:"verified"` // every message and consumer was read back and is equal
	Seconds     float64 `json:"seconds,omitempty"`
	disturbances

	deed    deed
	streams []restoredReport
}

func (r *restoreReport) text(o *output) {
	l := newListing("Stream", "Messages>", "Size>", "Consumers>", "")
	for _, s := range r.streams {
		l.row(s.title(), formatCount(s.Messages), formatSize(s.Bytes), s.Consumers, s.Outcome)
	}
	o.table(l)
	if r.MessageType == "plan" {
		o.printf("would %s %s, %s messages, %s; nothing was changed\n", r.deed.do, plural(r.Streams, "stream"), formatCount(r.Messages), r.source())
		return
	}
	equal := ""
	if r.Verified {
		equal = ", every message and consumer read back and equal"
	}
	if r.Salvaged > 0 {
		equal += fmt.Sprintf("; %s without what is lost", plural(r.Salvaged, "stream"))
	}
	if r.Skipped > 0 {
		equal += fmt.Sprintf("; %s left as they were", plural(r.Skipped, "stream"))
	}
	if r.LeftAlone > 0 {
		equal += fmt.Sprintf("; %s left alone, in whatever state", plural(r.LeftAlone, "stream"))
	}
	if r.Failed > 0 {
		equal += fmt.Sprintf("; %s failed", plural(r.Failed, "stream"))
	}
	o.printf("%s %s, %s messages, %s in %s%s\n", r.deed.done, plural(r.Streams, "stream"), formatCount(r.Messages), r.source(), took(r.Seconds), equal)
}

// source says what was restored, and where to if it was exported.
func (r *restoreReport) source() string {
	if r.Path == "" {
		return r.snapshots()
	}
	return r.snapshots() + " to " + r.Path
}

func (r *restoreReport) snapshots() string {
	var used []string
	for _, s := range r.streams {
		if s.Snapshot != "" && !slices.Contains(used, s.Snapshot[:10]) {
			used = append(used, s.Snapshot[:10])
		}
	}
	switch {
	case r.At == "":
		return "from snapshot " + r.Snapshot[:10]
	case len(used) == 1:
		return "as of " + r.At + ", from snapshot " + used[0]
	}
	return "as of " + r.At + ", from snapshots " + strings.Join(used, ", ")
}

// add counts a stream.
func (r *restoreReport) add(s restoredReport) {
	switch s.Outcome {
	case "restored", "verified", "exported", "restore", "export", "replace", "finish", outcomeSalvaged, outcomeSalvage,
		"updated", "configured", "consumers added", "update", "configure", "add consumers":
		r.Streams++
		r.Messages += s.Messages
		r.Bytes += s.Bytes
		if s.Outcome == outcomeSalvaged || s.Outcome == outcomeSalvage {
			r.Salvaged++
		}
	case "skipped", "skip":
		r.Skipped++
	case outcomeLeftAlone:
		r.LeftAlone++
	case outcomeNothing:
	default:
		r.Failed++
	}
	r.streams = append(r.streams, s)
}

func (p *program) printRestore(r *restoreReport) {
	if p.out.json {
		for _, s := range r.streams {
			p.out.printJSON(s)
		}
	}
	p.out.print(r)
}

func (p *program) restoreCommand() *cli.Command {
	return p.command(needsRepository|needsServer|needsSnapshots, &cli.Command{
		Name:      "restore",
		Usage:     "restore streams into a server",
		ArgsUsage: "[SNAPSHOT] [STREAM…]",
		Description: "SNAPSHOT is an ID, the beginning of one, or latest, which is also meant where nothing is given. With --at, latest is the\n" +
			"newest snapshot of that time, and what came after it and by then is taken from the next one. Without names or globs,\n" +
			"all streams of the snapshot are restored. What cannot be restored is refused before anything is changed; a stream that\n" +
			"exists on the server is not touched, unless --update-config or --replace says so, or it is what a killed restore left\n" +
			"and nobody has used since.",
		Flags: append(slices.Concat(selectionFlags(), cutFlags(), targetFlags(), existingFlags()),
			&cli.BoolFlag{Name: "keep-last-seq", DisableDefaultText: true, Usage: "let what is published next follow the stream's last sequence, not that of the cut"},
			&cli.BoolFlag{Name: "keep-sources", DisableDefaultText: true, Usage: "let a stream of which only some messages are restored go on copying from its mirror and sources"},
			&cli.BoolFlag{Name: "no-consumers", DisableDefaultText: true, Usage: "leave consumers out"},
			&cli.BoolFlag{Name: "skip-damaged", DisableDefaultText: true, Usage: "restore what is whole of damaged streams, and name what is lost"},
			&cli.BoolFlag{Name: "drop-unsupported", DisableDefaultText: true, Usage: "leave out what an older server does not know of configurations, instead of refusing the streams", Category: targetHeading},
			&cli.BoolFlag{Name: "verify", DisableDefaultText: true, Usage: "read every restored message and consumer back and compare"},
			concurrencyFlag("restore `N` streams"),
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be restored, and stop there"},
		),
		Action: p.restore,
	})
}

func (p *program) restore(c *cli.Context) error {
	name, o, err := restoreOptions(c, p.now())
	if err != nil {
		return err
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		from, rd, err := p.origin(ctx, c, r, name, o.Cut)
		if err != nil {
			return err
		}
		conn, err := p.connect(ctx, c)
		if err != nil {
			return err
		}
		defer conn.Close()
		var bars *progress
		o.Progress = func(x restore.Progress) { bars.report(restoreStep(x)) }
		if len(o.Cut.Subjects) > 0 { // which are looked for in all messages
			bars = p.showProgress("message")
		}
		safe := &safety{p: p, c: c, r: r, rd: rd, conn: conn}
		o.Save = safe.save
		plan, err := from.plan(ctx, rd, conn, o)
		safe.plan = plan
		bars.finish()
		where := p.tellPlan(ctx, r, rd, plan, err)
		if err == nil && c.Bool("dry-run") {
			err = plan.Probe(ctx)
		}
		if plan != nil && c.Bool("dry-run") {
			p.tellPlannedLosses(plan)
			err = p.tellConflicts(err)
			p.printRestore(newPlanReport(plan, restoring()))
		}
		if err != nil {
			return summarised(err, where)
		}
		if c.Bool("dry-run") {
			return plannedDamage(plan, where, restoring())
		}
		bars = p.showProgress("message")
		res, err := plan.Run(ctx)
		bars.finish()
		return errors.Join(err, p.restored(plan, res, where, newRestoreReport("summary", plan, restoring())))
	})
}

// restoreOptions are the snapshot's name and what the flags say. What a command has no flag for is as if it were not given.
func restoreOptions(c *cli.Context, now time.Time) (name string, o restore.Options, err error) {
	name, streams := snapshot.Latest, c.Args().Slice()
	if len(streams) > 0 {
		name, streams = streams[0], streams[1:]
	}
	if o.Selection, err = selection(c, streams); err != nil {
		return name, o, err
	}
	o.Selection.All = len(o.Selection.Names) == 0
	if o.Cut, err = cut(c, now); err != nil {
		return name, o, err
	}
	if o.Target, err = target(c); err != nil {
		return name, o, err
	}
	o.Cut.KeepLastSeq = c.Bool("keep-last-seq")
	o.KeepSources = c.Bool("keep-sources")
	o.NoConsumers = c.Bool("no-consumers")
	if o.Existing, o.Parts, err = existing(c); err != nil {
		return name, o, err
	}
	o.SkipDamaged = c.Bool("skip-damaged")
	o.Verify = c.Bool("verify")
	o.Concurrency, err = concurrency(c)
	return name, o, err
}

func restoreStep(x restore.Progress) step {
	s := step{name: x.Stream, done: x.Messages, total: x.Total, bytes: x.Bytes, ended: x.Done}
	if x.Stage != restore.Sending {
		s.stage = x.Stage
	}
	return s
}

// tellPlan tells of a plan, also of one that failed with err, unless that is for what was asked; where are the streams that its snapshot lacks.
func (p *program) tellPlan(ctx context.Context, r *repo.Repo, rd *repo.Reader, plan *restore.Plan, err error) (where string) {
	var request *restore.RequestError
	if plan == nil || errors.As(err, &request) {
		return ""
	}
	p.warnOfPlan(plan)
	if len(plan.Missing) == 0 {
		return ""
	}
	return whereMissing(elsewhere(ctx, r, rd, plan.Snapshot, plan.Missing))
}

// warnOfPlan tells of what the user may not expect, of each stream.
func (p *program) warnOfPlan(plan *restore.Plan) {
	for _, w := range plan.Warnings {
		p.out.warn("%s", w)
	}
	if nothingMissing(plan) {
		p.out.note("no stream of the snapshot is missing on the server")
	}
	var all crowd
	for _, s := range plan.Streams {
		if s.LeftAlone != "" {
			all.add(p.out.warn, s.Name, fmt.Sprintf("stream %s exists on the server and is left as it is: %s", s.Name, s.LeftAlone), " exist on the server and are left as they are: "+s.LeftAlone)
			continue
		}
		if s.Action == restore.Skip {
			all.add(p.out.note, s.Name, fmt.Sprintf("stream %s exists on the server and is left as it is", s.Name), " exist on the server and are left as they are")
			continue
		}
		if s.Nothing != "" {
			all.add(p.out.warn, s.Source, fmt.Sprintf("stream %s is left out: %s", s.Source, s.Nothing), " are left out: "+s.Nothing)
			continue
		}
		for _, w := range s.Warnings {
			all.add(p.out.warn, s.Name, fmt.Sprintf("stream %s: %s", s.Name, w), ": "+w)
		}
		for _, change := range s.Changes {
			all.add(p.out.note, s.Name, fmt.Sprintf("stream %s: configuration: %s", s.Name, change), ": configuration: "+change)
		}
	}
	all.tell()
}

// nothingMissing says whether a restore of what is missing has nothing to do.
func nothingMissing(plan *restore.Plan) bool {
	return plan.Options.Existing == restore.MissingOnly &&
		!slices.ContainsFunc(plan.Streams, func(s *restore.StreamPlan) bool { return s.Action != restore.Skip })
}

// newRestoreReport says of a plan what it says as a whole.
func newRestoreReport(messageType string, plan *restore.Plan, d deed) *restoreReport {
	r := &restoreReport{MessageType: messageType, Snapshot: plan.Snapshot.ID().String(), deed: d}
	if at := plan.Options.Cut.At; !at.IsZero() {
		r.At = at.UTC().Format(time.RFC3339Nano)
	}
	return r
}

func newPlanReport(plan *restore.Plan, d deed) *restoreReport {
	r := newRestoreReport("plan", plan, d)
	for _, s := range plan.Streams {
		report := restoredReport{
			MessageType: "planned_stream", Name: s.Name, Source: sourceOf(s.Source, s.Name), Snapshot: s.From.ID().String(), Path: s.Dir, Messages: s.Messages, Bytes: s.Bytes, Consumers: s.Consumers,
			Warnings: s.Warnings, Changes: s.Changes, Outcome: d.planned(s.Action),
		}
		switch {
		case s.LeftAlone != "":
			report.Outcome, report.Error = outcomeLeftAlone, s.LeftAlone
		case s.Action == restore.Skip:
		case s.Nothing != "":
			report.Outcome = outcomeNothing
		case s.Damage != nil:
			report.Outcome, report.Error = "damaged", s.Damage.Error()
		case len(s.Conflicts) > 0:
			report.Outcome, report.Error = "conflict", s.Conflicts[0].Reason
		case s.Lost != nil:
			report.Outcome = outcomeSalvage
		case s.Leftover != nil && s.Leftover.Whole:
			report.Outcome = "finish"
		case s.Leftover != nil:
			report.Outcome = "replace"
		}
		if s.Action != restore.Skip {
			report.tell(s.Lost)
		}
		r.add(report)
	}
	r.addMissing("planned_stream", plan)
	return r
}

// addMissing adds the streams that were chosen and that the backup could not read.
func (r *restoreReport) addMissing(messageType string, plan *restore.Plan) {
	for _, f := range plan.Missing {
		r.add(restoredReport{MessageType: messageType, Name: f.Name, Outcome: "not captured", Error: f.Error})
	}
}

// notCaptured is the error of a plan that has all but what the backup could not read.
func notCaptured(plan *restore.Plan, where string) error {
	if len(plan.Missing) == 0 {
		return nil
	}
	names := make([]string, len(plan.Missing))
	for i, f := range plan.Missing {
		names[i] = f.Name
	}
	if plan.AsOf() {
		return &partialError{fmt.Sprintf("%s chosen streams are not restored, because no snapshot captured them by then: %s", share(len(names), len(names)+len(plan.Streams)), abridged(names))}
	}
	return &partialError{fmt.Sprintf("%s chosen streams are not in snapshot %s, because the backup could not read them: %s\n%s",
		share(len(names), len(names)+len(plan.Streams)), plan.Snapshot.ID().Short(), abridged(names), where)}
}

// leftAlone is the error of a plan that does not touch what exists, where of some streams nobody knows that they are whole.
func leftAlone(plan *restore.Plan) error {
	var names []string
	for _, s := range plan.Streams {
		if s.LeftAlone != "" {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &partialError{fmt.Sprintf("%s streams exist, are not known to be whole, and are left alone: %s\nthe warnings above say why; `jetsam doctor --against %s` looks again",
		share(len(names), len(plan.Streams)), abridged(names), plan.Snapshot.ID().Short())}
}

// plannedDamage is the error of a plan that leaves streams out because the repository does not hold them, or not whole.
func plannedDamage(plan *restore.Plan, where string, d deed) error {
	var damaged []string
	var why error
	for _, s := range plan.Streams {
		if s.Damage != nil && s.Action != restore.Skip {
			damaged = append(damaged, s.Name)
			why = s.Damage
		}
	}
	if len(damaged) == 0 {
		if err := notCaptured(plan, where); err != nil {
			return err
		}
		return cmp.Or(leftAlone(plan), plannedSalvage(plan, d))
	}
	return &partialError{fmt.Sprintf("%s streams cannot be %s: %s: %v", share(len(damaged), len(plan.Streams)), d.done, abridged(damaged), why)}
}

// conflictsError is a *restore.ConflictError of several conflicts, in two lines.
type conflictsError struct {
	*restore.ConflictError
	told bool // all of them were told before
}

func (e *conflictsError) Unwrap() error { return e.ConflictError }

func (e *conflictsError) Error() string {
	var names []string
	for _, c := range e.Conflicts {
		names = append(names, c.Stream)
	}
	names = slices.Compact(names) // conflicts are in the order of their streams
	s := fmt.Sprintf("nothing was changed: %s cannot be restored: %s\n", plural(len(names), "stream"), abridged(names))
	if e.told {
		return s + "the warnings above say why"
	}
	first := e.Conflicts[0]
	return s + fmt.Sprintf("the first of the reasons: stream %s: %s; %s; --dry-run shows them all", first.Stream, first.Reason, first.Advice)
}

// tellConflicts warns of each of several conflicts for which a plan failed, and returns err, which says so.
func (p *program) tellConflicts(err error) error {
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) || len(conflict.Conflicts) == 1 {
		return err
	}
	var all crowd
	for _, c := range conflict.Conflicts {
		what := fmt.Sprintf(": %s; %s", c.Reason, c.Advice)
		all.add(p.out.warn, c.Stream, "stream "+c.Stream+what, what)
	}
	all.tell()
	return &conflictsError{conflict, true}
}

// summarised shortens the error of a plan with several conflicts, and says where the streams are that the snapshot lacks.
func summarised(err error, where string) error {
	var missing *restore.NotCapturedError
	if errors.As(err, &missing) {
		return fmt.Errorf("%w\n%s", err, where)
	}
	var told *conflictsError
	var conflict *restore.ConflictError
	if !errors.As(err, &told) && errors.As(err, &conflict) && len(conflict.Conflicts) > 1 {
		return &conflictsError{conflict, false}
	}
	return err
}

// restored puts into the report r what a run did, prints it, and returns the error of one that did not do all.
func (p *program) restored(plan *restore.Plan, res *restore.Result, where string, r *restoreReport) error {
	r.Seconds = res.Took.Seconds()
	var notes, failures crowd
	for i, s := range res.Streams {
		report := restoredReport{
			MessageType: "stream", Name: s.Name, Source: sourceOf(s.Source, s.Name), Snapshot: plan.Streams[i].From.ID().String(), Path: s.Dir, Messages: s.Messages, Bytes: s.Bytes, FirstSeq: s.FirstSeq, LastSeq: s.LastSeq,
			Consumers: s.Consumers, Seconds: s.Took.Seconds(), Changes: plan.Streams[i].Changes, Saved: s.Saved, Outcome: r.deed.ended(s.Action),
		}
		switch {
		case s.Err != nil:
			report.Outcome, report.Error = "failed", s.Err.Error()
		case plan.Streams[i].LeftAlone != "":
			report.Outcome, report.Error = outcomeLeftAlone, plan.Streams[i].LeftAlone
		case s.Action == restore.Skip:
		case s.Nothing != "":
			report.Outcome = outcomeNothing
		case s.Lost != nil:
			report.Outcome = outcomeSalvaged
		case s.Verified:
			report.Outcome = r.deed.verified
		}
		report.tell(s.Lost)
		report.Warnings = s.Notes
		for _, note := range s.Notes {
			notes.add(p.out.warn, s.Name, fmt.Sprintf("stream %s: %s", s.Name, note), ": "+note)
		}
		r.add(report)
	}
	notes.tell()
	r.addMissing("stream", plan)
	p.tellLosses(res, r.deed)
	r.Verified = r.Failed == 0 && allVerified(res)
	failed := res.Failed()
	if len(failed) == 1 && len(res.Streams) == 1 && len(plan.Missing) == 0 {
		return failed[0].Err
	}
	for _, s := range failed {
		failures.add(p.out.warn, s.Name, s.Err.Error(), ": "+withoutStream(s.Err, s.Name))
	}
	failures.tell()
	p.printRestore(r)
	if err := notCaptured(plan, where); err != nil && len(failed) == 0 {
		return err
	}
	return partialRestore(plan, res, failed, r.deed)
}

// allVerified says whether messages were restored, and all of them read back and equal to the snapshot's.
func allVerified(res *restore.Result) bool {
	any := false
	for _, s := range res.Streams {
		sent := s.Action == restore.Create || s.Action == restore.Replace
		if s.Err != nil || sent && s.Nothing == "" && !s.Verified {
			return false
		}
		any = any || s.Verified
	}
	return any
}

// noneRestored is the error of a run in which all streams failed: the first failure that left something behind, or else the first.
func noneRestored(failed []restore.StreamResult, d deed) error {
	var incomplete *restore.IncompleteError
	i := slices.IndexFunc(failed, func(s restore.StreamResult) bool { return errors.As(s.Err, &incomplete) })
	if i < 0 {
		return fmt.Errorf("none of %s streams was %s; the first: %w", formatCount(len(failed)), d.done, failed[0].Err)
	}
	return fmt.Errorf("none of %s streams was %s; the first that is incomplete: %w", formatCount(len(failed)), d.done, failed[i].Err)
}

// partialRestore is the error of a run in which streams failed.
func partialRestore(plan *restore.Plan, res *restore.Result, failed []restore.StreamResult, d deed) error {
	if len(failed) == 0 {
		return cmp.Or(leftAlone(plan), salvagedRestore(res, d))
	}
	if len(failed) == len(res.Streams) {
		return noneRestored(failed, d)
	}
	names := make([]string, len(failed))
	for i, s := range failed {
		names[i] = s.Name
	}
	return &partialError{fmt.Sprintf("%s streams were not %s: %s\nthe warnings above say why%s",
		share(len(failed), len(res.Streams)), d.done, abridged(names), d.left)}
}
