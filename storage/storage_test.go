package storage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"jetsam/storage"
)

func TestFileNames(t *testing.T) {
	id := storage.Sum([]byte("hello jetstream"))
	const hex = "a21d04833321a938ecc717733c16b059cb7e21a658a7e1345c25e30e75eb7eda"
	tests := []struct{ kind, path, short string }{
		{"config", "config", "config"},
		{"key", "keys/" + hex, "key/a21d048333"},
		{"lock", "locks/" + hex, "lock/a21d048333"},
		{"snapshot", "snapshots/" + hex, "snapshot/a21d048333"},
		{"index", "index/" + hex, "index/a21d048333"},
		{"pack", "data/a2/" + hex, "pack/a21d048333"},
	}
	if got := storage.Kinds(); len(got) != len(tests) {
		t.Fatalf("%d kinds, want %d", len(got), len(tests))
	}
	for i, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			f := storage.File{Kind: storage.Kinds()[i], ID: id}
			if f.Kind == storage.Config {
				f.ID = storage.ID{}
			}
			if got := f.Kind.String(); got != tt.kind {
				t.Errorf("kind is %q", got)
			}
			if got := f.Path(); got != tt.path {
				t.Errorf("path is %q, want %q", got, tt.path)
			}
			if got := f.String(); got != tt.short {
				t.Errorf("short form is %q, want %q", got, tt.short)
			}
			if !strings.HasSuffix(f.Path(), f.Name()) || !strings.HasPrefix(f.Path(), f.Kind.Dir()) {
				t.Errorf("name %q and folder %q do not make path %q", f.Name(), f.Kind.Dir(), f.Path())
			}
			if !f.Valid() {
				t.Error("not valid")
			}
		})
	}
}

func TestInvalidFiles(t *testing.T) {
	id := storage.Sum(nil)
	for _, f := range []storage.File{{Kind: storage.Config, ID: id}, {Kind: 6, ID: id}, {Kind: 255}} {
		if f.Valid() {
			t.Errorf("%#v is valid", f)
		}
		if err := storage.Check(t.Context(), f); err == nil {
			t.Errorf("check passes %#v", f)
		}
	}
	if got := storage.Kind(6).String(); got != "unknown kind 6" {
		t.Errorf("kind 6 is called %q", got)
	}
}

func TestParseID(t *testing.T) {
	good := strings.Repeat("0123456789abcdef", 4)
	id, err := storage.ParseID(good)
	if err != nil || id.String() != good {
		t.Errorf("ParseID = %v, %v", id, err)
	}
	for name, text := range map[string]string{
		"empty":     "",
		"short":     good[1:],
		"long":      good + "0",
		"capitals":  strings.ToUpper(good),
		"no digits": strings.Repeat("g", 64),
		"slash":     "/" + good[1:],
		"temporary": good + "-tmp-0011223344556677",
	} {
		if id, err := storage.ParseID(text); err == nil {
			t.Errorf("%s: ParseID(%q) = %v", name, text, id)
		}
	}
}

func TestIDAsJSON(t *testing.T) {
	id := storage.Sum([]byte("x"))
	in := map[storage.ID][]storage.ID{id: {id, {}}}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out map[storage.ID][]storage.ID
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if len(out[id]) != 2 || out[id][0] != id || !out[id][1].IsZero() {
		t.Errorf("%v became %v", in, out)
	}
}

func TestIDOrder(t *testing.T) {
	low, high := storage.ID{0: 1}, storage.ID{0: 1, 31: 1}
	if low.Compare(high) != -1 || high.Compare(low) != 1 || low.Compare(low) != 0 {
		t.Error("IDs do not sort by their bytes")
	}
	if low.IsZero() || !(storage.ID{}).IsZero() {
		t.Error("IsZero is wrong")
	}
	if got := low.Short(); got != "0100000000" {
		t.Errorf("Short() = %q", got)
	}
}

func TestRange(t *testing.T) {
	const huge = storage.MaxFileSize + 1
	tests := []struct {
		name      string
		size, off int64
		n, want   int
		eof       bool // else want < 0 means another error
	}{
		{"whole", 10, 0, -1, 10, false},
		{"rest", 10, 4, -1, 6, false},
		{"part", 10, 4, 5, 5, false},
		{"nothing", 10, 10, 0, 0, false},
		{"too long", 10, 4, 7, -1, true},
		{"behind the end", 10, 11, -1, -1, true},
		{"negative offset", 10, -1, 1, -1, false},
		{"as much as there may be", huge, 1, -1, huge - 1, false},
		{"whole file too large", huge, 0, -1, -1, false},
		{"part too large", 2 * huge, 0, huge, -1, false},
		{"part of a large file", 1 << 40, 1 << 39, 100, 100, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := storage.Range(tt.size, tt.off, tt.n)
			if tt.want >= 0 && (err != nil || got != tt.want) {
				t.Errorf("Range = %d, %v, want %d", got, err, tt.want)
			}
			if tt.want < 0 && (err == nil || errors.Is(err, io.ErrUnexpectedEOF) != tt.eof) {
				t.Errorf("Range = %d, %v, want an error, unexpected EOF %v", got, err, tt.eof)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	if err := storage.Cancelled(t.Context()); err != nil {
		t.Errorf("live context: %v", err)
	}
	plain, cancel := context.WithCancel(t.Context())
	cancel()
	if err := storage.Cancelled(plain); err != context.Canceled {
		t.Errorf("plain cancellation: %v", err)
	}
	cause := errors.New("lock lost")
	caused, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(cause)
	if err := storage.Cancelled(caused); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancellation with a cause: %v", err)
	}
}

func TestPermanent(t *testing.T) {
	_, tooFar := storage.Range(1, 2, 1)
	_, negative := storage.Range(1, -1, 1)
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"marked":               {fmt.Errorf("outer: %w", storage.Permanent(errors.New("x"))), true},
		"absent":               {fmt.Errorf("stat: %w", storage.ErrNotExist), true},
		"there":                {storage.ErrExist, true},
		"full":                 {storage.ErrFull, true},
		"read-only":            {storage.ErrReadOnly, true},
		"retained":             {storage.ErrRetained, true},
		"ends early":           {tooFar, true},
		"no range":             {negative, true},
		"invalid name":         {storage.Check(t.Context(), storage.File{Kind: 99}), true},
		"unreachable":          {storage.ErrUnreachable, false},
		"unreachable for good": {storage.Permanent(storage.ErrUnreachable), true},
		"anything else":        {errors.New("500"), false},
	} {
		if got := storage.IsPermanent(tt.err); got != tt.want {
			t.Errorf("%s: %v: IsPermanent is %v", name, tt.err, got)
		}
	}
	if storage.Permanent(nil) != nil {
		t.Error("no error becomes one")
	}
}
