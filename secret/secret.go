// Package secret keeps a password, token or key from being printed by accident.
//
// A String holds text that only Reveal gives back. Every other way out, whether
// by package fmt with any verb, encoding/json, a text marshaler or log/slog,
// yields "***".
//
// It guards against mistakes, not against an attacker: the bytes stay in memory
// in the clear, and whoever calls Reveal is responsible for what becomes of them.
package secret

import (
	"fmt"
	"log/slog"
)

const mask = "***"

// String is text that must not appear in output. The zero value is an empty
// secret. Two Strings that hold the same text do not compare equal with ==;
// compare what Reveal returns.
type String struct {
	// A pointer, because fmt prints unexported fields by reflection without
	// asking for their methods: of a String inside another type's unexported
	// field it shows an address, never the text.
	text *string
}

// New returns a String that holds s.
func New(s string) String { return String{text: &s} }

// Reveal returns the text itself.
func (s String) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no text.
func (s String) Empty() bool { return s.Reveal() == "" }

// String returns "***".
func (s String) String() string { return mask }

// GoString returns "***".
func (s String) GoString() string { return mask }

// Format writes "***" for every verb and flag.
func (s String) Format(f fmt.State, _ rune) {
	// fmt keeps a write error in its own state; there is nobody to hand it to.
	_, _ = f.Write([]byte(mask))
}

// MarshalText returns "***".
func (s String) MarshalText() ([]byte, error) { return []byte(mask), nil }

// MarshalJSON returns "***" as a JSON string.
func (s String) MarshalJSON() ([]byte, error) { return []byte(`"` + mask + `"`), nil }

// LogValue returns "***".
func (s String) LogValue() slog.Value { return slog.StringValue(mask) }
