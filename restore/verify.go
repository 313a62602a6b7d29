package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// maxDifferences is how many differences are named; more are counted.
const maxDifferences = 10

// DifferenceError says how a restored stream differs from the snapshot.
type DifferenceError struct {
	Differences []string // the first ones
	Count       int      // all of them
}

func (e *DifferenceError) Error() string {
	s := "it differs from the snapshot: " + strings.Join(e.Differences, "; ")
	if more := e.Count - len(e.Differences); more > 0 {
		s += fmt.Sprintf("; and %d differences more", more)
	}
	return s
}

func (e *DifferenceError) add(format string, args ...any) {
	e.Count++
	if len(e.Differences) < maxDifferences {
		e.Differences = append(e.Differences, fmt.Sprintf(format, args...))
	}
}

// verify reads the restored stream back and compares every message and consumer, and the configuration.
func (p *Plan) verify(ctx context.Context, s *StreamPlan) error {
	diff := &DifferenceError{}
	if err := p.readBack(ctx, s, diff); err != nil {
		return &IncompleteError{Stream: s.Name, Cause: fmt.Errorf("read back: %w", err), Remains: "the stream is on the server, restored but not verified"}
	}
	if diff.Count > 0 {
		return &IncompleteError{Stream: s.Name, Cause: diff, Remains: "the stream is left on the server as it is"}
	}
	return nil
}

func (p *Plan) readBack(ctx context.Context, s *StreamPlan, diff *DifferenceError) error {
	snap, err := p.conn.Snapshot(ctx, s.Name, jetstream.SnapshotOptions{NoConsumers: p.Options.NoConsumers})
	if err != nil {
		return err
	}
	defer snap.Close()
	in := archive.NewReader(archive.Decompress(snap, int64(min(2*s.ArchiveSize+1<<30, 1<<62))), archive.Limits{})
	head, err := in.Head()
	if err != nil {
		return err
	}
	s.compareConfig(snap.Config, diff)
	if s.Lost == nil {
		compareConsumers(s.head.Consumers, head.Consumers, diff)
	} else {
		compareSalvaged(s.head.Consumers, head.Consumers, s.Lost, diff)
	}
	want, stop := p.messages(ctx, s)
	defer stop()
	return p.compareMessages(s, want, in.Next, diff)
}

// compareMessages goes through both archives side by side.
func (p *Plan) compareMessages(s *StreamPlan, want, got func() (*archive.Message, error), diff *DifferenceError) error {
	f := &outflow{plan: p, s: s}
	w, werr := want()
	g, gerr := got()
	for {
		if err := firstError(werr, gerr); err != nil {
			return err
		}
		switch {
		case w == nil && g == nil:
			return nil
		case g == nil || w != nil && w.Seq < g.Seq:
			diff.add("message %d is missing", w.Seq)
			w, werr = want()
		case w == nil || g.Seq < w.Seq:
			diff.add("message %d is there and not in the snapshot", g.Seq)
			g, gerr = got()
		default:
			if !bytes.Equal(w.Raw, g.Raw) {
				diff.add("message %d has another %s", w.Seq, differentPart(w, g))
			}
			f.tally.Add(w)
			f.sent += uint64(len(w.Raw))
			if f.tally.Messages%4096 == 0 {
				f.report(func(p *Progress) { p.Stage = Verifying })
			}
			w, werr = want()
			g, gerr = got()
		}
	}
}

// firstError is the first error that is not the end of an archive.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func differentPart(w, g *archive.Message) string {
	switch {
	case !bytes.Equal(w.Subject, g.Subject):
		return "subject"
	case w.Time != g.Time:
		return "time"
	case !bytes.Equal(w.Header, g.Header):
		return "header"
	}
	return "payload"
}

func compareConsumers(want, got []archive.Consumer, diff *DifferenceError) {
	byName := make(map[string]archive.Consumer, len(got))
	for _, c := range got {
		byName[c.Name] = c
	}
	for _, w := range want {
		g, ok := byName[w.Name]
		if !ok {
			diff.add("consumer %s is missing", w.Name)
			continue
		}
		delete(byName, w.Name)
		compareJSON("consumer "+w.Name, w.JSON, g.JSON, diff)
	}
	for name := range byName {
		diff.add("consumer %s is there and not in the snapshot", name)
	}
}

// compareJSON compares two documents field by field: order, spacing and what the server itself adds do not matter.
func compareJSON(what string, want, got json.RawMessage, diff *DifferenceError) {
	want, got = bytes.TrimSpace(want), bytes.TrimSpace(got)
	if !json.Valid(want) || !json.Valid(got) {
		diff.add("%s cannot be compared: it is not JSON", what)
		return
	}
	compareRaw(what, want, got, diff)
}

func compareFields(what string, want, got any, diff *DifferenceError) {
	w, wok := object(want, got)
	g, gok := object(got, want)
	if !wok || !gok {
		if !reflect.DeepEqual(want, got) {
			diff.add("%s is %s, in the snapshot %s", what, short(got), short(want))
		}
		return
	}
	var names []string
	for name := range w {
		names = append(names, name)
	}
	for name := range g {
		if _, both := w[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasPrefix(name, jetstream.ServerMetadata) {
			continue
		}
		compareFields(what+" "+name, w[name], g[name], diff)
	}
}

// object is v as an object. Nothing is one without fields where the other side has an object: a server adds fields of its own.
func object(v, other any) (map[string]any, bool) {
	o, ok := v.(map[string]any)
	if _, is := other.(map[string]any); is && v == nil {
		return nil, true
	}
	return o, ok
}

// maxShown is how many bytes of a value that differs are shown.
const maxShown = 60

// short is a value as JSON, cut.
func short(v any) string {
	p, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return cut(p)
}
