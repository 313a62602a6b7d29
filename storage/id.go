package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// IDSize is the length of an ID in bytes; its text form is twice as long.
const IDSize = sha256.Size

// ID names a stored file: the SHA-256 of its bytes as they are stored, that is,
// encrypted. It says nothing about the content: see blob.ID for that.
type ID [IDSize]byte

// Sum returns the ID of the file with content p.
func Sum(p []byte) ID { return sha256.Sum256(p) }

// ParseID reads an ID from exactly 64 lower-case hexadecimal digits, the only
// form that file names have.
func ParseID(s string) (ID, error) {
	var id ID
	if err := id.UnmarshalText([]byte(s)); err != nil {
		return ID{}, err
	}
	return id, nil
}

// String returns the ID as 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 10 digits of the ID, enough for a person to tell
// files apart.
func (id ID) Short() string { return hex.EncodeToString(id[:5]) }

// IsZero reports whether the ID is all zero, which no content has.
func (id ID) IsZero() bool { return id == ID{} }

// Compare returns -1, 0 or +1 as id sorts before, with or after other.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// AppendText appends the 64 digits to dst. It never fails.
func (id ID) AppendText(dst []byte) ([]byte, error) { return hex.AppendEncode(dst, id[:]), nil }

// MarshalText returns the 64 digits. It never fails.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText is ParseID for encoding/json. It leaves id alone on error.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*IDSize {
		return fmt.Errorf("file id of %d characters, want %d", len(text), 2*IDSize)
	}
	var parsed ID
	for i := range parsed {
		hi, lo := digit(text[2*i]), digit(text[2*i+1])
		if hi|lo > 0x0f {
			return fmt.Errorf("file id %q is not lower-case hexadecimal", text)
		}
		parsed[i] = hi<<4 | lo
	}
	*id = parsed
	return nil
}

// digit returns the value of a lower-case hexadecimal digit, or 0xff.
func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	default:
		return 0xff
	}
}
