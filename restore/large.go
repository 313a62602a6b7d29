package restore

import (
	"bytes"
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"jetsam/internal/strictjson"
	"jetsam/jetstream"
)

const (
	// smallValue is how many bytes of JSON are decoded to be compared. As values they take some ten times as much.
	smallValue = 64 << 10
	// maxUnordered is how many fields of an object are compared that stand in another order on the other side.
	maxUnordered = 4 << 20
)

// compareRaw compares two values of valid JSON like compareFields, and does not decode them as a whole: a consumer may
// have a million messages that wait for their acknowledgement. What a server writes is in the same order as before, and
// then it takes no memory at all.
func compareRaw(what string, want, got []byte, diff *DifferenceError) {
	want, got = asObject(want, got), asObject(got, want)
	switch {
	case bytes.Equal(want, got):
	case len(want) <= smallValue && len(got) <= smallValue:
		compareSmall(what, want, got, diff)
	case want[0] == '{' && got[0] == '{':
		compareObjects(what, want, got, diff)
	case want[0] == '[' && got[0] == '[':
		compareArrays(what, want, got, diff)
	default:
		diff.add("%s is %s, in the snapshot %s", what, cut(got), cut(want))
	}
}

// asObject is v, or the empty object for nothing where the other side is one, as in object.
func asObject(v, other []byte) []byte {
	if other[0] == '{' && string(v) == "null" {
		return []byte("{}")
	}
	return v
}

func compareSmall(what string, want, got []byte, diff *DifferenceError) {
	w, werr := strictjson.Any(want)
	g, gerr := strictjson.Any(got)
	if err := firstError(werr, gerr); err != nil {
		diff.add("%s cannot be compared: %v", what, err)
		return
	}
	compareFields(what, w, g, diff)
}

func compareArrays(what string, want, got []byte, diff *DifferenceError) {
	w, g := &walk{raw: want, at: 1}, &walk{raw: got, at: 1}
	for n := 0; ; n++ {
		wok, gok := w.element(), g.element()
		switch {
		case !wok && !gok:
			return
		case !wok || !gok || !sameElement(w.value(), g.value()):
			diff.add("%s differs from its element %d on", what, n)
			return
		}
	}
}

// sameElement compares elements of arrays. Of large ones, as of objects, what a server adds is excused.
func sameElement(want, got []byte) bool {
	if bytes.Equal(want, got) {
		return true
	}
	if len(want) > smallValue || len(got) > smallValue {
		var diff DifferenceError
		compareRaw("", want, got, &diff)
		return diff.Count == 0
	}
	w, werr := strictjson.Any(want)
	g, gerr := strictjson.Any(got)
	return werr == nil && gerr == nil && reflect.DeepEqual(w, g)
}

// compareObjects goes through both objects as long as they have the same fields in the same order, and compares the rest
// by name.
func compareObjects(what string, want, got []byte, diff *DifferenceError) {
	w, g := &walk{raw: want, at: 1}, &walk{raw: got, at: 1}
	wok, gok := w.member(), g.member()
	for ; wok && gok && bytes.Equal(w.key(), g.key()); wok, gok = w.member(), g.member() {
		compareMember(what, w.key(), w.value(), g.value(), diff)
	}
	ws, wfew := w.rest(wok)
	gs, gfew := g.rest(gok)
	if !wfew || !gfew {
		diff.add("%s cannot be compared: more than %d fields are in another order than in the snapshot", what, maxUnordered)
		return
	}
	compareSorted(what, want, got, ws, gs, diff)
}

func compareSorted(what string, want, got []byte, ws, gs []span, diff *DifferenceError) {
	for len(ws) > 0 || len(gs) > 0 {
		order := 0
		switch {
		case len(gs) == 0:
			order = -1
		case len(ws) == 0:
			order = 1
		default:
			order = compareNames(want[ws[0].key:ws[0].keyEnd], got[gs[0].key:gs[0].keyEnd])
		}
		var key []byte
		w, g := []byte("null"), []byte("null")
		if order <= 0 {
			key, w, ws = want[ws[0].key:ws[0].keyEnd], want[ws[0].value:ws[0].end], ws[1:]
		}
		if order >= 0 {
			key, g, gs = got[gs[0].key:gs[0].keyEnd], got[gs[0].value:gs[0].end], gs[1:]
		}
		compareMember(what, key, w, g, diff)
	}
}

func compareMember(what string, key, want, got []byte, diff *DifferenceError) {
	if bytes.Equal(want, got) {
		return
	}
	if field := name(key); !strings.HasPrefix(field, jetstream.ServerMetadata) {
		compareRaw(what+" "+field, want, got, diff)
	}
}

// name is what a quoted name says.
func name(quoted []byte) (s string) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	if err := json.Unmarshal(quoted, &s); err != nil {
		return string(quoted)
	}
	return s
}

// cut is a value as it is written, as long as what short returns.
func cut(raw []byte) string {
	if len(raw) > maxShown {
		return string(raw[:maxShown]) + "…"
	}
	return string(raw)
}

// span says where a field stands. Documents are below 4 GiB (archive.MaxHeadEntry).
type span struct{ key, keyEnd, value, end uint32 }

// walk goes through the members of an object or the elements of an array, in JSON that is valid.
type walk struct {
	raw []byte
	at  int
	now span
}

func (w *walk) key() []byte   { return w.raw[w.now.key:w.now.keyEnd] }
func (w *walk) value() []byte { return w.raw[w.now.value:w.now.end] }

// member moves to the next member, if there is one.
func (w *walk) member() bool {
	if !w.begin() {
		return false
	}
	key := w.at
	w.skipString()
	keyEnd := w.at
	w.skipSpace()
	w.at++ // the colon
	w.skipSpace()
	w.now = span{key: uint32(key), keyEnd: uint32(keyEnd)}
	w.take()
	return true
}

// element moves to the next element, if there is one.
func (w *walk) element() bool {
	if !w.begin() {
		return false
	}
	w.take()
	return true
}

// begin moves to where the next member or element begins.
func (w *walk) begin() bool {
	w.skipSpace()
	if w.raw[w.at] == ',' {
		w.at++
		w.skipSpace()
	}
	return w.raw[w.at] != '}' && w.raw[w.at] != ']'
}

// take notes the value that begins here and moves behind it.
func (w *walk) take() {
	w.now.value = uint32(w.at)
	for level := 0; ; {
		switch w.raw[w.at] {
		case '"':
			w.skipString()
		case '{', '[':
			level++
			w.at++
		case '}', ']':
			level--
			w.at++
		default:
			w.at++
		}
		if level == 0 && strings.IndexByte(",}] \t\r\n", w.raw[w.at]) >= 0 {
			break
		}
	}
	w.now.end = uint32(w.at)
}

func (w *walk) skipSpace() {
	for strings.IndexByte(" \t\r\n", w.raw[w.at]) >= 0 {
		w.at++
	}
}

func (w *walk) skipString() {
	for w.at++; w.raw[w.at] != '"'; w.at++ {
		if w.raw[w.at] == '\\' {
			w.at++
		}
	}
	w.at++
}

// rest returns the members that are left, with the one at hand if there is one, sorted by name. Of those with the same
// name the last one counts, as for every reader of JSON here. few is false where they are too many.
func (w *walk) rest(there bool) (all []span, few bool) {
	n := 0
	for ahead, more := *w, there; more; more = ahead.member() {
		n++
	}
	if n > maxUnordered {
		return nil, false
	}
	all = make([]span, 0, n)
	for ; there; there = w.member() {
		all = append(all, w.now)
	}
	slices.SortStableFunc(all, func(a, b span) int { return compareNames(w.keyOf(a), w.keyOf(b)) })
	kept := all[:0]
	for i, s := range all {
		if i+1 == len(all) || compareNames(w.keyOf(s), w.keyOf(all[i+1])) != 0 {
			kept = append(kept, s)
		}
	}
	return kept, true
}

func (w *walk) keyOf(s span) []byte { return w.raw[s.key:s.keyEnd] }

// compareNames compares what two quoted names say, without memory for those that say it plainly.
func compareNames(a, b []byte) int {
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		return bytes.Compare(a[1:len(a)-1], b[1:len(b)-1])
	}
	return cmp.Compare(name(a), name(b))
}
