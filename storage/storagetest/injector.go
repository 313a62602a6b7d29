package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"jetsam/storage"
)

// Fault is something that a storage does to a call.
type Fault string

// The faults. What each does to which operation is in Faults.
const (
	Fails       Fault = "fails"                    // an error; nothing took place
	FindsNoRoom Fault = "finds no room"            // likewise, with ErrFull
	Denies      Fault = "denies that it exists"    // likewise, with ErrNotExist
	Cancels     Fault = "is cancelled"             // the caller's context ends first; in a list, halfway through
	CancelsLate Fault = "is cancelled afterwards"  // the caller's context ends when it is done
	Delays      Fault = "is slow"                  // nothing else
	LosesReply  Fault = "takes place, but fails"   // an error although it was done
	Repeats     Fault = "takes place twice"        // as when a lost reply is made up for: ErrExist, ErrNotExist, each name twice
	Halves      Fault = "loses the second half"    // of the bytes or names, without an error
	Empties     Fault = "loses everything"         // all bytes or names, without an error
	BreaksOff   Fault = "breaks off"               // an error after half of the names
	Drops       Fault = "does nothing"             // and says that it did
	Flips       Fault = "flips a bit"              // of the byte at a quarter, without an error: in a pack that is always in a blob
	Swaps       Fault = "gives another file"       // of the same kind
	Lengthens   Fault = "gives too much"           // bytes that nobody asked for
	Missizes    Fault = "gets the size wrong"      // by a byte
	Recalls     Fault = "recalls what was removed" // names a file that is gone
)

// Faults returns the faults that an operation can have.
func Faults(op Op) []Fault {
	switch op {
	case OpSave:
		return []Fault{Fails, FindsNoRoom, Cancels, CancelsLate, Delays, LosesReply, Repeats, Halves, Empties, Drops, Flips}
	case OpLoad:
		return []Fault{Fails, Denies, Cancels, CancelsLate, Delays, Halves, Empties, Flips, Swaps, Lengthens}
	case OpStat:
		return []Fault{Fails, Denies, Cancels, CancelsLate, Delays, Missizes}
	case OpList:
		return []Fault{Fails, Cancels, CancelsLate, Delays, Repeats, Halves, Empties, BreaksOff, Missizes, Recalls}
	case OpRemove:
		return []Fault{Fails, Denies, Cancels, CancelsLate, Delays, LosesReply, Repeats, Drops}
	}
	return nil
}

// Silent reports whether the caller of a Save is told that all is well although
// the file is not what was saved.
func (f Fault) Silent() bool { return f == Halves || f == Empties || f == Drops || f == Flips }

// Call tells what an operation is done to.
type Call struct {
	Op   Op
	Kind storage.Kind
}

// String returns the call as "save pack".
func (c Call) String() string { return fmt.Sprintf("%s %v", c.Op, c.Kind) }

// Injection says which call has which fault.
type Injection struct {
	Call
	N      int  // which of these calls, from 1
	Always bool // and all that follow
	Fault  Fault
}

// String returns the injection as a name for a test.
func (i Injection) String() string {
	from := ""
	if i.Always {
		from = " and all later"
	}
	return fmt.Sprintf("%v %d%s %s", i.Call, i.N, from, i.Fault)
}

// ErrInjected is in every error that an Injector makes up, but for those that
// storage has names for.
var ErrInjected = errors.New("injected fault")

// Injector is a Backend of which one call, or all from one on, has a fault. It
// counts all calls.
type Injector struct {
	storage.Backend
	Plan   Injection          // the zero value: no fault
	Cancel context.CancelFunc // ends the caller's context

	mu    sync.Mutex
	calls map[Call]int
	hit   []storage.File
}

// Calls returns how often each operation was called.
func (b *Injector) Calls() map[Call]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[Call]int, len(b.calls))
	for c, n := range b.calls {
		out[c] = n
	}
	return out
}

// Hit returns the files whose calls had the fault. That of a List has no ID.
func (b *Injector) Hit() []storage.File {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.hit)
}

// next counts a call and returns the fault that it has, or none.
func (b *Injector) next(op Op, f storage.File) Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls == nil {
		b.calls = make(map[Call]int)
	}
	c := Call{op, f.Kind}
	b.calls[c]++
	n := b.calls[c]
	if c != b.Plan.Call || n < b.Plan.N || n > b.Plan.N && !b.Plan.Always || b.Plan.N == 0 {
		return ""
	}
	b.hit = append(b.hit, f)
	return b.Plan.Fault
}

// delay is long enough for other goroutines to overtake.
const delay = 5 * time.Millisecond

// before does what a fault does ahead of an operation, and returns its error if
// the operation shall not take place.
func (b *Injector) before(fault Fault, op Op, f storage.File) error {
	switch fault {
	case Fails:
		return fmt.Errorf("%s %v: %w", op, f, ErrInjected)
	case FindsNoRoom:
		return fmt.Errorf("%s %v: %w", op, f, storage.ErrFull)
	case Denies:
		return fmt.Errorf("%s %v: %w", op, f, storage.ErrNotExist)
	case Cancels:
		b.Cancel()
	case Delays:
		time.Sleep(delay)
	}
	return nil
}

// after does what a fault does behind an operation that took place.
func (b *Injector) after(fault Fault, op Op, f storage.File, err error) error {
	switch fault {
	case CancelsLate:
		b.Cancel()
	case LosesReply:
		return fmt.Errorf("%s %v: reply: %w", op, f, ErrInjected)
	}
	return err
}

// Save implements storage.Backend.
func (b *Injector) Save(ctx context.Context, f storage.File, data []byte) error {
	fault := b.next(OpSave, f)
	if err := b.before(fault, OpSave, f); err != nil {
		return err
	}
	switch fault {
	case Drops:
		return nil
	case Halves, Empties, Flips:
		data = spoil(fault, data)
	}
	err := b.Backend.Save(ctx, f, data)
	if fault == Repeats && err == nil {
		err = b.Backend.Save(ctx, f, data)
	}
	return b.after(fault, OpSave, f, err)
}

// Load implements storage.Backend.
func (b *Injector) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	fault := b.next(OpLoad, f)
	if err := b.before(fault, OpLoad, f); err != nil {
		return nil, err
	}
	data, err := b.Backend.Load(ctx, f, off, n)
	if err != nil {
		return nil, err
	}
	if fault == Swaps {
		return b.another(ctx, f, off, data), nil
	}
	return spoil(fault, data), b.after(fault, OpLoad, f, nil)
}

// spoil returns data as a fault leaves it.
func spoil(fault Fault, data []byte) []byte {
	switch fault {
	case Halves:
		return slices.Clone(data[:len(data)/2])
	case Empties:
		return []byte{}
	case Flips:
		data = slices.Clone(data)
		if len(data) > 0 {
			data[len(data)/4] ^= 4
		}
	case Lengthens:
		return append(slices.Clone(data), "more"...)
	}
	return data
}

// another returns bytes of another file of the same kind, as many as data has. If
// there is none that long, data is turned around.
func (b *Injector) another(ctx context.Context, f storage.File, off int64, data []byte) []byte {
	for info, err := range b.Backend.List(ctx, f.Kind) {
		if err != nil {
			break
		}
		if info.File == f {
			continue
		}
		other, err := b.Backend.Load(ctx, info.File, off, len(data))
		if err == nil && !bytes.Equal(other, data) {
			return other
		}
	}
	turned := slices.Clone(data)
	slices.Reverse(turned)
	return turned
}

// Stat implements storage.Backend.
func (b *Injector) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	fault := b.next(OpStat, f)
	if err := b.before(fault, OpStat, f); err != nil {
		return storage.Info{}, err
	}
	info, err := b.Backend.Stat(ctx, f)
	if fault == Missizes {
		info.Size++
	}
	return info, b.after(fault, OpStat, f, err)
}

// List implements storage.Backend. The names are gathered first, so that the half
// of them is a number.
func (b *Injector) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		f := storage.File{Kind: k}
		fault := b.next(OpList, f)
		var err error
		if fault != Cancels {
			err = b.before(fault, OpList, f)
		}
		infos, listErr := gather(ctx, b.Backend, k)
		if err = errors.Join(err, listErr); err != nil {
			yield(storage.Info{}, err)
			return
		}
		infos = distort(fault, k, infos)
		for i, info := range infos {
			if fault == Cancels && i == len(infos)/2 {
				b.Cancel()
			}
			if err := storage.Cancelled(ctx); err != nil {
				yield(storage.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
		if fault == Cancels && len(infos) == 0 {
			b.Cancel()
		}
		if err := storage.Cancelled(ctx); err != nil {
			yield(storage.Info{}, err)
			return
		}
		if fault == BreaksOff {
			yield(storage.Info{}, fmt.Errorf("list %v files: %w", k, ErrInjected))
			return
		}
		// What ends a context now cannot be told from what ends it a moment later.
		_ = b.after(fault, OpList, f, nil)
	}
}

func gather(ctx context.Context, be storage.Backend, k storage.Kind) ([]storage.Info, error) {
	var infos []storage.Info
	for info, err := range be.List(ctx, k) {
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b storage.Info) int { return a.File.ID.Compare(b.File.ID) })
	return infos, nil
}

// distort returns a list as a fault leaves it.
func distort(fault Fault, k storage.Kind, infos []storage.Info) []storage.Info {
	switch fault {
	case Halves, BreaksOff:
		return infos[:len(infos)/2]
	case Empties:
		return nil
	case Repeats:
		return append(infos, infos...)
	case Missizes:
		for i := range infos {
			infos[i].Size++
		}
	case Recalls:
		if k != storage.Config {
			gone := storage.File{Kind: k, ID: storage.Sum([]byte("removed"))}
			return append(infos, storage.Info{File: gone, Size: 200})
		}
	}
	return infos
}

// Remove implements storage.Backend.
func (b *Injector) Remove(ctx context.Context, f storage.File) error {
	fault := b.next(OpRemove, f)
	if err := b.before(fault, OpRemove, f); err != nil {
		return err
	}
	if fault == Drops {
		return nil
	}
	err := b.Backend.Remove(ctx, f)
	if fault == Repeats && err == nil {
		err = b.Backend.Remove(ctx, f)
	}
	return b.after(fault, OpRemove, f, err)
}
