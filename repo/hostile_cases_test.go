//go:build linux

package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/index"
	"jetsam/snapshot"
	"jetsam/storage"
)

func hostiles() []hostile {
	all := slices.Concat(zstdBombs(), jsonBombs(), treeBombs(), packHeaders(), indexFiles(), snapshots(), keys(), configs())
	for i, h := range all {
		all[i].large = h.large || slices.ContainsFunc(seconds, func(name string) bool { return strings.HasPrefix(h.name, name) })
	}
	return all
}

// seconds are the beginnings of the names of cases that take seconds each.
var seconds = []string{
	"4 GiB in a file", "60 MiB in each", "snapshots of 64", "index files of 96", "tree blob of",
	"JSON: empty", "tree: half", "tree: lots", "tree: extended", "trees of", "tree of", "directories", "a large tree", "file of a million",
	"index: a million", "pack: header of 16", "pack: 400,000", "snapshot: with a tag",
}

// file makes the case of a snapshot of that plaintext; index files are covered by
// the others and by these in the other kinds.
func file(name, want string, kinds []storage.Kind, plain func() []byte) hostile {
	return hostile{name: name, want: []string{want}, craft: func(_ *testing.T, h *crafter) {
		for _, k := range kinds {
			h.storeRaw(k, plain())
		}
	}}
}

var parsed = []storage.Kind{storage.Snapshot, storage.Index, storage.Lock}

func zstdFile(p ...[]byte) func() []byte {
	return func() []byte { return slices.Concat(append([][]byte{{encodingZstd}}, p...)...) }
}

func zstdBombs() []hostile {
	const blocks4GiB = 4 << 30 / blockSize
	small := frame(window1MiB, 1, ' ')
	frames := bytes.Repeat(frame(window1MiB, 480, ' '), 64) // 60 MiB each
	return []hostile{
		file("4 GiB in a file", "too long", parsed, zstdFile(frame(window1MiB, blocks4GiB, ' '))),
		file("60 MiB in each of 64 frames", "too long", parsed, zstdFile(frames)),
		file("4 GiB said", "too long", parsed, zstdFile(frameOf(4<<30, 1, ' '))),
		file("2^64-2 bytes said", "too long", parsed, zstdFile(frameOf(math.MaxUint64-1, 1, ' '))),
		file("60 MiB said, 1 there", "decompress", parsed, zstdFile(frameOf(60<<20, 8, ' '))),
		file("window of 2 GiB", "window size exceeded", parsed, zstdFile(frame(window2GiB, 1, ' '))),
		file("garbage behind", "magic number mismatch", parsed, zstdFile(small, []byte("garbage!"))),
		file("dictionary", "unknown dictionary", parsed, zstdFile([]byte("\x28\xb5\x2f\xfd\x21\x07\x07\x39\x00\x00content"))),
		{name: "snapshots of 64 MiB, 16 of them", want: []string{"not valid JSON"}, craft: func(_ *testing.T, h *crafter) {
			for i := range 16 {
				h.storeRaw(storage.Snapshot, zstdFile(frame(window1MiB, maxUnpacked/blockSize, byte('a'+i)))())
			}
		}},
		{name: "index files of 96 MiB, 8 of them", want: []string{"expected"}, craft: func(_ *testing.T, h *crafter) {
			for i := range 8 {
				h.storeRaw(storage.Index, zstdFile(frame(window1MiB, index.MaxFileSize/blockSize, byte('a'+i)))())
			}
		}},
		{name: "blobs", want: []string{"decompress", "longer than"}, craft: func(_ *testing.T, h *crafter) {
			var ids []string
			for _, p := range []part{
				{payload: frame(window1MiB, blocks4GiB, 'x'), plain: 1000},
				{payload: frame(window1MiB, blocks4GiB, 'x'), plain: MaxBlob},
				{payload: frame(window1MiB, blocks4GiB, 'x'), plain: math.MaxUint32},
				{payload: frameOf(4<<30, 1, 'x'), plain: 100},
				{payload: frameOf(100, 1, 'x'), plain: 100},
				{payload: bytes.Repeat(small, 1000), plain: blockSize},
				{payload: frame(window2GiB, 1, 'x'), plain: blockSize},
				{payload: small, plain: MaxBlob},
			} {
				p.handle.ID = blob.Sum(fmt.Append(nil, len(ids)))
				h.pack(p)
				ids = append(ids, `{"name":"`+fmt.Sprint(len(ids))+`","type":"file","content":["`+p.handle.ID.String()+`"]}`)
			}
			h.withTree([]byte(`{"nodes":[` + strings.Join(ids, ",") + `]}`))
		}},
		{name: "tree blob of 4 GiB", want: []string{"decompress"}, craft: func(_ *testing.T, h *crafter) {
			p := part{blob.Handle{Kind: blob.Tree, ID: blob.Sum(nil)}, frame(window1MiB, blocks4GiB, '['), snapshot.MaxTreeSize}
			h.pack(p)
			h.snapshot(p.handle.ID)
		}},
	}
}

func jsonBombs() []hostile {
	const tree = `"tree":"abababababababababababababababababababababababababababababababab"`
	repeat := func(before, each, after string, size int) func() []byte {
		return func() []byte {
			n := (size - len(before) - len(after)) / len(each)
			return []byte(before + strings.Repeat(each, n) + after)
		}
	}
	var out []hostile
	for _, c := range []struct {
		name, want string
		plain      func() []byte
	}{
		{"a million digits", "repository is damaged", repeat(`{"uid":1`, "0", `}`, 1<<20)},
		{"deep", "not valid JSON", repeat(`{"x":`, "[", ``, 1<<20)},
		{"deep and closed", "nested deeper", func() []byte {
			return []byte(`{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`)
		}},
		{"twice", "twice", func() []byte { return []byte(`{` + tree + `,"Tree":null}`) }},
		{"NaN", "not valid JSON", func() []byte { return []byte(`{"uid":NaN}`) }},
		{"2^64", "number 18446744073709551616", func() []byte { return []byte(`{"uid":18446744073709551616}`) }},
		{"a float", "number 1.5", func() []byte { return []byte(`{"uid":1.5}`) }},
		{"a mark of byte order", "unknown encoding 239", func() []byte { return []byte("\xef\xbb\xbf{}") }},
	} {
		kinds := parsed
		if strings.HasPrefix(c.want, "number") || c.name == "twice" {
			kinds = []storage.Kind{storage.Snapshot, storage.Lock} // an index file has no such field
		}
		out = append(out, file("JSON: "+c.name, c.want, kinds, c.plain))
	}
	for name, plain := range map[string]func() []byte{
		"empty tags":   repeat(`{`+tree+`,"tags":["`, `","`, `"]}`, maxUnpacked),
		"empty arrays": repeat(`{`+tree+`,"later":[[]`, `,[]`, `]}`, maxUnpacked),
	} {
		out = append(out, hostile{name: "JSON: " + name + ", 8 of them", want: []string{"more than 1048576 values"}, craft: func(_ *testing.T, h *crafter) {
			text := plain()
			payload := h.compress(text)
			for range 8 { // sealed anew, each is another file
				h.storeRaw(storage.Snapshot, append([]byte{encodingZstd}, payload...))
			}
		}})
	}
	return out
}

func treeBombs() []hostile {
	node := func(name string) string { return `{"name":"` + name + `","type":"fifo"}` }
	list := func(nodes ...string) []byte { return []byte(`{"nodes":[` + strings.Join(nodes, ",") + `]}`) }
	withNode := func(field string, n int, each, end string) func(*testing.T, *crafter) {
		return func(_ *testing.T, h *crafter) {
			h.withTree([]byte(`{"nodes":[{"name":"a","type":"file","content":[],` + field + strings.Repeat(each, n/len(each)) + end + `}]}`))
		}
	}
	refused := func(name, want string, nodes ...string) hostile {
		return hostile{name: "tree: " + name, want: []string{want}, craft: func(_ *testing.T, h *crafter) { h.withTree(list(nodes...)) }}
	}
	const most = snapshot.MaxTreeSize - 1000
	return []hostile{
		refused("path to the parent", "slash", node("../x")),
		refused("path", "slash", node("a/b")),
		refused("the parent", "another directory", node("..")),
		refused("no name", "empty name", node("")),
		refused("NUL, escaped", "zero byte", node(`a\\x00`)),
		refused("NUL, escaped by JSON", "zero byte", node(`a\u0000`)),
		refused("name of 64 KiB", "65536 bytes", node(strings.Repeat("n", 64<<10))),
		refused("names twice", "not in order", node("a"), node("a")),
		refused("names unsorted", "not in order", node("b"), node("a")),
		refused("no content", "without content", `{"name":"a","type":"file","content":null}`),
		refused("no subtree", "without subtree", `{"name":"a","type":"dir"}`),
		refused("unknown type", "unknown type", `{"name":"a","type":"door"}`),
		{name: "tree: half a million nodes and one", want: []string{"more than 500000 nodes"}, craft: func(_ *testing.T, h *crafter) {
			h.withTree(manyNodes(snapshot.MaxTreeNodes+1, ""))
		}},
		{name: "tree: lots of extended attributes", want: []string{"attributes"}, craft: withNode(`"extended_attributes":[`, most, "{},", "{}]")},
		{name: "tree: extended attributes of many nodes", want: []string{"of memory"}, craft: func(_ *testing.T, h *crafter) {
			h.withTree(manyNodes(1000, `,"extended_attributes":[`+strings.Repeat("{},", 40_000)+`{}]`))
		}},
		{name: "tree: lots of generic attributes", want: []string{"attributes"}, craft: func(_ *testing.T, h *crafter) {
			var b bytes.Buffer
			b.WriteString(`{"nodes":[{"name":"a","type":"file","content":[],"generic_attributes":{`)
			for i := range 5_000_000 {
				fmt.Fprintf(&b, `"%x":0,`, i)
			}
			b.WriteString(`"":0}}]}`)
			h.withTree(b.Bytes())
		}},
		{name: "tree: lots of null content", want: []string{"not a list of blob IDs"}, craft: func(_ *testing.T, h *crafter) {
			h.withTree([]byte(`{"nodes":[{"name":"a","type":"file","content":[` + strings.Repeat("null,", most/5-20) + `null]}]}`))
		}},
		{name: "trees of half a million nodes, 8 beside each other", craft: func(_ *testing.T, h *crafter) {
			var dirs []string
			for i := range 8 {
				p := h.tree(manyNodes(snapshot.MaxTreeNodes-i, ""))
				h.pack(p)
				dirs = append(dirs, fmt.Sprintf(`{"name":"%d","type":"dir","subtree":"%v"}`, i, p.handle.ID))
			}
			h.withTree(list(dirs...))
		}, clean: true, large: true},
		{name: "trees of 200,000 nodes, 8 below each other", craft: func(_ *testing.T, h *crafter) {
			below := h.tree(list())
			h.pack(below)
			for range 8 {
				text := manyNodes(200_000, "")
				text = append(text[:len(text)-2], fmt.Sprintf(`,{"name":"z","type":"dir","subtree":"%v"}]}`, below.handle.ID)...)
				below = h.tree(text)
				h.pack(below)
			}
			h.snapshot(below.handle.ID)
		}, clean: true},
		{name: "tree of large names, 40 below each other", craft: func(_ *testing.T, h *crafter) {
			below := h.tree(list())
			h.pack(below)
			for range 40 {
				var dirs []string
				for i := range 2000 {
					dirs = append(dirs, fmt.Sprintf(`{"name":"%04d%s","type":"dir","subtree":"%v"}`, i, strings.Repeat("n", 4000), below.handle.ID))
				}
				below = h.tree(list(dirs...))
				h.pack(below)
			}
			h.snapshot(below.handle.ID)
		}, want: []string{"names of more than 128 MiB"}},
		{name: "directories 100,000 deep", want: []string{"nest deeper than 1000"}, craft: func(_ *testing.T, h *crafter) {
			parts := []part{h.tree(list())}
			for range 100_000 {
				parts = append(parts, h.tree(list(fmt.Sprintf(`{"name":"d","type":"dir","subtree":"%v"}`, parts[len(parts)-1].handle.ID))))
			}
			h.pack(parts...)
			h.snapshot(parts[len(parts)-1].handle.ID)
		}},
		{name: "a large tree beside each of 1,000 levels", craft: func(_ *testing.T, h *crafter) {
			side := make([]string, 7)
			var parts []part
			for i := range side {
				p := h.tree(manyNodes(5000+i, ""))
				parts = append(parts, p)
				side[i] = fmt.Sprintf(`{"name":"z%d","type":"dir","subtree":"%v"}`, i, p.handle.ID)
			}
			below := h.tree(list())
			for range snapshot.MaxDepth - 1 {
				parts = append(parts, below)
				below = h.tree(list(append([]string{fmt.Sprintf(`{"name":"d","type":"dir","subtree":"%v"}`, below.handle.ID)}, side...)...))
			}
			h.pack(append(parts, below)...)
			h.snapshot(below.handle.ID)
		}, clean: true},
		{name: "data taken for a tree", want: []string{"no index lists it"}, craft: func(_ *testing.T, h *crafter) {
			p := h.tree(list())
			p.handle.Kind = blob.Data
			h.pack(p)
			h.snapshot(p.handle.ID)
		}},
		{name: "file of a million blobs that are one", clean: true, craft: func(_ *testing.T, h *crafter) {
			p := part{handle: blob.Handle{ID: blob.Sum([]byte("x"))}, payload: []byte("x")}
			h.pack(p)
			id := `"` + p.handle.ID.String() + `"`
			h.withTree([]byte(`{"nodes":[{"name":"a","type":"file","size":1000000,"content":[` + strings.Repeat(id+",", 999_999) + id + `]}]}`))
		}},
	}
}

// manyNodes is a tree of n nodes with that much more in each.
func manyNodes(n int, more string) []byte {
	var b bytes.Buffer
	b.WriteString(`{"nodes":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"%06d","type":"fifo"%s}`, i, more)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func packHeaders() []hostile {
	entry := func(kind byte, length uint32) []byte {
		p := append([]byte{kind}, byte(length), byte(length>>8), byte(length>>16), byte(length>>24))
		return append(p, bytes.Repeat([]byte{7}, 32)...)
	}
	sealed := func(n int) uint32 { return uint32(n + crypto.Overhead) }
	raw := func(name, want string, blobs, header []byte, length uint32) hostile {
		return hostile{name: "pack: " + name, want: []string{want}, craft: func(_ *testing.T, h *crafter) { h.rawPack(blobs, header, length) }}
	}
	body := make([]byte, 100)
	one := entry(0, 100)
	return []hostile{
		raw("header of 0 bytes", "header of 0 bytes", body, one, 0),
		raw("header of 1 byte", "header of 1 bytes", body, one, 1),
		raw("header of 2^32-1 bytes", "header of 4294967295 bytes", body, one, math.MaxUint32),
		raw("header longer than the file", "header of", body, one, uint32(100+len(one)+crypto.Overhead+4+1)),
		raw("header as long as the file", "header of", body, one, uint32(100+len(one)+crypto.Overhead+4)),
		raw("header of 16 MiB and more", "header of", make([]byte, 17<<20), one, 16<<20+1),
		raw("no entries", "its header describes", body, nil, sealed(0)),
		raw("unknown type", "unknown type 4", body, entry(4, 100), sealed(len(one))),
		raw("type 255", "unknown type 255", body, entry(255, 100), sealed(len(one))),
		raw("half an entry", "cut off", body, one[:20], sealed(20)),
		raw("blob of 2^32-1 bytes", "its header describes", body, entry(0, math.MaxUint32), sealed(len(one))),
		raw("blobs of 8 GiB", "more than 4 GiB", body, slices.Concat(entry(0, math.MaxUint32), entry(0, math.MaxUint32)), sealed(2*len(one))),
		raw("blob of no bytes", "sealed blob of 0 bytes", body, entry(0, 0), sealed(len(one))),
		raw("409,200 entries for nothing", "sealed blob of 0 bytes", nil, make([]byte, 409_200*37), sealed(409_200*37)),
		raw("400,000 entries of one blob", "its header describes", body, bytes.Repeat(entry(0, 100), 400_000), sealed(400_000*37)),
	}
}

func indexFiles() []hostile {
	crafted := func(name string, want []string, packs func(data, tree index.Pack) []index.Pack) hostile {
		return hostile{name: "index: " + name, want: want, craft: func(t *testing.T, h *crafter) {
			f, p := craft(t, h.r)
			if err := h.be.Remove(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			storeIndex(t, h.r, packs(p[0], p[1])...)
		}}
	}
	return []hostile{
		crafted("all blobs in one place", []string{"overlaps"}, func(d, tr index.Pack) []index.Pack {
			for i := range d.Blobs {
				d.Blobs[i].Offset = 0
			}
			return []index.Pack{d, tr}
		}),
		crafted("a blob in two packs, of which one is not there", []string{"does not exist"}, func(d, tr index.Pack) []index.Pack {
			gone := d
			gone.ID[0]++
			return []index.Pack{gone, d, tr}
		}),
		crafted("a pack a thousand times", []string{"other"}, func(d, tr index.Pack) []index.Pack {
			packs := []index.Pack{d, tr}
			for i := range 1000 {
				other := index.Pack{ID: d.ID, Blobs: slices.Clone(d.Blobs)}
				other.Blobs[0].PlainLength = uint32(i + 1)
				packs = append(packs, other)
			}
			return packs
		}),
		{name: "index: packs of nothing", want: []string{"does not exist"}, craft: func(_ *testing.T, h *crafter) {
			h.storeJSON(storage.Index, `{"packs":[{"id":"%v","blobs":[]}]}`, blob.Sum(nil))
		}},
		{name: "index: offsets of 2^32-1", want: []string{"ends behind 4 GiB"}, craft: func(_ *testing.T, h *crafter) {
			id := blob.Sum(nil)
			h.storeJSON(storage.Index, `{"packs":[{"id":"%v","blobs":[{"id":"%v","type":"data","offset":4294967295,"length":4294967295}]}]}`, id, id)
		}},
		{name: "index: a million blobs", want: []string{"does not exist"}, craft: func(_ *testing.T, h *crafter) {
			h.storeRaw(storage.Index, append([]byte{encodingZstd}, h.compress(manyBlobs(800_000))...))
			h.storeRaw(storage.Index, append([]byte{encodingZstd}, h.compress(manyBlobs(200_000))...))
		}},
	}
}

// manyBlobs is an index file that lists n blobs, all of them one, in one pack.
func manyBlobs(n int) []byte {
	id := blob.Sum(fmt.Append(nil, n)).String()
	each := `{"id":"` + id + `","type":"data","offset":0,"length":32}`
	return []byte(`{"packs":[{"id":"` + id + `","blobs":[` + strings.Repeat(each+",", n-1) + each + `]}]}`)
}

func snapshots() []hostile {
	tree := blob.Sum([]byte("gone")).String()
	one := func(name, want, text string) hostile {
		return hostile{name: "snapshot: " + name, want: []string{want}, craft: func(t *testing.T, h *crafter) {
			craft(t, h.r)
			h.storeJSON(storage.Snapshot, "%s", text)
		}}
	}
	return []hostile{
		one("without a tree", "has no tree", `{"time":"2026-11-22T01:02:03Z","paths":["/"]}`),
		one("of a tree that is not there", "no index lists it", `{"time":"2026-11-22T01:02:03Z","tree":"`+tree+`","parent":"`+tree+`"}`),
		one("of the year 0", "no index lists it", `{"time":"0000-01-01T00:00:00Z","tree":"`+tree+`"}`),
		one("of the year 9999", "no index lists it", `{"time":"9999-12-31T23:59:59.999999999Z","tree":"`+tree+`"}`),
		one("of the year 10000", "time", `{"time":"10000-01-01T00:00:00Z","tree":"`+tree+`"}`),
		one("of no time", "time", `{"time":"tomorrow","tree":"`+tree+`"}`),
		one("with a tag of 50 MiB", "no index lists it", `{"tags":["`+strings.Repeat("t", 50<<20)+`"],"tree":"`+tree+`"}`),
	}
}

func keys() []hostile {
	good := keyFile{KDF: kdfName, N: 2, R: 1, P: 1, Salt: make([]byte, crypto.SaltSize), Data: make([]byte, 64)}
	var out []hostile
	for _, c := range []struct {
		name, want string
		edit       func(k *keyFile)
	}{
		{"N of 2^40", "need more than", func(k *keyFile) { k.N, k.R = 1<<40, 8 }},
		{"r·p of 2^30", "above 64", func(k *keyFile) { k.R, k.P = 1<<15, 1<<15 }},
		{"r of 2^30", "need more than", func(k *keyFile) { k.R = 1 << 30 }},
		{"N·r that overflows", "need more than", func(k *keyFile) { k.N, k.R = 1<<62, 1<<40 }},
		{"salt of 63 bytes", "salt of 63", func(k *keyFile) { k.Salt = k.Salt[:63] }},
		{"data of 15 bytes", "data of 15", func(k *keyFile) { k.Data = k.Data[:15] }},
		{"another KDF", "unknown key derivation", func(k *keyFile) { k.KDF = "argon2id" }},
	} {
		out = append(out, hostile{name: "key: " + c.name, want: []string{c.want}, craft: func(t *testing.T, h *crafter) {
			k := good
			c.edit(&k)
			text, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			put(t, h.be, storage.Key, text)
		}})
	}
	return append(out, hostile{name: "key: 10,000 of them", craft: func(t *testing.T, h *crafter) {
		for i := range 10_000 {
			k := good
			k.Username = fmt.Sprint(i)
			text, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			put(t, h.be, storage.Key, text)
		}
	}, want: []string{"wrong password"}, large: true})
}

func configs() []hostile {
	id := strings.Repeat("ab", 32)
	one := func(name, want, text string) hostile {
		return hostile{name: "config: " + name, want: []string{want, "open: "}, craft: func(t *testing.T, h *crafter) {
			removeFiles(t, h.be, storage.Config)
			if err := h.be.Save(t.Context(), configFile, h.r.key.Seal(nil, []byte(text))); err != nil {
				t.Fatal(err)
			}
		}}
	}
	return []hostile{
		one("version 3", "version 3 is not supported", `{"version":3,"id":"`+id+`","chunker_polynomial":"25b468838dcb75"}`),
		one("version -1", "cannot unmarshal number -1", `{"version":-1,"id":"`+id+`","chunker_polynomial":"25b468838dcb75"}`),
		one("no ID", "repository ID", `{"version":2,"chunker_polynomial":"25b468838dcb75"}`),
		one("reducible polynomial", "not irreducible", `{"version":2,"id":"`+id+`","chunker_polynomial":"25b468838dcb74"}`),
		one("nothing", "not valid JSON", ``),
		{name: "config: version 1", clean: true, craft: func(t *testing.T, h *crafter) {
			removeFiles(t, h.be, storage.Config)
			if err := h.be.Save(t.Context(), configFile, h.r.key.Seal(nil, []byte(`{"version":1,"id":"`+id+`","chunker_polynomial":"25b468838dcb75"}`))); err != nil {
				t.Fatal(err)
			}
		}},
	}
}
