package repo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"jetsam/crypto"
	"jetsam/internal/strictjson"
	"jetsam/secret"
	"jetsam/storage"
)

// What a new key costs whoever guesses at its password, as restic has it.
const (
	kdfTime   = 500 * time.Millisecond
	kdfMemory = 60 << 20 // bytes
)

// Limits on the keys of a repository that is opened, so that forged ones cost
// little.
const (
	maxKeysListed = 1000
	maxKeysTried  = 20
)

const kdfName = "scrypt"

// keyFile is a key file: the master key, sealed with a password. The order of the
// fields is part of the format.
type keyFile struct {
	Created  time.Time `json:"created"`
	Username string    `json:"username"`
	Hostname string    `json:"hostname"`
	KDF      string    `json:"kdf"`
	N        int       `json:"N"`
	R        int       `json:"r"`
	P        int       `json:"p"`
	Salt     []byte    `json:"salt"`
	Data     []byte    `json:"data"` // the master key's JSON, sealed with the password's key
}

// KeyInfo describes a key file. What it says is not authenticated.
type KeyInfo struct {
	ID       storage.ID
	Created  time.Time
	Username string
	Hostname string
	Current  bool  // it opened this Repo
	Err      error // why it cannot be used; then the other fields may be empty
}

func parseKeyFile(text []byte) (*keyFile, error) {
	k := new(keyFile)
	if err := strictjson.Unmarshal(text, k); err != nil {
		return nil, err
	}
	if k.KDF != kdfName {
		return nil, fmt.Errorf("unknown key derivation %.20q", k.KDF)
	}
	if len(k.Salt) != crypto.SaltSize {
		return nil, fmt.Errorf("salt of %d bytes, want %d", len(k.Salt), crypto.SaltSize)
	}
	if len(k.Data) < crypto.Overhead {
		return nil, fmt.Errorf("key data of %d bytes", len(k.Data))
	}
	return k, k.kdf().Validate()
}

func (k *keyFile) kdf() crypto.KDF { return crypto.KDF{N: k.N, R: k.R, P: k.P} }

// open returns the master key. It is crypto.ErrUnauthenticated if the password
// is another one.
func (k *keyFile) open(password secret.String) (*crypto.Key, error) {
	wrapping, err := k.kdf().Derive(password.Reveal(), k.Salt)
	if err != nil {
		return nil, err
	}
	defer wrapping.Clear()
	text, err := wrapping.Open(nil, k.Data)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	master := new(crypto.Key)
	if err := json.Unmarshal(text, master); err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	return master, nil
}

// findKey tries the keys of the repository, the one that is hinted at first.
// Damaged ones come last: what is wrong with one may not touch its key. A key that
// the config is not sealed with is taken only if there is no other: it may have
// come from another repository.
func (r *Repo) findKey(ctx context.Context, password secret.String, config []byte) (*crypto.Key, storage.ID, error) {
	files, err := r.keyFiles(ctx)
	if err != nil {
		return nil, storage.ID{}, err
	}
	var problems []error
	var tried int
	var spare *crypto.Key
	var spareID storage.ID
	for _, f := range files {
		if f.err != nil {
			problems = append(problems, f.err)
			r.warn(f.err)
		}
		if f.key == nil || tried == maxKeysTried {
			continue
		}
		tried++
		master, err := f.key.open(password)
		switch {
		case err == nil && sealedWith(config, master):
			return master, f.id, nil
		case err == nil:
			spare, spareID = master, f.id
		case !errors.Is(err, crypto.ErrUnauthenticated):
			problems = append(problems, damaged(storage.File{Kind: storage.Key, ID: f.id}, err))
		}
	}
	if spare != nil {
		return spare, spareID, nil
	}
	return nil, storage.ID{}, noKeyError(tried, problems)
}

func sealedWith(sealed []byte, key *crypto.Key) bool {
	_, err := key.Open(nil, sealed)
	return err == nil
}

func noKeyError(tried int, problems []error) error {
	switch {
	case len(problems) == 0:
		return ErrWrongPassword
	case tried == 0:
		return errors.Join(problems...)
	default:
		return fmt.Errorf("%w; and %w", ErrWrongPassword, errors.Join(problems...))
	}
}

// candidate is a key file that was read. If err is set it is damaged, and key is
// nil unless it could be parsed all the same.
type candidate struct {
	id  storage.ID
	key *keyFile
	err error
}

// keyFiles reads the repository's keys, and sorts them in the order in which they
// should be tried.
func (r *Repo) keyFiles(ctx context.Context) ([]candidate, error) {
	infos, err := r.list(ctx, storage.Key)
	if err != nil {
		return nil, err
	}
	hinted := func(id storage.ID) bool {
		return r.opts.KeyHint != "" && strings.HasPrefix(id.String(), r.opts.KeyHint)
	}
	// However many files somebody puts there, the one that is named is read.
	slices.SortStableFunc(infos, func(a, b storage.Info) int { return -cmpBool(hinted(a.File.ID), hinted(b.File.ID)) })
	infos = infos[:min(len(infos), maxKeysListed)]
	out := make([]candidate, 0, len(infos))
	for _, info := range infos {
		c := r.loadKey(ctx, info)
		if err := storage.Cancelled(ctx); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	rank := func(c candidate) int {
		switch {
		case c.err != nil:
			return 2
		case hinted(c.id):
			return 0
		default:
			return 1
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int { return cmp.Compare(rank(a), rank(b)) })
	return out, nil
}

// cmpBool orders false before true.
func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (r *Repo) loadKey(ctx context.Context, info storage.Info) candidate {
	c := candidate{id: info.File.ID}
	var text []byte
	text, c.err = loadStored(ctx, r.be, info.File, info.Size)
	key, err := parseKeyFile(text)
	switch {
	case err == nil:
		c.key = key
	case c.err == nil:
		c.err = damaged(info.File, err)
	}
	return c
}

// saveKey stores the master key, sealed with password.
func (r *Repo) saveKey(ctx context.Context, password secret.String) (storage.ID, error) {
	text, err := r.sealKey(password)
	if err != nil {
		return storage.ID{}, fmt.Errorf("make key: %w", err)
	}
	id := storage.Sum(text)
	if err := r.be.Save(ctx, storage.File{Kind: storage.Key, ID: id}, text); err != nil {
		return storage.ID{}, fmt.Errorf("save key: %w", err)
	}
	return id, nil
}

// sealKey returns a new key file.
func (r *Repo) sealKey(password secret.String) ([]byte, error) {
	kdf := r.opts.KDF
	if kdf == (crypto.KDF{}) {
		var err error
		if kdf, err = crypto.Calibrate(kdfTime, kdfMemory); err != nil {
			return nil, err
		}
	}
	k := &keyFile{
		Created:  r.now(),
		Username: r.opts.Username,
		Hostname: r.opts.Hostname,
		KDF:      kdfName,
		N:        kdf.N,
		R:        kdf.R,
		P:        kdf.P,
		Salt:     make([]byte, crypto.SaltSize),
	}
	rand.Read(k.Salt) // never fails
	wrapping, err := kdf.Derive(password.Reveal(), k.Salt)
	if err != nil {
		return nil, err
	}
	defer wrapping.Clear()
	if k.Data, err = sealMaster(wrapping, r.key); err != nil {
		return nil, err
	}
	return json.Marshal(k)
}

// sealMaster seals master with the key of a password, and opens it again.
func sealMaster(wrapping, master *crypto.Key) ([]byte, error) {
	text, err := json.Marshal(master)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	sealed := wrapping.Seal(nil, text)
	again, err := wrapping.Open(nil, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(again)
	if !bytes.Equal(text, again) {
		return nil, errors.New("what was sealed differs when it is opened")
	}
	return sealed, nil
}

// Keys returns the repository's keys, the oldest first, damaged ones too.
func (r *Repo) Keys(ctx context.Context) ([]KeyInfo, error) {
	files, err := r.keyFiles(ctx)
	if err != nil {
		return nil, err
	}
	current := r.KeyID()
	out := make([]KeyInfo, 0, len(files))
	for _, f := range files {
		info := KeyInfo{ID: f.id, Current: f.id == current, Err: f.err}
		if f.key != nil {
			info.Created, info.Username, info.Hostname = f.key.Created, f.key.Username, f.key.Hostname
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b KeyInfo) int {
		return cmp.Or(a.Created.Compare(b.Created), a.ID.Compare(b.ID))
	})
	return out, nil
}

// AddKey adds a key with which password opens the repository, and returns its ID.
func (r *Repo) AddKey(ctx context.Context, password secret.String) (id storage.ID, err error) {
	err = r.locked(ctx, false, func(ctx context.Context) error {
		id, err = r.saveKey(ctx, password)
		return err
	})
	return id, err
}

// RemoveKey removes a key. It refuses to remove the one that opened this Repo, so
// that one is always left.
func (r *Repo) RemoveKey(ctx context.Context, id storage.ID) error {
	if id == r.KeyID() {
		return fmt.Errorf("remove %v: it is the key in use", storage.File{Kind: storage.Key, ID: id})
	}
	return r.locked(ctx, true, func(ctx context.Context) error { return r.removeKeyFile(ctx, id) })
}

// ChangePassword replaces the key that opened this Repo by one for password. The
// old one is removed when the new one was read back and opened.
func (r *Repo) ChangePassword(ctx context.Context, password secret.String) (id storage.ID, err error) {
	err = r.locked(ctx, true, func(ctx context.Context) error {
		if id, err = r.saveKey(ctx, password); err != nil {
			return err
		}
		if err := r.tryKey(ctx, id, password); err != nil {
			return errors.Join(err, r.removeKeyFile(ctx, id))
		}
		old := r.KeyID()
		r.setKeyID(id)
		return r.removeKeyFile(ctx, old)
	})
	return id, err
}

// tryKey reads a key file and opens it with password.
func (r *Repo) tryKey(ctx context.Context, id storage.ID, password secret.String) error {
	f := storage.File{Kind: storage.Key, ID: id}
	c := r.loadKey(ctx, storage.Info{File: f, Size: -1})
	if c.err != nil {
		return c.err
	}
	master, err := c.key.open(password)
	if err != nil {
		return damaged(f, err)
	}
	master.Clear()
	return nil
}

func (r *Repo) removeKeyFile(ctx context.Context, id storage.ID) error {
	f := storage.File{Kind: storage.Key, ID: id}
	if err := r.be.Remove(ctx, f); err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	return nil
}
