package storage

import "fmt"

// Kind tells what a stored file is.
type Kind uint8

// The kinds of file a repository is made of.
const (
	Config Kind = iota
	Key
	Lock
	Snapshot
	Index
	Pack
	kinds
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Config, Key, Lock, Snapshot, Index, Pack} }

// Valid reports whether k is one of Kinds.
func (k Kind) Valid() bool { return k < kinds }

// String returns the kind's name in the singular, such as "snapshot".
func (k Kind) String() string {
	switch k {
	case Config:
		return "config"
	case Key:
		return "key"
	case Lock:
		return "lock"
	case Snapshot:
		return "snapshot"
	case Index:
		return "index"
	case Pack:
		return "pack"
	default:
		return fmt.Sprintf("unknown kind %d", uint8(k))
	}
}

// Dir returns the folder that files of this kind are in, such as "snapshots"; it
// is empty for Config, which is at the top. The names are part of the format.
// Packs lie one level deeper: see File.Path.
func (k Kind) Dir() string {
	switch k {
	case Key:
		return "keys"
	case Lock:
		return "locks"
	case Snapshot:
		return "snapshots"
	case Index:
		return "index"
	case Pack:
		return "data"
	default:
		return ""
	}
}

// File names a stored file. It is comparable and serves as a map key. The ID of
// the Config file is zero.
type File struct {
	Kind Kind
	ID   ID
}

// Valid reports whether a repository can hold a file of this name: a known kind,
// and a zero ID for Config.
func (f File) Valid() bool {
	return f.Kind.Valid() && (f.Kind != Config || f.ID.IsZero())
}

// Name returns the last element of the file's path.
func (f File) Name() string {
	if f.Kind == Config {
		return Config.String()
	}
	return f.ID.String()
}

// Path returns where the file lies below the top of a repository in the default
// layout, with forward slashes, such as "snapshots/3f2a…" or "data/3f/3f2a…".
func (f File) Path() string {
	name := f.Name()
	switch f.Kind {
	case Config:
		return name
	case Pack:
		return Pack.Dir() + "/" + name[:2] + "/" + name
	default:
		return f.Kind.Dir() + "/" + name
	}
}

// String returns the file in short form for people, such as "pack/3f2a9c01d2".
func (f File) String() string {
	if f.Kind == Config {
		return Config.String()
	}
	return f.Kind.String() + "/" + f.ID.Short()
}
