package cache_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"jetsam/cache"
)

func open(t *testing.T, dir string, limit int64) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shut(t *testing.T, c *cache.Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// files are the copies in a directory.
func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "v1"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func want(t *testing.T, c *cache.Cache, key, content string) {
	t.Helper()
	got, ok := c.Get(key)
	if !ok || string(got) != content {
		t.Errorf("copy of %s: %q, %v, want %q", key, got, ok, content)
	}
}

func wantNone(t *testing.T, c *cache.Cache, key string) {
	t.Helper()
	if got, ok := c.Get(key); ok {
		t.Errorf("there is a copy of %s: %.20q", key, got)
	}
}

func TestCopies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	c := open(t, dir, 0)
	wantNone(t, c, "x")
	c.Put("x", []byte("one"))
	c.Put("y", nil)
	want(t, c, "x", "one")
	want(t, c, "y", "")
	c.Put("x", []byte("two"))
	want(t, c, "x", "two")
	c.Drop("x")
	c.Drop("x")
	wantNone(t, c, "x")
	shut(t, c)

	again := open(t, dir, 0)
	want(t, again, "y", "")
	shut(t, again)
	if text, err := os.ReadFile(filepath.Join(dir, "CACHEDIR.TAG")); err != nil || !bytes.HasPrefix(text, []byte("Signature: 8a477f597d28d172789f06886806bc55\n")) {
		t.Errorf("tag %q, %v", text, err)
	}
}

func TestDamagedCopies(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 0)
	content := []byte("a copy of something")
	for name, damage := range map[string]func(p []byte) []byte{
		"emptied":        func(p []byte) []byte { return nil },
		"cut":            func(p []byte) []byte { return p[:len(p)-1] },
		"longer":         func(p []byte) []byte { return append(p, 'x') },
		"cut in a hash":  func(p []byte) []byte { return p[:10] },
		"another byte":   func(p []byte) []byte { p[40] ^= 1; return p },
		"another hash":   func(p []byte) []byte { p[0] ^= 1; return p },
		"of another key": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c.Put("x", content)
			want(t, c, "x", string(content))
			path := files(t, dir)[0]
			stored, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if damage != nil {
				stored = damage(stored)
			} else {
				c.Drop("x")
				c.Put("other", content)
				if stored, err = os.ReadFile(files(t, dir)[0]); err != nil {
					t.Fatal(err)
				}
				c.Drop("other")
			}
			if err := os.WriteFile(path, stored, 0o600); err != nil {
				t.Fatal(err)
			}
			wantNone(t, c, "x")
		})
	}
	shut(t, c)
}

func TestTheLastUsedStay(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 100_000)
	content := make([]byte, 10_000)
	for i := range 9 {
		c.Put(fmt.Sprint(i), content)
	}
	shut(t, c)
	if n := len(files(t, dir)); n != 9 {
		t.Fatalf("%d copies of 9 that have room", n)
	}
	// All are old now, and 0 is used again.
	for _, path := range files(t, dir) {
		old := time.Now().Add(-48 * time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	c = open(t, dir, 100_000)
	want(t, c, "0", string(content))
	c.Put("9", content)
	c.Put("large", make([]byte, 50_001)) // more than half of the limit
	wantNone(t, c, "large")
	shut(t, c)
	want(t, c, "0", string(content))
	want(t, c, "9", string(content))
	if u, err := c.Usage(); err != nil || u.Bytes > 80_000 || u.Files != 7 {
		t.Errorf("%+v is left, %v", u, err)
	}
}

func TestWhatDeadProcessesLeft(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 0)
	c.Put("x", []byte("one"))
	left := filepath.Join(filepath.Dir(files(t, dir)[0]), "tmp-123")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shut(t, c)
	if _, err := os.Stat(left); err != nil {
		t.Errorf("a temporary file that may be somebody's: %v", err)
	}
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	c.Put("y", []byte("two"))
	shut(t, c)
	if _, err := os.Stat(left); err == nil {
		t.Error("a temporary file of yesterday is still there")
	}
}

// TestShared lets processes, as it were, write, read, drop and clear at once.
func TestShared(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			c, err := cache.Open(dir, 20_000)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 300 {
				key := fmt.Sprint(i % 17)
				content := bytes.Repeat([]byte(key), 500)
				c.Put(key, content)
				if got, ok := c.Get(key); ok && !bytes.Equal(got, content) {
					t.Errorf("copy of %s is another", key)
				}
				if i%50 == w {
					if _, err := c.Clear(); err != nil {
						t.Error(err)
					}
				}
				if i%40 == w {
					c.Drop(key)
				}
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestWhereNothingCanBeWritten(t *testing.T) {
	if _, err := cache.Open(filepath.Join(os.DevNull, "cache"), 0); err == nil {
		t.Error("a cache in a file")
	}
	dir := t.TempDir()
	c := open(t, dir, 0)
	c.Put("x", []byte("one"))
	// The folders of copies are files now.
	for _, path := range files(t, dir) {
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Put("x", []byte("one"))
	wantNone(t, c, "x")
	if c.Err() == nil || c.Close() == nil {
		t.Error("nothing tells that a copy could not be kept")
	}
}

func TestClear(t *testing.T) {
	c := open(t, t.TempDir(), 0)
	c.Put("x", []byte("one"))
	c.Put("y", []byte("two"))
	if u, err := c.Clear(); err != nil || u.Files != 2 {
		t.Errorf("cleared %+v, %v", u, err)
	}
	wantNone(t, c, "x")
	if u, err := c.Usage(); err != nil || u != (cache.Usage{}) {
		t.Errorf("%+v is left, %v", u, err)
	}
	shut(t, c)
}
