// Package blob says what a blob is called.
//
// A blob is the unit of deduplication in a repository: a run of bytes, named by
// the SHA-256 of its plain content and kept once however often it is saved.
//
//	ID      32 bytes, SHA-256 of the plain, uncompressed content
//	Kind    data (a piece of a file) or tree (a directory as JSON)
//	Handle  both together; the same content as data and as tree is two blobs
//
// The name of a stored file is another thing, the SHA-256 of its encrypted
// bytes: see storage.ID.
package blob

import "fmt"

// Kind tells what a blob holds. The numbers and names are part of the format.
type Kind uint8

// The two kinds of blob.
const (
	Data Kind = 0 // a piece of a file's content
	Tree Kind = 1 // a directory, as JSON
)

// String returns "data" or "tree", the names used in index files, or a
// description of the unknown number.
func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Tree:
		return "tree"
	default:
		return fmt.Sprintf("unknown kind %d", uint8(k))
	}
}

// MarshalText returns "data" or "tree", and an error for any other kind.
func (k Kind) MarshalText() ([]byte, error) {
	if k > Tree {
		return nil, fmt.Errorf("blob of %v", k)
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads "data" or "tree" and refuses anything else.
func (k *Kind) UnmarshalText(text []byte) error {
	switch string(text) {
	case "data":
		*k = Data
	case "tree":
		*k = Tree
	default:
		return fmt.Errorf("unknown blob kind %.20q", text)
	}
	return nil
}

// Handle names a blob in full. It is comparable and serves as a map key.
type Handle struct {
	Kind Kind
	ID   ID
}

// String returns the handle in short form for people, such as
// "data/3f2a9c01d2".
func (h Handle) String() string { return h.Kind.String() + "/" + h.ID.Short() }
