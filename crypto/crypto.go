// Package crypto seals and opens what a repository stores.
//
// Every encrypted unit (a blob, a pack header, an index file, and so on) has the
// same form; n is the length of the plaintext:
//
//	0           16                    16+n          32+n
//	| nonce     | ciphertext          | tag         |
//
//	ciphertext  AES-256 in counter mode under the key "encrypt", the nonce being
//	            the first counter block
//	tag         Poly1305-AES of the ciphertext under the keys "k" and "r"
//
// Poly1305-AES is the construction of Bernstein's paper of 2005, not that of
// RFC 8439: the one-time key is r followed by the nonce encrypted with AES-128
// under k, and only the ciphertext is authenticated.
//
// Nothing ties a unit to its place: whoever opens one must know by other means,
// a hash or a field inside, that it is the unit they asked for. A nonce is 16
// random bytes and is never used twice; this package is the only code that
// makes or sees one.
package crypto

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	//lint:ignore SA1019 the format is Poly1305-AES, which nothing newer offers
	"golang.org/x/crypto/poly1305"
)

// Sizes in bytes; part of the format.
const (
	NonceSize = 16
	tagSize   = 16

	// Overhead is how much longer a sealed unit is than its plaintext.
	Overhead = NonceSize + tagSize
)

// ErrUnauthenticated is returned by Open for bytes that were not sealed with
// this key, or that changed since.
var ErrUnauthenticated = errors.New("message authentication failed")

// Seal encrypts plaintext under a new random nonce and appends the sealed unit,
// Overhead bytes longer than plaintext, to dst. The room behind dst's end must
// not overlap plaintext.
func (k *Key) Seal(dst, plaintext []byte) []byte {
	return k.seal(dst, plaintext, newNonce())
}

// Open checks the sealed unit and appends its plaintext to dst. On any error,
// which is always ErrUnauthenticated, it returns nil and has decrypted nothing.
//
// The room behind dst's end must not overlap sealed, with one exception: to
// decrypt in place, pass sealed[NonceSize:NonceSize] as dst.
func (k *Key) Open(dst, sealed []byte) ([]byte, error) {
	k.mustBeUsable()
	if len(sealed) < Overhead {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrUnauthenticated, len(sealed))
	}
	nonce := [NonceSize]byte(sealed)
	ciphertext := sealed[NonceSize : len(sealed)-tagSize]
	tag := [tagSize]byte(sealed[len(sealed)-tagSize:])
	oneTime := k.oneTimeKey(nonce)
	if !poly1305.Verify(&tag, ciphertext, &oneTime) {
		return nil, ErrUnauthenticated
	}
	// A writer never uses this nonce; one that does is broken or hostile.
	if nonce == ([NonceSize]byte{}) {
		return nil, fmt.Errorf("%w: zero nonce", ErrUnauthenticated)
	}
	start := len(dst)
	dst = slices.Grow(dst, len(ciphertext))[:start+len(ciphertext)]
	cipher.NewCTR(k.data, nonce[:]).XORKeyStream(dst[start:], ciphertext)
	return dst, nil
}

// seal is Seal with a given nonce.
func (k *Key) seal(dst, plaintext []byte, nonce [NonceSize]byte) []byte {
	k.mustBeUsable()
	dst = slices.Grow(dst, Overhead+len(plaintext))
	dst = append(dst, nonce[:]...)
	start := len(dst)
	dst = dst[:start+len(plaintext)]
	cipher.NewCTR(k.data, nonce[:]).XORKeyStream(dst[start:], plaintext)

	var tag [tagSize]byte
	oneTime := k.oneTimeKey(nonce)
	poly1305.Sum(&tag, dst[start:], &oneTime)
	return append(dst, tag[:]...)
}

// oneTimeKey returns the Poly1305 key for one nonce. Poly1305 clears the bits of
// r that must be zero itself, so that it does not matter whether they were
// stored cleared.
func (k *Key) oneTimeKey(nonce [NonceSize]byte) (key [32]byte) {
	copy(key[:16], k.r[:])
	k.mac.Encrypt(key[16:], nonce[:])
	return key
}

// newNonce returns 16 random bytes that are not all zero.
func newNonce() (nonce [NonceSize]byte) {
	for nonce == ([NonceSize]byte{}) {
		rand.Read(nonce[:]) // never fails: it ends the program instead
	}
	return nonce
}
