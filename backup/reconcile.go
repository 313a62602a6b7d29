package backup

import (
	"fmt"
	"strings"

	"jetsam/internal/digits"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// A server takes a stream's state first and reads messages later: what is removed meanwhile is not sent, and nothing fails
// (nats-server 2.15, stream_backup.go). So what came is compared with the state that the capture began with, and a difference
// is explained by how the stream stands afterwards.

// verdict is what a capture is worth.
type verdict struct {
	removed uint64 // messages of the state that did not come because the stream lost them
	torn    string // why what came is not the stream as it was at one time; empty: it is
	usual   bool   // the stream loses messages by its own rules all the time: a second capture will be torn like the first, and may be
	lasting bool   // it is the server that is wrong, and will be the next time
}

// possible returns an error where what came cannot belong to the state.
func possible(state archive.State, m *streamlog.Messages) error {
	if m.Count > state.Messages || m.Last > state.LastSeq {
		return fmt.Errorf("received %d messages up to sequence %d of a stream that had %d up to %d", m.Count, m.Last, state.Messages, state.LastSeq)
	}
	return nil
}

// counting is a head whose state counts at least as many messages: those that are there are alive, whatever the server counted.
func counting(head *archive.Head, messages uint64) (*archive.Head, error) {
	state, err := archive.ParseState(head.State)
	if err != nil || messages <= state.Messages {
		return head, err
	}
	state.Messages = messages
	return head.WithState(state)
}

// miscounted judges where there are more messages than the server counts, as nats-server 2.9.10 does after a purge up to a message that is gone already.
func miscounted(state archive.State, m *streamlog.Messages) verdict {
	return verdict{torn: fmt.Sprintf("%s came, but the server counted %s", messages(m.Count), digits.Grouped(state.Messages)), lasting: true}
}

// reconcileCounts judges where only counts can be compared.
func reconcileCounts(state archive.State, m *streamlog.Messages, now archive.State) verdict {
	missing := state.Messages - m.Count
	switch died := state.Messages - min(state.Messages, atLeastAlive(state, now)); {
	case missing == 0:
		return verdict{}
	case now.LastSeq < state.LastSeq:
		return verdict{torn: wentBack(missing, state, now)}
	case missing > died:
		return verdict{removed: died, torn: fmt.Sprintf("%s missing, of which the stream lost at most %s meanwhile", messages(missing), digits.Grouped(died))}
	}
	return verdict{removed: missing}
}

// reconcile judges by the very sequences: g are those that did not come, before and after those that the stream did not have.
func reconcile(state archive.State, m *streamlog.Messages, g *gaps, now archive.State, before, after dead, settings jetstream.StreamSettings) verdict {
	missing := state.Messages - m.Count
	if missing == 0 {
		return verdict{}
	}
	if now.LastSeq < state.LastSeq {
		return verdict{torn: wentBack(missing, state, now)}
	}
	some, lost := after.lost(g, 5)
	if lost > 0 {
		return verdict{
			removed: missing - min(missing, lost),
			torn:    fmt.Sprintf("%s that the stream still counts did not come, at sequence %s: the server cannot read them, or does not send them", messages(lost), spans(some)),
		}
	}
	firstDied := after.firstDied(g, m.First, state.LastSeq)
	if firstDied == 0 || m.Count == 0 || g.since(firstDied, before) == 0 {
		return verdict{removed: missing} // nothing that came was removed before something that did not come
	}
	died := missing + m.Count - min(m.Count, after.alive(span{state.FirstSeq, state.LastSeq}))
	if replaced(died, state, now, settings) {
		return verdict{removed: missing}
	}
	return verdict{
		removed: missing,
		torn: fmt.Sprintf("%s purged, deleted or expired while the stream was read, and so were some that had come: "+
			"what was captured is not the stream as it was at one time", messages(missing)),
		usual: lossy(settings),
	}
}

// lossy says whether a stream loses messages by its own rules all the time.
func lossy(settings jetstream.StreamSettings) bool {
	return settings.AllowMessageTTL || settings.Retention == "interest" || settings.Retention == "workqueue"
}

func wentBack(missing uint64, state, now archive.State) string {
	return fmt.Sprintf("%s missing: the stream's last sequence went back from %d to %d meanwhile", messages(missing), state.LastSeq, now.LastSeq)
}

// replaced reports whether newer messages of the same subjects can have removed so many: each the oldest of its subject, or as a rollup all that a subject
// keeps. That is how a KV bucket lives, and every message that is left is of some use alone.
func replaced(died uint64, state, now archive.State, settings jetstream.StreamSettings) bool {
	if settings.MaxMessagesOfSubject <= 0 {
		return false
	}
	each := uint64(1)
	if settings.AllowRollup {
		each = uint64(settings.MaxMessagesOfSubject)
	}
	return now.LastSeq-state.LastSeq >= (died+each-1)/each
}

// atLeastAlive is the least number of the state's messages that can still be alive: those there now, less all that may have come since.
func atLeastAlive(state, now archive.State) uint64 {
	came := now.LastSeq - state.LastSeq
	return now.Messages - min(now.Messages, came)
}

// messages writes a number of them for people.
func messages(n uint64) string {
	if n == 1 {
		return "1 message"
	}
	return digits.Grouped(n) + " messages"
}

// spans writes runs of sequences for people.
func spans(some []span) string {
	var out []string
	for _, s := range some {
		if s.from == s.to {
			out = append(out, fmt.Sprint(s.from))
			continue
		}
		out = append(out, fmt.Sprintf("%d to %d", s.from, s.to))
	}
	return strings.Join(out, ", ")
}
