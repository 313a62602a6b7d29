package streamlog

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/snapshot"
)

// FuzzName: every name has one escaped form, which is one element of a path on any system, and gives the name back; no other
// form is taken.
func FuzzName(f *testing.F) {
	for _, name := range []string{"ORDERS", "KV_x", "$MQTT_sess", "Ünïcode", "C:colon", "..", "a/b", "", "%41", "%2F", "\xff", "a\x00b", "CON", "\u202e", strings.Repeat("n", 300)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		escaped := EscapeName(name)
		if strings.ContainsAny(escaped, "/\\:*?\"<>|. \x00") {
			t.Fatalf("%q is escaped as %q", name, escaped)
		}
		if back, err := UnescapeName(escaped); err != nil || back != name {
			t.Fatalf("%q becomes %q and then %q, %v", name, escaped, back, err)
		}
		if other, err := UnescapeName(name); err == nil && EscapeName(other) != name {
			t.Fatalf("%q is taken for the escaped %q", name, other)
		}
		if name != "" && len(escaped) <= snapshot.MaxNameLength {
			if _, err := snapshot.EncodeTree(&snapshot.Tree{Nodes: []*snapshot.Node{snapshot.FileNode(escaped, []blob.ID{}, 0, time.Time{})}}); err != nil {
				t.Fatalf("%q cannot be in a tree: %v", escaped, err)
			}
		}
		if seq, err := parseSeqName(name); err == nil && seqName(seq) != name {
			t.Fatalf("%q is taken for sequence %d", name, seq)
		}
	})
}

// FuzzAccount: an account that is accepted is stored again as one that is accepted and the same.
func FuzzAccount(f *testing.F) {
	a := &Account{Format: 1, Account: "A", Limits: []byte(`{"memory":1}`), Captured: []CapturedStream{{Name: "S", LastSeq: 1<<64 - 1}}, Failed: []FailedStream{{Name: "T", Error: "gone"}}}
	good, err := a.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"streams":[{}],"failed":[null],"limits":null}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"streams":[{"last_seq":18446744073709551616}]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		a, err := DecodeAccount(p)
		if err != nil {
			return
		}
		text, err := a.Encode()
		if err != nil {
			return // a time that JSON has no form for
		}
		again, err := DecodeAccount(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, text) {
			t.Fatalf("encodes to %s and then %s, %v", text, twice, err)
		}
	})
}
