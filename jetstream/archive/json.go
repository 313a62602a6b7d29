package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// checkObject checks that raw is one JSON object that is not nested too deeply.
func checkObject(raw []byte) error {
	if !json.Valid(raw) {
		return fmt.Errorf("%w: not valid JSON", ErrFormat)
	}
	if raw[skipSpace(raw, 0)] != '{' {
		return fmt.Errorf("%w: not a JSON object", ErrFormat)
	}
	if depth(raw) > MaxDepth {
		return fmt.Errorf("%w: JSON nested deeper than %d levels", ErrLimit, MaxDepth)
	}
	return nil
}

// The functions below walk over JSON that is known to be valid.

// depth says how deeply raw is nested.
func depth(raw []byte) int {
	deepest, level := 0, 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = skipString(raw, i) - 1
		case '{', '[':
			level++
			deepest = max(deepest, level)
		case '}', ']':
			level--
		}
	}
	return deepest
}

// member is where in an object one of its members stands: its value is
// raw[start:end].
type member struct {
	key        string
	start, end int
}

// members gives the members of the object raw in order.
func members(raw []byte) iter.Seq[member] {
	return func(yield func(member) bool) {
		i := skipSpace(raw, skipSpace(raw, 0)+1)
		for raw[i] != '}' {
			keyEnd := skipString(raw, i)
			start := skipSpace(raw, skipSpace(raw, keyEnd)+1) // behind the colon
			end := skipValue(raw, start)
			if !yield(member{unquote(raw[i:keyEnd]), start, end}) {
				return
			}
			if i = skipSpace(raw, end); raw[i] == ',' {
				i = skipSpace(raw, i+1)
			}
		}
	}
}

func unquote(quoted []byte) string {
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return "" // not a string: no key of ours
	}
	return s
}

func skipSpace(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r' {
		i++
	}
	return i
}

// skipString returns the index behind the string that begins at i.
func skipString(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the index behind the value that begins at i and stands in
// an object.
func skipValue(raw []byte, i int) int {
	level := 0
	for {
		switch raw[i] {
		case '"':
			i = skipString(raw, i)
		case '{', '[':
			level++
			i++
		case '}', ']':
			level--
			i++
		default:
			i++
		}
		if level == 0 && isDelimiter(raw[i]) {
			return i
		}
	}
}

func isDelimiter(b byte) bool {
	switch b {
	case ',', '}', ']', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

// setMember returns the object raw with value as the value of the last member of
// that name, which is the one that counts, and null as that of others of the
// name, or with that member added at the end if there is none. Names match as
// encoding/json matches them: without regard to case. Everything else keeps its
// bytes. What is not a JSON object is returned as it is.
func setMember(raw json.RawMessage, name string, value []byte) json.RawMessage {
	if checkObject(raw) != nil {
		return raw
	}
	var spots []member
	count := 0
	for m := range members(raw) {
		count++
		if strings.EqualFold(m.key, name) {
			spots = append(spots, m)
		}
	}
	if len(spots) == 0 {
		return addMember(raw, name, value, count > 0)
	}
	edited := make(json.RawMessage, 0, len(raw)+len(value))
	from := 0
	for _, m := range spots[:len(spots)-1] {
		edited = append(append(edited, raw[from:m.start]...), "null"...)
		from = m.end
	}
	last := spots[len(spots)-1]
	edited = append(append(edited, raw[from:last.start]...), value...)
	return append(edited, raw[last.end:]...)
}

func addMember(raw json.RawMessage, name string, value []byte, comma bool) json.RawMessage {
	text := strconv.Quote(name) + ":" + string(value)
	if comma {
		text = "," + text
	}
	end := bytes.LastIndexByte(raw, '}')
	return slices.Insert(slices.Clone(raw), end, []byte(text)...)
}

// dropMember returns the object raw without its members of that name. The others keep
// the bytes of their values. What is not a JSON object is returned as it is.
func dropMember(raw json.RawMessage, name string) json.RawMessage {
	if checkObject(raw) != nil || valueOf(raw, name) == nil {
		return raw
	}
	left := json.RawMessage{'{'}
	for m := range members(raw) {
		if strings.EqualFold(m.key, name) {
			continue
		}
		if len(left) > 1 {
			left = append(left, ',')
		}
		key, _ := json.Marshal(m.key) // a string always can be
		left = append(append(append(left, key...), ':'), raw[m.start:m.end]...)
	}
	return append(left, '}')
}

func setUint(raw json.RawMessage, name string, value uint64) json.RawMessage {
	return setMember(raw, name, strconv.AppendUint(nil, value, 10))
}

// plainJSON encodes v without escaping what only matters in HTML: > is in many subjects.
func plainJSON(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
