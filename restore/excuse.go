package restore

import (
	"bytes"
	"encoding/json"
	"strconv"

	"jetsam/internal/strictjson"
	"jetsam/jetstream/archive"
)

// compareSalvaged compares the consumers of a stream of which messages were left out. A server forgets that a message that is not there
// waits for its acknowledgement: at once where no message comes before it, else when it would deliver it again (nats-server 2.15,
// getNextMsg). That alone is no difference.
func compareSalvaged(want, got []archive.Consumer, lost *DamageError, diff *DifferenceError) {
	sent := make(map[string]json.RawMessage, len(want))
	for _, w := range want {
		sent[w.Name] = w.JSON
	}
	var as []archive.Consumer
	for _, g := range got {
		if w, ok := sent[g.Name]; ok && !bytes.Equal(w, g.JSON) {
			g.JSON = excuse(w, g.JSON, lost)
		}
		as = append(as, g)
	}
	compareConsumers(want, as, diff)
}

// excuse returns what got would be if the server had not yet forgotten lost messages. What cannot be excused stays as it is.
func excuse(want, got json.RawMessage, lost *DamageError) json.RawMessage {
	w, werr := strictjson.Any(want)
	g, gerr := strictjson.Any(got)
	if werr != nil || gerr != nil {
		return got
	}
	wstate, gstate := objectAt(w, "state"), objectAt(g, "state")
	if wstate == nil || gstate == nil {
		return got
	}
	for _, field := range []string{"pending", "redelivered"} {
		excuseForgotten(wstate, gstate, field, lost)
	}
	if floorJustified(wstate, gstate, lost) {
		gstate["ack_floor"] = wstate["ack_floor"]
	}
	text, err := json.Marshal(g)
	if err != nil {
		return got
	}
	return text
}

// objectAt is the object that a field of an object holds, or nil.
func objectAt(v any, field string) map[string]any {
	m, _ := v.(map[string]any)
	o, _ := m[field].(map[string]any)
	return o
}

// excuseForgotten puts entries of lost messages back.
func excuseForgotten(want, got map[string]any, field string, lost *DamageError) {
	w := objectAt(want, field)
	g := objectAt(got, field)
	for key, entry := range w {
		if _, there := g[key]; there || !lost.has(key) {
			continue
		}
		if g == nil {
			g = map[string]any{}
			got[field] = g
		}
		g[key] = entry
	}
}

// has says whether a message of that sequence may be lost.
func (e *DamageError) has(key string) bool {
	seq, err := strconv.ParseUint(key, 10, 64)
	if err != nil {
		return false
	}
	for _, l := range e.Lost {
		if l.First <= seq && seq <= l.Last {
			return true
		}
	}
	return false
}

// floorJustified says whether got's floor of acknowledgement is above want's and passes over nothing that waits and is there.
func floorJustified(want, got map[string]any, lost *DamageError) bool {
	from, ok := sequence(want["ack_floor"])
	to, ok2 := sequence(got["ack_floor"])
	delivered, ok3 := sequence(want["delivered"])
	if !ok || !ok2 || !ok3 || to <= from || to > delivered {
		return false
	}
	for key := range objectAt(want, "pending") {
		seq, err := strconv.ParseUint(key, 10, 64)
		if err != nil || seq <= to && !lost.has(key) {
			return false
		}
	}
	return true
}

// sequence is the stream's sequence in a pair of sequences.
func sequence(pair any) (uint64, bool) {
	m, _ := pair.(map[string]any)
	n, ok := m["stream_seq"].(json.Number)
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(n.String(), 10, 64)
	return seq, err == nil
}
