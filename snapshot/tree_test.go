package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jetsam/blob"
)

// A name with everything that needs quoting, and how a tree holds it.
const (
	oddName       = "q\"uo\te é\x01\xff"
	oddNameQuoted = `q\\\"uo\\te é\\x01\\xff`
)

func exampleTree() *Tree {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	dir := DirNode("a", blob.Sum([]byte("sub")), at)
	file := FileNode("b", []blob.ID{blob.Sum([]byte("1")), blob.Sum([]byte("2"))}, 2, at)
	link := &Node{Name: "c", Type: TypeSymlink, LinkTarget: "b", LinkTargetRaw: []byte{0xff}, Inode: 1 << 60, DeviceID: 2, Links: 3, User: "u", Group: "g", UID: 4, GID: 5}
	attrs := FileNode("d", nil, 0, time.Time{})
	attrs.ExtendedAttributes = []ExtendedAttribute{{Name: "user.x", Value: []byte("v")}}
	attrs.GenericAttributes = map[string]json.RawMessage{"z": []byte(`{"a":1}`), "y": []byte(`2`)}
	attrs.Error = "e"
	dev := &Node{Name: "e", Type: TypeDev, Device: 7}
	return &Tree{Nodes: []*Node{dir, file, link, attrs, dev, FileNode(oddName, nil, 0, time.Unix(0, 1))}}
}

func TestTreeEncoding(t *testing.T) {
	sum := func(s string) string { return blob.Sum([]byte(s)).String() }
	times := `"mtime":"2026-01-02T02:04:05.000000006Z","atime":"2026-01-02T02:04:05.000000006Z","ctime":"2026-01-02T02:04:05.000000006Z","uid":0,"gid":0,`
	zero := `"mtime":"0001-01-01T00:00:00Z","atime":"0001-01-01T00:00:00Z","ctime":"0001-01-01T00:00:00Z",`
	epoch := strings.ReplaceAll(zero, "0001-01-01T00:00:00Z", "1970-01-01T00:00:00.000000001Z")
	want := `{"nodes":[` + strings.Join([]string{
		`{"name":"a","type":"dir","mode":2147484096,` + times + `"content":null,"subtree":"` + sum("sub") + `"}`,
		`{"name":"b","type":"file","mode":384,` + times + `"size":2,"content":["` + sum("1") + `","` + sum("2") + `"]}`,
		`{"name":"c","type":"symlink",` + zero + `"uid":4,"gid":5,"user":"u","group":"g","inode":1152921504606846976,"device_id":2,"links":3,"linktarget":"b","linktarget_raw":"/w==","content":null}`,
		`{"name":"d","type":"file","mode":384,` + zero + `"uid":0,"gid":0,"extended_attributes":[{"name":"user.x","value":"dg=="}],"generic_attributes":{"y":2,"z":{"a":1}},"content":[],"error":"e"}`,
		`{"name":"e","type":"dev",` + zero + `"uid":0,"gid":0,"device":7,"content":null}`,
		`{"name":"` + oddNameQuoted + `","type":"file","mode":384,` + epoch + `"uid":0,"gid":0,"content":[]}`,
	}, ",") + "]}\n"

	tree := exampleTree()
	got, err := EncodeTree(tree)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("EncodeTree (-want +got):\n%s", diff)
	}
	back, err := DecodeTree(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree, back); diff != "" {
		t.Errorf("DecodeTree (-want +got):\n%s", diff)
	}
	if n := back.Find(oddName); n == nil || n.Name != oddName {
		t.Errorf("Find: %v", n)
	}
	if n := back.Find("nobody"); n != nil {
		t.Errorf("Find found %v", n)
	}
}

func TestEmptyTree(t *testing.T) {
	got, err := EncodeTree(&Tree{})
	if err != nil || string(got) != "{\"nodes\":[]}\n" {
		t.Fatalf("EncodeTree: %q, %v", got, err)
	}
	for _, in := range []string{string(got), `{"nodes":[]}`, `{"later":{"nodes":[{}]},"nodes":[ ],"x":[]}`} {
		if tree, err := DecodeTree([]byte(in)); err != nil || len(tree.Nodes) != 0 {
			t.Errorf("DecodeTree(%q): %v, %v", in, tree, err)
		}
	}
}

// A tree must not depend on the zone its times were given in, nor on a
// monotonic clock reading.
func TestNodesAreFunctionsOfTheirArguments(t *testing.T) {
	now := time.Now()
	id := blob.Sum(nil)
	var first []byte
	for _, at := range []time.Time{now, now.Round(0), now.UTC(), now.In(time.FixedZone("x", -3600))} {
		got, err := EncodeTree(&Tree{Nodes: []*Node{DirNode("d", id, at), FileNode("f", nil, 0, at)}})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
		}
		if !bytes.Equal(first, got) {
			t.Errorf("%s\ndiffers from\n%s", got, first)
		}
	}
}

func TestBadTrees(t *testing.T) {
	id := strings.Repeat("ab", 32)
	file := func(name string) string { return `{"name":"` + name + `","type":"file","content":[]}` }
	tests := []struct {
		name   string
		nodes  string
		reason string
	}{
		{"parent directory", file(".."), "another directory"},
		{"own directory", file("."), "another directory"},
		{"path", file("../x"), "slash"},
		{"quoted slash", file(`a\\x2fb`), "slash"},
		{"zero byte", file(`a\\x00b`), "zero byte"},
		{"empty name", file(``), "empty name"},
		{"no name", `{"type":"file","content":[]}`, "empty name"},
		{"long name", file(strings.Repeat("n", MaxNameLength+1)), "bytes, more than"},
		{"quoting is broken", file(`a\\`), "not quoted"},
		{"quote in a name", file(`a\"b`), "not quoted"},
		{"raw line feed in a name", file(`a\nb`), "not quoted"},
		{"twice", file("a") + "," + file("a"), "not in order"},
		{"out of order", file("b") + "," + file("a"), "not in order"},
		{"ordered as quoted only", file(`\\u00e9`) + "," + file(`a`), "not in order"},
		{"null content", `{"name":"a","type":"file","content":null}`, "without content"},
		{"no content", `{"name":"a","type":"file"}`, "without content"},
		{"zero ID in content", `{"name":"a","type":"file","content":["` + strings.Repeat("0", 64) + `"]}`, "zero blob ID"},
		{"null in content", `{"name":"a","type":"file","content":["` + id + `",null]}`, "zero blob ID"},
		{"bad ID in content", `{"name":"a","type":"file","content":["xyz"]}`, "node 0"},
		{"no subtree", `{"name":"a","type":"dir"}`, "without subtree"},
		{"null subtree", `{"name":"a","type":"dir","subtree":null}`, "without subtree"},
		{"zero subtree", `{"name":"a","type":"dir","subtree":"` + strings.Repeat("0", 64) + `"}`, "without subtree"},
		{"unknown type", `{"name":"a","type":"door"}`, "unknown type"},
		{"no type", `{"name":"a"}`, "unknown type"},
		{"negative size", `{"name":"a","type":"file","content":[],"size":-1}`, "node 0"},
		{"size of 2^64", `{"name":"a","type":"file","content":[],"size":18446744073709551616}`, "node 0"},
		{"null node", `null`, "empty name"},
		{"number for a node", `7`, "node 0"},
		{"a million empty nodes", strings.Repeat("{},", 999_999) + "{}", "node 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeTree([]byte(`{"nodes":[` + tt.nodes + `]}`))
			if err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("DecodeTree: %v, want an error with %q", err, tt.reason)
			}
		})
	}
}

func TestBadTreeDocuments(t *testing.T) {
	for _, in := range []string{
		``, `{`, `{}`, `[]`, `null`, `{"nodes":null}`, `{"nodes":{}}`, `{"nodes":[]}{}`, `{"nodes":[],"nodes":[]}`,
		`{"Nodes":[]}`, `{"nodes":[`, `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"nodes":[]}`,
	} {
		if tree, err := DecodeTree([]byte(in)); err == nil {
			t.Errorf("DecodeTree(%.40q) accepted it: %v", in, tree)
		}
	}
}

func TestEncodeTreeRefuses(t *testing.T) {
	at := time.Unix(0, 0)
	id := blob.Sum(nil)
	tests := []struct {
		name  string
		nodes []*Node
	}{
		{"out of order", []*Node{FileNode("b", nil, 0, at), FileNode("a", nil, 0, at)}},
		{"twice", []*Node{FileNode("a", nil, 0, at), DirNode("a", id, at)}},
		{"slash", []*Node{FileNode("a/b", nil, 0, at)}},
		{"zero subtree", []*Node{DirNode("a", blob.ID{}, at)}},
		{"no type", []*Node{{Name: "a"}}},
		{"year 10000", []*Node{FileNode("a", nil, 0, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := EncodeTree(&Tree{Nodes: tt.nodes}); err == nil {
				t.Errorf("EncodeTree accepted it: %s", got)
			}
		})
	}
}

// What takes a few bytes as JSON and many in memory is measured before it is decoded.
func TestNodesAreMeasured(t *testing.T) {
	node := func(more string) []byte {
		return []byte(`{"nodes":[{"name":"a","type":"file","content":[],` + more + `}]}`)
	}
	attributes := `"extended_attributes":[` + strings.Repeat("{},", 40_000) + `{}]`
	var many []string
	for i := range 110 {
		many = append(many, fmt.Sprintf(`{"name":"%03d","type":"fifo",%s}`, i, attributes))
	}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"extended": {node(`"extended_attributes":[` + strings.Repeat("{},", 2*MaxAttributes) + `{},{}]`), "attributes"},
		"generic":  {node(`"generic_attributes":{` + strings.Repeat(`"":0,`, 2*MaxAttributes) + `"":0,"":0}`), "attributes"},
		"content":  {[]byte(`{"nodes":[{"name":"a","type":"file","content":[` + strings.Repeat("null,", 100) + `null]}]}`), "blob IDs"},
		"sum":      {[]byte(`{"nodes":[` + strings.Join(many, ",") + `]}`), "of memory"},
	} {
		if _, err := DecodeTree(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	if _, err := DecodeTree(node(attributes)); err != nil {
		t.Errorf("40,000 attributes: %v", err)
	}
}

// A directory has a bounded number of nodes, however small each is.
func TestNodesAreCounted(t *testing.T) {
	var c treeChecker
	for i := range MaxTreeNodes {
		if err := c.next(&Node{Name: fmt.Sprintf("%07d", i), Type: TypeFifo}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.next(&Node{Name: "a", Type: TypeFifo}); err == nil || !strings.Contains(err.Error(), "more than 500000 nodes") {
		t.Errorf("error is %v", err)
	}
}

func FuzzTree(f *testing.F) {
	example, err := EncodeTree(exampleTree())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(`{"nodes":[]}`))
	f.Add([]byte(`{"nodes":[{"name":"a\\x2f","type":"fifo"}]}`))
	f.Add([]byte(`{"x":{},"nodes":[{"name":"a","type":"file","content":[null]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := DecodeTree(data)
		if err != nil {
			return
		}
		for _, n := range tree.Nodes {
			if strings.ContainsAny(n.Name, "/\x00") || n.Name == ".." || n.Name == "." || n.Name == "" {
				t.Fatalf("decoded the name %q", n.Name)
			}
		}
		text, err := EncodeTree(tree)
		if err != nil {
			t.Fatalf("cannot encode what was decoded: %v", err)
		}
		again, err := DecodeTree(text)
		if err != nil {
			t.Fatalf("cannot read back %s: %v", text, err)
		}
		if twice, err := EncodeTree(again); err != nil || !bytes.Equal(text, twice) {
			t.Fatalf("encodes to\n%s and then\n%s (%v)", text, twice, err)
		}
	})
}

func benchmarkTree() *Tree {
	t := &Tree{}
	for i := range 1000 {
		ids := make([]blob.ID, 8)
		for k := range ids {
			ids[k] = blob.Sum(fmt.Append(nil, i, k))
		}
		t.Nodes = append(t.Nodes, FileNode(fmt.Sprintf("%020d", i), ids, 1<<20, time.Unix(int64(i), 0)))
	}
	return t
}

func BenchmarkEncodeTree(b *testing.B) {
	tree := benchmarkTree()
	p, err := EncodeTree(tree)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if _, err := EncodeTree(tree); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeTree(b *testing.B) {
	p, err := EncodeTree(benchmarkTree())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if _, err := DecodeTree(p); err != nil {
			b.Fatal(err)
		}
	}
}

// TestContentIsReadAsJSON: lists of IDs in the form that backups write are read without encoding/json, to the same effect.
func TestContentIsReadAsJSON(t *testing.T) {
	id := blob.Sum([]byte("1")).String()
	one := `"` + id + `"`
	for _, text := range []string{
		`[`, `[]`, `[` + one + `]`, `[` + one + `,` + one + `,"` + blob.Sum(nil).String() + `"]`,
		`[ ` + one + `]`, `[` + one + ` ,` + one + `]`, "[\n" + one + "]", `null`, `{}`, one, `["` + id[1:] + `\u0061"]`,
		`["` + strings.ToUpper(id) + `"]`, `["` + id[1:] + `g"]`, `["` + id[1:] + `"]`, `["` + id + `0"]`, `[` + one + `;` + one + `]`, `[` + one + `,` + one + `,`,
		`[` + one + `]` + one + `]`, `{` + one + `]`, `['` + id + `']`, `[` + one + `}`, `[` + strings.Repeat("1", len(one)) + `]`,
	} {
		var want []blob.ID
		werr := json.Unmarshal([]byte(text), &want)
		var got Content
		err := got.UnmarshalJSON([]byte(text))
		if (err == nil) != (werr == nil) || err == nil && !cmp.Equal([]blob.ID(got), want) {
			t.Errorf("%s: %v %v, want %v %v", text, got, err, want, werr)
		}
	}
}
