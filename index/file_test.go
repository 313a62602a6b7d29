package index

import (
	"bytes"
	stdcmp "cmp"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jetsam/blob"
	"jetsam/internal/chance"
	"jetsam/pack"
	"jetsam/storage"
)

// The document as encoding/json sees it: the oracle for Encode and Decode.
type fileJSON struct {
	Supersedes []storage.ID `json:"supersedes,omitempty"`
	Packs      []packJSON   `json:"packs"`
	Unused     []unusedJSON `json:"unused,omitempty"`
}

type unusedJSON struct {
	Since time.Time    `json:"since"`
	Packs []storage.ID `json:"packs"`
}

type packJSON struct {
	ID    storage.ID `json:"id"`
	Blobs []blobJSON `json:"blobs"`
}

type blobJSON struct {
	ID          blob.ID   `json:"id"`
	Type        blob.Kind `json:"type"`
	Offset      uint32    `json:"offset"`
	Length      uint32    `json:"length"`
	PlainLength uint32    `json:"uncompressed_length,omitempty"`
}

func toJSON(f *File) fileJSON {
	doc := fileJSON{Supersedes: f.Supersedes}
	for _, u := range f.Unused {
		doc.Unused = append(doc.Unused, unusedJSON(u))
	}
	for _, p := range f.Packs {
		out := packJSON{ID: p.ID}
		for _, b := range p.Blobs {
			out.Blobs = append(out.Blobs, blobJSON{b.Handle.ID, b.Handle.Kind, b.Offset, b.Length, b.PlainLength})
		}
		doc.Packs = append(doc.Packs, out)
	}
	return doc
}

func TestEncodeEqualsEncodingJSON(t *testing.T) {
	seed := chance.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, supersedes := range [][]storage.ID{nil, {packID(1)}, {packID(2), packID(3), packID(4)}} {
		f := &File{Packs: randomPacks(rng, 50, 1000), Supersedes: supersedes}
		got, err := Encode(f.Packs, f.Supersedes...)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(toJSON(f))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("Encode differs from encoding/json:\n got %s\nwant %s", got, want)
		}
		if most := encodedSize(f.Packs, f.Supersedes); len(got) > most {
			t.Errorf("%d bytes, estimated %d", len(got), most)
		}
		back, err := Decode(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, back); diff != "" {
			t.Errorf("Decode (-want +got):\n%s", diff)
		}
	}
}

func TestEncodeUnusedEqualsEncodingJSON(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, unused := range [][]Unused{
		{{at, []storage.ID{packID(1)}}},
		{{at, []storage.ID{packID(1), packID(2)}}, {at.Add(time.Hour), []storage.ID{packID(3)}}},
	} {
		f := &File{Unused: unused}
		got, err := EncodeUnused(unused)
		if err != nil {
			t.Fatal(err)
		}
		doc := toJSON(f)
		doc.Packs = []packJSON{}
		want, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("EncodeUnused differs from encoding/json:\n got %s\nwant %s", got, want)
		}
		back, err := Decode(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, back); diff != "" {
			t.Errorf("Decode (-want +got):\n%s", diff)
		}
	}
	if text, err := EncodeUnused([]Unused{{time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), nil}}); err == nil {
		t.Errorf("a time that cannot be read back is written: %s", text)
	}
}

func TestEncodeRefuses(t *testing.T) {
	good := pack.Blob{Handle: handle(blob.Data, 1), Length: 32}
	with := func(change func(*pack.Blob)) []Pack {
		b := good
		change(&b)
		return []Pack{{packID(1), []pack.Blob{b}}}
	}
	if _, err := Encode(with(func(*pack.Blob) {})); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		in   []Pack
	}{
		{"nothing", nil},
		{"pack without blobs", []Pack{{ID: packID(1)}}},
		{"pack without name", []Pack{{Blobs: []pack.Blob{good}}}},
		{"zero blob ID", with(func(b *pack.Blob) { b.Handle.ID = blob.ID{} })},
		{"unknown kind", with(func(b *pack.Blob) { b.Handle.Kind = 2 })},
		{"too short", with(func(b *pack.Blob) { b.Length = 31 })},
		{"beyond 4 GiB", with(func(b *pack.Blob) { b.Offset = 1<<32 - 32 })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := Encode(tt.in); err == nil {
				t.Errorf("Encode accepted it: %s", got)
			}
		})
	}
}

var (
	idA = strings.Repeat("ab", 32)
	idB = strings.Repeat("cd", 32)
)

func TestDecodeAccepts(t *testing.T) {
	blobA := `{"id":"` + idA + `","type":"data","offset":0,"length":38}`
	blobB := `{"id":"` + idB + `","type":"tree","offset":38,"length":4000000000,"uncompressed_length":511}`
	tests := []struct {
		name string
		in   string
	}{
		{"as written", `{"packs":[{"id":"` + idA + `","blobs":[` + blobA + `,` + blobB + `]}]}`},
		{"blobs in another order", `{"packs":[{"id":"` + idA + `","blobs":[` + blobB + `,` + blobA + `]}]}`},
		{"fields in another order", `{"packs":[{"blobs":[{"length":38,"offset":0,"type":"data","id":"` + idA + `"},` + blobB + `],"id":"` + idA + `"}]}`},
		{"white space", strings.NewReplacer(":", " :\t", ",", "\r\n, ", "[", "[ ", "]", " ]", "{", "\n{ ", "}", " }\n").Replace(
			`{"packs":[{"id":"` + idA + `","blobs":[` + blobA + `,` + blobB + `]}]}`)},
		{"unknown fields", `{"a":null,"b":[{"packs":["]}\""]},-1.5e3],"packs":[{"x":{},"id":"` + idA + `","y":"\u005c","blobs":[` +
			blobA + `,` + blobB + `],"z":true}],"c":"d"}`},
		{"unknown field of a pack", `{"packs":[{"id":"` + idA + `","blobs":[` + blobA + `,` + blobB + `],"size":1}]}`},
		{"unknown field of a blob", `{"packs":[{"id":"` + idA + `","blobs":[` + blobA[:len(blobA)-1] + `,"x":null},` + blobB + `]}]}`},
		{"escapes", `{"p\u0061cks":[{"id":"\u0061` + idA[1:] + `","blobs":[` + blobA + `,` + blobB + `]}]}`},
		{"zero uncompressed length", `{"packs":[{"id":"` + idA + `","blobs":[{"id":"` + idA +
			`","type":"data","offset":0,"length":38,"uncompressed_length":0},` + blobB + `]}]}`},
		{"null supersedes", `{"supersedes":null,"packs":[{"id":"` + idA + `","blobs":[` + blobA + `,` + blobB + `]}]}`},
	}
	var want Pack
	want.ID, _ = storage.ParseID(idA)
	a, _ := blob.ParseID(idA)
	b, _ := blob.ParseID(idB)
	want.Blobs = []pack.Blob{
		{Handle: blob.Handle{Kind: blob.Data, ID: a}, Offset: 0, Length: 38},
		{Handle: blob.Handle{Kind: blob.Tree, ID: b}, Offset: 38, Length: 4000000000, PlainLength: 511},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&File{Packs: []Pack{want}, Unknown: strings.HasPrefix(tt.name, "unknown")}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeSupersedes(t *testing.T) {
	f, err := Decode([]byte(`{"supersedes":["` + idA + `","` + idB + `"],"packs":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Packs) != 0 || len(f.Supersedes) != 2 || f.Supersedes[1].String() != idB {
		t.Errorf("%+v", f)
	}
}

// However sound it is, an index file that is longer than any may be is refused.
func TestDecodeIsBounded(t *testing.T) {
	text := slices.Concat([]byte(`{"packs":[]}`), bytes.Repeat([]byte{' '}, MaxFileSize))
	if _, err := Decode(text[:MaxFileSize]); err != nil {
		t.Error(err)
	}
	if _, err := Decode(text[:MaxFileSize+1]); err == nil {
		t.Error("one byte more than there may be is read")
	}
}

func TestDecodeRefuses(t *testing.T) {
	entry := func(fields string) string {
		return `{"packs":[{"id":"` + idA + `","blobs":[{` + fields + `}]}]}`
	}
	id, typ := `"id":"`+idA+`",`, `"type":"data",`
	zero := strings.Repeat("0", 64)
	tests := []struct {
		name   string
		in     string
		reason string
	}{
		{"empty", ``, "expected"},
		{"legacy format", `[{"id":"` + idA + `","blobs":[]}]`, "expected"},
		{"no packs", `{}`, "lacks packs"},
		{"null packs", `{"packs":null}`, "expected"},
		{"packs twice", `{"packs":[],"packs":[]}`, "twice"},
		{"cut short", entry(id + typ + `"offset":0,"length":38`)[:150], ""},
		{"something behind", `{"packs":[]}x`, "follows"},
		{"two documents", `{"packs":[]}{"packs":[]}`, "follows"},
		{"trailing comma", `{"packs":[],}`, ""},
		{"pack without id", `{"packs":[{"blobs":[]}]}`, "lacks id"},
		{"pack without blobs", `{"packs":[{"id":"` + idA + `"}]}`, "lacks id"},
		{"zero pack", `{"packs":[{"id":"` + zero + `","blobs":[]}]}`, "without an ID"},
		{"a million empty packs", `{"packs":[` + strings.Repeat("{},", 999_999) + `{}]}`, "lacks id"},
		{"a million empty blobs", `{"packs":[{"id":"` + idA + `","blobs":[` + strings.Repeat("{},", 999_999) + `{}]}]}`, "lacks id"},
		{"upper-case id", entry(strings.ToUpper(idA) + typ + `"offset":0,"length":38`), ""},
		{"zero id", entry(`"id":"` + zero + `",` + typ + `"offset":0,"length":38`), "without an ID"},
		{"no id", entry(typ + `"offset":0,"length":38`), "lacks"},
		{"no type", entry(id + `"offset":0,"length":38`), "lacks"},
		{"no offset", entry(id + typ + `"length":38`), "lacks"},
		{"no length", entry(id + typ + `"offset":0`), "lacks"},
		{"id twice", entry(id + id + typ + `"offset":0,"length":38`), "twice"},
		{"unknown type", entry(id + `"type":"mixed","offset":0,"length":38`), "unknown blob kind"},
		{"too short", entry(id + typ + `"offset":0,"length":31`), "not a sealed blob"},
		{"offset of 2^32", entry(id + typ + `"offset":4294967296,"length":38`), "32 bits"},
		{"length of 2^64", entry(id + typ + `"offset":0,"length":18446744073709551616`), "32 bits"},
		{"length of a million digits", entry(id + typ + `"offset":0,"length":` + strings.Repeat("9", 1_000_000)), "32 bits"},
		{"end beyond 2^32", entry(id + typ + `"offset":4294967295,"length":38`), "4 GiB"},
		{"negative", entry(id + typ + `"offset":-1,"length":38`), "32 bits"},
		{"fraction", entry(id + typ + `"offset":0.5,"length":38`), "expected"},
		{"exponent", entry(id + typ + `"offset":0,"length":1e3`), "expected"},
		{"leading zero", entry(id + typ + `"offset":0,"length":038`), "32 bits"},
		{"number in quotes", entry(id + typ + `"offset":"0","length":38`), "32 bits"},
		{"unknown value is no value", `{"packs":[],"x":[1,}`, ""},
		{"unknown value is missing", `{"x":,"packs":[]}`, ""},
		{"unknown value is open", `{"packs":[],"x":[[[`, ""},
		{"control character", "{\"packs\":[],\"x\n\":1}", ""},
		{"broken escape", `{"packs":[],"\x":1}`, ""},
		{"unused without a time", `{"packs":[],"unused":[{"packs":[]}]}`, "lacks since"},
		{"unused without packs", `{"packs":[],"unused":[{"since":"2026-11-22T10:00:00Z"}]}`, "lacks since"},
		{"unused since ever", `{"packs":[],"unused":[{"since":"ever","packs":[]}]}`, "ever"},
		{"unused twice", `{"packs":[],"unused":[],"unused":[]}`, "twice"},
		{"unused null", `{"packs":[],"unused":null}`, "expected"},
		{"byte order mark", "\ufeff" + `{"packs":[]}`, "expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Decode([]byte(tt.in))
			if err == nil {
				t.Fatalf("Decode accepted it: %+v", f)
			}
			if !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("Decode: %v, want an error with %q", err, tt.reason)
			}
		})
	}
}

// oracle decodes with encoding/json. It goes by way of maps, because
// encoding/json would take a key in capitals for a field.
func oracle(data []byte) (doc fileJSON, err error) {
	var file map[string]json.RawMessage
	var packs []map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(data, &file), json.Unmarshal(file["packs"], &packs)); err != nil {
		return doc, err
	}
	if list, ok := file["supersedes"]; ok {
		if err := json.Unmarshal(list, &doc.Supersedes); err != nil {
			return doc, err
		}
	}
	if list, ok := file["unused"]; ok {
		var unused []map[string]json.RawMessage
		if err := json.Unmarshal(list, &unused); err != nil {
			return doc, err
		}
		for _, fields := range unused {
			var u unusedJSON
			if err := errors.Join(json.Unmarshal(fields["since"], &u.Since), json.Unmarshal(fields["packs"], &u.Packs)); err != nil {
				return doc, err
			}
			doc.Unused = append(doc.Unused, u)
		}
	}
	for _, fields := range packs {
		var p packJSON
		var blobs []map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(fields["id"], &p.ID), json.Unmarshal(fields["blobs"], &blobs)); err != nil {
			return doc, err
		}
		for _, fields := range blobs {
			b, err := oracleBlob(fields)
			if err != nil {
				return doc, err
			}
			p.Blobs = append(p.Blobs, b)
		}
		slices.SortStableFunc(p.Blobs, func(a, b blobJSON) int { return stdcmp.Compare(a.Offset, b.Offset) })
		doc.Packs = append(doc.Packs, p)
	}
	return doc, nil
}

func oracleBlob(fields map[string]json.RawMessage) (b blobJSON, err error) {
	err = errors.Join(
		json.Unmarshal(fields["id"], &b.ID),
		json.Unmarshal(fields["type"], &b.Type),
		json.Unmarshal(fields["offset"], &b.Offset),
		json.Unmarshal(fields["length"], &b.Length),
	)
	if plain, ok := fields["uncompressed_length"]; ok && err == nil {
		err = json.Unmarshal(plain, &b.PlainLength)
	}
	return b, err
}

func FuzzDecode(f *testing.F) {
	packs := randomPacks(rand.New(rand.NewPCG(1, 2)), 2, 10)
	packs[0].Blobs, packs[1].Blobs = packs[0].Blobs[:1], packs[1].Blobs[:min(2, len(packs[1].Blobs))]
	doc, err := Encode(packs)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"supersedes":["` + idA + `"],"packs":[]}`))
	f.Add([]byte(`{"packs":[],"unused":[{"since":"2026-11-22T10:00:00Z","packs":["` + idA + `"]}]}`))
	f.Add([]byte(`{"x":[1,{"y":"\u0000"}],"packs":[ {"blobs":[], "id":"` + idA + `"} ]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Decode(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("decoded what is not JSON: %q", data)
		}
		want, err := oracle(data)
		if err != nil {
			t.Fatalf("encoding/json says %v to %q", err, data)
		}
		if diff := cmp.Diff(want, toJSON(got), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("encoding/json differs (-want +got):\n%s", diff)
		}
		text, err := Encode(got.Packs, got.Supersedes...)
		if err != nil {
			return // of nothing, or of a pack of nothing
		}
		again, err := Decode(text)
		if err != nil {
			t.Fatalf("cannot read back: %v", err)
		}
		got.Unknown, got.Unused = false, nil // Encode lists packs only
		if diff := cmp.Diff(got, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("reads back otherwise (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	doc, err := Encode(randomPacks(rand.New(rand.NewPCG(1, 2)), 3000, 1<<20))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Decode", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		for b.Loop() {
			if _, err := Decode(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		for b.Loop() {
			var f fileJSON
			if err := json.Unmarshal(doc, &f); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	packs := randomPacks(rand.New(rand.NewPCG(1, 2)), 3000, 1<<20)
	doc, err := Encode(packs)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := Encode(packs); err != nil {
			b.Fatal(err)
		}
	}
}
