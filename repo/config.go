package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	rabin "github.com/restic/chunker"

	"jetsam/internal/strictjson"
	"jetsam/storage"
)

// formatVersion is the version of the format that Init writes.
const formatVersion = 2

// config says what repository this is. It is stored once and never changes.
type config struct {
	Version    uint   `json:"version"` // 1 or 2; in version 1 nothing is compressed
	ID         string `json:"id"`      // 32 random bytes in hexadecimal
	Polynomial string `json:"chunker_polynomial"`

	polynomial uint64
}

// configFile is where it is.
var configFile = storage.File{Kind: storage.Config}

// newConfig returns the config of a new repository that cuts with a polynomial; 0
// means one that nobody else has.
func newConfig(polynomial uint64) (config, error) {
	p := rabin.Pol(polynomial)
	if p == 0 {
		var err error
		if p, err = rabin.RandomPolynomial(); err != nil {
			return config{}, fmt.Errorf("choose polynomial: %w", err)
		}
	}
	if !irreducible(p) {
		return config{}, errReducible
	}
	id := make([]byte, storage.IDSize)
	rand.Read(id) // never fails
	return config{
		Version:    formatVersion,
		ID:         hex.EncodeToString(id),
		Polynomial: strconv.FormatUint(uint64(p), 16),
		polynomial: uint64(p),
	}, nil
}

func parseConfig(text []byte) (config, error) {
	var c config
	if err := strictjson.Unmarshal(text, &c); err != nil {
		return config{}, err
	}
	if c.Version < 1 || c.Version > formatVersion {
		return config{}, fmt.Errorf("format version %d is not supported", c.Version)
	}
	if _, err := storage.ParseID(c.ID); err != nil {
		return config{}, errors.New("repository ID is not 64 hexadecimal digits")
	}
	var err error
	if c.polynomial, err = strconv.ParseUint(c.Polynomial, 16, 64); err != nil {
		return config{}, errors.New("chunker polynomial is not a hexadecimal number")
	}
	// Cuts made with another polynomial would not be content-defined.
	if !irreducible(rabin.Pol(c.polynomial)) {
		return config{}, errReducible
	}
	return c, nil
}

var errReducible = errors.New("chunker polynomial is not irreducible")

func irreducible(p rabin.Pol) bool { return p.Deg() >= 1 && p.Irreducible() }

// openConfig reads the config from its stored bytes.
func (r *Repo) openConfig(stored []byte) (config, error) {
	text, err := r.codec.openFile(storage.Config, stored)
	if err != nil {
		return config{}, damaged(configFile, err)
	}
	c, err := parseConfig(text)
	if err != nil {
		return config{}, damaged(configFile, err)
	}
	return c, nil
}

func (r *Repo) saveConfig(ctx context.Context) error {
	text, err := json.Marshal(r.config)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	_, _, err = r.saveUnpacked(ctx, storage.Config, text)
	return err
}

// ownConfig returns nil if the config that is stored is this one. Some places let a
// file be stored over another, and so two make a repository at the same time: the
// error, to whose config was first, is storage.ErrExist.
func (r *Repo) ownConfig(ctx context.Context) error {
	stored, err := loadStored(ctx, r.be, configFile, -1)
	if err != nil {
		return fmt.Errorf("the repository was made, and cannot be read: %w", err)
	}
	if c, err := r.openConfig(stored); err != nil || c.ID != r.config.ID {
		return fmt.Errorf("made by somebody else at the same time: config %w", storage.ErrExist)
	}
	return nil
}
