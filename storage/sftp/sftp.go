// Package sftp keeps a repository's files in a directory of another machine, over SFTP.
//
// The directory has the same layout as one of package local. A file is written under a
// temporary name beside its place, <name>-tmp-<16 hexadecimal digits>, measured, synced
// where the server can (fsync@openssh.com), and only then given its name, which never
// replaces a file that is there: by a hard link where the server has them, or else by a
// rename. Some servers let a rename replace files, whatever the protocol says; so what
// the server does is tried out before the first file is saved.
//
// SFTP cannot sync a directory: a file's name may be lost in a power cut of the server
// right after Save.
//
// Who speaks to the server, and how, is the caller's: see Options.Dial. When the
// connection is lost, the next request makes another.
package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/storage"
)

// Conn is a connection to an SFTP server. *child.Process is one.
type Conn interface {
	io.ReadWriteCloser
	Kill()      // ends it at once
	Err() error // how it ended, and why, if it has
}

// Options say how to reach the server.
type Options struct {
	// Dial connects to it. An error that trying again does not help against is marked
	// as storage.Permanent.
	Dial func() (Conn, error)

	// Idle is how long nothing may come or go while something is asked for, until the
	// connection is given up; a minute if it is zero.
	Idle time.Duration

	// Warn is told once of each thing that the server cannot do. It may be nil.
	Warn func(error)
}

// Backend is a storage.Backend on an SFTP server.
type Backend struct {
	dir      string
	location string
	o        Options
	modes    modes

	mu     sync.Mutex
	live   *session // nil: none yet
	warned map[string]bool

	storage.PlaceClock
}

var (
	_ storage.Backend = (*Backend)(nil)
	_ storage.Clocked = (*Backend)(nil)
)

// atOnce is how many requests that belong together are under way at a time: lists of
// folders, most of all, of which each takes several ways there and back.
const atOnce = 16

// New returns a Backend for a directory, which need not exist yet: Create makes it, and
// Open looks for it. The location is what to call it for people.
func New(dir, location string, o Options) *Backend {
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	return &Backend{dir: dir, location: location, o: o, modes: private, warned: make(map[string]bool)}
}

// Open looks that the directory is there.
func (b *Backend) Open(ctx context.Context) error {
	err := b.do(ctx, func(s *session) error {
		info, err := s.client.Stat(b.dir)
		if err == nil && !info.IsDir() {
			err = storage.Permanent(errors.New("not a directory"))
		}
		if err != nil {
			return err
		}
		return b.chooseModes(s)
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", b.dir, err)
	}
	return nil
}

// Create makes the directory and its folders, as far as they are missing. If there is a
// repository the error is storage.ErrExist.
func (b *Backend) Create(ctx context.Context) error {
	err := b.do(ctx, func(s *session) error {
		if _, err := s.client.Stat(b.path(storage.File{Kind: storage.Config})); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = fmt.Errorf("config: %w", storage.ErrExist)
			}
			return err
		}
		return b.makeLayout(ctx, s)
	})
	if err != nil {
		return fmt.Errorf("create %s: %w", b.dir, err)
	}
	return nil
}

// Location implements storage.Backend.
func (b *Backend) Location() string { return b.location }

// Close implements storage.Backend.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live != nil {
		b.live.close()
		b.live = nil
	}
	return nil
}

// path returns where f lies.
func (b *Backend) path(f storage.File) string { return path.Join(b.dir, f.Path()) }

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (info storage.Info, err error) {
	err = b.with(ctx, f, func(s *session) error {
		info, err = b.stat(s, f)
		return err
	})
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %v: %w", f, err)
	}
	return info, nil
}

// stat returns the size of f. What is not a regular file does not exist.
func (b *Backend) stat(s *session, f storage.File) (storage.Info, error) {
	info, err := s.client.Stat(b.path(f))
	if err != nil {
		return storage.Info{}, err
	}
	if !info.Mode().IsRegular() {
		return storage.Info{}, fmt.Errorf("%s is not a regular file: %w", b.path(f), fs.ErrNotExist)
	}
	return storage.Info{File: f, Size: info.Size()}, nil
}

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) (data []byte, err error) {
	err = b.with(ctx, f, func(s *session) error {
		data, err = b.load(s, f, off, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load %v: %w", f, err)
	}
	return data, nil
}

func (b *Backend) load(s *session, f storage.File, off int64, n int) ([]byte, error) {
	info, err := b.stat(s, f)
	if err != nil {
		return nil, err
	}
	if n, err = storage.Range(info.Size, off, n); err != nil {
		return nil, err
	}
	file, err := s.client.Open(b.path(f))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := make([]byte, n)
	got, err := file.ReadAt(data, off)
	switch {
	case got == n:
		return data, nil
	case err == nil, errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%d of %d bytes from offset %d: %w", got, n, off, io.ErrUnexpectedEOF)
	}
	return nil, err
}

// Remove implements storage.Backend.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	err := b.with(ctx, f, func(s *session) error {
		if _, err := b.stat(s, f); err != nil {
			return err
		}
		return s.client.Remove(b.path(f))
	})
	if err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	return nil
}

// List implements storage.Backend.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var infos []storage.Info
		err := b.with(ctx, storage.File{Kind: k}, func(s *session) (err error) {
			infos, err = b.list(ctx, s, k)
			return err
		})
		storage.Yield(ctx, k, infos, err, yield)
	}
}

func (b *Backend) list(ctx context.Context, s *session, k storage.Kind) ([]storage.Info, error) {
	if k == storage.Config {
		info, err := b.stat(s, storage.File{Kind: k})
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return []storage.Info{info}, err
	}
	top := path.Join(b.dir, k.Dir())
	entries, err := s.client.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.missing(s)
	}
	if err != nil || k != storage.Pack {
		infos, lookErr := b.files(s, k, top, entries)
		return infos, errors.Join(err, lookErr)
	}
	return b.packs(ctx, s, top, entries)
}

// missing decides what it means that a folder is not there: in a repository that has a
// config it holds nothing. Anywhere else the place itself is gone, as when a disk of
// the server is not mounted.
func (b *Backend) missing(s *session) error {
	_, err := b.stat(s, storage.File{Kind: storage.Config})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w, nor is there a config", err)
	}
	return err
}

// packs lists the folders data/00 to data/ff, as far as they are there.
func (b *Backend) packs(ctx context.Context, s *session, top string, entries []fs.FileInfo) ([]storage.Info, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	lists := make([][]storage.Info, len(entries))
	for i, entry := range entries {
		if len(entry.Name()) != 2 {
			continue
		}
		group.Go(func() error {
			if err := storage.Cancelled(ctx); err != nil {
				return err
			}
			dir := path.Join(top, entry.Name())
			files, err := s.client.ReadDir(dir)
			if errors.Is(err, fs.ErrNotExist) || err != nil && !entry.IsDir() {
				return nil
			}
			if err != nil {
				return err
			}
			lists[i], err = b.files(s, storage.Pack, dir, files)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var all []storage.Info
	for _, l := range lists {
		all = append(all, l...)
	}
	return all, nil
}

// files are those of what a folder holds that are named as files of a kind, and are
// where such files belong.
func (b *Backend) files(s *session, k storage.Kind, dir string, entries []fs.FileInfo) (infos []storage.Info, err error) {
	for _, entry := range entries {
		id, err := storage.ParseID(entry.Name())
		f := storage.File{Kind: k, ID: id}
		if err != nil || path.Dir(b.path(f)) != dir {
			continue
		}
		info := storage.Info{File: f, Size: entry.Size()}
		if !entry.Mode().IsRegular() { // a link, perhaps
			info, err = b.stat(s, f)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// warn tells once of something.
func (b *Backend) warn(text string) {
	b.mu.Lock()
	known := b.warned[text]
	b.warned[text] = true
	b.mu.Unlock()
	if !known && b.o.Warn != nil {
		b.o.Warn(errors.New(text))
	}
}
