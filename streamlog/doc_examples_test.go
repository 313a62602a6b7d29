package streamlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"jetsam/blob"
	"jetsam/internal/doctest"
)

const formatPage = "docs/format/stream.md"

// decodeAll decodes an example that may have no field that v lacks.
func decodeAll(t *testing.T, example string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(example))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
}

// checkFields wants every JSON field of v's type in the page's tables.
func checkFields(t *testing.T, v any) {
	t.Helper()
	page := doctest.Page(t, formatPage)
	for f := range reflect.TypeOf(v).Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("%s does not explain field %s of %T", formatPage, name, v)
		}
	}
}

func TestFormatNames(t *testing.T) {
	for row := range strings.Lines(doctest.Example(t, formatPage, "names")) {
		f := strings.Fields(row)
		if got := EscapeName(f[0]); got != f[1] {
			t.Errorf("%q is escaped as %q, the page says %q", f[0], got, f[1])
		}
		if got, err := UnescapeName(f[1]); err != nil || got != f[0] {
			t.Errorf("%q stands for %q, %v, the page says %q", f[1], got, err, f[0])
		}
	}
}

func TestFormatAccount(t *testing.T) {
	text := doctest.Example(t, formatPage, "account.json")
	decodeAll(t, text, new(Account))
	a, err := DecodeAccount([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Captured) != 1 || len(a.Failed) != 1 || a.Server.Domain == "" || len(a.Limits) == 0 {
		t.Errorf("decoded as %+v", a)
	}
	checkFields(t, Account{})
	checkFields(t, AccountServer{})
}

func TestFormatDocument(t *testing.T) {
	text := doctest.Example(t, formatPage, "backup.json")
	decodeAll(t, text, new(Document))
	d, err := DecodeDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if got := bytes.TrimSuffix(encoded, []byte("\n")); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("encoded again it is\n%s\nwant\n%s", got, want.Bytes())
	}
	checkFields(t, Capture{})
}

func TestFormatChunks(t *testing.T) {
	text := doctest.Example(t, formatPage, "chunks.json")
	var c chunks
	decodeAll(t, text, &c)
	var blobs []blob.ID
	for _, g := range c.Groups {
		for _, prefix := range g.Blobs {
			id, err := blob.ParseID(prefix + strings.Repeat("0", 2*blob.IDSize-len(prefix)))
			if err != nil {
				t.Fatal(err)
			}
			blobs = append(blobs, id)
		}
	}
	groups, err := decodeChunks([]byte(text), blobs)
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != len(c.Groups) || !groups[len(groups)-1].Tail {
		t.Errorf("decoded as %+v", groups)
	}
	if _, err := decodeChunks([]byte(text), blobs[1:]); err == nil {
		t.Error("the list was taken for a part that lacks its first blob")
	}
	checkFields(t, Group{})
}

func TestFormatDead(t *testing.T) {
	file := doctest.Hex(t, formatPage, "dead")
	second := bytes.LastIndex(file, []byte(segmentMagic))
	var d *Dead
	for _, p := range [][]byte{file[:second], file[second:]} {
		set, err := DecodeSegment(p)
		if err != nil {
			t.Fatal(err)
		}
		if again := EncodeSegment(NewDead(set.Runs())); !bytes.Equal(again, p) {
			t.Errorf("encoded again it is % x", again)
		}
		d = d.Union(set)
	}
	var want []Run
	for row := range strings.Lines(doctest.Example(t, formatPage, "dead sequences")) {
		var r Run
		if _, err := fmt.Sscan(row, &r.First, &r.Last); err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
	}
	if got := runsOf(d); !slices.Equal(got, want) {
		t.Errorf("the dead are %v, the page says %v", got, want)
	}
	checkFields(t, DeadSummary{})
}

// TestFormatExamplesAreAllExecuted keeps an example from standing there unread.
func TestFormatExamplesAreAllExecuted(t *testing.T) {
	executed := []string{"account.json", "backup.json", "chunks.json", "dead", "dead sequences", "names"}
	names := doctest.Names(t, formatPage)
	slices.Sort(names)
	if !slices.Equal(names, executed) {
		t.Errorf("the page has the examples %q, the tests execute %q", names, executed)
	}
}
