package tests

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/crypto"
	"jetsam/index"
	"jetsam/internal/doctest"
	"jetsam/pack"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
)

const (
	formatPage = "docs/format/repository.md"
	hello      = "hello jetstream"
)

// masterKey is the key of the page's examples.
func masterKey(t *testing.T) *crypto.Key {
	t.Helper()
	return parseKey(t, []byte(doctest.Example(t, formatPage, "master key")))
}

func parseKey(t *testing.T, text []byte) *crypto.Key {
	t.Helper()
	k := new(crypto.Key)
	if err := json.Unmarshal(text, k); err != nil {
		t.Fatal(err)
	}
	return k
}

// exampleLine is an example of one line, without its end.
func exampleLine(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSuffix(doctest.Example(t, formatPage, name), "\n")
}

func openSealed(t *testing.T, k *crypto.Key, sealed []byte) string {
	t.Helper()
	plain, err := k.Open(nil, sealed)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestFormatSealing(t *testing.T) {
	for example, want := range map[string]string{"sealed text": hello, "sealed nothing": ""} {
		if got := openSealed(t, masterKey(t), doctest.Hex(t, formatPage, example)); got != want {
			t.Errorf("%s opens to %q, want %q", example, got, want)
		}
	}
}

func TestFormatKeyFile(t *testing.T) {
	var file struct {
		KDF        string
		N, R, P    int
		Salt, Data []byte
	}
	if err := json.Unmarshal([]byte(exampleLine(t, "key file")), &file); err != nil {
		t.Fatal(err)
	}
	user, err := crypto.KDF{N: file.N, R: file.R, P: file.P}.Derive("pässword", file.Salt)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := user.MarshalJSON(); err != nil || string(text) != exampleLine(t, "user key") {
		t.Errorf("the user key is %s, %v", text, err)
	}
	if got := openSealed(t, user, file.Data); got != exampleLine(t, "master key") {
		t.Errorf("the key file holds %s", got)
	}
	if file.KDF != "scrypt" || len(file.Salt) != crypto.SaltSize {
		t.Errorf("kdf %s, %d bytes of salt", file.KDF, len(file.Salt))
	}
}

func TestFormatConfig(t *testing.T) {
	var c struct {
		Version    int
		ID         storage.ID
		Polynomial string `json:"chunker_polynomial"`
	}
	if err := json.Unmarshal([]byte(exampleLine(t, "config")), &c); err != nil {
		t.Fatal(err)
	}
	p, err := strconv.ParseUint(c.Polynomial, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chunker.New(p); err != nil || c.Version != 2 || c.ID.IsZero() {
		t.Errorf("version %d, ID %s, polynomial: %v", c.Version, c.ID, err)
	}
}

func TestFormatSealedFile(t *testing.T) {
	sealed := doctest.Hex(t, formatPage, "sealed file")
	if got := openSealed(t, masterKey(t), sealed); got != `{"packs":[]}` {
		t.Errorf("it holds %q", got)
	}
	if got := storage.Sum(sealed).String(); got != exampleLine(t, "sealed file ID") {
		t.Errorf("its ID is %s", got)
	}
}

func TestFormatLock(t *testing.T) {
	text := exampleLine(t, "lock")
	var l repo.LockInfo
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(l); err != nil || string(again) != text {
		t.Errorf("encoded again it is %s, %v", again, err)
	}
	if l.BootID == "" || l.PIDNamespace == "" || l.ProcessStart == "" {
		t.Error("it does not identify its holder")
	}
}

func TestFormatPack(t *testing.T) {
	file := doctest.Hex(t, formatPage, "pack")
	if got := storage.Sum(file).String(); got != exampleLine(t, "pack ID") {
		t.Errorf("its ID is %s", got)
	}
	load := func(off int64, n int) ([]byte, error) { return file[off : off+int64(n)], nil }
	blobs, err := pack.ReadHeader(int64(len(file)), masterKey(t), load)
	if err != nil {
		t.Fatal(err)
	}
	want := pack.Blob{Handle: blob.Handle{Kind: blob.Data, ID: blob.Sum([]byte(hello))}, Length: 47}
	if !slices.Equal(blobs, []pack.Blob{want}) {
		t.Fatalf("its header lists %v, want %v", blobs, want)
	}
	if got := openSealed(t, masterKey(t), file[:want.Length]); got != hello {
		t.Errorf("its blob is %q", got)
	}
	plain, err := pack.ParseHeader(doctest.Hex(t, formatPage, "pack header"))
	if err != nil || !slices.Equal(plain, blobs) {
		t.Errorf("the header's plaintext lists %v, %v", plain, err)
	}
}

func TestFormatIndex(t *testing.T) {
	for _, name := range []string{"index", "merged index"} {
		text := exampleLine(t, name)
		f, err := index.Decode([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := index.Encode(f.Packs, f.Supersedes...)
		if err != nil || string(again) != text {
			t.Errorf("%s: encoded again it is %s, %v", name, again, err)
		}
		if got := f.Packs[0].ID.String(); got != exampleLine(t, "pack ID") {
			t.Errorf("%s lists pack %s", name, got)
		}
		if merged := len(f.Supersedes) > 0; merged != (name == "merged index") || f.Unknown {
			t.Errorf("%s: supersedes %v, unknown fields %v", name, f.Supersedes, f.Unknown)
		}
	}
}

func TestFormatUnused(t *testing.T) {
	text := exampleLine(t, "unused packs")
	f, err := index.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	again, err := index.EncodeUnused(f.Unused)
	if err != nil || string(again) != text {
		t.Errorf("encoded again it is %s, %v", again, err)
	}
	if len(f.Unused) != 1 || f.Unused[0].Packs[0].String() != exampleLine(t, "pack ID") || f.Unknown {
		t.Errorf("it says %+v", f)
	}
}

func TestFormatTree(t *testing.T) {
	for _, name := range []string{"tree", "empty tree"} {
		text := doctest.Example(t, formatPage, name)
		tree, err := snapshot.DecodeTree([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := snapshot.EncodeTree(tree)
		if err != nil || string(again) != text {
			t.Errorf("%s encoded again is %s, %v", name, again, err)
		}
	}
	text := []byte(doctest.Example(t, formatPage, "tree"))
	if got := blob.Sum(text).String(); got != exampleLine(t, "tree ID") {
		t.Errorf("the tree's ID is %s", got)
	}
	empty := blob.Sum([]byte(doctest.Example(t, formatPage, "empty tree")))
	if !bytes.Contains(text, []byte(empty.String())) {
		t.Errorf("the tree does not name the empty one, %s", empty)
	}
}

func TestFormatSnapshot(t *testing.T) {
	text := exampleLine(t, "snapshot")
	s, err := snapshot.Decode(storage.Sum([]byte(text)), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Encode()
	if err != nil || string(again) != text {
		t.Errorf("encoded again it is %s, %v", again, err)
	}
	if s.Tree.String() != exampleLine(t, "tree ID") {
		t.Errorf("it names tree %s", s.Tree)
	}
}

// TestFormatExamplesAreAllExecuted keeps an example from standing there unread.
func TestFormatExamplesAreAllExecuted(t *testing.T) {
	executed := []string{
		"master key", "sealed text", "sealed nothing", "key file", "user key", "config", "sealed file", "sealed file ID", "lock",
		"pack", "pack header", "pack ID", "index", "merged index", "unused packs", "tree", "tree ID", "empty tree", "snapshot",
	}
	names := doctest.Names(t, formatPage)
	slices.Sort(names)
	slices.Sort(executed)
	if !slices.Equal(names, executed) {
		t.Errorf("the page has the examples %q, the tests execute %q", names, executed)
	}
}
