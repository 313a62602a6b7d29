package snapshot

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jetsam/blob"
	"jetsam/storage"
)

var cmpSnapshot = cmp.AllowUnexported(Snapshot{})

func TestSnapshotEncoding(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 10, 24, 639722738, time.UTC)
	tree := blob.Sum([]byte("tree"))
	parent := storage.Sum([]byte("parent"))
	tests := []struct {
		name string
		in   Snapshot
		want string
	}{
		{
			"least",
			Snapshot{Time: at, Tree: tree, Paths: []string{"/A"}},
			`{"time":"2026-11-22T01:10:24.639722738Z","tree":"` + tree.String() + `","paths":["/A"]}`,
		},
		{
			"all but summary",
			Snapshot{
				Time: at, Parent: parent, Tree: tree, Paths: []string{"/A/<b>", "/A/c"}, Hostname: "h", Username: "u",
				UID: 1, GID: 2, Excludes: []string{"x"}, Tags: []string{"t"}, Original: parent, ProgramVersion: "jetsam 0.1.0",
			},
			`{"time":"2026-11-22T01:10:24.639722738Z","parent":"` + parent.String() + `","tree":"` + tree.String() +
				`","paths":["/A/\u003cb\u003e","/A/c"],"hostname":"h","username":"u","uid":1,"gid":2,"excludes":["x"],"tags":["t"],"original":"` +
				parent.String() + `","program_version":"jetsam 0.1.0"}`,
		},
		{
			"summary writes its zeros",
			Snapshot{Time: at, Tree: tree, Paths: []string{"/"}, Summary: &Summary{BackupStart: at, BackupEnd: at, TotalBytesProcessed: 1 << 60}},
			`{"time":"2026-11-22T01:10:24.639722738Z","tree":"` + tree.String() + `","paths":["/"],"summary":{` +
				`"backup_start":"2026-11-22T01:10:24.639722738Z","backup_end":"2026-11-22T01:10:24.639722738Z",` +
				`"files_new":0,"files_changed":0,"files_unmodified":0,"dirs_new":0,"dirs_changed":0,"dirs_unmodified":0,` +
				`"data_blobs":0,"tree_blobs":0,"data_added":0,"data_added_packed":0,"total_files_processed":0,"total_bytes_processed":1152921504606846976}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.in.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("Encode:\n got %s\nwant %s", got, tt.want)
			}
			id := storage.Sum(got)
			back, err := Decode(id, got)
			if err != nil {
				t.Fatal(err)
			}
			if back.ID() != id {
				t.Errorf("ID %s, want %s", back.ID(), id)
			}
			want := tt.in
			want.id = id
			if diff := cmp.Diff(&want, back, cmpSnapshot); diff != "" {
				t.Errorf("Decode (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSnapshotEncodeRefuses(t *testing.T) {
	whole := Snapshot{Time: time.Unix(0, 0), Tree: blob.Sum(nil), Paths: []string{"/A"}}
	if _, err := whole.Encode(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		spoil  func(*Snapshot)
		reason string
	}{
		{"no tree", func(s *Snapshot) { s.Tree = blob.ID{} }, "no tree"},
		{"no time", func(s *Snapshot) { s.Time = time.Time{} }, "no time"},
		{"no paths", func(s *Snapshot) { s.Paths = nil }, "no paths"},
		{"comma in tag", func(s *Snapshot) { s.Tags = []string{"a", "b,c"} }, `"b,c"`},
		{"empty tag", func(s *Snapshot) { s.Tags = []string{""} }, "empty"},
		{"year 10000", func(s *Snapshot) { s.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "year"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := whole
			tt.spoil(&s)
			if _, err := s.Encode(); err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("Encode: %v, want an error with %q", err, tt.reason)
			}
		})
	}
}

func TestSnapshotDecodeRefuses(t *testing.T) {
	tree := strings.Repeat("ab", 32)
	tests := []struct{ name, in string }{
		{"empty", ``},
		{"not an object", `[]`},
		{"no tree", `{"time":"2026-11-22T01:10:24Z","paths":["/"]}`},
		{"null tree", `{"time":"2026-11-22T01:10:24Z","paths":["/"],"tree":null}`},
		{"zero tree", `{"tree":"` + strings.Repeat("0", 64) + `"}`},
		{"short tree", `{"tree":"abcd"}`},
		{"upper-case tree", `{"tree":"` + strings.ToUpper(tree) + `"}`},
		{"two trees", `{"tree":"` + tree + `","tree":"` + tree + `"}`},
		{"two trees, one in capitals", `{"tree":"` + tree + `","TREE":"` + tree + `"}`},
		{"time is garbage", `{"tree":"` + tree + `","time":"yesterday"}`},
		{"year 10000", `{"tree":"` + tree + `","time":"10000-01-01T00:00:00Z"}`},
		{"negative uid", `{"tree":"` + tree + `","uid":-1}`},
		{"fraction in summary", `{"tree":"` + tree + `","summary":{"data_added":1.5}}`},
		{"something behind", `{"tree":"` + tree + `"} {}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if s, err := Decode(storage.ID{}, []byte(tt.in)); err == nil {
				t.Errorf("Decode accepted it: %+v", s)
			}
		})
	}
}

func TestSnapshotDecodeAccepts(t *testing.T) {
	tree := strings.Repeat("ab", 32)
	tests := []struct{ name, in string }{
		{"no time, no paths", `{"tree":"` + tree + `"}`},
		{"unknown field", `{"tree":"` + tree + `","later":{"a":[1,2]}}`},
		{"year 0", `{"tree":"` + tree + `","time":"0000-01-01T00:00:00Z"}`},
		{"year 9999", `{"tree":"` + tree + `","time":"9999-12-31T23:59:59.999999999+01:00"}`},
		{"dangling parent", `{"tree":"` + tree + `","parent":"` + tree + `"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Decode(storage.ID{}, []byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if s.Tree.String() != tree {
				t.Errorf("tree %s", s.Tree)
			}
		})
	}
}

func FuzzSnapshot(f *testing.F) {
	tree := strings.Repeat("ab", 32)
	f.Add([]byte(`{"time":"2026-11-22T01:10:24.6Z","tree":"` + tree + `","paths":["/A"],"tags":["x"],"uid":1}`))
	f.Add([]byte(`{"tree":"` + tree + `","summary":{"backup_start":"2026-11-22T01:10:24Z","data_added":18446744073709551615}}`))
	f.Add([]byte(`{"tree":"` + tree + `","tree":null}`))
	f.Add([]byte(`{"parent":"` + tree + `","original":"","later":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(storage.ID{}, data)
		if err != nil {
			return
		}
		if s.Tree.IsZero() {
			t.Fatal("decoded a snapshot without a tree")
		}
		text, err := s.Encode()
		if err != nil {
			return // stricter than Decode
		}
		again, err := Decode(storage.ID{}, text)
		if err != nil {
			t.Fatalf("cannot read back %s: %v", text, err)
		}
		twice, err := again.Encode()
		if err != nil || string(twice) != string(text) {
			t.Fatalf("encodes to\n%s and then\n%s (%v)", text, twice, err)
		}
	})
}
