package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"jetsam/internal/strictjson"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// Change is what became of a stream from one snapshot to another.
type Change struct {
	Stream  string
	In      [2]bool  // whether each of the snapshots has it
	Equal   bool     // both have the very same
	Anew    bool     // the second one did not go on from the first: nothing is taken for common
	Common  uint64   // messages of both
	Added   uint64   // messages of the second only
	Removed uint64   // messages of the first only
	Config  []string // how the configuration differs

	NewConsumers, GoneConsumers []string
	MovedConsumers              []string // that stand elsewhere, or are configured otherwise

	Err error // why the stream cannot be compared
}

// Diff compares the chosen streams of two snapshots. Messages are read only as far as it takes to know whether one goes on from the other.
func Diff(ctx context.Context, rd *repo.Reader, a, b *snapshot.Snapshot, sel streamlog.Selection) ([]Change, error) {
	var dirs [2]map[string]*snapshot.Node
	var names []string
	for i, sn := range []*snapshot.Snapshot{a, b} {
		d, err := openDirectory(ctx, rd, sn)
		if err != nil {
			return nil, err
		}
		dirs[i] = maps.Collect(d.Streams())
		names = slices.AppendSeq(names, maps.Keys(dirs[i]))
	}
	slices.Sort(names)
	picked, err := sel.Pick(slices.Compact(names))
	if err != nil {
		return nil, fmt.Errorf("snapshots %s and %s: %w", a.ID().Short(), b.ID().Short(), err)
	}
	p := &Plan{rd: rd}
	out := make([]Change, 0, len(picked))
	for _, name := range picked {
		c := Change{Stream: name}
		c.Err = p.compareSnapshots(ctx, p.openBoth(ctx, dirs[0][name], dirs[1][name]), &c)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if repo.IsUnread(c.Err) {
			return nil, c.Err
		}
		out = append(out, c)
	}
	return out, nil
}

// openBoth opens a stream of two snapshots, of which one may lack it: then that is nil.
func (p *Plan) openBoth(ctx context.Context, a, b *snapshot.Node) (both [2]*streamlog.Stream) {
	if a != nil {
		both[0] = streamlog.OpenDir(ctx, p.rd, a)
	}
	switch {
	case b == nil:
	case a != nil && a.Subtree == b.Subtree:
		both[1] = both[0]
	default:
		both[1] = streamlog.OpenDir(ctx, p.rd, b)
	}
	return both
}

// compareSnapshots compares a stream of two snapshots, of which one may lack it.
func (p *Plan) compareSnapshots(ctx context.Context, both [2]*streamlog.Stream, c *Change) error {
	a, b := both[0], both[1]
	c.In = [2]bool{a != nil, b != nil}
	for _, s := range []*streamlog.Stream{a, b} {
		if s != nil && s.Err != nil {
			return s.Err
		}
	}
	switch {
	case a == nil:
		c.Added = b.Document.Jetsam.Messages
		return nil
	case b == nil:
		c.Removed = a.Document.Jetsam.Messages
		return nil
	case a.Node().Subtree == b.Node().Subtree:
		c.Equal, c.Common = true, a.Document.Jetsam.Messages
		return nil
	}
	c.Config = configDiff(a.Document.Config, b.Document.Config)
	if err := c.compareHeads(ctx, a, b); err != nil {
		return err
	}
	return p.countCommon(ctx, a, b, c)
}

// countCommon counts the messages of both, and of each alone.
func (p *Plan) countCommon(ctx context.Context, a, b *streamlog.Stream, c *Change) error {
	logs := [2]*log{}
	var all [2][]stretch
	for i, held := range []*streamlog.Stream{a, b} {
		l := &log{name: held.Name, held: held, want: everything}
		var err error
		if all[i], err = l.open(ctx); err != nil {
			return err
		}
		logs[i] = l
	}
	same, err := p.sameLife(ctx, &StreamPlan{log: logs[0], stretches: all[0]}, logs[1], all[1])
	if err != nil {
		return err
	}
	had, has := a.Document.Jetsam.Messages, b.Document.Jetsam.Messages
	if !same {
		c.Anew, c.Removed, c.Added = true, had, has
		return nil
	}
	common, err := p.within(ctx, all[1], 1, logs[0].state.LastSeq)
	if err != nil {
		return err
	}
	c.Common = common.Messages
	c.Removed, c.Added = had-min(had, c.Common), has-min(has, c.Common)
	return nil
}

// configDiff is how the second configuration differs from the first. What one leaves out and the other has at nothing is no difference, nor
// what a server adds to the metadata.
func configDiff(a, b json.RawMessage) []string {
	was, aerr := strictjson.Any(a)
	is, berr := strictjson.Any(b)
	x, xok := was.(map[string]any)
	y, yok := is.(map[string]any)
	if aerr != nil || berr != nil || !xok || !yok {
		return []string{"it cannot be compared"}
	}
	dropServerMetadata(x)
	dropServerMetadata(y)
	dropNoLimits(x, y)
	for field := range x {
		if _, both := y[field]; !both {
			y[field] = nil
		}
	}
	var out []string
	for field, value := range y {
		if strictjson.IsEmpty(value) && strictjson.IsEmpty(x[field]) || reflect.DeepEqual(value, x[field]) {
			continue
		}
		out = append(out, fmt.Sprintf("%s: %s, was %s", field, short(value), short(x[field])))
	}
	slices.Sort(out)
	return out
}

// dropNoLimits takes limits out that are none in both: that can be said in several ways.
func dropNoLimits(x, y map[string]any) {
	for _, field := range limitFields {
		if isUnlimited(x[field]) && isUnlimited(y[field]) {
			delete(x, field)
			delete(y, field)
		}
	}
}

func dropServerMetadata(config map[string]any) {
	entries, _ := config["metadata"].(map[string]any)
	for name := range entries {
		if strings.HasPrefix(name, jetstream.ServerMetadata) {
			delete(entries, name)
		}
	}
}

// compareHeads compares the consumers.
func (c *Change) compareHeads(ctx context.Context, a, b *streamlog.Stream) error {
	was, err := a.Head(ctx)
	if err != nil {
		return err
	}
	is, err := b.Head(ctx)
	if err != nil {
		return err
	}
	before := map[string]json.RawMessage{}
	for _, x := range was.Consumers {
		before[x.Name] = x.JSON
	}
	for _, x := range is.Consumers {
		old, both := before[x.Name]
		switch {
		case !both:
			c.NewConsumers = append(c.NewConsumers, x.Name)
		case !bytes.Equal(old, x.JSON):
			c.MovedConsumers = append(c.MovedConsumers, x.Name)
		}
		delete(before, x.Name)
	}
	for name := range before {
		c.GoneConsumers = append(c.GoneConsumers, name)
	}
	for _, names := range [][]string{c.NewConsumers, c.MovedConsumers, c.GoneConsumers} {
		slices.SortFunc(names, strings.Compare)
	}
	return nil
}
