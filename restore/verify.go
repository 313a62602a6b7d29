package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"reflect"
	"slices"
	"strings"

	"jetsam/internal/digits"
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
		s += fmt.Sprintf("; and %s differences more", digits.Grouped(more))
	}
	return s
}

func (e *DifferenceError) add(format string, args ...any) {
	e.Count++
	if len(e.Differences) < maxDifferences {
		e.Differences = append(e.Differences, fmt.Sprintf(format, args...))
	}
}

// verification is the comparison of a restored stream, which is live by then, with what was sent.
type verification struct {
	p       *Plan
	s       *StreamPlan
	diff    *DifferenceError
	ahead   map[string]bool // consumers that have moved on since
	made    map[string]bool // consumers that somebody has made since
	takers  bool            // these may have taken messages out of the stream
	taken   uint64          // messages that are gone, where that may be
	digest  hash.Hash       // of what was compared
	expired uint64          // messages that are gone, and whose time had passed

	heirs    *succession // nil where no message takes the place of another
	replaced uint64      // messages that are gone, and whose place newer ones have taken
}

// verify reads the restored stream back and compares every message and consumer, and the configuration. What clients have done to it since is
// in the notes.
func (p *Plan) verify(ctx context.Context, s *StreamPlan) (notes []string, err error) {
	v := &verification{p: p, s: s, diff: &DifferenceError{}, ahead: map[string]bool{}, made: map[string]bool{}, digest: sha256.New()}
	if !p.Options.Target.Alone {
		v.heirs = successionIn(s)
	}
	err = v.readBack(ctx)
	if err == nil {
		err = v.succeed(ctx)
	}
	if err != nil {
		return nil, &IncompleteError{Stream: s.Name, Cause: fmt.Errorf("read back: %w", err), Remains: "the stream is on the server, restored but not verified"}
	}
	s.digest = hex.EncodeToString(v.digest.Sum(nil))
	if v.diff.Count > 0 {
		return nil, &IncompleteError{Stream: s.Name, Cause: v.diff, Remains: "the stream is left on the server as it is"}
	}
	return v.notes(), nil
}

func (v *verification) notes() (out []string) {
	if n := len(v.ahead); n > 0 {
		out = append(out, fmt.Sprintf("when it was read back, %s of its consumers had moved on, and were not compared", digits.Grouped(n)))
	}
	if n := len(v.made); n > 0 {
		out = append(out, "when it was read back, it had "+count(uint64(n), "consumer that was not restored", "consumers that were not restored"))
	}
	if v.taken > 0 {
		out = append(out, fmt.Sprintf("when it was read back, its consumers had taken %s messages, which were not compared", digits.Grouped(v.taken)))
	}
	if v.replaced > 0 {
		out = append(out, fmt.Sprintf("when it was read back, newer messages had taken the place of %s, which were not compared", count(v.replaced, "message")))
	}
	if v.expired > 0 {
		out = append(out, fmt.Sprintf("when it was read back, %s messages had expired, which were not compared", digits.Grouped(v.expired)))
	}
	return out
}

func (v *verification) readBack(ctx context.Context) error {
	if v.p.older {
		return v.askBack(ctx)
	}
	s := v.s
	snap, err := v.p.conn.Snapshot(ctx, s.Name, jetstream.SnapshotOptions{NoConsumers: v.p.Options.NoConsumers})
	if err != nil {
		return err
	}
	defer snap.Close()
	in := archive.NewReader(archive.Decompress(snap, int64(min(2*s.ArchiveSize+1<<30, 1<<62))), archive.Limits{})
	head, err := in.Head()
	if err != nil {
		return err
	}
	s.compareConfig(snap.Config, v.diff)
	v.compareConsumers(head.Consumers)
	want, stop := v.p.messages(ctx, s)
	defer stop()
	return v.compareMessages(want, in.Next)
}

// compareConsumers compares the consumers, but for those that have moved on, and those that somebody has made.
func (v *verification) compareConsumers(found []archive.Consumer) {
	sent := make(map[string]json.RawMessage, len(v.s.head.Consumers))
	for _, c := range v.s.head.Consumers {
		sent[c.Name] = c.JSON
	}
	inUse := false
	for _, c := range found {
		switch was, ours := sent[c.Name]; {
		case v.p.Options.Target.Alone:
		case !ours:
			v.made[c.Name] = true
			state, err := archive.ParseConsumer(c.JSON)
			inUse = inUse || err == nil && state.Delivered.Stream > 0
		case !bytes.Equal(was, c.JSON) && movedOn(was, c.JSON):
			v.ahead[c.Name], inUse = true, true
		}
	}
	v.takers = inUse && v.s.keepsUntilAcknowledged()
	want, got := without(v.s.head.Consumers, v.ahead), without(without(found, v.ahead), v.made)
	has := make(map[string]bool, len(got))
	for _, c := range got {
		has[c.Name] = true
	}
	want = slices.DeleteFunc(want, func(c archive.Consumer) bool { return !has[c.Name] && isEphemeral(c) })
	if v.s.Lost == nil {
		compareConsumers(want, got, v.diff)
	} else {
		compareSalvaged(want, got, v.s.Lost, v.diff)
	}
}

// isEphemeral says whether a server removes a consumer that nobody uses for a while.
func isEphemeral(c archive.Consumer) bool {
	state, err := archive.ParseConsumer(c.JSON)
	return err == nil && state.Durable == ""
}

func without(all []archive.Consumer, names map[string]bool) (out []archive.Consumer) {
	for _, c := range all {
		if !names[c.Name] {
			out = append(out, c)
		}
	}
	return out
}

// movedOn says whether a consumer has gone on from where it stood.
func movedOn(was, is json.RawMessage) bool {
	w, werr := archive.ParseConsumer(was)
	g, gerr := archive.ParseConsumer(is)
	if werr != nil || gerr != nil {
		return false
	}
	behind, moved := comparePosition(w, &jetstream.ConsumerInfo{Delivered: jetstream.Position(g.Delivered), AckFloor: jetstream.Position(g.AckFloor), AckPending: g.AckPending})
	return behind == "" && moved
}

// compareMessages goes through both archives side by side.
func (v *verification) compareMessages(want, got func() (*archive.Message, error)) error {
	f := &outflow{plan: v.p, s: v.s}
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
			v.missing(w)
			w, werr = want()
		case w == nil || g.Seq < w.Seq:
			v.surplus(g)
			g, gerr = got()
		default:
			if !bytes.Equal(w.Raw, g.Raw) {
				v.diff.add("message %d has another %s", w.Seq, differentPart(w, g))
			}
			v.heirs.restored(w)
			v.digest.Write(g.Raw)
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

func (v *verification) missing(m *archive.Message) {
	switch {
	case v.p.expires(v.s, m):
		v.expired++
		return
	case v.takers:
		v.taken++
		return
	}
	if !v.heirs.missing(m) {
		v.lacks(m.Seq)
	}
}

func (v *verification) lacks(seq uint64) { v.diff.add("message %d is missing", seq) }

func (v *verification) surplus(m *archive.Message) {
	if m.Seq > v.s.state.LastSeq {
		v.heirs.arrived(m) // which was told when the stream was restored
		return
	}
	v.diff.add("message %d is there and not in the snapshot", m.Seq)
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
