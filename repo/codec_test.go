package repo

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/storage"
)

func testCodec(t testing.TB, c Compression) *codec {
	t.Helper()
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	out, err := newCodec(key, c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func noise(n int) []byte {
	p := make([]byte, n)
	rand.Read(p)
	return p
}

func TestSealBlob(t *testing.T) {
	text := bytes.Repeat([]byte("all the same "), 100)
	tests := []struct {
		name       string
		mode       Compression
		kind       blob.Kind
		plain      []byte
		compressed bool
	}{
		{"text", CompressionAuto, blob.Data, text, true},
		{"noise stays as it is", CompressionAuto, blob.Data, noise(1000), false},
		{"one byte", CompressionAuto, blob.Data, []byte("x"), false},
		{"off", CompressionOff, blob.Data, text, false},
		{"tree, off", CompressionOff, blob.Tree, text, true},
		{"tree that grows", CompressionAuto, blob.Tree, []byte("{\"nodes\":[]}\n"), true},
		{"large", CompressionMax, blob.Data, bytes.Repeat(text, 10_000), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := testCodec(t, tt.mode)
			s := new(scratch)
			sealed, plainLength, err := c.sealBlob(s, tt.kind, tt.plain)
			if err != nil {
				t.Fatal(err)
			}
			if (plainLength > 0) != tt.compressed || plainLength != 0 && plainLength != len(tt.plain) {
				t.Errorf("plain length %d of %d", plainLength, len(tt.plain))
			}
			if !tt.compressed && len(sealed) != len(tt.plain)+crypto.Overhead {
				t.Errorf("sealed to %d bytes", len(sealed))
			}
			for _, dst := range [][]byte{nil, []byte("before "), make([]byte, 0, 2*len(tt.plain))} {
				got, err := c.openBlob(dst, bytes.Clone(sealed), plainLength)
				if err != nil || !bytes.Equal(got, append(bytes.Clone(dst), tt.plain...)) {
					t.Errorf("openBlob: %d bytes, %v", len(got), err)
				}
			}
		})
	}
}

// What is sealed is not believed until it has been opened again.
func TestReadBackNoticesDamage(t *testing.T) {
	plain := bytes.Repeat([]byte("all the same "), 100)
	for _, mode := range []Compression{CompressionAuto, CompressionOff} {
		c := testCodec(t, mode)
		s := new(scratch)
		sealed, plainLength, err := c.sealBlob(s, blob.Data, plain)
		if err != nil {
			t.Fatal(err)
		}
		other := bytes.Clone(plain)
		other[len(other)/2]++
		tests := []struct {
			name        string
			sealed      []byte
			plain       []byte
			plainLength int
		}{
			{"other content", sealed, other, plainLength},
			{"content cut short", sealed, plain[:len(plain)-1], plainLength},
			{"sealed bytes changed", append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1), plain, plainLength},
			{"another length", sealed, plain, plainLength + 1},
		}
		for _, tt := range tests {
			s.sealed = tt.sealed
			if err := c.readBack(s, tt.plain, tt.plainLength); err == nil {
				t.Errorf("compression %v: %s: not noticed", mode, tt.name)
			}
		}
	}
}

// Large blobs take another way through the decompressor.
func TestLargeBlob(t *testing.T) {
	c := testCodec(t, CompressionAuto)
	plain := bytes.Repeat([]byte("all the same "), largeBlob/13+100)
	payload := c.enc.EncodeAll(plain, nil)
	n := len(plain)
	if got, err := c.decompress([]byte("before "), payload, n); err != nil || string(got[:7]) != "before " || !bytes.Equal(got[7:], plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for name, bad := range map[string]struct {
		payload []byte
		n       int
	}{
		"shorter than said": {payload, n + 1},
		"longer than said":  {payload, n - 1},
		"cut short":         {payload[:len(payload)-1], n},
		"garbage behind":    {append(bytes.Clone(payload), "garbage!"...), n},
		"two frames":        {append(bytes.Clone(payload), payload...), n},
		"nothing":           {nil, n},
	} {
		if _, err := c.decompress(nil, bad.payload, bad.n); err == nil {
			t.Errorf("%s: decompressed", name)
		}
	}
}

// A blob that is not what its index entry says costs neither memory nor time.
func TestOpenBlobIsBounded(t *testing.T) {
	c := testCodec(t, CompressionAuto)
	bomb := c.enc.EncodeAll(make([]byte, 64<<20), nil)
	withChecksum, err := zstd.NewWriter(nil, zstd.WithWindowSize(64<<20), zstd.WithEncoderCRC(true))
	if err != nil {
		t.Fatal(err)
	}
	wide := withChecksum.EncodeAll(noise(64<<20), nil)
	small := c.enc.EncodeAll([]byte("content"), nil)
	tests := []struct {
		name        string
		payload     []byte
		plainLength int
	}{
		{"bomb", bomb, 1000},
		{"shorter than said", small, 8},
		{"longer than said", small, 6},
		{"longer than allowed", small, MaxBlob + 1},
		{"empty", nil, 7},
		{"no frame", []byte("content"), 7},
		{"cut short", small[:len(small)-1], 7},
		{"garbage behind", append(bytes.Clone(small), "garbage"...), 7},
		{"two frames", append(bytes.Clone(small), small...), 7},
		{"window of 64 MiB", wide[:200], 1000},
		{"dictionary", []byte("\x28\xb5\x2f\xfd\x21\x07\x07\x39\x00\x00content"), 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.openBlob(nil, c.key.Seal(nil, tt.payload), tt.plainLength)
			if err == nil {
				t.Errorf("opened as %d bytes", len(got))
			}
			if most := 2 * max(tt.plainLength, 100); cap(got) > most {
				t.Errorf("took %d bytes of memory, want at most %d", cap(got), most)
			}
		})
	}
}

func TestFileEncoding(t *testing.T) {
	c := testCodec(t, CompressionAuto)
	text := []byte(`{"packs":[]}`)
	for _, k := range storage.Kinds() {
		for _, compress := range []bool{true, false} {
			sealed, err := c.sealFile(k, text, compress)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.openFile(k, sealed)
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%v, compressed %v: %q, %v", k, compress, got, err)
			}
			plain, err := c.key.Open(nil, sealed)
			if err != nil {
				t.Fatal(err)
			}
			if first := plain[0]; (first == encodingZstd) != (compress && k != storage.Config) {
				t.Errorf("%v, compressed %v: begins with %d", k, compress, first)
			}
		}
	}
}

func TestOpenFileRefuses(t *testing.T) {
	c := testCodec(t, CompressionAuto)
	bomb := c.enc.EncodeAll(make([]byte, maxUnpacked+1), []byte{encodingZstd})
	for name, plain := range map[string][]byte{
		"empty":              {},
		"encoding 1":         []byte("\x01{}"),
		"encoding 3":         []byte("\x03{}"),
		"white space":        []byte(" {}"),
		"no frame":           []byte("\x02{}"),
		"longer than 64 MiB": bomb,
	} {
		if got, err := c.openFile(storage.Snapshot, c.key.Seal(nil, plain)); err == nil {
			t.Errorf("%s: opened as %d bytes", name, len(got))
		}
	}
	if got, err := c.openFile(storage.Index, c.key.Seal(nil, bomb)); err != nil || len(got) != maxUnpacked+1 {
		t.Errorf("index of more than 64 MiB: %d bytes, %v", len(got), err)
	}
	if _, err := c.openFile(storage.Snapshot, noise(100)); err == nil {
		t.Error("opened noise")
	}
}

// The known answer of the format: an index file without compression.
func TestOpenFileKnownAnswer(t *testing.T) {
	key := new(crypto.Key)
	var b [64]byte
	for i := range b {
		b[i] = byte(i)
	}
	text, err := json.Marshal(map[string]any{"mac": map[string][]byte{"k": b[32:48], "r": b[48:64]}, "encrypt": b[:32]})
	if err != nil {
		t.Fatal(err)
	}
	if err := key.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	c, err := newCodec(key, CompressionAuto)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hex.DecodeString("707172737475767778797a7b7c7d7e7fbc5581c63646252518f54b210c44f3530e01840f8376a8afc06839db")
	if err != nil {
		t.Fatal(err)
	}
	if id := storage.Sum(sealed).String(); id != "39afce1dd6da02158000b000b289b7d1d8b919df47e1a442a4b2e8122da8dc8f" {
		t.Errorf("ID %s", id)
	}
	if got, err := c.openFile(storage.Index, sealed); err != nil || string(got) != `{"packs":[]}` {
		t.Errorf("%q, %v", got, err)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	id := strings.Repeat("ab", 32)
	good := `{"version":2,"id":"` + id + `","chunker_polynomial":"25b468838dcb75"}`
	if c, err := parseConfig([]byte(good)); err != nil || c.polynomial != 0x25b468838dcb75 {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, change := range map[string][2]string{
		"version 0":              {`"version":2`, `"version":0`},
		"version 3":              {`"version":2`, `"version":3`},
		"no version":             {`"version":2,`, ``},
		"version twice":          {`"version":2`, `"version":2,"version":2`},
		"no ID":                  {`"id":"` + id + `",`, ``},
		"short ID":               {id, id[:63]},
		"reducible polynomial":   {"25b468838dcb75", "25b468838dcb74"},
		"polynomial 0":           {"25b468838dcb75", "0"},
		"polynomial 1":           {"25b468838dcb75", "1"},
		"empty polynomial":       {"25b468838dcb75", ""},
		"polynomial of 65 bits":  {"25b468838dcb75", "125b468838dcb7500"},
		"polynomial of all ones": {"25b468838dcb75", "ffffffffffffffff"},
		"negative polynomial":    {"25b468838dcb75", "-5"},
	} {
		in := strings.Replace(good, change[0], change[1], 1)
		if in == good {
			t.Fatalf("%s: nothing changed", name)
		}
		if c, err := parseConfig([]byte(in)); err == nil {
			t.Errorf("%s: accepted as %+v", name, c)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"version":2,"id":"` + strings.Repeat("ab", 32) + `","chunker_polynomial":"25b468838dcb75"}`))
	f.Add([]byte(`{"version":1,"id":"","chunker_polynomial":"3"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseConfig(data); err == nil && (c.Version < 1 || c.Version > 2 || c.polynomial == 0) {
			t.Errorf("accepted as %+v", c)
		}
	})
}

// FuzzFile opens files whose plaintext anybody can choose.
func FuzzFile(f *testing.F) {
	c := testCodec(f, CompressionAuto)
	f.Add([]byte(`{"a":1}`))
	f.Add(c.enc.EncodeAll([]byte(`{"packs":[]}`), []byte{encodingZstd}))
	f.Add([]byte("\x02\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		for _, k := range storage.Kinds() {
			text, err := c.openFile(k, c.key.Seal(nil, plain))
			if err == nil && len(text) > maxUnpacked && k != storage.Index {
				t.Errorf("%v: %d bytes", k, len(text))
			}
		}
	})
}
