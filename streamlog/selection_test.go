package streamlog

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var someStreams = []string{"EVENTS", "KV_sessions", "KV_users", "OBJ_files", "ORDERS", "ORDERS_EU"}

func TestPick(t *testing.T) {
	for _, c := range []struct {
		name string
		sel  Selection
		want []string
	}{
		{"all", Selection{All: true}, someStreams},
		{"one", Selection{Names: []string{"ORDERS"}}, []string{"ORDERS"}},
		{"glob", Selection{Names: []string{"KV_*"}}, []string{"KV_sessions", "KV_users"}},
		{"name and glob that overlap", Selection{Names: []string{"ORDERS", "ORD*"}}, []string{"ORDERS", "ORDERS_EU"}},
		{"all but", Selection{All: true, Exclude: []string{"KV_*", "OBJ_*"}}, []string{"EVENTS", "ORDERS", "ORDERS_EU"}},
		{"all but what there is none of", Selection{All: true, Exclude: []string{"TMP_*", "?", "[x]", "KV_*", "OBJ_*"}}, []string{"EVENTS", "ORDERS", "ORDERS_EU"}},
		{"nothing", Selection{}, []string{}},
	} {
		got, err := c.sel.Pick(someStreams)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestPickUnmatched(t *testing.T) {
	for _, c := range []struct {
		pattern string
		near    []string
	}{
		{"ORDER", []string{"ORDERS", "ORDERS_EU"}},
		{"orders", []string{"ORDERS", "ORDERS_EU"}},
		{"EVNETS", []string{"EVENTS"}},
		{"users", []string{"KV_users"}},
		{"zzzzzz", nil},
		{"X*", nil},
	} {
		_, err := Selection{Names: []string{c.pattern}}.Pick(someStreams)
		var unmatched *UnmatchedError
		if !errors.As(err, &unmatched) {
			t.Fatalf("%s: %v, want an UnmatchedError", c.pattern, err)
		}
		if d := cmp.Diff(c.near, unmatched.Near, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: near names: %s", c.pattern, d)
		}
	}
}

// TestPickUnmatchedExclusion: a name that is left out and does not exist may be a typing error for one that does.
func TestPickUnmatchedExclusion(t *testing.T) {
	_, err := Selection{All: true, Exclude: []string{"ORDER"}}.Pick(someStreams)
	var unmatched *UnmatchedError
	if !errors.As(err, &unmatched) || unmatched.Name != "ORDER" {
		t.Errorf("%v, want an UnmatchedError", err)
	}
}

func TestPickBadGlob(t *testing.T) {
	if _, err := (Selection{Names: []string{"[a"}}).Pick(someStreams); err == nil {
		t.Error("a malformed glob was taken")
	}
}

func TestPickTakesANameWithGlobCharactersAsItIs(t *testing.T) {
	got, err := Selection{Names: []string{"a[b]"}}.Pick([]string{"a[b]", "ab"})
	if err != nil || !cmp.Equal(got, []string{"a[b]"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSelectionHas(t *testing.T) {
	for _, c := range []struct {
		s    Selection
		name string
		want bool
	}{
		{Selection{All: true}, "ORDERS", true},
		{Selection{All: true, Exclude: []string{"KV_*", "X"}}, "ORDERS", true},
		{Selection{All: true, Exclude: []string{"KV_*"}}, "KV_users", false},
		{Selection{Names: []string{"KV_*", "ORDERS"}}, "ORDERS", true},
		{Selection{Names: []string{"KV_*", "ORDERS"}, Exclude: []string{"KV_users"}}, "KV_users", false},
		{Selection{Names: []string{"a[b"}}, "a[b", true},
		{Selection{}, "ORDERS", false},
	} {
		if got := c.s.Has(c.name); got != c.want {
			t.Errorf("%+v has %s: %v", c.s, c.name, got)
		}
	}
}
