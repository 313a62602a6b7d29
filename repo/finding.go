package repo

import (
	"fmt"
	"slices"
	"strings"

	"jetsam/storage"
)

// Severity says how bad a finding is.
type Severity uint8

// The severities.
const (
	Note   Severity = iota // harmless: unused data, or what could be tidier
	Damage                 // something is not as it was written, or gone
)

// String returns "note" or "damage".
func (s Severity) String() string {
	if s == Note {
		return "note"
	}
	return "damage"
}

// Finding is something that Check noticed.
type Finding struct {
	Severity Severity

	// File is what the finding is about. For a loss it is the snapshot.
	File storage.File

	// Path is the file or directory in the snapshot that the finding is about, such
	// as "/A/ORDERS/head.arc.s2"; empty if it is about none. With damage it is lost,
	// in whole or in part.
	Path string

	Err error
}

// String returns the finding on one line.
func (f Finding) String() string {
	switch {
	case f.Path != "" && f.Severity == Damage:
		return fmt.Sprintf("%v: %v loses %s: %s", f.Severity, f.File, f.Path, f.Reason())
	case f.Path != "":
		return fmt.Sprintf("%v: %v: %s: %s", f.Severity, f.File, f.Path, f.Reason())
	}
	return fmt.Sprintf("%v: %v: %s", f.Severity, f.File, f.Reason())
}

// Reason returns what Err says, without what the finding says anyway: which file
// it is about, and that it is damaged.
func (f Finding) Reason() string {
	return strings.TrimPrefix(f.Err.Error(), fmt.Sprintf("%v: %v: ", f.File, ErrCorrupt))
}

// maxFindings bounds how many findings a report holds.
const maxFindings = 10_000

// Report is what Check found, and how much it looked at.
type Report struct {
	Findings []Finding
	More     int // findings beyond the first 10,000

	IndexFiles int
	Packs      int
	Headers    int   // packs whose header was compared with the index
	PacksRead  int   // packs of which every byte was checked
	BytesRead  int64 // of those
	Snapshots  int
	Trees      int
	Files      int // in the trees, each once
	Blobs      int // that the index lists, copies each

	damage bool
	packs  map[storage.ID]error // that are damaged, and the first thing that is wrong with each
}

// Damaged reports whether anything was found that is worse than a note.
func (r *Report) Damaged() bool { return r.damage }

// Losses returns the findings that name what is lost in a snapshot.
func (r *Report) Losses() []Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return f.Path == "" || f.Severity != Damage })
}

func (r *Report) add(f Finding) {
	r.damage = r.damage || f.Severity == Damage
	if _, known := r.packs[f.File.ID]; f.Severity == Damage && f.File.Kind == storage.Pack && !known {
		r.packs[f.File.ID] = f.Err
	}
	if len(r.Findings) >= maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, f)
}

func (r *Report) note(f storage.File, err error) { r.add(Finding{Severity: Note, File: f, Err: err}) }

func (r *Report) damaged(f storage.File, err error) {
	r.add(Finding{Severity: Damage, File: f, Err: err})
}
