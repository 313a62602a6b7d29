package restore

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// A server removes what has expired as soon as it is restored, or does not take it in the first place. What was asked back is kept from that,
// unless the limits shall apply: a stream is restored without its max_age, and a message without its own time to live.

// holdMargin is how much longer than its max_age a message is kept from expiring: a restore takes its time.
const holdMargin = 10 * time.Minute

// hold lifts the stream's max_age where a server would remove at once what is restored.
func (s *StreamPlan) hold(o Options, now time.Time) error {
	if s.config.MaxAge <= 0 || o.Target.ApplyLimits || len(s.ages) == 0 {
		return nil
	}
	limit := now.Add(holdMargin).Add(-s.config.MaxAge)
	if !slices.ContainsFunc(s.ages, func(a age) bool { return a.from < limit.UnixNano() }) {
		return nil
	}
	wanted, err := jetstream.WithChanges(s.wanted, map[string]any{"max_age": 0})
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	s.warning("its max_age of %v has passed, or soon will, for some of what is restored, and the server would remove that: it is restored without max_age; "+
		"`nats stream edit %s --max-age %v` sets it again, --apply-limits keeps it", s.config.MaxAge, s.Name, s.config.MaxAge)
	s.wanted, s.config.MaxAge = wanted, 0
	return nil
}

// ttlHeader says how long a message lives (nats-server 2.11 and newer), and heldHeader is what it is called in a message that is kept from
// expiring.
const (
	ttlHeader  = "Nats-TTL"
	heldHeader = "Jetsam-TTL"
)

// holdsTTL says whether messages are kept from expiring by themselves.
func (p *Plan) holdsTTL(s *StreamPlan) bool {
	return !p.Options.Target.ApplyLimits && p.minds(s)
}

// minds says whether a server minds the Nats-TTL of messages that it restores. In files of a store it looks for that only where the stream has messages
// expire (nats-server 2.11 to 2.14, recoverTTLState).
func (p *Plan) minds(s *StreamPlan) bool { return !p.older || s.config.AllowMessageTTL }

// held yields next's messages, and those whose Nats-TTL has passed, or soon will have, with that field under another name.
func (p *Plan) held(s *StreamPlan, next func() (*archive.Message, error)) func() (*archive.Message, error) {
	if !p.holdsTTL(s) {
		return next
	}
	limit := p.holdUntil()
	var own archive.Message
	return func() (*archive.Message, error) {
		m, err := next()
		if err != nil || !expired(m, limit) {
			return m, err
		}
		own.Set(string(m.Subject), m.Time, m.Seq, withoutTTL(m.Header), m.Payload)
		return &own, nil
	}
}

// holdUntil is until when no message may expire. Streams that stand for themselves lose none, so that they are the same each time, however long that takes.
func (p *Plan) holdUntil() time.Time {
	if p.Options.Target.Alone {
		return p.made.AddDate(1000, 0, 0)
	}
	return p.made.Add(holdMargin)
}

// withoutTTL is a header block whose fields Nats-TTL are called otherwise.
func withoutTTL(header []byte) []byte {
	return bytes.ReplaceAll(header, []byte("\r\n"+ttlHeader+":"), []byte("\r\n"+heldHeader+":"))
}

// expires says whether a server may remove a message as soon as it is restored, or not take it.
func (p *Plan) expires(s *StreamPlan, m *archive.Message) bool {
	limit := p.made.Add(holdMargin)
	return p.Options.Target.ApplyLimits && (p.minds(s) && expired(m, limit) || s.config.MaxAge > 0 && m.Time < limit.Add(-s.config.MaxAge).UnixNano())
}

// wasHeld says whether a message that is sent was kept from expiring.
func wasHeld(m *archive.Message) bool { return headerOf(m, heldHeader) != "" }

// expired says whether a message's Nats-TTL (nats-server 2.11 and newer) had passed at that moment: a whole number of seconds, or a duration
// as Go writes it.
func expired(m *archive.Message, now time.Time) bool {
	text := headerOf(m, ttlHeader)
	ttl, err := time.ParseDuration(text)
	if seconds, serr := strconv.ParseInt(text, 10, 32); serr == nil {
		ttl, err = time.Duration(seconds)*time.Second, nil
	}
	return err == nil && ttl > 0 && now.After(time.Unix(0, m.Time).Add(ttl))
}

// headerOf is the value of a message's header field of that name, the first one, or empty.
func headerOf(m *archive.Message, name string) string {
	for rest := m.Header; ; {
		_, field, found := bytes.Cut(rest, []byte("\r\n"+name))
		if !found {
			return ""
		}
		if value, ok := bytes.CutPrefix(field, []byte(":")); ok {
			value, _, _ = bytes.Cut(value, []byte("\r\n"))
			return string(bytes.TrimSpace(value))
		}
		rest = field
	}
}
