package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jetsam/storage"
	bounds "jetsam/storage/limit"
	"jetsam/storage/local"
	"jetsam/storage/mem"
	"jetsam/storage/retry"
	"jetsam/storage/storagetest"
)

const limit = 15 * time.Minute

var errBroken = errors.New("connection reset")

func TestBackend(t *testing.T) {
	t.Run("mem", func(t *testing.T) {
		storagetest.Run(t, func(*testing.T) storage.Backend { return retry.New(mem.New(), retry.Options{Limit: limit}) })
	})
	t.Run("local", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) storage.Backend {
			be, err := local.Create(filepath.Join(t.TempDir(), "repository"))
			if err != nil {
				t.Fatal(err)
			}
			return retry.New(be, retry.Options{Limit: limit})
		})
	})
}

// breaks is a storage whose operations fail as often as told before they are done, or, if late, after.
func breaks(be storage.Backend, n int, late bool, err error) *storagetest.Faulty {
	var count atomic.Int64
	fail := func() error {
		if count.Add(1) <= int64(n) {
			return err
		}
		return nil
	}
	if late {
		return &storagetest.Faulty{Backend: be, After: func(_ storagetest.Op, _ storage.File, err error) error {
			if err != nil {
				return err
			}
			return fail()
		}}
	}
	return &storagetest.Faulty{Backend: be, Before: func(storagetest.Op, storage.File) error { return fail() }}
}

// call is an operation on a file that is there, or, for save, is not.
var calls = map[string]func(ctx context.Context, be storage.Backend, f storage.File, data []byte) error{
	"save": func(ctx context.Context, be storage.Backend, _ storage.File, _ []byte) error {
		f, data := storagetest.RandomFile(storage.Pack, 100)
		return be.Save(ctx, f, data)
	},
	"load": func(ctx context.Context, be storage.Backend, f storage.File, data []byte) error {
		got, err := be.Load(ctx, f, 0, -1)
		if err == nil && !bytes.Equal(got, data) {
			return errors.New("other bytes")
		}
		return err
	},
	"stat": func(ctx context.Context, be storage.Backend, f storage.File, _ []byte) error {
		_, err := be.Stat(ctx, f)
		return err
	},
	"list": func(ctx context.Context, be storage.Backend, f storage.File, _ []byte) error {
		n := 0
		for _, err := range be.List(ctx, f.Kind) {
			if err != nil {
				return err
			}
			n++
		}
		if n != 1 {
			return fmt.Errorf("%d files", n)
		}
		return nil
	},
	"remove": func(ctx context.Context, be storage.Backend, f storage.File, _ []byte) error {
		return be.Remove(ctx, f)
	},
}

// forEach runs a test of each call on a memory that holds one file.
func forEach(t *testing.T, test func(t *testing.T, inner storage.Backend, call func(context.Context, storage.Backend) error)) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := mem.New()
				f, data := storagetest.RandomFile(storage.Snapshot, 100)
				if err := inner.Save(t.Context(), f, data); err != nil {
					t.Fatal(err)
				}
				test(t, inner, func(ctx context.Context, be storage.Backend) error { return call(ctx, be, f, data) })
			})
		})
	}
}

func TestRepeats(t *testing.T) {
	for _, late := range []bool{false, true} {
		forEach(t, func(t *testing.T, inner storage.Backend, call func(context.Context, storage.Backend) error) {
			var told []error
			be := retry.New(breaks(inner, 3, late, errBroken), retry.Options{Limit: limit, Notify: func(err error, pause time.Duration) {
				if pause <= 0 {
					t.Errorf("no pause before it is repeated")
				}
				told = append(told, err)
			}})
			began := time.Now()
			if err := call(t.Context(), be); err != nil {
				t.Fatal(err)
			}
			want := 3
			if late && strings.Contains(t.Name(), "remove") {
				want = 1 // then it is gone
			}
			if be.Repeated() != want || len(told) != want || !errors.Is(told[0], errBroken) {
				t.Errorf("repeated %d times, told %v", be.Repeated(), told)
			}
			if took := time.Since(began); took < time.Duration(want)*250*time.Millisecond || took > time.Minute {
				t.Errorf("%d pauses took %v", want, took)
			}
		})
	}
}

// TestPermanent: what cannot succeed is tried once.
func TestPermanent(t *testing.T) {
	for _, permanent := range []error{
		storage.ErrNotExist, storage.ErrExist, storage.ErrFull, storage.ErrReadOnly, storage.ErrRetained,
		io.ErrUnexpectedEOF, storage.Permanent(errBroken),
	} {
		forEach(t, func(t *testing.T, inner storage.Backend, call func(context.Context, storage.Backend) error) {
			be := retry.New(breaks(inner, 1, false, permanent), retry.Options{Limit: limit})
			if err := call(t.Context(), be); !errors.Is(err, permanent) || be.Repeated() != 0 {
				t.Errorf("%v after %d repeats, want %v at once", err, be.Repeated(), permanent)
			}
		})
	}
}

// TestLimits: there is an end, and it comes sooner where nothing ever answered.
func TestLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		o         retry.Options
		answers   bool
		low, high time.Duration
	}{
		"once":           {o: retry.Options{}, high: 0},
		"long":           {o: retry.Options{Limit: limit}, low: limit - time.Minute, high: limit},
		"never answered": {o: retry.Options{Limit: limit, First: time.Minute}, low: 15 * time.Second, high: time.Minute},
		"answered":       {o: retry.Options{Limit: limit, First: time.Minute}, answers: true, low: limit - time.Minute, high: limit},
		"limit below":    {o: retry.Options{Limit: time.Second, First: time.Minute}, high: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broken := false
				be := retry.New(&storagetest.Faulty{Backend: mem.New(), Before: func(storagetest.Op, storage.File) error {
					if broken {
						return errBroken
					}
					return nil
				}}, tt.o)
				if tt.answers {
					if _, err := be.Stat(t.Context(), storage.File{}); !errors.Is(err, storage.ErrNotExist) {
						t.Fatal(err)
					}
				}
				broken = true
				began := time.Now()
				_, err := be.Stat(t.Context(), storage.File{})
				if took := time.Since(began); !errors.Is(err, errBroken) || took < tt.low || took > tt.high {
					t.Errorf("%v after %v, want %v to %v", err, took, tt.low, tt.high)
				}
				if be.Repeated() > 1 && !strings.Contains(err.Error(), fmt.Sprintf("tried %d times", be.Repeated()+1)) {
					t.Errorf("%v does not say that it was tried %d times", err, be.Repeated()+1)
				}
			})
		})
	}
}

// TestWaitsForTheRate: a request that waited at this end for longer than requests are repeated is repeated all the same, and as long as any.
func TestWaitsForTheRate(t *testing.T) {
	for name, tt := range map[string]struct {
		failures int64
		want     error
	}{"mended": {2, nil}, "never mended": {1 << 30, errBroken}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var saves atomic.Int64
				slow := bounds.New(&storagetest.Faulty{Backend: mem.New(), Before: func(op storagetest.Op, _ storage.File) error {
					if n := saves.Add(1); n > 1 && n <= 1+tt.failures {
						return errBroken
					}
					return nil
				}}, bounds.Options{Upload: 1})
				be := retry.New(slow, retry.Options{Limit: limit})
				for i := range 2 {
					f, data := storagetest.RandomFile(storage.Pack, int(2*limit/time.Second))
					err := be.Save(t.Context(), f, data)
					if i == 0 && err != nil || i == 1 && !errors.Is(err, tt.want) {
						t.Errorf("file %d: %v, want %v", i+1, err, tt.want)
					}
				}
				if n := be.Repeated(); n < 2 || n > 100 {
					t.Errorf("repeated %d times", n)
				}
			})
		})
	}
}

// TestCancelledWhileWaiting: the end of a context ends the pause.
func TestCancelledWhileWaiting(t *testing.T) {
	forEach(t, func(t *testing.T, inner storage.Backend, call func(context.Context, storage.Backend) error) {
		be := retry.New(breaks(inner, 1<<30, false, errBroken), retry.Options{Limit: limit})
		cause := errors.New("the lock is lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(90*time.Second, func() { cancel(cause) })
		began := time.Now()
		if err := call(ctx, be); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want %v", err, cause)
		}
		if took := time.Since(began); took != 90*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}

type busy struct{ error }

func (b busy) Unwrap() error           { return b.error }
func (busy) RetryAfter() time.Duration { return 3 * time.Minute }

// TestRetryAfter: a storage that says when to come back is left alone until then, if that is not too late.
func TestRetryAfter(t *testing.T) {
	forEach(t, func(t *testing.T, inner storage.Backend, call func(context.Context, storage.Backend) error) {
		began := time.Now()
		be := retry.New(breaks(inner, 1, false, busy{errBroken}), retry.Options{Limit: limit})
		if err := call(t.Context(), be); err != nil || time.Since(began) != 3*time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
	forEach(t, func(t *testing.T, inner storage.Backend, call func(context.Context, storage.Backend) error) {
		be := retry.New(breaks(inner, 1, false, busy{errBroken}), retry.Options{Limit: time.Minute})
		if err := call(t.Context(), be); !errors.Is(err, errBroken) || be.Repeated() != 0 {
			t.Errorf("%v after %d repeats", err, be.Repeated())
		}
	})
}

// TestSaveSettles: what a file that is there means to a save that had failed before.
func TestSaveSettles(t *testing.T) {
	pack, packData := storagetest.RandomFile(storage.Pack, 500)
	config, configData := storagetest.RandomFile(storage.Config, 100)
	for name, tt := range map[string]struct {
		f           storage.File
		data, there []byte
		want        error
		left        []byte
	}{
		"our pack":                  {pack, packData, packData, nil, packData},
		"our config":                {config, configData, configData, nil, configData},
		"another's config":          {config, configData, []byte("another's config that was first"), storage.ErrExist, []byte("another's config that was first")},
		"half of our pack":          {pack, packData, packData[:250], nil, packData},
		"nothing of our pack":       {pack, packData, []byte{}, nil, packData},
		"a damaged pack":            {pack, packData, append([]byte("x"), packData[1:]...), nil, packData},
		"half of our config":        {config, configData, configData[:50], nil, configData},
		"too little of our config":  {config, configData, configData[:15], storage.ErrExist, configData[:15]},
		"somebody's config, empty":  {config, configData, []byte{}, storage.ErrExist, []byte{}},
		"our config, and then more": {config, configData, append(bytes.Clone(configData), 0), storage.ErrExist, append(bytes.Clone(configData), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := mem.New()
				first := true
				be := retry.New(&storagetest.Faulty{Backend: inner, Before: func(op storagetest.Op, f storage.File) error {
					if !first {
						return nil
					}
					first = false
					return errors.Join(errBroken, inner.Save(t.Context(), f, tt.there))
				}}, retry.Options{Limit: limit})
				err := be.Save(t.Context(), tt.f, tt.data)
				if !errors.Is(err, tt.want) {
					t.Errorf("save: %v, want %v", err, tt.want)
				}
				if got, err := inner.Load(t.Context(), tt.f, 0, -1); err != nil || !bytes.Equal(got, tt.left) {
					t.Errorf("%d bytes are there (%v), want %d", len(got), err, len(tt.left))
				}
			})
		})
	}
}

// TestExistsAtOnce: a file that is there at the first attempt is not looked at, whoever's it is.
func TestExistsAtOnce(t *testing.T) {
	inner := mem.New()
	f, data := storagetest.RandomFile(storage.Config, 100)
	be := retry.New(&storagetest.Faulty{Backend: inner, Before: func(op storagetest.Op, _ storage.File) error {
		if op != storagetest.OpSave {
			t.Errorf("%s", op)
		}
		return nil
	}}, retry.Options{Limit: limit})
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	if err := be.Save(t.Context(), f, data); !errors.Is(err, storage.ErrExist) {
		t.Errorf("save again: %v", err)
	}
}

// TestOneWinner: of many who save their config, over a way that loses every other answer, one wins.
func TestOneWinner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := mem.New()
		config := storage.File{Kind: storage.Config}
		var wins atomic.Int64
		var winner atomic.Pointer[[]byte]
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				be := retry.New(breaks(inner, i%3, i%2 == 0, errBroken), retry.Options{Limit: limit})
				_, data := storagetest.RandomFile(storage.Config, 100)
				err := be.Save(t.Context(), config, data)
				switch {
				case err == nil:
					wins.Add(1)
					winner.Store(&data)
				case !errors.Is(err, storage.ErrExist):
					t.Errorf("save: %v", err)
				}
			})
		}
		group.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d winners", wins.Load())
		}
		if got, err := inner.Load(t.Context(), config, 0, -1); err != nil || !bytes.Equal(got, *winner.Load()) {
			t.Errorf("the winner's config is not there: %v", err)
		}
	})
}

// broken is a storage whose lists break off after n files, as often as told, and tell each file twice.
type broken struct {
	storage.Backend
	after, times int
}

func (b *broken) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		n := 0
		b.times--
		for info, err := range b.Backend.List(ctx, k) {
			if n == b.after && b.times >= 0 {
				yield(storage.Info{}, errBroken)
				return
			}
			n++
			for range 2 {
				if !yield(info, err) {
					return
				}
			}
		}
	}
}

// TestListBreaksOff: a list is whole, and has each file once, wherever earlier ones broke off.
func TestListBreaksOff(t *testing.T) {
	const files = 7
	for after := range files {
		synctest.Test(t, func(t *testing.T) {
			inner := mem.New()
			for range files {
				f, data := storagetest.RandomFile(storage.Index, 10)
				if err := inner.Save(t.Context(), f, data); err != nil {
					t.Fatal(err)
				}
			}
			be := retry.New(&broken{inner, after, 3}, retry.Options{Limit: limit})
			seen := map[storage.File]int{}
			for info, err := range be.List(t.Context(), storage.Index) {
				if err != nil {
					t.Fatal(err)
				}
				seen[info.File]++
				if seen[info.File] > 1 {
					t.Errorf("%v twice", info.File)
				}
			}
			if len(seen) != files {
				t.Errorf("%d files of %d, after lists that broke off after %d", len(seen), files, after)
			}
		})
	}
}

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		err := retry.Do(t.Context(), retry.Options{Limit: limit}, func() error {
			if tries++; tries < 3 {
				return errBroken
			}
			return storage.ErrNotExist
		})
		if !errors.Is(err, storage.ErrNotExist) || tries != 3 {
			t.Errorf("%v after %d tries", err, tries)
		}
	})
}

// TestAround: what a storage can do besides is found through what stands around it.
func TestAround(t *testing.T) {
	inner := mem.New()
	be := retry.New(bounds.New(inner, bounds.Options{}), retry.Options{})
	if got, ok := storage.As[*mem.Backend](be); !ok || got != inner {
		t.Errorf("found %v, %v", got, ok)
	}
	if got, ok := storage.As[*retry.Backend](be); !ok || got != be {
		t.Errorf("found %v, %v", got, ok)
	}
	if got, ok := storage.As[*local.Backend](be); ok {
		t.Errorf("found %v, which is not there", got)
	}
}
