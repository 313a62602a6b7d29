package index

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// scanner reads a JSON document from left to right, as far as index files need
// it. encoding/json takes three times as long, which for a repository of a
// terabyte is seconds, and builds a list of a million empty blobs before anybody
// can object to the first.
//
// After an error all methods do nothing, and err is the first one.
type scanner struct {
	data  []byte
	pos   int
	skips bool // a value was passed over
	err   error
}

var errSyntax = errors.New("not valid JSON")

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = fmt.Errorf("at byte %d: %w", s.pos, err)
		s.pos = len(s.data)
	}
}

// peek returns the next byte that is not white space, or 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// accept consumes c if it comes next.
func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) expect(c byte) {
	if !s.accept(c) {
		s.fail(fmt.Errorf("%q expected", c))
	}
}

// end fails unless only white space is left.
func (s *scanner) end() {
	if s.peek(); s.err == nil && s.pos < len(s.data) {
		s.fail(errors.New("something follows the document"))
	}
}

// object reads an object and calls field for each key. field reads the value.
func (s *scanner) object(field func(key []byte)) {
	s.list('{', '}', func() {
		key := s.str()
		s.expect(':')
		if s.err == nil {
			field(key)
		}
	})
}

// array reads an array and calls elem for each element, which reads it.
func (s *scanner) array(elem func()) { s.list('[', ']', elem) }

func (s *scanner) list(open, end byte, elem func()) {
	s.expect(open)
	if s.err != nil || s.accept(end) {
		return
	}
	for s.err == nil {
		elem()
		if s.accept(',') {
			continue
		}
		s.expect(end)
		return
	}
}

// str reads a string. The result is valid as long as the document.
func (s *scanner) str() []byte {
	s.expect('"')
	start := s.pos
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[start : s.pos-1]
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			s.fail(errSyntax)
			return nil
		}
		s.pos++
	}
	s.fail(errSyntax)
	return nil
}

// escaped reads the rest of a string with an escape in it. No writer makes such
// strings, but they are valid.
func (s *scanner) escaped(start int) []byte {
	for s.pos < len(s.data) && s.data[s.pos] != '"' {
		if s.data[s.pos] == '\\' {
			s.pos++
		}
		s.pos++
	}
	s.pos = min(s.pos+1, len(s.data))
	var text string
	if err := json.Unmarshal(s.data[start-1:s.pos], &text); err != nil {
		s.fail(errSyntax)
		return nil
	}
	return []byte(text)
}

// text reads a string into v.
func (s *scanner) text(v encoding.TextUnmarshaler) {
	p := s.str()
	if s.err != nil {
		return
	}
	if err := v.UnmarshalText(p); err != nil {
		s.fail(err)
	}
}

// uint32 reads a number without sign, fraction or exponent.
func (s *scanner) uint32() uint32 {
	s.peek()
	start, n := s.pos, uint64(0)
	for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' && n <= math.MaxUint32 {
		n = n*10 + uint64(s.data[s.pos]-'0')
		s.pos++
	}
	digits := s.pos - start
	if digits == 0 || n > math.MaxUint32 || digits > 1 && s.data[start] == '0' {
		s.fail(errors.New("not a number of 32 bits"))
		return 0
	}
	return uint32(n)
}

// null consumes null if it comes next.
func (s *scanner) null() bool {
	const null = "null"
	s.peek()
	if len(s.data)-s.pos < len(null) || string(s.data[s.pos:s.pos+len(null)]) != null {
		return false
	}
	s.pos += len(null)
	return true
}

// skip passes over any value.
func (s *scanner) skip() {
	s.skips = true
	s.peek()
	start := s.pos
	for depth := 0; s.pos < len(s.data); {
		switch c := s.data[s.pos]; c {
		case '"':
			s.str()
			continue
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				s.skipped(start)
				return
			}
			if c != ',' {
				depth--
			}
		}
		s.pos++
	}
	s.fail(errSyntax)
}

// skipped fails if what was passed over since start is no value.
func (s *scanner) skipped(start int) {
	if s.err == nil && !json.Valid(s.data[start:s.pos]) {
		s.fail(errSyntax)
	}
}
