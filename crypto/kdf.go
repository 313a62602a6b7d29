package crypto

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/scrypt"
)

// SaltSize is the length of the salt of every key file, in bytes; part of the
// format.
const SaltSize = 64

// Bounds on the scrypt parameters that a key file may ask for, so that a forged
// one can neither take all memory nor all time.
const (
	maxKDFMemory = 1 << 30 // bytes, N·r·128
	maxKDFP      = 64
)

// Bounds on what Calibrate chooses. The lower one keeps a key strong on a
// machine too slow for its target.
const (
	calibratedR = 8
	minN        = 1 << 14 // 16 MiB
)

// KDF is the cost of turning a password into a key: the parameters of scrypt
// (RFC 7914), as a key file records them. Deriving takes N·R·128 bytes of memory
// and time in proportion to N·R·P.
type KDF struct {
	N int // a power of two, at least 2
	R int
	P int
}

// Validate refuses parameters that scrypt does not take, and those that would
// cost more than 1 GiB of memory or 64 passes.
func (c KDF) Validate() error {
	switch {
	case c.N < 2 || c.N&(c.N-1) != 0:
		return fmt.Errorf("scrypt parameter N=%d is not a power of two above 1", c.N)
	case c.R < 1 || c.P < 1:
		return fmt.Errorf("scrypt parameters r=%d, p=%d are not positive", c.R, c.P)
	case c.P > maxKDFP:
		return fmt.Errorf("scrypt parameter p=%d is above %d", c.P, maxKDFP)
	case c.R > maxKDFMemory/128/c.N:
		return fmt.Errorf("scrypt parameters N=%d, r=%d need more than %d MiB", c.N, c.R, maxKDFMemory>>20)
	}
	return nil
}

// Derive returns the key that belongs to password and salt, which has SaltSize
// bytes. The password's bytes are taken as they are.
func (c KDF) Derive(password string, salt []byte) (*Key, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if len(salt) != SaltSize {
		return nil, fmt.Errorf("salt of %d bytes, want %d", len(salt), SaltSize)
	}
	material, err := scrypt.Key([]byte(password), salt, c.N, c.R, c.P, 64)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	defer clear(material)
	return newKey(material[:32], material[32:48], material[48:])
}

// Calibrate chooses the strongest parameters for which Derive takes no longer
// than target on this machine and no more than maxMemory bytes, by timing a few
// runs. It never goes below N=16384, R=8, P=1, even if that takes longer than
// target; a maxMemory too small for these, 16 MiB, is an error.
func Calibrate(target time.Duration, maxMemory int) (KDF, error) {
	return calibrate(target, maxMemory, timeDerive)
}

func calibrate(target time.Duration, maxMemory int, measure func(KDF) (time.Duration, error)) (KDF, error) {
	c := KDF{N: minN, R: calibratedR, P: 1}
	maxMemory = min(maxMemory, maxKDFMemory)
	if c.memory() > maxMemory {
		return KDF{}, fmt.Errorf("%d bytes of memory for the key are too few, want at least %d", maxMemory, c.memory())
	}
	took, err := measure(c)
	if err != nil {
		return KDF{}, err
	}
	if took <= 0 {
		return KDF{}, errors.New("the clock does not run: cannot time the key derivation")
	}
	for 2*c.memory() <= maxMemory {
		next := KDF{N: 2 * c.N, R: c.R, P: 1}
		nextTook, err := measure(next)
		if err != nil {
			return KDF{}, err
		}
		if nextTook > target {
			return c, nil
		}
		c, took = next, nextTook
	}
	c.P = max(1, min(int(target/took), maxKDFP))
	return c, nil
}

// memory returns the bytes that deriving takes, in close approximation.
func (c KDF) memory() int { return c.N * c.R * 128 }

// timeDerive returns how long one derivation takes here and now.
func timeDerive(c KDF) (time.Duration, error) {
	start := time.Now()
	k, err := c.Derive("calibration", make([]byte, SaltSize))
	if err != nil {
		return 0, err
	}
	k.Clear()
	return time.Since(start), nil
}
