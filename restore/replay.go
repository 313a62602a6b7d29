package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// Replay says how messages are published anew.
type Replay struct {
	Into    string                                // the live stream
	Subject string                                // that all of them go to; empty: each to its own
	Rate    float64                               // messages a second; 0: as fast as the server takes them
	Report  func(messages uint64, lastSeq uint64) // called often: how many were sent, and the sequence of the last one in the snapshot; may be nil
}

// ReplayError says that a replay ended early.
type ReplayError struct {
	Stream  string
	Cause   error
	Count   jetstream.Published // what the server said that it has
	LastSeq uint64              // sequence in the snapshot of the last message that was sent; what came before it is stored, but for the cause
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("stream %s: the replay ended with message %d of the snapshot: %v; %s are in the stream, and %s were there already",
		e.Stream, e.LastSeq, e.Cause, count(e.Count.Messages, "message"), count(e.Count.Duplicates, "message"))
}

func (e *ReplayError) Unwrap() error { return e.Cause }

// Replay publishes what the reading holds as new messages. Each carries an ID made of its stream and sequence, so that the server does
// not store it twice within the stream's duplicate window. Every message is acknowledged by the server, or it is a *ReplayError.
func (r *Reading) Replay(ctx context.Context, conn *jetstream.Conn, o Replay) (jetstream.Published, error) {
	return r.publish(ctx, conn, o, func(send func(*archive.Message) error) error {
		for m, err := range r.Messages(ctx) {
			if err == nil {
				err = send(m)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ReplayOne publishes one message.
func (r *Reading) ReplayOne(ctx context.Context, conn *jetstream.Conn, o Replay, m *archive.Message) (jetstream.Published, error) {
	return r.publish(ctx, conn, o, func(send func(*archive.Message) error) error { return send(m) })
}

func (r *Reading) publish(ctx context.Context, conn *jetstream.Conn, o Replay, all func(send func(*archive.Message) error) error) (jetstream.Published, error) {
	if err := r.CheckReplay(ctx, conn, o); err != nil {
		return jetstream.Published{}, err
	}
	p, err := conn.Publisher(ctx, o.Into)
	if err != nil {
		return jetstream.Published{}, err
	}
	var sent, lastSeq uint64
	began := time.Now()
	err = all(func(m *archive.Message) error {
		if o.Rate > 0 {
			due := began.Add(time.Duration(float64(sent) / o.Rate * float64(time.Second)))
			if err := pause(ctx, time.Until(due)); err != nil {
				return err
			}
		}
		out, err := r.outgoing(m, o)
		if err != nil {
			return err
		}
		sent, lastSeq = sent+1, m.Seq
		if o.Report != nil {
			o.Report(sent, lastSeq)
		}
		return p.Publish(ctx, out)
	})
	told, cerr := p.Close(context.WithoutCancel(ctx))
	if err == nil {
		err = cerr
	}
	if err != nil {
		return told, &ReplayError{Stream: o.Into, Cause: err, Count: told, LastSeq: lastSeq}
	}
	return told, nil
}

// CheckReplay looks at the live stream. What it cannot take is *ConflictError; a replay looks by itself before it publishes anything.
func (r *Reading) CheckReplay(ctx context.Context, conn *jetstream.Conn, o Replay) error {
	info, err := conn.Stream(ctx, o.Into)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return &ConflictError{Conflicts: []Conflict{{Stream: o.Into, Reason: "there is no such stream on the server", Advice: "replay into one that is there, or restore the stream"}}}
	}
	if err != nil {
		return err
	}
	if o.Subject == "" {
		return nil // each subject is the server's to take or refuse
	}
	subjects := subjectsOf(info.Name, info.StreamSettings)
	if !slices.ContainsFunc(subjects, func(s string) bool { return jetstream.SubjectMatches(s, []byte(o.Subject)) }) {
		return &ConflictError{Conflicts: []Conflict{{Stream: o.Into, Reason: fmt.Sprintf("it does not listen to %q", o.Subject), Advice: "it listens to " + strings.Join(subjects, ", ")}}}
	}
	return nil
}

// notReplayed are headers that told a server what to do with a message then, and would do something else now.
var notReplayed = []string{"Nats-Msg-Id", "Nats-Rollup"}

// outgoing makes of a message one that is published.
func (r *Reading) outgoing(m *archive.Message, o Replay) (jetstream.Outgoing, error) {
	fields, ok := archive.HeaderFields(m.Header)
	if !ok {
		return jetstream.Outgoing{}, fmt.Errorf("message %d has a header that cannot be published again", m.Seq)
	}
	for name := range fields {
		told := slices.ContainsFunc(notReplayed, func(n string) bool { return strings.EqualFold(n, name) })
		if told || len(name) >= 14 && strings.EqualFold(name[:14], "Nats-Expected-") {
			delete(fields, name)
		}
	}
	subject := string(m.Subject)
	if o.Subject != "" {
		subject = o.Subject
	}
	return jetstream.Outgoing{
		Subject: subject, Header: fields, Payload: m.Payload,
		ID: fmt.Sprintf("jetsam/%s/%d/%d", r.s.Source, m.Seq, m.Time),
	}, nil
}
