// Package repo is a repository: encrypted, deduplicated backups in a place that
// is not trusted, in restic's repository format, version 2.
//
// What can be done with a repository depends on what is known of it, and each
// state has its own type:
//
//	Repo     the password is right: keys, locks, snapshots, check
//	Reader   the index is loaded: blobs and trees can be read
//	Writer   a lock is held: blobs and trees can be saved; ends in Commit or Abort
//
// A Writer makes packs durable before the index that names them, and the index
// before the snapshot that needs it; so whatever a crash leaves behind, a
// snapshot that is there is whole. Only commit.go knows that order, and copy.go for
// several snapshots at once. A reader goes the other way: snapshots first, then the
// index.
//
// Everything read is hostile until its authentication code and its hash are
// checked, and bounded even then. Damage to one file does not keep others from
// being read: a key, lock, index file or snapshot that cannot be read is reported
// through Options.Warn and passed over, and Check says what it costs.
package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"sync"
	"time"

	"jetsam/crypto"
	"jetsam/secret"
	"jetsam/storage"
)

// Defaults and limits of Options.
const (
	defaultPackSize = 16 << 20
	maxPackSize     = 128 << 20
	defaultUploads  = 2
	defaultLockWait = 200 * time.Millisecond
)

// Options say how to work with a repository. The zero value is fine.
type Options struct {
	Compression Compression

	// PackSize is the length in bytes at which a pack is closed: 16 MiB if 0,
	// at most 128 MiB.
	PackSize int

	// Uploads is how many packs are stored at the same time, each of about
	// PackSize in memory: 2 if 0.
	Uploads int

	// KeyHint is the beginning of the ID of the key to try first.
	KeyHint string

	// KDF is the cost of new keys. If it is zero, keys take half a second and at
	// most 60 MiB on this machine.
	KDF crypto.KDF

	// Polynomial is what a new repository's chunker cuts with: that of another
	// repository, so that both store what is the same in the same blobs. 0 means a
	// random one.
	Polynomial uint64

	// RetryLock is how long to wait for others to release their locks.
	RetryLock time.Duration

	// LockWait is the time between writing a lock and looking for others', for
	// which a change must have become visible: 200 ms if 0, as restic has it.
	LockWait time.Duration

	// NoLock lets readers do without a lock, for a place that cannot be written.
	// They may then fail where something is deleted under their hands.
	NoLock bool

	// Cache keeps copies of index files, snapshots and small blobs. If it is nil,
	// all is read from storage each time.
	Cache Cache

	Version  string // program version recorded in snapshots, such as "jetsam 0.1.0"
	Hostname string // recorded in keys and locks; this machine's if empty
	Username string // likewise

	// Clock is time.Now if nil.
	Clock func() time.Time

	// Warn is told of damage that did not stop the operation. It is never called
	// by two goroutines at once.
	Warn func(error)
}

func (o Options) withDefaults() (Options, error) {
	if o.PackSize < 0 || o.PackSize > maxPackSize {
		return o, fmt.Errorf("pack size of %d bytes is not between 0 and %d", o.PackSize, maxPackSize)
	}
	if o.PackSize == 0 {
		o.PackSize = defaultPackSize
	}
	if o.Uploads <= 0 {
		o.Uploads = defaultUploads
	}
	if o.LockWait == 0 {
		o.LockWait = defaultLockWait
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	if o.Hostname == "" {
		o.Hostname, _ = os.Hostname() // for information only
	}
	if o.Username == "" {
		if u, err := user.Current(); err == nil {
			o.Username = u.Username
		}
	}
	return o, nil
}

// Repo is a repository whose password is known. Its methods may be called from
// many goroutines at once.
type Repo struct {
	be     storage.Backend
	opts   Options
	key    *crypto.Key
	codec  *codec
	config config

	mu    sync.Mutex
	keyID storage.ID // which key file opened it

	warnMu sync.Mutex
	large  sync.Mutex // held while a large file or tree is in memory to be parsed
}

// Init creates a repository where be has none and opens it. If there is one, or
// what is left of one, the error is ErrExists.
func Init(ctx context.Context, be storage.Backend, password secret.String, o Options) (*Repo, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkVacant(ctx, be); err != nil {
		return nil, err
	}
	key, err := crypto.NewKey()
	if err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	r, err := newRepo(be, o, key)
	if err != nil {
		return nil, err
	}
	if r.config, err = newConfig(o.Polynomial); err != nil {
		return nil, err
	}
	if r.keyID, err = r.saveKey(ctx, password); err != nil {
		return nil, err
	}
	// The config comes last: it is what makes a repository.
	if err := r.saveConfig(ctx); err != nil {
		return nil, errors.Join(initError(err), r.removeKeyFile(context.WithoutCancel(ctx), r.keyID))
	}
	if err := r.ownConfig(ctx); err != nil {
		if errors.Is(err, storage.ErrExist) {
			err = errors.Join(initError(err), r.removeKeyFile(context.WithoutCancel(ctx), r.keyID))
		}
		return nil, err
	}
	return r, nil
}

// initError words the failure to store the config: whoever stores it first has
// made the repository.
func initError(err error) error {
	if errors.Is(err, storage.ErrExist) {
		return fmt.Errorf("%w: %w", ErrExists, err)
	}
	return err
}

// checkVacant refuses a place with a config, and one with keys or snapshots: it
// held a repository whose config is lost.
func checkVacant(ctx context.Context, be storage.Backend) error {
	_, err := be.Stat(ctx, configFile)
	if err == nil {
		return ErrExists
	}
	if !errors.Is(err, storage.ErrNotExist) {
		return fmt.Errorf("look for config: %w", err)
	}
	for _, k := range []storage.Kind{storage.Key, storage.Snapshot} {
		for info, err := range be.List(ctx, k) {
			if err != nil {
				return fmt.Errorf("list %v files: %w", k, err)
			}
			return fmt.Errorf("%w, without its config: %v is left of one that was deleted or never finished", ErrExists, info.File)
		}
	}
	return nil
}

// Open opens the repository in be. If there is none the error is ErrNoRepository,
// if no key fits the password ErrWrongPassword, and if the config or all keys are
// damaged ErrUnopenable.
func Open(ctx context.Context, be storage.Backend, password secret.String, o Options) (*Repo, error) {
	r, err := open(ctx, be, password, o)
	if errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrUnopenable, err)
	}
	return r, err
}

func open(ctx context.Context, be storage.Backend, password secret.String, o Options) (*Repo, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkPresent(ctx, be); err != nil {
		return nil, err
	}
	stored, err := loadStored(ctx, be, configFile, -1)
	if err != nil {
		return nil, err
	}
	r := &Repo{be: be, opts: o}
	key, keyID, err := r.findKey(ctx, password, stored)
	if err != nil {
		return nil, err
	}
	opened, err := newRepo(be, o, key)
	if err != nil {
		return nil, err
	}
	opened.keyID = keyID
	if opened.config, err = opened.openConfig(stored); err != nil {
		return nil, err
	}
	return opened, nil
}

func checkPresent(ctx context.Context, be storage.Backend) error {
	info, err := be.Stat(ctx, configFile)
	if errors.Is(err, storage.ErrNotExist) {
		if checkVacant(ctx, be) != nil {
			return fmt.Errorf("%w: keys or snapshots are there, but no config", ErrNoRepository)
		}
		return ErrNoRepository
	}
	if err != nil {
		return fmt.Errorf("look for config: %w", err)
	}
	if info.Size == 0 {
		return damaged(configFile, errors.New("file is empty"))
	}
	return nil
}

func newRepo(be storage.Backend, o Options, key *crypto.Key) (*Repo, error) {
	c, err := newCodec(key, o.Compression)
	if err != nil {
		return nil, err
	}
	return &Repo{be: be, opts: o, key: key, codec: c}, nil
}

// ID returns the repository's ID: 64 hexadecimal digits.
func (r *Repo) ID() string { return r.config.ID }

// FormatVersion returns 1 or 2. Version 1 is read only.
func (r *Repo) FormatVersion() int { return int(r.config.Version) }

// Polynomial returns what the repository's chunker cuts with.
func (r *Repo) Polynomial() uint64 { return r.config.polynomial }

// Backend returns where the repository's files are.
func (r *Repo) Backend() storage.Backend { return r.be }

// KeyID returns the ID of the key file that opened the repository.
func (r *Repo) KeyID() storage.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keyID
}

func (r *Repo) setKeyID(id storage.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keyID = id
}

func (r *Repo) now() time.Time { return r.opts.Clock() }

func (r *Repo) warn(err error) {
	r.warnMu.Lock()
	defer r.warnMu.Unlock()
	r.opts.Warn(err)
}

// writable refuses to write in a format of which only reading is known.
func (r *Repo) writable() error {
	if r.config.Version < formatVersion {
		return ErrOldFormat
	}
	return nil
}

// list returns all files of a kind.
func (r *Repo) list(ctx context.Context, k storage.Kind) ([]storage.Info, error) {
	var infos []storage.Info
	for info, err := range r.be.List(ctx, k) {
		if err != nil {
			return nil, fmt.Errorf("list %v files: %w", k, err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}
