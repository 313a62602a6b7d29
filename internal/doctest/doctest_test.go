package doctest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const page = "# Title\n\n```\nno name\n```\ntext\n```json one\n{\n  \"a\": 1\n}\n```\n```hex two words\n00 ff\n```\n```text open\nnever closed\n"

func TestParse(t *testing.T) {
	want := []block{
		{"", "no name\n"},
		{"one", "{\n  \"a\": 1\n}\n"},
		{"two words", "00 ff\n"},
	}
	if d := cmp.Diff(want, parse(page), cmp.AllowUnexported(block{})); d != "" {
		t.Error(d)
	}
}
