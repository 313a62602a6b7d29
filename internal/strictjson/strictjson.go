// Package strictjson decodes one JSON document from storage that is not trusted.
//
// encoding/json is lenient where a backup format must not be: it lets the last
// of several equal keys win, takes "Tree" for "tree", and goes 10,000 levels
// deep. Unmarshal here refuses a document that
//
//   - has two keys in one object that encoding/json would store in the same field,
//   - nests deeper than MaxDepth,
//   - has more values than MaxValues, or
//   - is followed by anything but white space.
//
// Unknown keys are accepted, since newer writers add them. The size of the
// document is for the caller to bound: it is in memory already.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// MaxDepth is how many objects and arrays may be open at once. No document of
// the repository format needs more than six.
const MaxDepth = 64

// MaxValues is how many values a document may have, objects and arrays included. A
// list of empty objects takes three bytes each as JSON, and up to forty times that
// once it is decoded.
const MaxValues = 1 << 20

// ErrSyntax is what Check and Unmarshal return for bytes that are not one JSON
// value, in place of encoding/json's error, which quotes the input.
var ErrSyntax = errors.New("not valid JSON")

// Unmarshal decodes data into v as encoding/json does, after Check.
func Unmarshal(data []byte, v any) error {
	if err := Check(data); err != nil {
		return err
	}
	return Decode(data, v)
}

// maxError is how long an error may be: encoding/json quotes numbers whole.
const maxError = 200

// Decode decodes data that was checked, or is part of what was. Its errors are
// short.
func Decode(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if err == nil || len(err.Error()) <= maxError {
		return err
	}
	return errors.New(strings.ToValidUTF8(err.Error()[:maxError], "") + "…")
}

// UnmarshalForeign is Unmarshal for documents in which somebody else's JSON is
// embedded: the keys of that are theirs, and may differ in case only.
func UnmarshalForeign(data []byte, v any) error {
	if err := CheckForeign(data); err != nil {
		return err
	}
	return Decode(data, v)
}

// CheckForeign is Check without the search for repeated keys.
func CheckForeign(data []byte) error { return check(data, false, MaxValues) }

// Check reports whether data is one JSON value without repeated keys, not nested
// too deeply and of not too many values.
func Check(data []byte) error { return check(data, true, MaxValues) }

// CheckDepth is Check without the search for repeated keys and without a bound on
// the number of values, for documents so large that the search would cost more than
// reading them. Decode these piece by piece: see Members and Elements.
func CheckDepth(data []byte) error { return check(data, false, len(data)) }

func check(data []byte, unique bool, values int) error {
	if !json.Valid(data) {
		return ErrSyntax
	}
	w := walker{data: data, unique: unique, values: values}
	return w.walk()
}

// walker goes over a document that is known to be valid JSON, so all it has to
// recognise is strings, brackets and which strings are keys.
type walker struct {
	data   []byte
	pos    int
	unique bool // keys must be
	values int  // how many more may come
	open   []container
}

// container is an object or array that is still open.
type container struct {
	object  bool
	wantKey bool                // the next string is a key
	keys    map[string]struct{} // seen so far, made when the first one comes
}

func (w *walker) walk() error {
	for w.pos < len(w.data) {
		c := w.data[w.pos]
		w.pos++
		switch c {
		case '{':
			w.values--
			w.open = append(w.open, container{object: true, wantKey: true})
		case '[':
			w.values--
			w.open = append(w.open, container{})
		case '}', ']':
			w.open = w.open[:len(w.open)-1]
		case ',':
			w.values--
			top := &w.open[len(w.open)-1]
			top.wantKey = top.object
		case '"':
			if err := w.str(); err != nil {
				return err
			}
		}
		if len(w.open) > MaxDepth {
			return fmt.Errorf("JSON is nested deeper than %d levels", MaxDepth)
		}
		if w.values < 0 {
			return fmt.Errorf("JSON has more than %d values", MaxValues)
		}
	}
	return nil
}

// str passes over the string whose opening quote was just read, and if it is a
// key notes it in the object it belongs to.
func (w *walker) str() error {
	start := w.pos - 1
	for w.data[w.pos] != '"' {
		if w.data[w.pos] == '\\' {
			w.pos++
		}
		w.pos++
	}
	w.pos++
	if len(w.open) == 0 || !w.open[len(w.open)-1].wantKey {
		return nil
	}
	top := &w.open[len(w.open)-1]
	top.wantKey = false
	if !w.unique {
		return nil
	}
	var key string
	if err := json.Unmarshal(w.data[start:w.pos], &key); err != nil {
		return ErrSyntax
	}
	// encoding/json matches keys to fields without regard to case.
	folded := strings.ToLower(key)
	if _, ok := top.keys[folded]; ok {
		return fmt.Errorf("JSON object has the key %.40q twice", key)
	}
	if top.keys == nil {
		top.keys = make(map[string]struct{})
	}
	top.keys[folded] = struct{}{}
	return nil
}

// Any reads JSON of any shape, with its numbers as they are written: a float64 would not tell high sequences apart.
func Any(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// IsEmpty says whether a value that Any has read says nothing: null, false, 0, an empty text, list or object.
func IsEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case json.Number:
		return v == "0"
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
