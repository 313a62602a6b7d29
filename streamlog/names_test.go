package streamlog

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEscapeName(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"ORDERS", "ORDERS"},
		{"KV_users-1", "KV_users-1"},
		{"$MQTT_sess", "$MQTT_sess"},
		{"$G", "$G"},
		{"Ünïcode", "Ünïcode"},
		{"C:colon", "C%3Acolon"},
		{"a%b", "a%25b"},
		{"..", "%2E%2E"},
		{"a/b\\c", "a%2Fb%5Cc"},
		{"tab\tname", "tab%09name"},
		{"bad\xffbyte", "bad%FFbyte"},
		{"zero\u200bwidth", "zero%E2%80%8Bwidth"},
	} {
		if got := EscapeName(c.name); got != c.want {
			t.Errorf("EscapeName(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestEscapeNameIsReversible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
		escaped := EscapeName(name)
		if strings.ContainsAny(escaped, "/\\. *?<>|:\"\x00") {
			t.Fatalf("EscapeName(%q) = %q is not fit for a file name", name, escaped)
		}
		got, err := UnescapeName(escaped)
		if err != nil || got != name {
			t.Fatalf("UnescapeName(%q) = %q, %v; want %q", escaped, got, err, name)
		}
	})
}

func TestUnescapeNameRefusesOtherForms(t *testing.T) {
	for _, escaped := range []string{"a.b", "..", "%4F", "%2e", "%", "%2", "%zz", "a/b", "bad\xff"} {
		if name, err := UnescapeName(escaped); err == nil {
			t.Errorf("UnescapeName(%q) = %q, want an error", escaped, name)
		}
	}
}

func TestSeqName(t *testing.T) {
	for _, c := range []struct {
		seq  uint64
		want string
	}{{1, "00000000000000000001"}, {1<<64 - 1, "18446744073709551615"}} {
		if got := seqName(c.seq); got != c.want {
			t.Errorf("seqName(%d) = %s, want %s", c.seq, got, c.want)
		}
		if got, err := parseSeqName(c.want); err != nil || got != c.seq {
			t.Errorf("parseSeqName(%s) = %d, %v", c.want, got, err)
		}
	}
	for _, s := range []string{"1", "0000000000000000000x", "99999999999999999999", "+0000000000000000001", ""} {
		if seq, err := parseSeqName(s); err == nil {
			t.Errorf("parseSeqName(%q) = %d, want an error", s, seq)
		}
	}
}

// A stream's metadata may have keys that differ in case only: they are not ours to refuse.
func TestForeignKeysMayDifferInCaseOnly(t *testing.T) {
	doc := &Document{Config: []byte(`{"name":"S","metadata":{"Team":"a","team":"b"}}`), State: []byte(`{}`), Jetsam: Capture{Format: 1}}
	text, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeDocument(text); err != nil {
		t.Error(err)
	}
}
