package near

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	names := []string{"backup", "restore", "snapshots", "key", "KV_settings"}
	for _, tc := range []struct{ in, want string }{
		{"bakup", "backup"},
		{"snap", "snapshots"},
		{"RESTORE", "restore"},
		{"kye", "key"},
		{"settings", "KV_settings"},
		{"unrelated", ""},
		{"x", ""},
		{"", ""},
	} {
		if got := strings.Join(Names(tc.in, names, 1), " "); got != tc.want {
			t.Errorf("Names(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
}
