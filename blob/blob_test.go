package blob_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"jetsam/blob"
)

// The blob ID of the format description's known-answer vectors.
const helloID = "a21d04833321a938ecc717733c16b059cb7e21a658a7e1345c25e30e75eb7eda"

func TestSum(t *testing.T) {
	id := blob.Sum([]byte("hello jetstream"))
	if id.String() != helloID {
		t.Errorf("Sum = %v, want %s", id, helloID)
	}
	if id.Short() != helloID[:10] {
		t.Errorf("Short() = %q", id.Short())
	}
}

func TestParseID(t *testing.T) {
	id, err := blob.ParseID(helloID)
	if err != nil || id != blob.Sum([]byte("hello jetstream")) {
		t.Errorf("ParseID = %v, %v", id, err)
	}
	bad := map[string]string{
		"empty":            "",
		"short":            helloID[:63],
		"odd and long":     helloID + "0",
		"capitals":         strings.ToUpper(helloID),
		"one capital":      "A" + helloID[1:],
		"white space":      " " + helloID[1:],
		"just below 0":     "/" + helloID[1:],
		"just above 9":     ":" + helloID[1:],
		"just below a":     "`" + helloID[1:],
		"just above f":     helloID[:63] + "g",
		"multi-byte runes": strings.Repeat("é", 32),
	}
	for name, text := range bad {
		if id, err := blob.ParseID(text); err == nil {
			t.Errorf("%s: ParseID(%q) = %v", name, text, id)
		}
	}
}

func TestUnmarshalTextLeavesIDAloneOnError(t *testing.T) {
	id := blob.Sum(nil)
	before := id
	if err := id.UnmarshalText([]byte(helloID[:63] + "g")); err == nil || id != before {
		t.Errorf("id is %v, error %v", id, err)
	}
}

func TestIDOrder(t *testing.T) {
	ids := []blob.ID{{0: 2}, {0: 1, 31: 9}, {}, {0: 1}}
	slices.SortFunc(ids, blob.ID.Compare)
	want := []blob.ID{{}, {0: 1}, {0: 1, 31: 9}, {0: 2}}
	if !slices.Equal(ids, want) {
		t.Errorf("sorted IDs are %v", ids)
	}
	if !ids[0].IsZero() || ids[1].IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestJSON(t *testing.T) {
	type document struct {
		Kinds []blob.Kind
		ID    blob.ID
		Sizes map[blob.ID]int
	}
	id := blob.Sum([]byte("hello jetstream"))
	in := document{Kinds: []blob.Kind{blob.Data, blob.Tree}, ID: id, Sizes: map[blob.ID]int{id: 15}}
	const want = `{"Kinds":["data","tree"],"ID":"` + helloID + `","Sizes":{"` + helloID + `":15}}`
	text, err := json.Marshal(in)
	if err != nil || string(text) != want {
		t.Fatalf("json is %s, %v, want %s", text, err, want)
	}
	var out document
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(out.Kinds, in.Kinds) || out.ID != id || out.Sizes[id] != 15 {
		t.Errorf("%v became %v", in, out)
	}
}

func TestKindRefusesTheUnknown(t *testing.T) {
	if text, err := blob.Kind(2).MarshalText(); err == nil {
		t.Errorf("kind 2 marshals as %q", text)
	}
	if got := blob.Kind(2).String(); got != "unknown kind 2" {
		t.Errorf("kind 2 is called %q", got)
	}
	for _, name := range []string{"", "Data", "trees", "pack", strings.Repeat("x", 1<<20)} {
		k := blob.Tree
		err := k.UnmarshalText([]byte(name))
		if err == nil || k != blob.Tree {
			t.Errorf("%.20q is read as %v, error %v", name, k, err)
		}
		if len(err.Error()) > 100 {
			t.Errorf("error repeats all of its input: %d bytes", len(err.Error()))
		}
	}
}

func TestHandle(t *testing.T) {
	id := blob.Sum([]byte("hello jetstream"))
	data, tree := blob.Handle{Kind: blob.Data, ID: id}, blob.Handle{Kind: blob.Tree, ID: id}
	if data == tree {
		t.Error("data and tree blobs of the same content are not told apart")
	}
	if got := tree.String(); got != "tree/a21d048333" {
		t.Errorf("String() = %q", got)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(helloID)
	f.Add(strings.ToUpper(helloID))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := blob.ParseID(text)
		if err == nil && id.String() != text {
			t.Errorf("%q is read as %v", text, id)
		}
		if err != nil && !id.IsZero() {
			t.Errorf("%q gives an ID with error %v", text, err)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	p := make([]byte, 1<<20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		blob.Sum(p)
	}
}

func BenchmarkParseID(b *testing.B) {
	text := []byte(helloID)
	var id blob.ID
	for b.Loop() {
		if err := id.UnmarshalText(text); err != nil {
			b.Fatal(err)
		}
	}
}
