package strictjson

import (
	"encoding/json"
	"iter"
)

// Members yields the keys of the object data and their values, in order. The
// values are parts of data. What is no object has none; data must be valid JSON,
// as CheckDepth says, else there is no saying what it yields before it ends.
func Members(data []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		p := piece{data: data}
		if !p.enter('{') {
			return
		}
		for p.next() {
			var key string
			if json.Unmarshal(p.value(), &key) != nil {
				return
			}
			p.skip() // the colon
			if !yield(key, p.value()) {
				return
			}
		}
	}
}

// Elements yields the elements of the array data, as Members does.
func Elements(data []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		p := piece{data: data}
		if !p.enter('[') {
			return
		}
		for p.next() {
			if !yield(p.value()) {
				return
			}
		}
	}
}

// piece goes through an object or array that is known to be valid.
type piece struct {
	data []byte
	pos  int
}

func (p *piece) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

// enter goes behind the bracket that opens the data.
func (p *piece) enter(open byte) bool {
	p.space()
	if p.pos == len(p.data) || p.data[p.pos] != open {
		return false
	}
	p.pos++
	return true
}

// next reports whether another value comes before what closes.
func (p *piece) next() bool {
	p.space()
	if p.pos < len(p.data) && p.data[p.pos] == ',' {
		p.pos++
		p.space()
	}
	if p.pos == len(p.data) {
		return false
	}
	switch p.data[p.pos] {
	case '}', ']', ',', ':': // no value begins so, and value would stay where it is
		return false
	}
	return true
}

// skip goes behind the next byte, if there is one.
func (p *piece) skip() { p.pos = min(p.pos+1, len(p.data)) }

// value returns the value that comes next and goes behind it and the white space
// that follows.
func (p *piece) value() json.RawMessage {
	p.space()
	start := p.pos
	for depth := 0; p.pos < len(p.data); {
		switch c := p.data[p.pos]; c {
		case '"':
			p.str()
			continue
		case '{', '[':
			depth++
		case '}', ']', ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return p.end(start)
			}
			if c == '}' || c == ']' {
				depth--
			}
		}
		p.pos++
	}
	return p.end(start)
}

func (p *piece) end(start int) json.RawMessage {
	v := p.data[start:p.pos:p.pos]
	p.space()
	return v
}

// str goes behind a string.
func (p *piece) str() {
	for p.pos++; p.pos < len(p.data) && p.data[p.pos] != '"'; p.pos++ {
		if p.data[p.pos] == '\\' {
			p.pos++
		}
	}
	p.pos = min(p.pos+1, len(p.data))
}
