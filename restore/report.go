package restore

import (
	"encoding/json"
	"errors"
	"fmt"

	"jetsam/internal/digits"
	"jetsam/internal/strictjson"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// compareConfig compares a server's configuration with what it shall be. What the snapshot's does not say at all, a server adds as it sees fit:
// a newer one has fields that the source did not know. What it says otherwise than a server would, is compared as a server says it.
func (s *StreamPlan) compareConfig(config json.RawMessage, diff *DifferenceError) {
	if w, g, ok := said("configuration", s.wanted, config, diff); ok {
		likeAServer(w, g)
		compareFields("configuration", w, g, diff)
	}
}

// compareSaid compares a configuration with the server's as far as it says something: servers add fields of their own.
func compareSaid(what string, wanted, config json.RawMessage, diff *DifferenceError) {
	if w, g, ok := said(what, wanted, config, diff); ok {
		compareFields(what, w, g, diff)
	}
}

// said reads a configuration, and as much of the server's as it says something of.
func said(what string, wanted, config json.RawMessage, diff *DifferenceError) (w, g map[string]any, ok bool) {
	want, werr := strictjson.Any(wanted)
	got, gerr := strictjson.Any(config)
	w, wok := want.(map[string]any)
	g, gok := got.(map[string]any)
	if !wok || !gok {
		diff.add("%s cannot be compared: %v", what, errors.Join(werr, gerr))
		return nil, nil, false
	}
	for field := range g {
		if _, said := w[field]; !said && field != "metadata" {
			delete(g, field)
		}
	}
	return w, g, true
}

// compareCounts compares what the server counts besides messages and sequences, while nothing new has come in. Bytes are a note: how a
// message is counted is the server's own affair, and that each arrived as it is was seen on the way.
func (t *transfer) compareCounts(info *jetstream.StreamInfo, diff *DifferenceError) {
	if info.Messages != t.tally.Messages || info.LastSeq != t.s.state.LastSeq || info.Messages == 0 {
		return
	}
	if gaps := info.LastSeq - t.tally.FirstSeq + 1 - t.tally.Messages; info.Deleted != gaps {
		diff.add("the server counts %s deleted messages, in the snapshot there are %s", digits.Grouped(info.Deleted), digits.Grouped(gaps))
	}
	if _, _, respelled := t.s.bucket(); respelled || t.held > 0 || t.s.isCut() || t.s.state.Messages != t.tally.Messages || t.s.log.held.Document.Jetsam.Torn != "" {
		return // the source counted other messages: it removed some while it was captured, or they are lost or cut off, or called otherwise
	}
	if sent := t.s.state.Bytes; info.Bytes != sent {
		t.note("the server counts %s bytes of messages, the source counted %s", digits.Grouped(info.Bytes), digits.Grouped(sent))
	}
}

// comparePositions compares where each consumer of a stream that ends at last stands. One that is ahead is in use already.
func (t *transfer) comparePositions(found []*jetstream.ConsumerInfo, last uint64, diff *DifferenceError) {
	have := make(map[string]*jetstream.ConsumerInfo, len(found))
	for _, c := range found {
		have[c.Name] = c
	}
	ahead := 0
	for _, c := range t.s.head.Consumers {
		got := have[c.Name]
		if got == nil && isEphemeral(c) {
			t.note("consumer %s is gone already: it is ephemeral, and nobody uses it", c.Name)
			continue
		}
		if got == nil {
			diff.add("consumer %s is missing", c.Name)
			continue
		}
		want, err := archive.ParseConsumer(c.JSON)
		if err != nil {
			diff.add("consumer %s cannot be compared: %v", c.Name, err)
			continue
		}
		if got.Delivered.Stream > max(t.s.state.LastSeq, last) {
			diff.add("consumer %s stands at message %d, and would pass over what comes before: the stream ends at %d", c.Name, got.Delivered.Stream, last)
			continue
		}
		switch behind, moved := comparePosition(want, got); {
		case behind != "":
			diff.add("consumer %s %s", c.Name, behind)
		case moved:
			ahead++
		}
	}
	if ahead > 0 {
		t.note("%s of its consumers are in use already", digits.Grouped(ahead))
	}
	if t.s.raised > 0 {
		t.note("%s of its consumers stood below its first message, and go on at it", digits.Grouped(t.s.raised))
	}
}

// comparePosition says where a consumer stands behind what was sent, or that it has moved on since.
func comparePosition(want archive.ConsumerState, got *jetstream.ConsumerInfo) (behind string, moved bool) {
	delivered, floor := jetstream.Position(want.Delivered), jetstream.Position(want.AckFloor)
	switch {
	case got.Delivered.Stream < delivered.Stream:
		return fmt.Sprintf("has delivered up to message %d, in the snapshot up to %d", got.Delivered.Stream, delivered.Stream), false
	case got.Delivered.Consumer < delivered.Consumer:
		return fmt.Sprintf("has made %d deliveries, in the snapshot %d", got.Delivered.Consumer, delivered.Consumer), false
	case got.AckFloor.Stream < floor.Stream:
		return fmt.Sprintf("has acknowledged up to message %d, in the snapshot up to %d", got.AckFloor.Stream, floor.Stream), false
	case got.AckFloor.Consumer < floor.Consumer:
		return fmt.Sprintf("has acknowledged up to delivery %d, in the snapshot up to %d", got.AckFloor.Consumer, floor.Consumer), false
	case got.Delivered == delivered && got.AckPending > want.AckPending:
		return fmt.Sprintf("waits for %d acknowledgements, in the snapshot for %d", got.AckPending, want.AckPending), false
	}
	return "", got.Delivered != delivered || got.AckFloor != floor || got.AckPending != want.AckPending
}
