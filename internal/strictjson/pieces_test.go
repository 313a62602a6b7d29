package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestMaxValues(t *testing.T) {
	list := func(n int) []byte { return []byte("[" + strings.Repeat("1,", n-2) + "1]") }
	if err := Check(list(MaxValues)); err != nil {
		t.Errorf("%d values: %v", MaxValues, err)
	}
	for name, in := range map[string][]byte{
		"numbers": list(MaxValues + 2),
		"empty":   []byte("[" + strings.Repeat("{},", MaxValues) + "1]"),
		"nested":  []byte("[" + strings.Repeat("[1,1],", MaxValues/2) + "1]"),
	} {
		if err := Check(in); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: Check: %v", name, err)
		}
		if err := CheckDepth(in); err != nil {
			t.Errorf("%s: CheckDepth: %v", name, err)
		}
	}
}

func TestErrorsAreShort(t *testing.T) {
	var v struct{ N uint64 }
	err := Unmarshal([]byte(`{"n":1`+strings.Repeat("0", 1<<20)+`}`), &v)
	if err == nil || len(err.Error()) > 2*maxError {
		t.Errorf("error of %d bytes", len(fmt.Sprint(err)))
	}
}

func FuzzPieces(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":[1,"]",{"x":"}"}],"c\"":null}`))
	f.Add([]byte(" [ 1 , [ 2 ] , {\"a\" : 3 } , \"\\\\\" , true ] "))
	f.Add([]byte(`{"a":{},"a":[]}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`-1.5e+3`))
	f.Add([]byte(`{"a`))
	f.Add([]byte(`{"a"`))
	f.Add([]byte(`{"a\`))
	f.Add([]byte(`[1,}`))
	f.Add([]byte(`[:]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = slices.Clip(data)  // nothing behind it to read by mistake
		for range Members(data) { // of whatever it is: ends, and does not panic
		}
		for range Elements(data) {
		}
		if !json.Valid(data) {
			return
		}
		var array []json.RawMessage
		isArray := json.Unmarshal(data, &array) == nil
		got := slices.Collect(Elements(data))
		if isArray && !slices.EqualFunc(got, array, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) || !isArray && got != nil {
			t.Fatalf("elements %q, want %q", got, array)
		}
		d := json.NewDecoder(bytes.NewReader(data))
		if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
			if n := count(data); n != 0 {
				t.Fatalf("%d members of what is no object", n)
			}
			return
		}
		for key, value := range Members(data) {
			want, err := d.Token()
			var raw json.RawMessage
			if err != nil || d.Decode(&raw) != nil || fmt.Sprint(want) != key || !bytes.Equal(raw, value) {
				t.Fatalf("member %q: %s, want %q: %s (%v)", key, value, want, raw, err)
			}
		}
		if d.More() {
			t.Fatal("members are left over")
		}
	})
}

func count(data []byte) (n int) {
	for range Members(data) {
		n++
	}
	return n
}
