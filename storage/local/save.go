package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"jetsam/storage"
)

// writeSize is how much is written between two looks at the context, in bytes.
const writeSize = 4 << 20

// Save implements storage.Backend.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	if err := b.orGone(b.save(ctx, f, data)); err != nil {
		return fmt.Errorf("save %v: %w", f, translate(err))
	}
	return nil
}

func (b *Backend) save(ctx context.Context, f storage.File, data []byte) error {
	if err := b.begin(ctx, f); err != nil {
		return err
	}
	path := b.path(f)
	// Spares writing it all; the decision falls when the name is given.
	if _, err := b.disk.Stat(path); err == nil {
		return storage.ErrExist
	}
	tmp, err := b.writeTemp(ctx, path, data)
	if err != nil {
		return err
	}
	if err := b.place(tmp, path); err != nil {
		return afterCleanup(err, b.discard(tmp))
	}
	if err := b.disk.SyncDir(filepath.Dir(path)); err != nil {
		// Whether the name is durable is not known, and a second sync would not
		// tell: take it back, so that the caller can save it anew.
		return afterCleanup(err, b.discard(path))
	}
	return nil
}

// writeTemp writes a complete, synced, read-only file under a temporary name
// beside path and returns that name. On an error nothing is left.
func (b *Backend) writeTemp(ctx context.Context, path string, data []byte) (string, error) {
	tmp := path + "-tmp-" + randomHex()
	file, err := b.createFile(tmp)
	if err != nil {
		return "", err
	}
	err = b.fill(ctx, file, data)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = storage.Cancelled(ctx)
	}
	if err != nil {
		return "", afterCleanup(err, b.discard(tmp))
	}
	return tmp, nil
}

// createFile makes a new file and, if need be, the folders above it.
func (b *Backend) createFile(name string) (OpenFile, error) {
	f, err := b.disk.Create(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := makeDir(b.disk, filepath.Dir(name), b.dir, b.modes.dir); err != nil {
		return nil, err
	}
	return b.disk.Create(name)
}

// fill writes data, makes sure that it is all there, and syncs it. A sync that
// failed is never tried again on the same file: the kernel may have dropped the
// pages it could not write and report success the second time.
func (b *Backend) fill(ctx context.Context, f OpenFile, data []byte) error {
	if err := write(ctx, f, data); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != int64(len(data)) {
		return fmt.Errorf("%d bytes arrived of %d: %w", info.Size(), len(data), io.ErrShortWrite)
	}
	b.Heard(info.ModTime())
	// A courtesy that keeps people from editing it; not every file system can.
	_ = f.Chmod(b.modes.file)
	return ignoreUnsupported(f.Sync())
}

// write writes data in pieces, as long as ctx is not done.
func write(ctx context.Context, w io.Writer, data []byte) error {
	for len(data) > 0 {
		if err := storage.Cancelled(ctx); err != nil {
			return err
		}
		n, err := w.Write(data[:min(len(data), writeSize)])
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		data = data[n:]
	}
	return nil
}

// place gives the file tmp the name path, unless there is a file of that name:
// then the error is fs.ErrExist. Afterwards tmp is gone.
func (b *Backend) place(tmp, path string) error {
	err := b.disk.Link(tmp, path)
	switch {
	case err == nil:
		if err := b.disk.Remove(tmp); err != nil {
			return afterCleanup(err, b.discard(path))
		}
		return nil
	case !noHardLinks(err):
		return err
	}
	if err := b.disk.RenameNew(tmp, path); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return b.claim(tmp, path)
}

// claim is place for file systems that have neither hard links nor a rename that
// keeps off existing files. Creating the name decides who may have it; for a
// moment the file is there and empty.
func (b *Backend) claim(tmp, path string) error {
	claimed, err := b.disk.Create(path)
	if err != nil {
		return err
	}
	err = claimed.Close()
	if err == nil {
		err = b.disk.Rename(tmp, path)
	}
	if err != nil {
		return afterCleanup(err, b.discard(path))
	}
	return nil
}

// discard removes a file that did not become what it should, if it is there.
func (b *Backend) discard(name string) error {
	if err := b.disk.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// randomHex returns 16 random hexadecimal digits.
func randomHex() string {
	var p [8]byte
	rand.Read(p[:]) // never fails
	return hex.EncodeToString(p[:])
}
