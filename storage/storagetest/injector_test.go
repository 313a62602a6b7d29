package storagetest_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

func TestInjectorWithoutFaults(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Backend {
		return &storagetest.Injector{Backend: mem.New()}
	})
}

// seen is what a caller sees of one operation on a file of three.
type seen struct {
	err    error
	data   []byte
	size   int64
	names  int
	stored []byte // what is under the name afterwards; nil if nothing is
}

// look does one operation with a fault.
func look(t *testing.T, op storagetest.Op, fault storagetest.Fault) (s seen, was []byte) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	inner := mem.New()
	var f storage.File
	for range 4 {
		f, was = storagetest.RandomFile(storage.Snapshot, 40)
		if err := inner.Save(t.Context(), f, was); err != nil {
			t.Fatal(err)
		}
	}
	be := &storagetest.Injector{Backend: inner, Cancel: cancel, Plan: storagetest.Injection{
		Call: storagetest.Call{Op: op, Kind: storage.Snapshot}, N: 1, Fault: fault}}
	switch op {
	case storagetest.OpSave:
		f, was = storagetest.RandomFile(storage.Snapshot, 40)
		s.err = be.Save(ctx, f, was)
	case storagetest.OpLoad:
		s.data, s.err = be.Load(ctx, f, 0, -1)
	case storagetest.OpStat:
		var info storage.Info
		info, s.err = be.Stat(ctx, f)
		s.size = info.Size
	case storagetest.OpList:
		for _, err := range be.List(ctx, storage.Snapshot) {
			if s.err = err; err == nil {
				s.names++
			}
		}
	case storagetest.OpRemove:
		s.err = be.Remove(ctx, f)
	}
	if len(be.Hit()) != 1 {
		t.Errorf("hit %v", be.Hit())
	}
	if be.Calls()[be.Plan.Call] != 1 {
		t.Errorf("calls %v", be.Calls())
	}
	s.stored, _ = inner.Load(t.Context(), f, 0, -1)
	return s, was
}

// Every fault must do what its name says, or the suites that use them prove nothing.
func TestInjector(t *testing.T) {
	whole := func(s seen, was []byte) bool { return s.err == nil && bytes.Equal(s.data, was) }
	tests := map[storagetest.Op]map[storagetest.Fault]func(s seen, was []byte) bool{
		storagetest.OpSave: {
			storagetest.Fails:       func(s seen, _ []byte) bool { return errors.Is(s.err, storagetest.ErrInjected) && s.stored == nil },
			storagetest.FindsNoRoom: func(s seen, _ []byte) bool { return errors.Is(s.err, storage.ErrFull) && s.stored == nil },
			storagetest.Cancels:     func(s seen, _ []byte) bool { return errors.Is(s.err, context.Canceled) && s.stored == nil },
			storagetest.CancelsLate: func(s seen, was []byte) bool { return s.err == nil && bytes.Equal(s.stored, was) },
			storagetest.Delays:      func(s seen, was []byte) bool { return s.err == nil && bytes.Equal(s.stored, was) },
			storagetest.LosesReply: func(s seen, was []byte) bool {
				return errors.Is(s.err, storagetest.ErrInjected) && bytes.Equal(s.stored, was)
			},
			storagetest.Repeats: func(s seen, was []byte) bool { return errors.Is(s.err, storage.ErrExist) && bytes.Equal(s.stored, was) },
			storagetest.Halves:  func(s seen, was []byte) bool { return s.err == nil && bytes.Equal(s.stored, was[:20]) },
			storagetest.Empties: func(s seen, _ []byte) bool { return s.err == nil && s.stored != nil && len(s.stored) == 0 },
			storagetest.Drops:   func(s seen, _ []byte) bool { return s.err == nil && s.stored == nil },
			storagetest.Flips: func(s seen, was []byte) bool {
				return s.err == nil && len(s.stored) == 40 && !bytes.Equal(s.stored, was)
			},
		},
		storagetest.OpLoad: {
			storagetest.Fails:       func(s seen, _ []byte) bool { return errors.Is(s.err, storagetest.ErrInjected) },
			storagetest.Denies:      func(s seen, _ []byte) bool { return errors.Is(s.err, storage.ErrNotExist) },
			storagetest.Cancels:     func(s seen, _ []byte) bool { return errors.Is(s.err, context.Canceled) },
			storagetest.CancelsLate: whole,
			storagetest.Delays:      whole,
			storagetest.Halves:      func(s seen, was []byte) bool { return s.err == nil && bytes.Equal(s.data, was[:20]) },
			storagetest.Empties:     func(s seen, _ []byte) bool { return s.err == nil && len(s.data) == 0 },
			storagetest.Flips:       func(s seen, was []byte) bool { return s.err == nil && len(s.data) == 40 && !bytes.Equal(s.data, was) },
			storagetest.Swaps:       func(s seen, was []byte) bool { return s.err == nil && len(s.data) == 40 && !bytes.Equal(s.data, was) },
			storagetest.Lengthens:   func(s seen, was []byte) bool { return s.err == nil && len(s.data) > 40 && bytes.HasPrefix(s.data, was) },
		},
		storagetest.OpStat: {
			storagetest.Fails:       func(s seen, _ []byte) bool { return errors.Is(s.err, storagetest.ErrInjected) },
			storagetest.Denies:      func(s seen, _ []byte) bool { return errors.Is(s.err, storage.ErrNotExist) },
			storagetest.Cancels:     func(s seen, _ []byte) bool { return errors.Is(s.err, context.Canceled) },
			storagetest.CancelsLate: func(s seen, _ []byte) bool { return s.err == nil && s.size == 40 },
			storagetest.Delays:      func(s seen, _ []byte) bool { return s.err == nil && s.size == 40 },
			storagetest.Missizes:    func(s seen, _ []byte) bool { return s.err == nil && s.size == 41 },
		},
		storagetest.OpList: {
			storagetest.Fails:       func(s seen, _ []byte) bool { return errors.Is(s.err, storagetest.ErrInjected) && s.names == 0 },
			storagetest.Cancels:     func(s seen, _ []byte) bool { return errors.Is(s.err, context.Canceled) && s.names == 2 },
			storagetest.CancelsLate: func(s seen, _ []byte) bool { return s.err == nil && s.names == 4 },
			storagetest.Delays:      func(s seen, _ []byte) bool { return s.err == nil && s.names == 4 },
			storagetest.Repeats:     func(s seen, _ []byte) bool { return s.err == nil && s.names == 8 },
			storagetest.Halves:      func(s seen, _ []byte) bool { return s.err == nil && s.names == 2 },
			storagetest.Empties:     func(s seen, _ []byte) bool { return s.err == nil && s.names == 0 },
			storagetest.BreaksOff:   func(s seen, _ []byte) bool { return errors.Is(s.err, storagetest.ErrInjected) && s.names == 2 },
			storagetest.Missizes:    func(s seen, _ []byte) bool { return s.err == nil && s.names == 4 },
			storagetest.Recalls:     func(s seen, _ []byte) bool { return s.err == nil && s.names == 5 },
		},
		storagetest.OpRemove: {
			storagetest.Fails:       func(s seen, _ []byte) bool { return errors.Is(s.err, storagetest.ErrInjected) && s.stored != nil },
			storagetest.Denies:      func(s seen, _ []byte) bool { return errors.Is(s.err, storage.ErrNotExist) && s.stored != nil },
			storagetest.Cancels:     func(s seen, _ []byte) bool { return errors.Is(s.err, context.Canceled) && s.stored != nil },
			storagetest.CancelsLate: func(s seen, _ []byte) bool { return s.err == nil && s.stored == nil },
			storagetest.Delays:      func(s seen, _ []byte) bool { return s.err == nil && s.stored == nil },
			storagetest.LosesReply:  func(s seen, _ []byte) bool { return errors.Is(s.err, storagetest.ErrInjected) && s.stored == nil },
			storagetest.Repeats:     func(s seen, _ []byte) bool { return errors.Is(s.err, storage.ErrNotExist) && s.stored == nil },
			storagetest.Drops:       func(s seen, _ []byte) bool { return s.err == nil && s.stored != nil },
		},
	}
	for op, want := range tests {
		for _, fault := range storagetest.Faults(op) {
			t.Run(string(op)+" "+string(fault), func(t *testing.T) {
				if want[fault] == nil {
					t.Fatal("nothing is expected of it")
				}
				if s, was := look(t, op, fault); !want[fault](s, was) {
					t.Errorf("%+v, of %d bytes", s, len(was))
				}
			})
		}
	}
}

func TestInjectorChoosesTheCall(t *testing.T) {
	f, data := storagetest.RandomFile(storage.Key, 10)
	for _, always := range []bool{false, true} {
		be := &storagetest.Injector{Backend: mem.New(), Plan: storagetest.Injection{
			Call: storagetest.Call{Op: storagetest.OpStat, Kind: storage.Key}, N: 2, Always: always, Fault: storagetest.Fails}}
		if err := be.Save(t.Context(), f, data); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 3; n++ {
			_, err := be.Stat(t.Context(), f)
			if failed := err != nil; failed != (n == 2 || n == 3 && always) {
				t.Errorf("always %v: call %d: %v", always, n, err)
			}
		}
	}
}
