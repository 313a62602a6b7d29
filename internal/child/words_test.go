package child_test

import (
	"slices"
	"testing"

	"jetsam/internal/child"
)

func TestWords(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"pass show backup", []string{"pass", "show", "backup"}},
		{"  pass\tshow\n", []string{"pass", "show"}},
		{`echo 'two words' "and three more"`, []string{"echo", "two words", "and three more"}},
		{`echo a'b'"c"`, []string{"echo", "abc"}},
		{`echo ''`, []string{"echo", ""}},
		{`echo a\ b \"`, []string{"echo", "a b", `"`}},
		{`echo '\'`, []string{"echo", `\`}},
		{`echo "a\"b"`, []string{"echo", `a"b`}},
		{"echo $HOME;ls|wc", []string{"echo", "$HOME;ls|wc"}},
	} {
		if got, err := child.Words(tc.in); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("Words(%q) = %q, %v, want %q", tc.in, got, err, tc.want)
		}
	}
	for _, in := range []string{`echo "`, `echo 'a`, `echo \`} {
		if got, err := child.Words(in); err == nil {
			t.Errorf("Words(%q) = %q, want an error", in, got)
		}
	}
}
