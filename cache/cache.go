// Package cache keeps copies of small things that are read again and again, in a
// directory of this machine.
//
// A copy is a file named by the hash of its key:
//
//	CACHEDIR.TAG      tells other programs to leave the directory out of backups
//	v1/3f/3f2a9c…     SHA-256 of key and content, then the content
//
// A copy that does not have that hash counts as none. Copies are written under
// another name and renamed, so that several processes can share the directory, and
// nothing is lost when it, or any of it, is deleted at any time.
//
// Nothing here fails what uses it: where the directory cannot be read or written
// there are no copies, and Err tells why.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	version = "v1"
	tagFile = "CACHEDIR.TAG"
	tagText = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory holds copies that jetsam can do without; it is safe to delete.\n" // bford.info/cachedir

	// DefaultLimit is how large a directory becomes unless it is said otherwise, in
	// bytes.
	DefaultLimit = 1 << 30

	// rest is what is left of a directory that was found too large, in parts of its
	// limit.
	rest = 0.8

	// trimEvery is after how many written bytes a process looks how large the
	// directory is, besides when it ends.
	trimEvery = 256 << 20

	// used is how old the time of a copy's last use may be before it is set anew.
	used = time.Hour

	// abandoned is the age from which a temporary file is nobody's.
	abandoned = 24 * time.Hour

	// maxContent is the length of the largest copy, in bytes.
	maxContent = 64 << 20
)

// Cache is a directory of copies. Its methods may be called from many goroutines
// at once.
type Cache struct {
	dir   string // the version's
	limit int64

	mu      sync.Mutex
	written int64 // bytes since the directory was last trimmed
	err     error // the first
}

// Open makes the directory where it is missing. No more than about limit bytes of
// copies stay in it, the last used; DefaultLimit if limit is 0.
func Open(dir string, limit int64) (*Cache, error) {
	if limit == 0 {
		limit = DefaultLimit
	}
	c := &Cache{dir: filepath.Join(dir, version), limit: limit}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make cache directory: %w", err)
	}
	tag := filepath.Join(dir, tagFile)
	if _, err := os.Stat(tag); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(tag, []byte(tagText), 0o600); err != nil {
			return nil, fmt.Errorf("make cache directory: %w", err)
		}
	}
	return c, nil
}

// Get returns the copy of what is called key. It is the caller's.
func (c *Cache) Get(key string) ([]byte, bool) {
	path := c.path(key)
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxContent+sha256.Size {
		return nil, false
	}
	stored, err := os.ReadFile(path)
	if err != nil || len(stored) < sha256.Size {
		return nil, false
	}
	content := stored[sha256.Size:]
	if sum(key, content) != [sha256.Size]byte(stored) {
		c.fail(os.Remove(path))
		return nil, false
	}
	if now := time.Now(); now.Sub(info.ModTime()) > used {
		c.fail(os.Chtimes(path, now, now))
	}
	return content, true
}

// Put keeps a copy of content. It neither keeps nor changes the slice.
func (c *Cache) Put(key string, content []byte) {
	if len(content) > maxContent || int64(len(content)) > c.limit/2 {
		return
	}
	if err := c.write(c.path(key), sum(key, content), content); err != nil {
		c.fail(err)
		return
	}
	c.mu.Lock()
	c.written += int64(len(content))
	full := c.written > trimEvery
	if full {
		c.written = 0
	}
	c.mu.Unlock()
	if full {
		c.fail(c.trim())
	}
}

// write makes the file that is called path, whole or not at all.
func (c *Cache) write(path string, hash [sha256.Size]byte, content []byte) (err error) {
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(append(hash[:], content...))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Drop forgets the copy of what is called key.
func (c *Cache) Drop(key string) { c.fail(os.Remove(c.path(key))) }

// Close removes the copies that were not used for longest, where they are too
// many, and returns the first error of all.
func (c *Cache) Close() error {
	c.mu.Lock()
	wrote := c.written > 0
	c.mu.Unlock()
	if wrote {
		c.fail(c.trim())
	}
	return c.Err()
}

// Err returns the first error that there was.
func (c *Cache) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail notes an error. That a file is gone already is none.
func (c *Cache) fail(err error) {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = fmt.Errorf("cache: %w", err)
	}
}

func (c *Cache) path(key string) string {
	hash := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(hash[:])
	return filepath.Join(c.dir, name[:2], name)
}

// sum is the hash of a copy. The key is in it, so that no copy passes for another.
func sum(key string, content []byte) (out [sha256.Size]byte) {
	name := sha256.Sum256([]byte(key))
	h := sha256.New()
	h.Write(name[:])
	h.Write(content)
	h.Sum(out[:0])
	return out
}

// file is a file of the directory.
type file struct {
	path string
	size int64
	time time.Time
}

// files lists the copies, and removes what processes that died have left.
func (c *Cache) files() (all []file, size int64, err error) {
	err = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return present(err)
		}
		info, err := d.Info()
		if err != nil {
			return present(err)
		}
		if len(d.Name()) != 2*sha256.Size {
			if time.Since(info.ModTime()) > abandoned {
				return present(os.Remove(path))
			}
			return nil
		}
		all = append(all, file{path, info.Size(), info.ModTime()})
		size += info.Size()
		return nil
	})
	return all, size, err
}

// present is err, unless that is that something is gone.
func present(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// trim removes the copies that were not used for longest until the rest is well
// below the limit, if it is above.
func (c *Cache) trim() error {
	all, size, err := c.files()
	if err != nil || size <= c.limit {
		return err
	}
	slices.SortFunc(all, func(a, b file) int { return a.time.Compare(b.time) })
	goal := int64(rest * float64(c.limit))
	for _, f := range all {
		if size <= goal {
			break
		}
		if err := present(os.Remove(f.path)); err != nil {
			return err
		}
		size -= f.size
	}
	return nil
}

// Usage is what a directory of copies holds.
type Usage struct {
	Files int
	Bytes int64
}

// Usage returns what the directory holds.
func (c *Cache) Usage() (Usage, error) {
	all, size, err := c.files()
	return Usage{len(all), size}, err
}

// Clear removes all copies, and returns what that was.
func (c *Cache) Clear() (Usage, error) {
	all, _, err := c.files()
	if err != nil {
		return Usage{}, err
	}
	var removed Usage
	for _, f := range all {
		if err := present(os.Remove(f.path)); err != nil {
			return removed, err
		}
		removed.Files++
		removed.Bytes += f.size
	}
	return removed, nil
}
