package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct {
		name string
		in   string
		want string // part of the error, empty for none
	}{
		{"number", `1`, ""},
		{"string", `"a,{b}"`, ""},
		{"object", `{"a":1,"b":[1,2,{"a":1}],"c":"a"}`, ""},
		{"same key in sibling objects", `[{"a":1},{"a":2}]`, ""},
		{"same key in nested objects", `{"a":{"a":{"a":1}},"b":1}`, ""},
		{"key equals a value", `{"a":"b","b":"a"}`, ""},
		{"white space around", " \n{\"a\" : 1 , \"b\" : 2 } \n", ""},
		{"escaped quote in key", `{"a\"":1,"a":2}`, ""},
		{"escaped backslash ends a key", `{"a\\":1,"b":{"a\\":2}}`, ""},
		{"deepest", deep(MaxDepth), ""},
		{"too deep", deep(MaxDepth + 1), "nested deeper"},
		{"far too deep", deep(1_000_000), "not valid"},
		{"twice", `{"a":1,"a":2}`, `"a" twice`},
		{"twice with something between", `{"a":1,"b":{"c":[1,"a"]},"a":2}`, `"a" twice`},
		{"twice, escaped", `{"a":1,"\u0061":2}`, `"a" twice`},
		{"twice, other case", `{"tree":1,"Tree":2}`, `"Tree" twice`},
		{"twice, nested", `[{"x":{"a":1,"a":2}}]`, `"a" twice`},
		{"empty", ``, "not valid"},
		{"two values", `{}{}`, "not valid"},
		{"trailing comma", `{"a":1,}`, "not valid"},
		{"byte order mark", "\ufeff{}", "not valid"},
		{"NaN", `{"a":NaN}`, "not valid"},
		{"open", `{"a":[`, "not valid"},
		{"stray bracket", `]`, "not valid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Check([]byte(tt.in))
			if tt.want == "" {
				if err != nil {
					t.Fatalf("Check: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Check: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestCheckDepth(t *testing.T) {
	for in, ok := range map[string]bool{
		`{"a":1,"a":2}`: true,
		strings.Repeat(`{"a":`, MaxDepth) + `1` + strings.Repeat(`}`, MaxDepth):     true,
		strings.Repeat(`{"a":`, MaxDepth+1) + `1` + strings.Repeat(`}`, MaxDepth+1): false,
		`{"a":"` + strings.Repeat("[", MaxDepth+1) + `"}`:                           true,
		`{"a"`: false,
	} {
		if err := CheckDepth([]byte(in)); (err == nil) != ok {
			t.Errorf("CheckDepth(%.30s): %v", in, err)
		}
	}
}

func TestUnmarshal(t *testing.T) {
	var v struct{ N uint64 }
	if err := Unmarshal([]byte(`{"n":18446744073709551615,"later":true}`), &v); err != nil {
		t.Fatal(err)
	}
	if v.N != 1<<64-1 {
		t.Errorf("n = %d", v.N)
	}
	for _, in := range []string{`{"n":18446744073709551616}`, `{"n":1.5}`, `{"n":-1}`, `{"n":"1"}`} {
		if err := Unmarshal([]byte(in), &v); err == nil {
			t.Errorf("Unmarshal(%s) accepted it", in)
		}
	}
	if err := Unmarshal([]byte(`{`), &v); !errors.Is(err, ErrSyntax) {
		t.Errorf("Unmarshal({): %v, want ErrSyntax", err)
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":[1,"x",{"b":null}]}`, `{"a":1,"a":2}`, `"\\\""`, `[[[]]]`, `{"\u0000":""}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := Check(data)
		if err == nil && !json.Valid(data) {
			t.Fatalf("accepted invalid JSON %q", data)
		}
		if errors.Is(err, ErrSyntax) && json.Valid(data) {
			t.Fatalf("refused valid JSON %q", data)
		}
	})
}
