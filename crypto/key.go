package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
)

// maxKeyJSON bounds the JSON text of a key, in bytes. A compact one has 154.
const maxKeyJSON = 4096

// Key seals and opens. It is made by NewKey, by KDF.Derive or from JSON; the
// zero Key must not be used. Its methods but UnmarshalJSON and Clear may be
// called from many goroutines at once.
type Key struct {
	encrypt [32]byte // AES-256 key of the data
	k, r    [16]byte // the two halves of the Poly1305-AES key

	data cipher.Block // AES under encrypt
	mac  cipher.Block // AES under k
}

// NewKey makes a random key.
func NewKey() (*Key, error) {
	var material [64]byte
	rand.Read(material[:]) // never fails: it ends the program instead
	defer clear(material[:])
	return newKey(material[:32], material[32:48], material[48:])
}

// newKey makes a key of three secrets of 32, 16 and 16 bytes and copies them.
func newKey(encrypt, k, r []byte) (*Key, error) {
	key := new(Key)
	if len(encrypt) != len(key.encrypt) || len(k) != len(key.k) || len(r) != len(key.r) {
		return nil, fmt.Errorf("key parts of %d, %d and %d bytes, want 32, 16 and 16", len(encrypt), len(k), len(r))
	}
	if isZero(encrypt) || isZero(k) || isZero(r) {
		return nil, errors.New("key with a part that is all zero")
	}
	copy(key.encrypt[:], encrypt)
	copy(key.k[:], k)
	copy(key.r[:], r)
	var err error
	if key.data, err = aes.NewCipher(encrypt); err != nil {
		return nil, err
	}
	if key.mac, err = aes.NewCipher(k); err != nil {
		return nil, err
	}
	return key, nil
}

// Clear overwrites the key's secrets. The key must not be used later. Copies
// that the Go runtime or the AES implementation made may remain in memory.
func (k *Key) Clear() { *k = Key{} }

// mustBeUsable panics on a zero or cleared key: to seal with one would put data
// under a key that everybody knows.
func (k *Key) mustBeUsable() {
	if k.data == nil {
		panic("crypto: use of a zero or cleared key")
	}
}

// keyJSON is how a master key is written inside a key file; part of the format.
type keyJSON struct {
	MAC struct {
		K []byte `json:"k"`
		R []byte `json:"r"`
	} `json:"mac"`
	Encrypt []byte `json:"encrypt"`
}

// MarshalJSON returns the secrets in clear, as the format keeps a master key:
//
//	{"mac":{"k":"<base64 of 16 bytes>","r":"<16>"},"encrypt":"<32>"}
//
// Seal the result before it leaves the process.
func (k *Key) MarshalJSON() ([]byte, error) {
	k.mustBeUsable()
	var j keyJSON
	j.Encrypt, j.MAC.K, j.MAC.R = k.encrypt[:], k.k[:], k.r[:]
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes. It refuses parts of another
// length or all zero, and a field that is given twice.
func (k *Key) UnmarshalJSON(text []byte) error {
	if len(text) > maxKeyJSON {
		return fmt.Errorf("key of %d bytes, want at most %d", len(text), maxKeyJSON)
	}
	if err := checkUniqueFields(text); err != nil {
		return err
	}
	var j keyJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return errors.New("key is not the JSON of a key") // the cause would quote secret bytes
	}
	defer clear(j.Encrypt)
	defer clear(j.MAC.K)
	defer clear(j.MAC.R)
	key, err := newKey(j.Encrypt, j.MAC.K, j.MAC.R)
	if err != nil {
		return err
	}
	*k = *key
	return nil
}

// Format hides the key from package fmt, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) {
	_, _ = f.Write([]byte("***")) // fmt keeps the write error
}

// LogValue hides the key from log/slog, which would marshal it as JSON.
func (k Key) LogValue() slog.Value { return slog.StringValue("***") }

func isZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
