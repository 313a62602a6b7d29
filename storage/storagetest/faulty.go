package storagetest

import (
	"context"
	"iter"

	"jetsam/storage"
)

// Op names a method of storage.Backend.
type Op string

// The operations that a Faulty reports.
const (
	OpSave   Op = "save"
	OpLoad   Op = "load"
	OpStat   Op = "stat"
	OpList   Op = "list"
	OpRemove Op = "remove"
)

// Faulty is a Backend that lets a test fail operations, watch them, or do
// something in between. Its functions may be nil, are called from the goroutine
// of the operation, and see a File with a zero ID for List.
type Faulty struct {
	storage.Backend

	// Before runs ahead of an operation. If it returns an error that is the
	// outcome, and the operation does not take place.
	Before func(op Op, f storage.File) error

	// After runs behind an operation that took place, with its error, and returns
	// the error to report: so a file can be saved although Save fails.
	After func(op Op, f storage.File, err error) error
}

// Save implements storage.Backend.
func (b *Faulty) Save(ctx context.Context, f storage.File, data []byte) error {
	return b.around(OpSave, f, func() error { return b.Backend.Save(ctx, f, data) })
}

// Load implements storage.Backend.
func (b *Faulty) Load(ctx context.Context, f storage.File, off int64, n int) (data []byte, err error) {
	err = b.around(OpLoad, f, func() (err error) {
		data, err = b.Backend.Load(ctx, f, off, n)
		return err
	})
	return data, err
}

// Stat implements storage.Backend.
func (b *Faulty) Stat(ctx context.Context, f storage.File) (info storage.Info, err error) {
	err = b.around(OpStat, f, func() (err error) {
		info, err = b.Backend.Stat(ctx, f)
		return err
	})
	return info, err
}

// List implements storage.Backend. An error of After ends the list.
func (b *Faulty) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		stopped := false
		err := b.around(OpList, storage.File{Kind: k}, func() error {
			for info, err := range b.Backend.List(ctx, k) {
				if err != nil {
					return err
				}
				if stopped = !yield(info, nil); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(storage.Info{}, err)
		}
	}
}

// Remove implements storage.Backend.
func (b *Faulty) Remove(ctx context.Context, f storage.File) error {
	return b.around(OpRemove, f, func() error { return b.Backend.Remove(ctx, f) })
}

func (b *Faulty) around(op Op, f storage.File, do func() error) error {
	if b.Before != nil {
		if err := b.Before(op, f); err != nil {
			return err
		}
	}
	err := do()
	if b.After != nil {
		err = b.After(op, f, err)
	}
	return err
}
