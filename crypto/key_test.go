package crypto

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// vectorJSON is the master key of the vectors as the format writes it.
const vectorJSON = `{"mac":{"k":"ICEiIyQlJicoKSorLC0uLw==","r":"MDEyMzQ1Njc4OTo7PD0+Pw=="},` +
	`"encrypt":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`

func TestKeyJSON(t *testing.T) {
	text, err := json.Marshal(vectorKey(t))
	if err != nil || string(text) != vectorJSON {
		t.Fatalf("json is %s, %v, want %s", text, err, vectorJSON)
	}
	var key Key
	if err := json.Unmarshal(text, &key); err != nil {
		t.Fatal(err)
	}
	if plain, err := key.Open(nil, unhex(t, helloSealed)); err != nil || string(plain) != helloText {
		t.Errorf("the key that was read opens %q, %v", plain, err)
	}
}

func TestKeyJSONToleratesWhatReadersMust(t *testing.T) {
	for name, text := range map[string]string{
		"white space":    strings.ReplaceAll(vectorJSON, ",", " ,\n\t"),
		"unknown fields": strings.Replace(vectorJSON, "{", `{"x":[1,{"y":null}],`, 1),
	} {
		var key Key
		if err := json.Unmarshal([]byte(text), &key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyJSONRefuses(t *testing.T) {
	zero16 := base64.StdEncoding.EncodeToString(make([]byte, 16))
	zero32 := base64.StdEncoding.EncodeToString(make([]byte, 32))
	const k, r, encrypt = "ICEiIyQlJicoKSorLC0uLw==", "MDEyMzQ1Njc4OTo7PD0+Pw==", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	tests := map[string]string{
		"nothing":               ``,
		"null":                  `null`,
		"empty object":          `{}`,
		"array":                 `[]`,
		"cut off":               vectorJSON[:100],
		"two objects":           vectorJSON + vectorJSON,
		"zero k":                strings.Replace(vectorJSON, k, zero16, 1),
		"zero r":                strings.Replace(vectorJSON, r, zero16, 1),
		"zero encrypt":          strings.Replace(vectorJSON, encrypt, zero32, 1),
		"short k":               strings.Replace(vectorJSON, k, "ICEiIyQlJicoKSorLC0u", 1),
		"long r":                strings.Replace(vectorJSON, r, encrypt, 1),
		"no base64":             strings.Replace(vectorJSON, r, "?", 1),
		"k missing":             strings.Replace(vectorJSON, `"k"`, `"q"`, 1),
		"field twice":           strings.Replace(vectorJSON, `{"mac"`, `{"encrypt":"`+encrypt+`","mac"`, 1),
		"field twice, in caps":  strings.Replace(vectorJSON, `{"mac"`, `{"ENCRYPT":"`+encrypt+`","mac"`, 1),
		"inner field twice":     strings.Replace(vectorJSON, `"r":`, `"k":"`+k+`","r":`, 1),
		"field twice, in array": strings.Replace(vectorJSON, "{", `{"x":[{"y":1,"y":2}],`, 1),
		"too long":              strings.Replace(vectorJSON, "{", `{"x":"`+strings.Repeat("x", maxKeyJSON)+`",`, 1),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			var key Key
			if err := key.UnmarshalJSON([]byte(text)); err == nil {
				t.Error("accepted")
			} else if strings.Contains(err.Error(), k[:8]) {
				t.Errorf("error holds a secret: %v", err)
			}
			if key.data != nil {
				t.Error("the key was changed")
			}
		})
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	key := vectorKey(t)
	type wrapper struct{ Key *Key }
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("open", "key", key)
	slog.New(slog.NewTextHandler(&log, nil)).Info("open", "key", *key)
	outputs := map[string]string{
		"%v":      fmt.Sprintf("%v", key),
		"%+v":     fmt.Sprintf("%+v", *key),
		"%#v":     fmt.Sprintf("%#v", key),
		"%x":      fmt.Sprintf("%x", key),
		"wrapper": fmt.Sprintf("%+v", wrapper{key}),
		"slog":    log.String(),
	}
	for name, out := range outputs {
		for _, leak := range []string{"ICEi", "2021", "32 33 34", "0x20, 0x21", "encrypt"} {
			if strings.Contains(out, leak) {
				t.Errorf("%s prints the key: %s", name, out)
			}
		}
	}
}

func TestNewKeysDiffer(t *testing.T) {
	a, b := randomKey(t), randomKey(t)
	if a.encrypt == b.encrypt || a.k == b.k || a.r == b.r {
		t.Error("two new keys share a part")
	}
	if isZero(a.encrypt[:]) || isZero(a.k[:]) || isZero(a.r[:]) {
		t.Error("a new key has a part that is zero")
	}
}

func TestClearedKeyPanics(t *testing.T) {
	cleared := vectorKey(t)
	cleared.Clear()
	if !isZero(cleared.encrypt[:]) || !isZero(cleared.k[:]) || !isZero(cleared.r[:]) {
		t.Error("Clear left secrets")
	}
	for name, key := range map[string]*Key{"cleared": cleared, "zero": {}} {
		for op, use := range map[string]func(){
			"seal":    func() { key.Seal(nil, nil) },
			"open":    func() { _, _ = key.Open(nil, make([]byte, 64)) },
			"marshal": func() { _, _ = key.MarshalJSON() },
		} {
			t.Run(name+"/"+op, func(t *testing.T) {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				use()
			})
		}
	}
}

func FuzzKeyJSON(f *testing.F) {
	f.Add([]byte(vectorJSON))
	f.Add([]byte(`{"mac":{"k":[1,2],"r":null},"encrypt":{"x":[{}]}}`))
	f.Add([]byte(`[[[[[[[[`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var key Key
		if err := key.UnmarshalJSON(text); err != nil {
			return
		}
		written, err := key.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again Key
		if err := again.UnmarshalJSON(written); err != nil {
			t.Fatalf("%s is not read back: %v", written, err)
		}
		if again.encrypt != key.encrypt || again.k != key.k || again.r != key.r {
			t.Fatalf("%s became another key", text)
		}
	})
}
