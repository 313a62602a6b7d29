package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/retention"
	"jetsam/snapshot"
	"jetsam/storage"
)

// verdictReport is a snapshot, and whether it is kept.
type verdictReport struct {
	ID      string    `json:"id"`
	ShortID string    `json:"short_id"`
	Time    time.Time `json:"time"`
	Tags    []string  `json:"tags,omitempty"`
	Keep    bool      `json:"keep"`
	Reasons []string  `json:"reasons,omitempty"` // to keep it
	Error   string    `json:"error,omitempty"`   // why it is not forgotten although it should be
}

// forgetReport is a group of snapshots, and what becomes of them.
type forgetReport struct {
	MessageType string          `json:"message_type"` // "forget_group"
	Host        string          `json:"host,omitempty"`
	Accounts    []string        `json:"accounts,omitempty"`
	Paths       []string        `json:"paths,omitempty"`
	Tags        []string        `json:"tags,omitempty"`
	Snapshots   []verdictReport `json:"snapshots"` // the oldest first
	heading     string
	dry         bool
}

func newForgetReport(key snapshot.GroupKey, verdicts []retention.Verdict, dry bool) *forgetReport {
	r := &forgetReport{
		MessageType: "forget_group", Host: key.Hostname, Accounts: key.Accounts, Paths: key.Paths, Tags: key.Tags,
		heading: newGroupReport(key).heading(), dry: dry,
	}
	for _, v := range verdicts {
		s := v.Snapshot
		r.Snapshots = append(r.Snapshots, verdictReport{s.ID().String(), s.ID().Short(), s.Time, s.Tags, v.Keep(), v.Reasons, ""})
	}
	return r
}

func (r *forgetReport) text(o *output) {
	if r.heading != "" {
		o.printf("%s\n", r.heading)
	}
	l := newListing("ID", "Time", "Tags", "")
	for _, s := range r.Snapshots {
		verdict := "forgotten"
		switch {
		case s.Keep:
			verdict = "kept: " + strings.Join(s.Reasons, ", ")
		case s.Error != "":
			verdict = "FAILED"
		case r.dry:
			verdict = "would be forgotten"
		}
		l.row(s.ShortID, localTime(s.Time), strings.Join(s.Tags, ", "), verdict)
	}
	o.table(l)
}

// forgotReport sums up.
type forgotReport struct {
	MessageType string `json:"message_type"` // "forgotten"
	DryRun      bool   `json:"dry_run,omitempty"`
	Kept        int    `json:"kept"` // by the policy
	Forgotten   int    `json:"forgotten"`
	Failed      int    `json:"failed,omitempty"`
	disturbances
	named bool // there is no policy
}

func (r *forgotReport) text(o *output) {
	would := ""
	if r.DryRun {
		would = "would be "
	}
	kept := ""
	if !r.named {
		kept = fmt.Sprintf(", %s kept", formatCount(r.Kept))
	}
	o.printf("%s %sforgotten%s\n", plural(r.Forgotten, "snapshot"), would, kept)
}

// pruneHeading is that of forget's flags about pruning.
const pruneHeading = "Pruning"

func (p *program) forgetCommand() *cli.Command {
	var flags []cli.Flag
	for _, f := range []struct{ name, alias, usage string }{
		{"keep-last", "l", "keep the newest `N`"},
		{"keep-hourly", "H", "keep the newest of each of the last `N` hours that have snapshots"},
		{"keep-daily", "d", "keep the newest of each of the last `N` days that have snapshots"},
		{"keep-weekly", "w", "keep the newest of each of the last `N` weeks, from Monday on, that have snapshots"},
		{"keep-monthly", "m", "keep the newest of each of the last `N` months that have snapshots"},
		{"keep-yearly", "y", "keep the newest of each of the last `N` years that have snapshots"},
	} {
		flags = append(flags, &cli.StringFlag{Name: f.name, Aliases: []string{f.alias}, Usage: f.usage, DefaultText: "0"})
	}
	for _, f := range []struct{ name, usage string }{
		{"keep-within", "keep all of the last `SPAN`, like 1y6m, 90d or 36h, counted back from the newest"},
		{"keep-within-hourly", "keep the newest of each hour of the last `SPAN`"},
		{"keep-within-daily", "keep the newest of each day of the last `SPAN`"},
		{"keep-within-weekly", "keep the newest of each week of the last `SPAN`"},
		{"keep-within-monthly", "keep the newest of each month of the last `SPAN`"},
		{"keep-within-yearly", "keep the newest of each year of the last `SPAN`"},
		{"keep-pitr", "keep what it takes to restore to any second of the last `SPAN`"},
	} {
		flags = append(flags, &cli.StringFlag{Name: f.name, Usage: f.usage})
	}
	flags = append(flags,
		&cli.StringFlag{Name: "keep-earlier-lives", Usage: "keep the last snapshot of a stream that was made anew since, or has lost its newest messages, for `SPAN`; `none`, `unlimited`", Value: "1y"},
		&cli.StringSliceFlag{Name: "keep-tag", Usage: "keep those with all of `TAG[,TAG…]`; repeatable"},
		&cli.StringFlag{Name: "group-by", Usage: "apply the policy to each group by itself: `host,account,paths,tags`", Value: "host,paths"},
		&cli.BoolFlag{Name: "unsafe-allow-remove-all", DisableDefaultText: true, Usage: "let a policy forget all snapshots of a group"},
		&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be forgotten and what kept, and why, and stop there"},
		&cli.BoolFlag{Name: "prune", Category: pruneHeading, DisableDefaultText: true, Usage: "then remove what no snapshot needs, as jetsam prune does"},
	)
	flags = append(flags, pruneFlags(pruneHeading)...)
	return p.command(scheduled|needsRepository|needsSnapshots, &cli.Command{
		Name:      "forget",
		Usage:     "remove snapshots: those that a policy does not keep, or those that are named",
		ArgsUsage: "[SNAPSHOT…]",
		Description: "What only forgotten snapshots need stays stored until the repository is pruned (`--prune`, `jetsam prune`). Snapshots with the tag `protected` are never forgotten.\n" +
			"A policy applies to each group of snapshots by itself: to those of the same host and paths, unless --group-by says otherwise.",
		Flags:  flags,
		Action: p.forget,
	})
}

// retentionPolicy is what the flags want to keep.
func retentionPolicy(c *cli.Context) (pol retention.Policy, err error) {
	for name, n := range map[string]*int{
		"keep-last": &pol.Last, "keep-hourly": &pol.Hourly, "keep-daily": &pol.Daily, "keep-weekly": &pol.Weekly, "keep-monthly": &pol.Monthly, "keep-yearly": &pol.Yearly,
	} {
		if *n, err = parseKeep(name, c.String(name)); err != nil {
			return pol, err
		}
	}
	for name, span := range map[string]*retention.Span{
		"keep-within": &pol.Within, "keep-within-hourly": &pol.WithinHourly, "keep-within-daily": &pol.WithinDaily, "keep-within-weekly": &pol.WithinWeekly,
		"keep-within-monthly": &pol.WithinMonthly, "keep-within-yearly": &pol.WithinYearly, "keep-pitr": &pol.PITR,
	} {
		if !c.IsSet(name) {
			continue
		}
		if *span, err = retention.ParseSpan(c.String(name)); err != nil {
			return pol, usagef("--%s: %v", name, err)
		}
	}
	pol.Tags = tagLists(c.StringSlice("keep-tag"))
	return pol, nil
}

// parseLives is for how long the last snapshot of an earlier life of a stream is kept; zero: for none.
func parseLives(text string) (span retention.Span, err error) {
	switch text {
	case "none":
		return retention.Span{}, nil
	case "unlimited":
		return retention.Unlimited, nil
	}
	if span, err = retention.ParseSpan(text); err != nil {
		return span, usagef("--keep-earlier-lives: %v; or `none`, or `unlimited`", err)
	}
	return span, nil
}

func parseKeep(name, text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	if text == "unlimited" {
		return retention.All, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < retention.All {
		return 0, usagef("--%s %q: it is a number of snapshots, or `unlimited`", name, text)
	}
	return n, nil
}

// forgetRequest is what the flags ask for.
type forgetRequest struct {
	policy retention.Policy
	lives  retention.Span // for how long the last snapshot of an earlier life of a stream is kept
	by     snapshot.GroupBy
	prune  repo.PruneOptions
}

// forgetRequested is what the flags ask for, unless they contradict each other.
func forgetRequested(c *cli.Context) (q forgetRequest, err error) {
	if q.policy, err = retentionPolicy(c); err != nil {
		return q, err
	}
	if q.lives, err = parseLives(c.String("keep-earlier-lives")); err != nil {
		return q, err
	}
	if q.by, err = parseGroupBy(c.String("group-by")); err != nil {
		return q, err
	}
	switch {
	case c.NArg() > 0 && !q.policy.Empty():
		return q, usagef("snapshots by name (%s) and a policy (--keep-…); which is it?", c.Args().First())
	case c.NArg() == 0 && q.policy.Empty():
		return q, usagef("say what to keep, with --keep-daily 7 for example, or name the snapshots to forget")
	}
	if q.prune, err = pruneOptions(c); err != nil {
		return q, err
	}
	for _, f := range pruneFlags("") {
		if name := f.Names()[0]; c.IsSet(name) && !c.Bool("prune") {
			return q, usagef("--%s is for --prune", name)
		}
	}
	return q, nil
}

func (p *program) forget(c *cli.Context) error {
	q, err := forgetRequested(c)
	if err != nil {
		return err
	}
	locked := p.reading
	if c.Bool("prune") && !(c.Bool("dry-run") && c.Bool("no-lock")) {
		locked = p.alone
	}
	return locked(c, func(ctx context.Context, r *repo.Repo) error {
		plan, err := p.planForget(ctx, c, r, q)
		if err != nil {
			return err
		}
		err = p.runForget(ctx, r, plan)
		if err == nil && !plan.dry && !c.Bool("prune") && len(plan.forget) > 0 {
			p.out.note("what only they needed is stored until `jetsam prune` removes it")
		}
		var partial *partialError
		if !c.Bool("prune") || err != nil && !errors.As(err, &partial) {
			return err
		}
		if pruneErr := p.pruneAfter(ctx, r, plan, q.prune); pruneErr != nil {
			return pruneErr // what could not be forgotten was warned of
		}
		return err
	})
}

// planForget decides about the snapshots that are named, or about all that the flags choose.
func (p *program) planForget(ctx context.Context, c *cli.Context, r *repo.Repo, q forgetRequest) (*forgetPlan, error) {
	plan := &forgetPlan{dry: c.Bool("dry-run")}
	if c.NArg() > 0 {
		chosen, err := p.chosenSnapshots(ctx, c, r)
		if err == nil {
			err = plan.named(chosen, q.by)
		}
		if err != nil {
			return nil, err
		}
		plan.settle()
		return plan, nil
	}
	all, err := allSnapshots(ctx, r)
	if err != nil {
		return nil, err
	}
	s := snapshotSelector(c)
	chosen := slices.DeleteFunc(slices.Clone(all), func(sn *snapshot.Snapshot) bool { return !s.match(sn) })
	if err := plan.apply(q.policy, chosen, q.by, p.now(), c.Bool("unsafe-allow-remove-all")); err != nil {
		return nil, err
	}
	if err := p.holdLives(ctx, r, plan, all, q.lives); err != nil {
		return nil, err
	}
	plan.settle()
	return plan, nil
}

// pruneAfter prunes when snapshots were forgotten.
func (p *program) pruneAfter(ctx context.Context, r *repo.Repo, plan *forgetPlan, o repo.PruneOptions) error {
	if !p.out.json {
		p.out.printf("\n")
	}
	if plan.dry {
		o.Without = plan.forget
		return p.showPrune(ctx, r, o)
	}
	return p.runPrune(ctx, r, o)
}

// forgetPlan says what becomes of each snapshot.
type forgetPlan struct {
	groups  []verdictGroup
	reports []*forgetReport
	forget  []storage.ID
	kept    int
	dry     bool
	isNamed bool
}

// verdictGroup is a group of snapshots, and what is decided about each.
type verdictGroup struct {
	key      snapshot.GroupKey
	verdicts []retention.Verdict
}

// named forgets all.
func (plan *forgetPlan) named(chosen []*snapshot.Snapshot, by snapshot.GroupBy) error {
	plan.isNamed = true
	snapshot.Sort(chosen)
	chosen = slices.CompactFunc(chosen, func(a, b *snapshot.Snapshot) bool { return a.ID() == b.ID() })
	for _, s := range chosen {
		if slices.Contains(s.Tags, retention.Protected) {
			return fmt.Errorf("nothing was forgotten: snapshot %s is protected; `jetsam unprotect %[1]s` takes the protection off", s.ID().Short())
		}
	}
	for _, g := range snapshot.Groups(chosen, by) {
		verdicts := make([]retention.Verdict, len(g.Snapshots))
		for i, s := range g.Snapshots {
			verdicts[i].Snapshot = s
		}
		plan.groups = append(plan.groups, verdictGroup{g.Key, verdicts})
	}
	return nil
}

// apply forgets what the policy does not keep.
func (plan *forgetPlan) apply(policy retention.Policy, chosen []*snapshot.Snapshot, by snapshot.GroupBy, now time.Time, all bool) error {
	for _, g := range snapshot.Groups(chosen, by) {
		verdicts := policy.Apply(g.Snapshots, now)
		if !all && !slices.ContainsFunc(verdicts, retention.Verdict.Keep) {
			return fmt.Errorf("nothing was forgotten: the policy keeps none of %s (%s); if that is meant, add --unsafe-allow-remove-all",
				plural(len(verdicts), "snapshot"), newGroupReport(g.Key).heading())
		}
		plan.groups = append(plan.groups, verdictGroup{g.Key, verdicts})
	}
	return nil
}

// settle makes of the verdicts what is to be done and told.
func (plan *forgetPlan) settle() {
	for _, g := range plan.groups {
		plan.reports = append(plan.reports, newForgetReport(g.key, g.verdicts, plan.dry))
		for _, v := range g.verdicts {
			if v.Keep() {
				plan.kept++
			} else {
				plan.forget = append(plan.forget, v.Snapshot.ID())
			}
		}
	}
}

// runForget forgets what the plan says, and prints what became of it.
func (p *program) runForget(ctx context.Context, r *repo.Repo, plan *forgetPlan) error {
	if len(plan.reports) == 0 {
		p.out.note("no snapshots")
	}
	var err error
	sum := &forgotReport{MessageType: "forgotten", DryRun: plan.dry, Kept: plan.kept, Forgotten: len(plan.forget), named: plan.isNamed}
	if !plan.dry && len(plan.forget) > 0 {
		var gone []storage.ID
		gone, err = r.Forget(ctx, plan.forget)
		sum.Forgotten, sum.Failed = len(gone), len(plan.forget)-len(gone)
		plan.mark(gone)
	}
	for i, report := range plan.reports {
		if i > 0 && !p.out.json {
			p.out.printf("\n")
		}
		p.out.print(report)
	}
	if !p.out.json && len(plan.reports) > 0 {
		p.out.printf("\n")
	}
	p.out.print(sum)
	if err != nil && sum.Forgotten > 0 && ctx.Err() == nil {
		p.out.warn("%v", err)
		return &partialError{fmt.Sprintf("%s forgotten, %s could not be: the warning above says why", plural(sum.Forgotten, "snapshot"), formatCount(sum.Failed))}
	}
	return err
}

// mark notes which snapshots are still there although they should not be.
func (plan *forgetPlan) mark(gone []storage.ID) {
	away := make(map[string]bool, len(gone))
	for _, id := range gone {
		away[id.String()] = true
	}
	for _, r := range plan.reports {
		for i := range r.Snapshots {
			if s := &r.Snapshots[i]; !s.Keep && !away[s.ID] {
				s.Error = "it could not be removed"
			}
		}
	}
}
