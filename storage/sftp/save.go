package sftp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"jetsam/storage"
)

// The extensions of OpenSSH that are used.
const (
	fsyncExtension       = "fsync@openssh.com"
	hardlinkExtension    = "hardlink@openssh.com"
	posixRenameExtension = "posix-rename@openssh.com"
	statVFSExtension     = "statvfs@openssh.com"
)

// pieceSize is how much is written between two looks at the context, in bytes.
const pieceSize = 1 << 20

// Save implements storage.Backend.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	err := b.with(ctx, f, func(s *session) error { return b.save(ctx, s, f, data) })
	if err != nil {
		return fmt.Errorf("save %v: %w", f, err)
	}
	return nil
}

func (b *Backend) save(ctx context.Context, s *session, f storage.File, data []byte) error {
	name := b.path(f)
	// Spares writing it all; the decision falls when the name is given.
	if _, err := s.client.Stat(name); err == nil {
		return storage.ErrExist
	}
	place, err := b.placing(s)
	if err != nil {
		return err
	}
	tmp := name + "-tmp-" + randomHex()
	err = b.write(ctx, s, tmp, data)
	if err == nil {
		err = place(s, tmp, name)
	}
	if err != nil {
		_ = s.client.Remove(tmp) // nobody reads it
	}
	return err
}

// write writes a complete, synced, read-only file.
func (b *Backend) write(ctx context.Context, s *session, name string, data []byte) error {
	file, err := b.createFile(s, name)
	if err != nil {
		return b.orFull(s, len(data), err)
	}
	err = b.fill(ctx, s, file, data)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = storage.Cancelled(ctx)
	}
	return b.orFull(s, len(data), err)
}

// createFile makes a new file and, if need be, the folders above it, but not the
// repository's own.
func (b *Backend) createFile(s *session, name string) (*sftp.File, error) {
	file, err := create(s, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if err := b.makeBelow(s, path.Dir(name)); err != nil {
		return nil, err
	}
	return create(s, name)
}

// create makes a new file. It never opens one that exists, on a server that knows how.
func create(s *session, name string) (*sftp.File, error) {
	return s.client.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
}

// fill writes data, makes sure that it is all there, and syncs it.
func (b *Backend) fill(ctx context.Context, s *session, file *sftp.File, data []byte) error {
	for off := 0; off < len(data); off += pieceSize {
		if err := storage.Cancelled(ctx); err != nil {
			return err
		}
		if _, err := file.WriteAt(data[off:min(off+pieceSize, len(data))], int64(off)); err != nil {
			return err
		}
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != int64(len(data)) {
		return fmt.Errorf("%d bytes arrived of %d: %w", info.Size(), len(data), io.ErrShortWrite)
	}
	b.Heard(info.ModTime())
	// A courtesy that keeps people from editing it; not every server can.
	_ = file.Chmod(b.modes.file)
	if _, ok := s.client.HasExtension(fsyncExtension); !ok {
		b.warn("the SFTP server cannot sync files (" + fsyncExtension + "): what is saved may be lost in a power cut there")
		return nil
	}
	return file.Sync()
}

// orFull tells from a failure of which the server says nothing more that there is no
// room for n bytes.
func (b *Backend) orFull(s *session, n int, err error) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) || status.FxCode() != sftp.ErrSSHFxFailure {
		return err
	}
	if _, ok := s.client.HasExtension(statVFSExtension); ok {
		if free, statErr := s.client.StatVFS(b.dir); statErr == nil && free.Bavail*free.Frsize < uint64(n)+free.Frsize {
			return fmt.Errorf("%w on the server: %d bytes are free", storage.ErrFull, free.Bavail*free.Frsize)
		}
	}
	return fmt.Errorf("%w (the server says nothing more; its disk may be full)", err)
}

// placing gives the file tmp another name, unless there is a file of that name: then
// the error is storage.ErrExist, and tmp stays.
type placing func(s *session, tmp, name string) error

func byLink(s *session, tmp, name string) error {
	if err := s.client.Link(tmp, name); err != nil {
		return existing(s, name, err)
	}
	if err := s.client.Remove(tmp); err != nil {
		_ = s.client.Remove(name)
		return err
	}
	return nil
}

func byRename(s *session, tmp, name string) error {
	if err := s.client.Rename(tmp, name); err != nil {
		return existing(s, name, err)
	}
	return nil
}

// byClaim creates the name, which decides who may have it, and replaces what it made.
// For a moment the file is there and empty.
func byClaim(s *session, tmp, name string) error {
	claimed, err := create(s, name)
	if err != nil {
		return existing(s, name, err)
	}
	err = claimed.Close()
	if err == nil {
		err = overwrite(s, tmp, name)
	}
	if err != nil {
		_ = s.client.Remove(name)
	}
	return err
}

func overwrite(s *session, tmp, name string) error {
	if _, ok := s.client.HasExtension(posixRenameExtension); ok {
		return s.client.PosixRename(tmp, name)
	}
	return s.client.Rename(tmp, name)
}

// byLook looks, and then renames.
func byLook(s *session, tmp, name string) error {
	if _, err := s.client.Stat(name); err == nil {
		return storage.ErrExist
	}
	return s.client.Rename(tmp, name)
}

// existing is the error of giving a name that may be another's: servers do not say
// that it was for that.
func existing(s *session, name string, err error) error {
	if _, statErr := s.client.Stat(name); statErr == nil {
		return storage.ErrExist
	}
	return err
}

// placing tries out which way of giving a file its name leaves files alone that are
// there. What a server says of itself does not count.
func (b *Backend) placing(s *session) (placing, error) {
	s.probing.Lock()
	defer s.probing.Unlock()
	if s.placing != nil {
		return s.placing, nil
	}
	locks := path.Join(b.dir, storage.Lock.Dir())
	p := &probe{s: s, prefix: path.Join(locks, "probe-tmp-"+randomHex())}
	defer p.clean()
	if err := p.prepare(func(name string) (*sftp.File, error) { return b.createFile(s, name) }); err != nil {
		return nil, err
	}
	_, links := s.client.HasExtension(hardlinkExtension)
	for _, way := range []struct {
		offered bool
		place   placing
	}{{links, byLink}, {true, byRename}, {true, byClaim}} {
		if way.offered && p.holds(way.place) {
			s.placing = way.place
			return s.placing, nil
		}
	}
	select {
	case <-s.ended: // which is why nothing worked
		return nil, sftp.ErrSSHFxConnectionLost
	default:
	}
	b.warn("the SFTP server lets files be replaced in every way that it has: do not save to this repository from two places at the same time")
	s.placing = byLook
	return s.placing, nil
}

// probe are files to try things out with.
type probe struct {
	s      *session
	prefix string
	made   []string
}

func (p *probe) name(suffix string) string { return p.prefix + suffix }

// prepare makes a file that is there, with a byte in it.
func (p *probe) prepare(create func(string) (*sftp.File, error)) error {
	return p.write("there", create)
}

func (p *probe) write(suffix string, create func(string) (*sftp.File, error)) error {
	name := p.name(suffix)
	p.made = append(p.made, name)
	file, err := create(name)
	if err != nil {
		return err
	}
	_, err = file.Write([]byte("x"))
	return errors.Join(err, file.Close())
}

// holds says whether a file gets a name that is new by a way, and none that is not.
func (p *probe) holds(place placing) bool {
	suffix := randomHex()
	if p.write(suffix, func(name string) (*sftp.File, error) { return create(p.s, name) }) != nil {
		return false
	}
	if !errors.Is(place(p.s, p.name(suffix), p.name("there")), storage.ErrExist) {
		return false
	}
	p.made = append(p.made, p.name(suffix+"-new"))
	return place(p.s, p.name(suffix), p.name(suffix+"-new")) == nil
}

func (p *probe) clean() {
	for _, name := range p.made {
		_ = p.s.client.Remove(name) // if it is there
	}
}

// modes are the permissions of what a Backend makes.
type modes struct{ dir, file fs.FileMode }

// A repository is private to its user unless its config file is readable for the
// group: then it is shared with the group, as restic does it.
var (
	private = modes{dir: 0o700, file: 0o400}
	shared  = modes{dir: 0o770, file: 0o440}
)

// chooseModes looks who may read the config file.
func (b *Backend) chooseModes(s *session) error {
	config, err := s.client.Stat(b.path(storage.File{Kind: storage.Config}))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && config.Mode()&0o040 != 0 {
		b.modes = shared
	}
	return err
}

// makeLayout makes the repository's directory, what is missing above it, and the
// folders of the layout.
func (b *Backend) makeLayout(ctx context.Context, s *session) error {
	if err := b.makeDir(s, b.dir); err != nil {
		return err
	}
	for _, k := range storage.Kinds() {
		if k == storage.Config {
			continue
		}
		if err := b.makeDir(s, path.Join(b.dir, k.Dir())); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range 256 {
		group.Go(func() error {
			if err := storage.Cancelled(ctx); err != nil {
				return err
			}
			return b.makeDir(s, path.Join(b.dir, storage.Pack.Dir(), fmt.Sprintf("%02x", i)))
		})
	}
	return group.Wait()
}

// makeBelow makes a folder and those missing above it, but not the repository's own
// directory: without that there is nothing to build on.
func (b *Backend) makeBelow(s *session, dir string) error {
	if _, err := s.client.Stat(b.dir); err != nil {
		return err
	}
	return b.makeDir(s, dir)
}

// makeDir makes a folder, and those missing above it, unless it is there.
func (b *Backend) makeDir(s *session, dir string) error {
	info, err := s.client.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return storage.Permanent(fmt.Errorf("%s is not a directory", dir))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := path.Dir(dir); parent != dir && parent != "." {
		if err := b.makeDir(s, parent); err != nil {
			return err
		}
	}
	if err := s.client.Mkdir(dir); err != nil {
		if info, statErr := s.client.Stat(dir); statErr == nil && info.IsDir() {
			return nil // somebody else was faster
		}
		return err
	}
	_ = s.client.Chmod(dir, b.modes.dir) // as far as the server can
	return nil
}

// randomHex returns 16 random hexadecimal digits.
func randomHex() string {
	var p [8]byte
	rand.Read(p[:]) // never fails
	return hex.EncodeToString(p[:])
}
