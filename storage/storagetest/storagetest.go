// Package storagetest holds the tests that every storage.Backend must pass.
package storagetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"jetsam/storage"
)

// Run tests the backends that open returns. Each call must give an empty one,
// made ready for writing; what it needs to clean up, apart from Close, it
// registers with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) storage.Backend) {
	run(t, open, testOneWinner)
}

// RunHashed is Run for places that take a file only if its bytes have the hash that is
// its name. Of several who save one file at the same time more than one may succeed
// there, except with the config: they all save the same.
func RunHashed(t *testing.T, open func(t *testing.T) storage.Backend) {
	run(t, open, testOneConfig)
}

func run(t *testing.T, open func(t *testing.T) storage.Backend, oneWinner func(*testing.T, storage.Backend)) {
	tests := []struct {
		name string
		run  func(t *testing.T, be storage.Backend)
	}{
		{"location", testLocation},
		{"save and load every kind", testEveryKind},
		{"sizes", testSizes},
		{"ranges", testRanges},
		{"save does not keep the slice", testSaveCopies},
		{"load gives a slice of one's own", testLoadCopies},
		{"exists already", testExists},
		{"absent", testAbsent},
		{"list", testList},
		{"stop listing early", testListStop},
		{"remove", testRemove},
		{"invalid names", testInvalid},
		{"cancelled", testCancelled},
		{"cancelled while listing", testCancelledList},
		{"one of many concurrent saves wins", oneWinner},
		{"concurrent use", testConcurrent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			be := open(t)
			t.Cleanup(func() {
				if err := be.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			tt.run(t, be)
		})
	}
}

// RandomFile returns n random bytes and their name as a file of kind k.
func RandomFile(k storage.Kind, n int) (storage.File, []byte) {
	data := make([]byte, n)
	rand.Read(data) // never fails
	if k == storage.Config {
		return storage.File{Kind: k}, data
	}
	return storage.File{Kind: k, ID: storage.Sum(data)}, data
}

// save stores a random file of n bytes and returns it.
func save(t *testing.T, be storage.Backend, k storage.Kind, n int) (storage.File, []byte) {
	t.Helper()
	f, data := RandomFile(k, n)
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatalf("save %v: %v", f, err)
	}
	return f, data
}

// list returns the sizes of all files of a kind.
func list(t *testing.T, be storage.Backend, k storage.Kind) map[storage.File]int64 {
	t.Helper()
	files := make(map[storage.File]int64)
	for info, err := range be.List(t.Context(), k) {
		if err != nil {
			t.Fatalf("list %v: %v", k, err)
		}
		if _, dup := files[info.File]; dup {
			t.Errorf("list %v yields %v twice", k, info.File)
		}
		files[info.File] = info.Size
	}
	return files
}

// wantContent fails the test unless f holds exactly data.
func wantContent(t *testing.T, be storage.Backend, f storage.File, data []byte) {
	t.Helper()
	got, err := be.Load(t.Context(), f, 0, -1)
	if err != nil {
		t.Fatalf("load %v: %v", f, err)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("load %v gives %d bytes that differ from the %d saved", f, len(got), len(data))
	}
	info, err := be.Stat(t.Context(), f)
	if want := (storage.Info{File: f, Size: int64(len(data))}); err != nil || info != want {
		t.Errorf("stat %v = %v, %v, want %v", f, info, err, want)
	}
}

// wantError fails the test unless err is target.
func wantError(t *testing.T, op string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: error is %v, want %v", op, err, target)
	}
}

func testLocation(t *testing.T, be storage.Backend) {
	if be.Location() == "" {
		t.Error("no location")
	}
}

func testEveryKind(t *testing.T, be storage.Backend) {
	saved := make(map[storage.File][]byte)
	for _, k := range storage.Kinds() {
		f, data := save(t, be, k, 100)
		saved[f] = data
	}
	for f, data := range saved {
		wantContent(t, be, f, data)
		if files := list(t, be, f.Kind); len(files) != 1 || files[f] != 100 {
			t.Errorf("list %v = %v, want %v alone", f.Kind, files, f)
		}
	}
}

func testSizes(t *testing.T, be storage.Backend) {
	for _, size := range []int{0, 1, 511, 512, 4096, 1<<20 - 1, 9<<20 + 3} {
		f, data := save(t, be, storage.Pack, size)
		wantContent(t, be, f, data)
	}
}

func testRanges(t *testing.T, be storage.Backend) {
	const size = 1000
	f, data := save(t, be, storage.Pack, size)
	tests := []struct {
		name    string
		off     int64
		n, want int // want < 0: unexpected EOF
	}{
		{"all by length", 0, size, size},
		{"all to the end", 0, -1, size},
		{"start", 0, 10, 10},
		{"middle", 500, 100, 100},
		{"last byte", size - 1, 1, 1},
		{"from the middle to the end", 600, -1, 400},
		{"nothing at the start", 0, 0, 0},
		{"nothing at the end", size, 0, 0},
		{"to the end from the end", size, -1, 0},
		{"one byte too many", 0, size + 1, -1},
		{"across the end", size - 5, 10, -1},
		{"behind the end", size + 1, 1, -1},
		{"to the end from behind it", size + 1, -1, -1},
		{"far behind the end", 1 << 50, 1, -1},
		{"far too many", 0, storage.MaxFileSize, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := be.Load(t.Context(), f, tt.off, tt.n)
			if tt.want < 0 {
				wantError(t, "load", err, io.ErrUnexpectedEOF)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := data[tt.off : tt.off+int64(tt.want)]; !bytes.Equal(got, want) {
				t.Errorf("got %d bytes that are not the %d asked for", len(got), len(want))
			}
		})
	}
	if _, err := be.Load(t.Context(), f, -1, 1); err == nil {
		t.Error("a negative offset is accepted")
	}
}

func testSaveCopies(t *testing.T, be storage.Backend) {
	f, data := RandomFile(storage.Index, 64)
	given := bytes.Clone(data)
	if err := be.Save(t.Context(), f, given); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(given, data) {
		t.Error("save changed the slice it was given")
	}
	clear(given)
	wantContent(t, be, f, data)
}

func testLoadCopies(t *testing.T, be storage.Backend) {
	f, data := save(t, be, storage.Index, 64)
	got, err := be.Load(t.Context(), f, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	clear(got)
	wantContent(t, be, f, data)
}

func testExists(t *testing.T, be storage.Backend) {
	for _, k := range storage.Kinds() {
		f, data := save(t, be, k, 200)
		for _, again := range [][]byte{data, []byte("something else"), nil} {
			wantError(t, fmt.Sprintf("save %v again", f), be.Save(t.Context(), f, again), storage.ErrExist)
		}
		wantContent(t, be, f, data)
	}
}

func testAbsent(t *testing.T, be storage.Backend) {
	for _, k := range storage.Kinds() {
		f, _ := RandomFile(k, 20)
		_, err := be.Load(t.Context(), f, 0, -1)
		wantError(t, "load", err, storage.ErrNotExist)
		_, err = be.Load(t.Context(), f, 0, 0)
		wantError(t, "load nothing", err, storage.ErrNotExist)
		_, err = be.Stat(t.Context(), f)
		wantError(t, "stat", err, storage.ErrNotExist)
		wantError(t, "remove", be.Remove(t.Context(), f), storage.ErrNotExist)
		if files := list(t, be, k); len(files) != 0 {
			t.Errorf("an empty backend lists %v", files)
		}
	}
}

func testList(t *testing.T, be storage.Backend) {
	want := make(map[storage.Kind]map[storage.File]int64)
	for i, k := range []storage.Kind{storage.Key, storage.Lock, storage.Snapshot, storage.Index, storage.Pack} {
		want[k] = make(map[storage.File]int64)
		for n := range 3 * (i + 1) {
			f, _ := save(t, be, k, 32+n)
			want[k][f] = int64(32 + n)
		}
	}
	for k := range want {
		if got := list(t, be, k); !maps.Equal(got, want[k]) {
			t.Errorf("list %v = %v, want %v", k, got, want[k])
		}
	}
}

func testListStop(t *testing.T, be storage.Backend) {
	for range 5 {
		save(t, be, storage.Snapshot, 32)
	}
	seen := 0
	for _, err := range be.List(t.Context(), storage.Snapshot) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 2 {
			break
		}
	}
	if files := list(t, be, storage.Snapshot); len(files) != 5 {
		t.Errorf("after a list was stopped the next gives %d files, want 5", len(files))
	}
}

func testRemove(t *testing.T, be storage.Backend) {
	for _, k := range storage.Kinds() {
		f, data := save(t, be, k, 50)
		if err := be.Remove(t.Context(), f); err != nil {
			t.Fatalf("remove %v: %v", f, err)
		}
		_, err := be.Stat(t.Context(), f)
		wantError(t, "stat", err, storage.ErrNotExist)
		if files := list(t, be, k); len(files) != 0 {
			t.Errorf("%v is listed after it was removed", files)
		}
		if err := be.Save(t.Context(), f, data); err != nil {
			t.Fatalf("save %v after it was removed: %v", f, err)
		}
		wantContent(t, be, f, data)
	}
}

func testInvalid(t *testing.T, be storage.Backend) {
	id := storage.Sum([]byte("x"))
	for _, f := range []storage.File{{Kind: storage.Config, ID: id}, {Kind: 99, ID: id}} {
		if err := be.Save(t.Context(), f, nil); err == nil {
			t.Errorf("save takes %#v", f)
		}
		if _, err := be.Load(t.Context(), f, 0, -1); err == nil {
			t.Errorf("load takes %#v", f)
		}
		if _, err := be.Stat(t.Context(), f); err == nil {
			t.Errorf("stat takes %#v", f)
		}
		if err := be.Remove(t.Context(), f); err == nil {
			t.Errorf("remove takes %#v", f)
		}
	}
	failed := false
	for info, err := range be.List(t.Context(), 99) {
		if failed = err != nil; !failed {
			t.Errorf("list of an unknown kind yields %v", info)
		}
	}
	if !failed {
		t.Error("list of an unknown kind ends without an error")
	}
}

func testCancelled(t *testing.T, be storage.Backend) {
	f, data := save(t, be, storage.Snapshot, 50)
	other, otherData := RandomFile(storage.Snapshot, 60)
	cause := errors.New("the lock is lost")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)

	_, loadErr := be.Load(ctx, f, 0, -1)
	_, statErr := be.Stat(ctx, f)
	for op, err := range map[string]error{
		"save":   be.Save(ctx, other, otherData),
		"load":   loadErr,
		"stat":   statErr,
		"remove": be.Remove(ctx, f),
	} {
		wantError(t, op, err, context.Canceled)
		wantError(t, op, err, cause)
	}
	if files := list(t, be, storage.Snapshot); len(files) != 1 || files[f] != 50 {
		t.Errorf("cancelled calls left %v, want %v alone", files, f)
	}
	wantContent(t, be, f, data)
}

func testCancelledList(t *testing.T, be storage.Backend) {
	for range 3 {
		save(t, be, storage.Lock, 32)
	}
	for after := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		seen, failed := 0, false
		if after == 0 {
			cancel()
		}
		for _, err := range be.List(ctx, storage.Lock) {
			if failed {
				t.Error("the list goes on after an error")
			}
			if err != nil {
				wantError(t, "list", err, context.Canceled)
				failed = true
				continue
			}
			if seen++; seen == after {
				cancel()
			}
		}
		if !failed {
			t.Errorf("a list cancelled after %d of 3 files ends as if it were complete", after)
		}
		cancel()
	}
}

func testOneWinner(t *testing.T, be storage.Backend) {
	for round := range byte(6) {
		f := storage.File{Kind: storage.Config}
		if round%2 == 1 {
			f = storage.File{Kind: storage.Lock, ID: storage.Sum([]byte{round})}
		}
		testWinner(t, be, f)
	}
}

func testOneConfig(t *testing.T, be storage.Backend) {
	for range 3 {
		testWinner(t, be, storage.File{Kind: storage.Config})
	}
	f, data := RandomFile(storage.Lock, 1000)
	var group sync.WaitGroup
	var winners atomic.Int64
	for range 12 {
		group.Go(func() {
			if err := be.Save(t.Context(), f, data); err == nil {
				winners.Add(1)
			} else {
				wantError(t, "losing save", err, storage.ErrExist)
			}
		})
	}
	group.Wait()
	if winners.Load() == 0 {
		t.Error("none of several concurrent saves of one file succeeds")
	}
	wantContent(t, be, f, data)
}

// testWinner lets several save one file, each another content, and removes it.
func testWinner(t *testing.T, be storage.Backend, f storage.File) {
	t.Helper()
	const writers = 12
	content := func(w int) []byte { return bytes.Repeat([]byte{byte(w)}, 1000+w) }
	winner := race(t, writers, func(w int) error { return be.Save(t.Context(), f, content(w)) })
	wantContent(t, be, f, content(winner))
	if err := be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// race runs save n times at once and returns the number of the only call that
// succeeded; all others must fail with ErrExist.
func race(t *testing.T, n int, save func(i int) error) (winner int) {
	t.Helper()
	errs := make([]error, n)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			<-start
			errs[i] = save(i)
		})
	}
	close(start)
	group.Wait()
	winners := 0
	for i, err := range errs {
		if err == nil {
			winner = i
			winners++
			continue
		}
		wantError(t, "losing save", err, storage.ErrExist)
	}
	if winners != 1 {
		t.Fatalf("%d of %d concurrent saves of one file succeed, want 1", winners, n)
	}
	return winner
}

func testConcurrent(t *testing.T, be storage.Backend) {
	const workers, files = 8, 10
	var group sync.WaitGroup
	var removed atomic.Int64
	for worker := range workers {
		group.Go(func() {
			for i := range files {
				f, data := RandomFile(storage.Pack, 100*worker+i+1)
				if err := be.Save(t.Context(), f, data); err != nil {
					t.Errorf("save: %v", err)
					return
				}
				got, err := be.Load(t.Context(), f, 0, -1)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("load: %v", err)
				}
				for _, err := range be.List(t.Context(), storage.Pack) {
					if err != nil {
						t.Errorf("list while others write and remove: %v", err)
					}
				}
				if i%2 == 0 {
					if err := be.Remove(t.Context(), f); err != nil {
						t.Errorf("remove: %v", err)
					}
					removed.Add(1)
				}
			}
		})
	}
	group.Wait()
	if got, want := len(list(t, be, storage.Pack)), workers*files-int(removed.Load()); got != want {
		t.Errorf("%d files are left, want %d", got, want)
	}
}
