package storagetest_test

import (
	"errors"
	"slices"
	"testing"

	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

func TestFaultyWithoutFaults(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Backend {
		return &storagetest.Faulty{Backend: mem.New()}
	})
}

func TestFaultyBefore(t *testing.T) {
	fault := errors.New("injected")
	inner := mem.New()
	var ops []storagetest.Op
	be := &storagetest.Faulty{Backend: inner, Before: func(op storagetest.Op, _ storage.File) error {
		ops = append(ops, op)
		return fault
	}}
	f, data := storagetest.RandomFile(storage.Key, 10)
	if err := inner.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	other, _ := storagetest.RandomFile(storage.Key, 10)
	_, loadErr := be.Load(t.Context(), f, 0, -1)
	_, statErr := be.Stat(t.Context(), f)
	errs := []error{loadErr, statErr, be.Save(t.Context(), other, nil), be.Remove(t.Context(), f)}
	for info, err := range be.List(t.Context(), storage.Key) {
		if err == nil {
			t.Errorf("list yields %v", info)
		}
		errs = append(errs, err)
	}
	for i, err := range errs {
		if !errors.Is(err, fault) {
			t.Errorf("operation %d: error is %v", i, err)
		}
	}
	want := []storagetest.Op{storagetest.OpLoad, storagetest.OpStat, storagetest.OpSave, storagetest.OpRemove, storagetest.OpList}
	if !slices.Equal(ops, want) {
		t.Errorf("operations seen are %v, want %v", ops, want)
	}
	if _, err := inner.Stat(t.Context(), f); err != nil {
		t.Errorf("the refused removal took place: %v", err)
	}
	if _, err := inner.Stat(t.Context(), other); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("the refused save took place: %v", err)
	}
}

func TestFaultyAfter(t *testing.T) {
	fault := errors.New("connection lost")
	inner := mem.New()
	be := &storagetest.Faulty{Backend: inner, After: func(op storagetest.Op, _ storage.File, err error) error {
		if op == storagetest.OpSave && err == nil {
			return fault
		}
		return err
	}}
	f, data := storagetest.RandomFile(storage.Index, 10)
	if err := be.Save(t.Context(), f, data); !errors.Is(err, fault) {
		t.Errorf("save: error is %v", err)
	}
	if _, err := inner.Stat(t.Context(), f); err != nil {
		t.Errorf("the save did not take place: %v", err)
	}
}
