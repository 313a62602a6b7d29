package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"jetsam/repo"
	"jetsam/retention"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// holdLives keeps, of what the policy does not, the last snapshots of streams that were made anew since, or have lost their newest messages.
func (p *program) holdLives(ctx context.Context, r *repo.Repo, plan *forgetPlan, all []*snapshot.Snapshot, span retention.Span) error {
	goes := plan.goes()
	if span == (retention.Span{}) || len(goes) == 0 {
		return nil
	}
	rd, err := p.loadIndex(ctx, r)
	if err != nil {
		return livesUnknown(err)
	}
	streams := func(s *snapshot.Snapshot) ([]retention.Stream, error) { return p.streamsOf(ctx, rd, s) }
	for _, g := range snapshot.Groups(all, snapshot.GroupBy{Host: true, Accounts: true}) {
		held, err := retention.LastOfLives(g.Snapshots, func(s *snapshot.Snapshot) bool { return goes[s] != nil }, p.now(), span, streams)
		if err != nil {
			return livesUnknown(err)
		}
		for s, names := range held {
			goes[s].Reasons = append(goes[s].Reasons, whyHeld(names, span))
		}
	}
	return nil
}

func livesUnknown(err error) error {
	return fmt.Errorf("nothing was forgotten: which snapshots are the last of a stream's earlier life is not known: %w; --keep-earlier-lives none does without", err)
}

// goes are the verdicts on snapshots that are not kept.
func (plan *forgetPlan) goes() map[*snapshot.Snapshot]*retention.Verdict {
	goes := make(map[*snapshot.Snapshot]*retention.Verdict)
	for _, g := range plan.groups {
		for i := range g.verdicts {
			if v := &g.verdicts[i]; !v.Keep() {
				goes[v.Snapshot] = v
			}
		}
	}
	return goes
}

// streamsOf says what a snapshot holds. Of one that is damaged, which a policy forgets like any other, that is not known.
func (p *program) streamsOf(ctx context.Context, rd *repo.Reader, s *snapshot.Snapshot) (out []retention.Stream, err error) {
	a, err := streamlog.OpenAccount(ctx, rd, s.Tree)
	switch {
	case errors.Is(err, streamlog.ErrNoStreams):
		return nil, nil
	case errors.Is(err, repo.ErrCorrupt):
		p.out.warn("snapshot %s: %v\nwhether it is the last of a stream's earlier life is not known", s.ID().Short(), err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("snapshot %s: %w", s.ID().Short(), err)
	}
	for _, c := range a.Captured {
		// No stream's name holds white space.
		out = append(out, retention.Stream{Name: strings.Join([]string{c.Name, a.Server.Cluster, a.Server.Domain}, " "), Life: c.Began()})
	}
	return out, nil
}

// whyHeld is the reason to keep the last snapshot of an earlier life of streams.
func whyHeld(names []string, span retention.Span) string {
	for i, name := range names {
		names[i], _, _ = strings.Cut(name, " ")
	}
	names = slices.Compact(names)
	some := names[:min(len(names), 3)]
	why := "last of an earlier life of " + strings.Join(some, " and ")
	if more := len(names) - len(some); more > 0 {
		why += fmt.Sprintf(" and %s", plural(more, "more stream"))
	}
	if span == retention.Unlimited {
		return why
	}
	return why + ", for " + span.String()
}
