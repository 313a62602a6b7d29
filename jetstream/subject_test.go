package jetstream

import (
	"strings"
	"testing"
)

func TestSubjectsOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"orders", "orders", true},
		{"orders", "order", false},
		{"orders.*", "orders.new", true},
		{"orders.*", "orders", false},
		{"orders.*", "orders.new.eu", false},
		{"orders.>", "orders.new.eu", true},
		{"orders.>", "orders", false},
		{">", "a", true},
		{"*.new", "orders.*", true},
		{"*.new", "orders.old", false},
		{"a.*.c", "a.b.>", true},
		{"a.*.c.d", "a.b.c", false},
		{"$KV.users.>", "$KV.*.>", true},
	} {
		if got := SubjectsOverlap(c.a, c.b); got != c.want {
			t.Errorf("SubjectsOverlap(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
		if got := SubjectsOverlap(c.b, c.a); got != c.want {
			t.Errorf("SubjectsOverlap(%q, %q) = %v, want %v", c.b, c.a, got, c.want)
		}
	}
}

func TestSubjectMatches(t *testing.T) {
	for _, c := range []struct {
		filter, subject string
		want            bool
	}{
		{"orders", "orders", true},
		{"orders", "order", false},
		{"order", "orders", false},
		{"orders", "orders.new", false},
		{"orders.new", "orders", false},
		{"orders.*", "orders.new", true},
		{"orders.*", "orders", false},
		{"orders.*", "orders.new.eu", false},
		{"*", "orders", true},
		{"*.new", "orders.new", true},
		{"*.new", "orders.old", false},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{"orders.>", "orders.new.eu", true},
		{"orders.>", "orders", false},
		{">", "a", true},
		{">", "a.b.c", true},
		{"$KV.users.>", "$KV.users.a.b", true},
		{"orders.*", "orders.", false},
		{"*", "", false},
		{">", "", false},
	} {
		if err := CheckFilter(c.filter); err != nil {
			t.Errorf("%q: %v", c.filter, err)
		}
		if got := SubjectMatches(c.filter, []byte(c.subject)); got != c.want {
			t.Errorf("SubjectMatches(%q, %q) = %v, want %v", c.filter, c.subject, got, c.want)
		}
	}
}

func TestCheckFilter(t *testing.T) {
	for filter, want := range map[string]string{
		"":         "empty",
		".":        "empty token",
		"a..b":     "empty token",
		"a.":       "empty token",
		"a b":      "space",
		"a\nb":     "space",
		">.a":      "behind >",
		"a.>.b":    "behind >",
		"a.b>":     "",
		"a.*.>":    "",
		"$JS.*.b*": "",
	} {
		if err := CheckFilter(filter); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("CheckFilter(%q) is %v, want %q", filter, err, want)
		}
	}
}
