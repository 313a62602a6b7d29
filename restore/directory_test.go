package restore

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestDirectoryNames: no two streams get directories that some file system takes for the same, and none gets one that some refuse.
func TestDirectoryNames(t *testing.T) {
	long := strings.Repeat("x", 255)
	names := directoryNames{}
	for _, c := range []struct{ stream, want string }{
		{"ORDERS", "ORDERS"},
		{"orders", "orders%"},
		{"Orders", "Orders%"},
		{"KV_users", "KV_users"},
		{"a:b", "a%3Ab"},
		{`a\b`, "a%5Cb"},
		{"größe", "größe"},
		{"GRÖSSE", "GRÖSSE"},
		{"GRÖßE", "GRÖßE%"},
		{"Con", "Con%"},
		{"nul", "nul%"},
		{"com1", "com1%"},
		{"LPT²", "LPT²%"},
		{"CONIN$", "CONIN$%"},
		{"console", "console"},
		{"com10", "com10"},
		{long, long[:200] + "%"},
		{long[:254], long[:200] + "%"},
		{"y" + strings.Repeat("ü", 120), "y" + strings.Repeat("ü", 99) + "%"},
	} {
		dir, got := filepath.Split(names.path("out", c.stream))
		hashed := strings.HasSuffix(c.want, "%")
		if filepath.Clean(dir) != "out" || !hashed && got != c.want || hashed && (!strings.HasPrefix(got, c.want) || len(got) != len(c.want)+8) {
			t.Errorf("%q is in %q, want %q", c.stream, got, c.want)
		}
		if len(got) > 255 || !utf8.ValidString(got) {
			t.Errorf("%q is in %q, of %d bytes", c.stream, got, len(got))
		}
	}
	if len(names) != 19 {
		t.Errorf("%d directories for 19 streams", len(names))
	}
}
