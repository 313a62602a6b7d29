package restore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"jetsam/jetstream"
)

// markerName is the entry of a stream's metadata by which a restore knows the stream as its own, until it is complete. A server that
// fails in the middle of a restore keeps what it has got as a stream like any other: the entry tells it from one that somebody uses.
const markerName = "jetsam-restore"

// marker says which run restores a stream, from which snapshot, since when.
type marker struct {
	run      string // a random name
	snapshot string // the beginning of the snapshot's ID
	began    time.Time
}

// String is the marker as metadata holds it.
func (m marker) String() string {
	return fmt.Sprintf("%s %s %s", m.run, m.snapshot, m.began.UTC().Format(time.RFC3339))
}

// maxRun is the most letters that the name of a run may have.
const maxRun = 40

// parseMarker reads what String writes. The metadata of a stream is anybody's to write.
func parseMarker(text string) (marker, bool) {
	fields := strings.Split(text, " ")
	if len(fields) != 3 || fields[0] == "" || len(fields[0]) > maxRun || strings.Trim(fields[0], "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		return marker{}, false
	}
	began, err := time.Parse(time.RFC3339, fields[2])
	return marker{run: fields[0], snapshot: fields[1], began: began}, err == nil
}

// newRun returns a name for a run that no other has.
func newRun() string { return rand.Text() }

// announce lets others know that this run is at work, until stop is called.
func (p *Plan) announce() (stop func()) {
	stop, p.unannounced = p.conn.Announce(p.run)
	if p.unannounced != nil {
		return func() {}
	}
	return stop
}

// marker is what marks a stream of the plan while it runs.
func (p *Plan) marker(s *StreamPlan, now time.Time) marker {
	return marker{run: p.run, snapshot: p.mark(s), began: now}
}

// mark names what is restored: the beginning of the snapshot's ID, and where the stream is cut, or called or made otherwise, what tells that
// from all other such restores.
func (p *Plan) mark(s *StreamPlan) string {
	o := p.Options
	next := ""
	if s.next != nil {
		next = s.next.ID().String()
	}
	if o.Cut.IsZero() && !s.renamed() && o.Target.isZero() {
		return s.snapshot
	}
	text, err := json.Marshal([]any{s.Source, next, o.Cut, o.Target, o.KeepSources, o.NoConsumers})
	if err != nil {
		return s.snapshot + "-" + p.run // like no other
	}
	sum := sha256.Sum256(text)
	return s.snapshot + "-" + hex.EncodeToString(sum[:8])
}

// isOf says whether a stream carries the marker of that run.
func isOf(info *jetstream.StreamInfo, run string) bool {
	m, ok := parseMarker(info.Metadata[markerName])
	return ok && m.run == run
}

// begin asks the server to restore the stream: with the marker if it can be taken off again, else without.
func (t *transfer) begin(ctx context.Context) (*jetstream.Restore, error) {
	state := t.s.head.State
	marked, err := t.marked(ctx)
	if err == nil {
		var out *jetstream.Restore
		if out, err = t.plan.conn.Restore(ctx, t.s.Name, marked, state); err == nil {
			t.isMarked, t.config = true, marked
			return out, nil
		}
		if !refusesConfig(err) {
			return nil, err
		}
	}
	t.config = t.s.wanted
	out, plain := t.plan.conn.Restore(ctx, t.s.Name, t.s.wanted, state)
	if plain == nil && !errors.Is(err, errNoMetadata) {
		t.note("restored without the mark that lets the next run recognise an unfinished restore: %v", err)
	}
	return out, plain
}

// marked is the stream's configuration with the marker, or why it can have none.
func (t *transfer) marked(ctx context.Context) (json.RawMessage, error) {
	if t.plan.unannounced != nil {
		return nil, t.plan.unannounced
	}
	if t.plan.older && t.plan.release.Before(2, 10) {
		return nil, errNoMetadata
	}
	config, err := jetstream.WithMetadata(t.s.wanted, markerName, t.plan.marker(t.s, time.Now()).String())
	if err != nil {
		return nil, err
	}
	return config, t.plan.conn.MayUpdate(ctx, t.s.Name)
}

// errNoMetadata is why streams of old servers carry no marker. They make a stream when they have all of it, so that none is left unfinished.
var errNoMetadata = errors.New("servers before 2.10 keep no metadata")

// codeInvalidConfig is a server's complaint about a stream's configuration (nats-server, server/errors.json).
const codeInvalidConfig = 10052

func refusesConfig(err error) bool {
	var answer *jetstream.APIError
	return errors.As(err, &answer) && answer.ErrCode == codeInvalidConfig
}

// unmark takes the marker off the restored stream. It does not touch a stream that carries another's.
func (t *transfer) unmark(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	for {
		info, err := t.plan.conn.Stream(ctx, t.s.Name)
		if err == nil {
			if _, found := info.Metadata[markerName]; !found {
				return nil
			}
			if !t.ours(info) {
				return errors.New("the stream carries the mark of another restore: two of them ran at once")
			}
			_, err = t.plan.conn.UpdateStream(ctx, t.s.wanted)
		}
		switch {
		case err == nil:
			return nil
		case !mayComeBack(err):
			return err
		}
		if pause(ctx, time.Second) != nil {
			return err
		}
	}
}

// ours says whether the stream carries the marker that this transfer looks after: its own, or the one of a restore that it finishes.
func (t *transfer) ours(info *jetstream.StreamInfo) bool {
	if left := t.s.Leftover; left != nil && left.Whole {
		return isOf(info, left.Run)
	}
	return isOf(info, t.plan.run)
}

func (t *transfer) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// usedSince says whether messages came into a stream since the restore that made it began. Those that are restored keep their times, from
// before; the server's own clock dates the stream and what comes in.
func usedSince(info *jetstream.StreamInfo) bool { return info.LastTime.After(info.Created) }
