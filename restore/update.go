package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream"
)

// checkUpdate says what an update changes, and refuses one that would cost messages.
func (s *StreamPlan) checkUpdate(o Options, now time.Time) {
	s.Changes = configDiff(s.live.Config, s.wanted)
	have := s.live.StreamSettings
	if have.Storage != s.config.Storage {
		s.conflict("restore it under another name, or replace it with --replace", "it is kept in %s storage, and no server moves it to %s", have.Storage, s.config.Storage)
	}
	if (have.Mirror == nil) != (s.config.Mirror == nil) {
		s.conflict("replace it with --replace", "one is a mirror and the other is none, which no server changes")
	}
	for _, loss := range s.losses(now) {
		if o.Target.ApplyLimits {
			s.warning("%s: the server removes what is beyond", loss)
			continue
		}
		s.conflict("--apply-limits updates it all the same", "%s, and the server would remove messages", loss)
	}
}

// losses are the changes by which the server would remove messages that the stream has.
func (s *StreamPlan) losses(now time.Time) []string {
	have, is, want := s.live.StreamSettings, s.live.StreamState, s.config
	var out []string
	lose := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if is.Messages == 0 {
		return nil
	}
	if want.MaxMessages > 0 && is.Messages > uint64(want.MaxMessages) {
		lose("its max_msgs would be %d, and it has %s messages", want.MaxMessages, digits.Grouped(is.Messages))
	}
	if want.MaxBytes > 0 && is.Bytes > uint64(want.MaxBytes) {
		lose("its max_bytes would be %d, and it has %s", want.MaxBytes, digits.Grouped(is.Bytes))
	}
	if want.MaxAge > 0 && is.FirstTime.Before(now.Add(-want.MaxAge)) {
		lose("its max_age would be %v, and its first message is older", want.MaxAge)
	}
	if want.MaxMessagesOfSubject > 0 && (have.MaxMessagesOfSubject <= 0 || have.MaxMessagesOfSubject > want.MaxMessagesOfSubject) && is.Messages > is.Distinct {
		lose("its max_msgs_per_subject would be %d, and is %d", want.MaxMessagesOfSubject, have.MaxMessagesOfSubject)
	}
	if want.Retention != have.Retention && want.Retention != "limits" {
		lose("its retention would be %s, and is %s", want.Retention, have.Retention)
	}
	return out
}

// update gives the server's stream the wanted configuration.
func (p *Plan) update(ctx context.Context, s *StreamPlan) error {
	if len(s.Changes) == 0 {
		return nil
	}
	if _, err := p.conn.UpdateStream(ctx, s.wanted); err != nil {
		return s.notUpdated(err)
	}
	return p.compareConfigured(ctx, s, "its configuration was changed")
}

// notUpdated is what a failed update means: a server that answers with an error has changed nothing.
func (s *StreamPlan) notUpdated(err error) error {
	var answer *jetstream.APIError
	if errors.As(err, &answer) {
		return s.refused(fmt.Sprintf("the server refuses to change its configuration: %v", answer), "it stays as it was; --dry-run lists the changes")
	}
	return &IncompleteError{Stream: s.Name, Cause: err, Remains: "whether its configuration was changed is not known; the same command again finds out"}
}

// compareConfigured holds the configuration of the server's stream, with which was done what did says, against what it shall be.
func (p *Plan) compareConfigured(ctx context.Context, s *StreamPlan, did string) error {
	info, err := p.conn.Stream(ctx, s.Name)
	if err != nil {
		return &IncompleteError{Stream: s.Name, Cause: err, Remains: did + ", but the server does not tell of it any more"}
	}
	diff := &DifferenceError{}
	s.compareConfig(info.Config, diff)
	if diff.Count > 0 {
		return &IncompleteError{Stream: s.Name, Cause: diff, Remains: "the server has accepted the change of its configuration, and made something else of it"}
	}
	return nil
}

// createEmpty makes an empty stream of the wanted configuration.
func (p *Plan) createEmpty(ctx context.Context, s *StreamPlan) error {
	p.creating.Lock()
	_, err := p.conn.CreateStream(ctx, s.wanted)
	p.creating.Unlock()
	var answer *jetstream.APIError
	switch {
	case errors.As(err, &answer):
		return s.refused(fmt.Sprintf("the server refuses it: %v", answer), adviceOn(err))
	case err != nil:
		return &IncompleteError{Stream: s.Name, Cause: err, Remains: "whether the server made the stream is not known; look at it before you go on"}
	}
	return p.compareConfigured(ctx, s, "the stream was made")
}
