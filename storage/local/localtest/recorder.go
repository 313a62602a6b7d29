// Package localtest records what storage/local does to a file system, and shows
// what a power cut at any moment would have left of it.
//
// Of what a file system was told, only that is sure to be there after a power cut
// which was synced. Of the rest, any part may be:
//
//   - a name that was added or removed since its directory was last synced is
//     there or not, each for itself, whatever the order in which they changed; a
//     name that a rename moved is in one of its two places;
//   - a file that was written since it was last synced is empty, cut off, whole,
//     or has its length and nothing but zeros in a part of it.
//
// A Recorder notes each operation while something runs on it. A Disk is told them
// again, one after another, and yields the States in which a power cut at that
// moment could leave it. Leaving out one sort of Sync then, tests that the tests
// notice.
package localtest

import (
	"io/fs"
	"slices"
	"sync"

	"jetsam/storage/local"
)

// Op is what a Step does.
type Op string

// The operations that change something. Mark changes nothing: it notes what
// somebody was told.
const (
	Create  Op = "create"
	Write   Op = "write"
	Sync    Op = "sync" // a file
	Mkdir   Op = "mkdir"
	Link    Op = "link"
	Rename  Op = "rename"
	Remove  Op = "remove"
	SyncDir Op = "syncdir"
	Mark    Op = "mark"
)

// Step is an operation that took place.
type Step struct {
	Op   Op
	Path string // as the file system was told it; of Write and Sync the name that the file was created with
	From string // the other name of Link and Rename
	File int    // which file Create made, and Write and Sync are about
	Data []byte // of Write
	Mark any
}

// Recorder is a file system that notes what is done. It syncs nothing: what would
// be lost without that is for a Disk to say.
type Recorder struct {
	local.FileSystem // which it is done to

	// Before, unless nil, is called ahead of each operation. If it waits there, what
	// goes on at the same time gets ahead.
	Before func()

	mu    sync.Mutex // held during an operation, so that the notes are in their order
	steps []Step
	files int
}

// NewRecorder returns a Recorder of what is done to disk.
func NewRecorder(disk local.FileSystem) *Recorder { return &Recorder{FileSystem: disk} }

// Mark notes that the operations so far made something true.
func (r *Recorder) Mark(v any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, Step{Op: Mark, Mark: v})
}

// Steps returns what was done until now.
func (r *Recorder) Steps() []Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.steps)
}

func (r *Recorder) wait() {
	if r.Before != nil {
		r.Before()
	}
}

// record notes a step unless do fails.
func (r *Recorder) record(s Step, do func() error) error {
	r.wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := do(); err != nil {
		return err
	}
	r.steps = append(r.steps, s)
	return nil
}

// Create implements local.FileSystem.
func (r *Recorder) Create(name string) (local.OpenFile, error) {
	r.wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.FileSystem.Create(name)
	if err != nil {
		return nil, err
	}
	r.steps = append(r.steps, Step{Op: Create, Path: name, File: r.files})
	r.files++
	return &recordedFile{OpenFile: f, recorder: r, path: name, file: r.files - 1}, nil
}

// Mkdir implements local.FileSystem.
func (r *Recorder) Mkdir(name string, mode fs.FileMode) error {
	return r.record(Step{Op: Mkdir, Path: name}, func() error { return r.FileSystem.Mkdir(name, mode) })
}

// Link implements local.FileSystem.
func (r *Recorder) Link(old, name string) error {
	return r.record(Step{Op: Link, From: old, Path: name}, func() error { return r.FileSystem.Link(old, name) })
}

// RenameNew implements local.FileSystem.
func (r *Recorder) RenameNew(old, name string) error {
	return r.record(Step{Op: Rename, From: old, Path: name}, func() error { return r.FileSystem.RenameNew(old, name) })
}

// Rename implements local.FileSystem.
func (r *Recorder) Rename(old, name string) error {
	return r.record(Step{Op: Rename, From: old, Path: name}, func() error { return r.FileSystem.Rename(old, name) })
}

// Remove implements local.FileSystem.
func (r *Recorder) Remove(name string) error {
	return r.record(Step{Op: Remove, Path: name}, func() error { return r.FileSystem.Remove(name) })
}

// SyncDir implements local.FileSystem.
func (r *Recorder) SyncDir(name string) error {
	return r.record(Step{Op: SyncDir, Path: name}, func() error {
		_, err := r.FileSystem.Stat(name)
		return err
	})
}

// recordedFile is a file that is being written on a Recorder.
type recordedFile struct {
	local.OpenFile
	recorder *Recorder
	path     string
	file     int
}

func (f *recordedFile) Write(p []byte) (n int, err error) {
	f.recorder.wait()
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	n, err = f.OpenFile.Write(p)
	f.recorder.steps = append(f.recorder.steps, Step{Op: Write, Path: f.path, File: f.file, Data: slices.Clone(p[:n])})
	return n, err
}

func (f *recordedFile) Sync() error {
	return f.recorder.record(Step{Op: Sync, Path: f.path, File: f.file}, func() error { return nil })
}
