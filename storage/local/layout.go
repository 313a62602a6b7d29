package local

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"jetsam/storage"
)

// modes are the permissions of what a Backend makes.
type modes struct{ dir, file fs.FileMode }

// A repository is private to its user unless its config file is readable for the
// group: then it is shared with the group, as restic does it.
const groupRead fs.FileMode = 0o040

var (
	private = modes{dir: 0o700, file: 0o400}
	shared  = modes{dir: 0o770, file: 0o440}
)

// chooseModes looks who may read the config file.
func (b *Backend) chooseModes() (modes, error) {
	config, err := b.disk.Stat(b.path(storage.File{Kind: storage.Config}))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return private, nil
	case err != nil:
		return modes{}, err
	case config.Mode()&groupRead != 0:
		return shared, nil
	default:
		return private, nil
	}
}

// makeRoot makes the repository's directory and whatever is missing above it,
// durably, and nothing at all if the directory holds a repository.
func makeRoot(dir string, disk FileSystem) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	config := filepath.Join(abs, storage.File{Kind: storage.Config}.Path())
	if _, err := disk.Stat(config); !errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(err, fmt.Errorf("config: %w", fs.ErrExist))
	}
	return makeDir(disk, abs, "", private.dir)
}

// makeLayout makes the folders of the layout, durably.
func (b *Backend) makeLayout() error {
	for _, k := range storage.Kinds() {
		if k == storage.Config {
			continue
		}
		if err := b.mkdir(filepath.Join(b.dir, k.Dir())); err != nil {
			return err
		}
	}
	data := filepath.Join(b.dir, storage.Pack.Dir())
	for i := range 256 {
		if err := b.mkdir(filepath.Join(data, fmt.Sprintf("%02x", i))); err != nil {
			return err
		}
	}
	if err := b.disk.SyncDir(data); err != nil {
		return err
	}
	return b.disk.SyncDir(b.dir)
}

// mkdir makes one folder unless it is there.
func (b *Backend) mkdir(dir string) error {
	return ignoreExist(b.disk.Mkdir(dir, b.modes.dir))
}

// makeDir makes dir and the folders missing above it, durably, but none at or
// above top: without that there is nothing to build on.
func makeDir(disk FileSystem, dir, top string, mode fs.FileMode) error {
	if dir == top {
		return ErrGone
	}
	parent := filepath.Dir(dir)
	err := ignoreExist(disk.Mkdir(dir, mode))
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(disk, parent, top, mode); err != nil {
			return err
		}
		err = ignoreExist(disk.Mkdir(dir, mode))
	}
	if err != nil {
		return err
	}
	// Also if somebody else made it a moment ago and has not synced it yet.
	return disk.SyncDir(parent)
}

func ignoreExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
