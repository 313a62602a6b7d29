package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/crypto"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

func opens(t testing.TB, be storage.Backend, password string) bool {
	t.Helper()
	_, err := Open(t.Context(), be, secret.New(password), testOptions(nil))
	if err != nil && !errors.Is(err, ErrWrongPassword) {
		t.Errorf("Open: %v", err)
	}
	return err == nil
}

func TestKeys(t *testing.T) {
	r, be, _ := testRepo(t)
	first := r.KeyID()
	second, err := r.AddKey(t.Context(), secret.New("pässword"))
	if err != nil {
		t.Fatal(err)
	}
	if !opens(t, be, testPassword) || !opens(t, be, "pässword") || opens(t, be, "password") {
		t.Error("after AddKey, other passwords open it")
	}
	keys, err := r.Keys(t.Context())
	if err != nil || len(keys) != 2 {
		t.Fatalf("Keys: %v, %v", keys, err)
	}
	for _, k := range keys {
		if k.Current != (k.ID == first) || k.Username != "me" || k.Hostname != "here" || k.Created.IsZero() || k.Err != nil {
			t.Errorf("%+v", k)
		}
	}
	if err := r.RemoveKey(t.Context(), first); err == nil {
		t.Error("RemoveKey removed the key in use")
	}
	if err := r.RemoveKey(t.Context(), storage.Sum(nil)); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("RemoveKey of none: %v", err)
	}
	if err := r.RemoveKey(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if !opens(t, be, testPassword) || opens(t, be, "pässword") {
		t.Error("after RemoveKey, other passwords open it")
	}
	third, err := r.ChangePassword(t.Context(), secret.New("new"))
	if err != nil {
		t.Fatal(err)
	}
	if r.KeyID() != third || opens(t, be, testPassword) || !opens(t, be, "new") {
		t.Error("after ChangePassword, other passwords open it")
	}
	if n := len(listIDs(t, be, storage.Lock)); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

// Whatever fails while the password is changed, one of the two opens the
// repository.
func TestChangePasswordFails(t *testing.T) {
	for k := 1; ; k++ {
		r, be, _ := testRepo(t)
		var n int
		be.Before = func(storagetest.Op, storage.File) error {
			if n++; n == k {
				return errors.New("fault")
			}
			return nil
		}
		_, err := r.ChangePassword(t.Context(), secret.New("new"))
		be.Before = nil
		if n >= k && err == nil {
			t.Errorf("operation %d failed, and nobody said so", k)
		}
		if !opens(t, be, testPassword) && !opens(t, be, "new") {
			t.Errorf("operation %d failed, and no password opens it", k)
		}
		if n < k {
			if err != nil {
				t.Errorf("without a fault: %v", err)
			}
			return
		}
	}
}

// One damaged key must not take the repository away.
func TestDamagedKeys(t *testing.T) {
	r, be, _ := testRepo(t)
	good := storage.File{Kind: storage.Key, ID: r.KeyID()}
	text := load(t, be, good)
	edit := func(old, new string) []byte {
		out := bytes.Replace(text, []byte(old), []byte(new), 1)
		if bytes.Equal(out, text) {
			t.Fatalf("nothing to edit: %s", old)
		}
		return out
	}
	damaged := map[string][]byte{
		"garbage":       []byte("garbage"),
		"empty":         nil,
		"cut short":     text[:len(text)/2],
		"huge N":        edit(`"N":2`, fmt.Sprint(`"N":`, 1<<40)),
		"huge r":        edit(`"r":1`, fmt.Sprint(`"r":`, math.MaxInt32)),
		"huge p":        edit(`"p":1`, `"p":65`),
		"N not a power": edit(`"N":2`, `"N":3`),
		"other kdf":     edit(`"scrypt"`, `"argon2"`),
		"short salt":    edit(`"salt":"`, `"salt":"","x":"`),
		"short data":    edit(`"data":"`, `"data":"AAAA","x":"`),
		"twice":         edit(`"kdf"`, `"kdf":"scrypt","kdf"`),
		"array":         []byte(`[]`),
	}
	for _, data := range damaged {
		put(t, be, storage.Key, data)
	}
	w := new(warnings)
	opened := reopen(t, be, testOptions(w))
	if opened.KeyID() != r.KeyID() {
		t.Errorf("opened with %s", opened.KeyID())
	}
	keys, err := opened.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var bad int
	for _, k := range keys {
		if k.Err != nil {
			bad++
			if !errors.Is(k.Err, ErrCorrupt) || !strings.Contains(k.Err.Error(), k.ID.Short()) {
				t.Errorf("%v", k.Err)
			}
		}
	}
	if bad != len(damaged) {
		t.Errorf("%d damaged keys, want %d", bad, len(damaged))
	}
	if opens(t, be, "wrong") {
		t.Error("a wrong password opens it")
	}

	if err := be.Remove(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), be, secret.New(testPassword), testOptions(w)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without a sound key: %v, want ErrCorrupt", err)
	}
	if errs := w.take(); len(errs) < len(damaged) {
		t.Errorf("%d warnings, want %d: %v", len(errs), len(damaged), errs)
	}
}

// Damage to what a key file says for information does not make it useless.
func TestSlightlyDamagedKeyStillOpens(t *testing.T) {
	r, be, _ := testRepo(t)
	f := storage.File{Kind: storage.Key, ID: r.KeyID()}
	text := load(t, be, f)
	replace(t, be, f, bytes.Replace(text, []byte(`"here"`), []byte(`"hers"`), 1))
	w := new(warnings)
	reopen(t, be, testOptions(w))
	if errs := w.take(); len(errs) != 1 || !errors.Is(errs[0], ErrCorrupt) {
		t.Errorf("warned of %v", errs)
	}
	data := bytes.Index(text, []byte(`"data":"`)) + 20
	if text[data] != 'A' {
		text[data] = 'A'
	} else {
		text[data] = 'B'
	}
	replace(t, be, f, text)
	if _, err := Open(t.Context(), be, secret.New(testPassword), testOptions(nil)); !errors.Is(err, ErrWrongPassword) || !errors.Is(err, ErrCorrupt) {
		t.Errorf("with the sealed part damaged: %v, want both ErrWrongPassword and ErrCorrupt", err)
	}
}

func TestKeyHint(t *testing.T) {
	r, be, _ := testRepo(t)
	var last storage.ID
	for range maxKeysTried + 10 {
		var err error
		if last, err = r.AddKey(t.Context(), secret.New("many")); err != nil {
			t.Fatal(err)
		}
	}
	only, err := r.AddKey(t.Context(), secret.New("only"))
	if err != nil {
		t.Fatal(err)
	}
	o := testOptions(nil)
	o.KeyHint = last.String()[:12]
	opened, err := Open(t.Context(), be, secret.New("many"), o)
	if err != nil || opened.KeyID() != last {
		t.Errorf("hint of one of many: %v", err)
	}
	o.KeyHint = only.String()
	if _, err := Open(t.Context(), be, secret.New("only"), o); err != nil {
		t.Errorf("hint among more keys than are tried: %v", err)
	}
	o.KeyHint = last.String()
	if _, err := Open(t.Context(), be, secret.New("nobody's"), o); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("wrong password: %v", err)
	}
}

// sortedPlace lists files in the order of their IDs.
type sortedPlace struct{ storage.Backend }

func (p sortedPlace) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var infos []storage.Info
		for info, err := range p.Backend.List(ctx, k) {
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			infos = append(infos, info)
		}
		slices.SortFunc(infos, func(a, b storage.Info) int { return a.File.ID.Compare(b.File.ID) })
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// A thousand forged keys must not cost a thousand derivations.
func TestFewKeysAreTried(t *testing.T) {
	r, be, _ := testRepo(t)
	passwords := map[storage.ID]string{r.KeyID(): testPassword}
	for i := range maxKeysTried {
		password := fmt.Sprint("password ", i)
		id, err := r.AddKey(t.Context(), secret.New(password))
		if err != nil {
			t.Fatal(err)
		}
		passwords[id] = password
	}
	ids := slices.SortedFunc(maps.Keys(passwords), storage.ID.Compare)
	for i, id := range ids {
		if got, want := opens(t, sortedPlace{be}, passwords[id]), i < maxKeysTried; got != want {
			t.Errorf("key %d of %d opens it: %v, want %v", i+1, len(ids), got, want)
		}
	}
}

func TestNoKeys(t *testing.T) {
	r, be, _ := testRepo(t)
	if err := be.Remove(t.Context(), storage.File{Kind: storage.Key, ID: r.KeyID()}); err != nil {
		t.Fatal(err)
	}
	if opens(t, be, testPassword) {
		t.Error("opened without a key")
	}
}

// The calibrated cost of a key is what the format's reader accepts.
func TestCalibratedKey(t *testing.T) {
	_, be, _ := testRepo(t)
	o := testOptions(nil)
	o.KDF = crypto.KDF{}
	r := reopen(t, be, o)
	id, err := r.AddKey(t.Context(), secret.New("dear"))
	if err != nil {
		t.Fatal(err)
	}
	var k keyFile
	if err := json.Unmarshal(load(t, be, storage.File{Kind: storage.Key, ID: id}), &k); err != nil {
		t.Fatal(err)
	}
	if k.N < 1<<14 || k.R*k.N*128 > kdfMemory {
		t.Errorf("N %d, r %d, p %d", k.N, k.R, k.P)
	}
	if time.Since(k.Created) > time.Hour || time.Since(k.Created) < 0 {
		t.Errorf("created %v", k.Created)
	}
	if !opens(t, be, "dear") {
		t.Error("it does not open")
	}
}

func FuzzKey(f *testing.F) {
	r, be, _ := testRepo(f)
	f.Add(load(f, be, storage.File{Kind: storage.Key, ID: r.KeyID()}))
	f.Add([]byte(`{"kdf":"scrypt","N":2,"r":1,"p":1,"salt":"","data":""}`))
	f.Add([]byte(`{"N":1099511627776,"n":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := parseKeyFile(text)
		if err != nil {
			return
		}
		if k.N*k.R*128 > 1<<30 || k.P > 64 || len(k.Salt) != crypto.SaltSize || len(k.Data) < crypto.Overhead {
			t.Errorf("accepted %+v", k)
		}
	})
}
