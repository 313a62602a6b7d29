package jetstream_test

import (
	"slices"
	"testing"

	"jetsam/jetstream"
)

// TestQuorum: more than half of the servers that hold a stream must be there, the leader among them where there is one.
func TestQuorum(t *testing.T) {
	replicas := func(states string) (all []jetstream.Replica) {
		for i, s := range states {
			all = append(all, jetstream.Replica{Name: string(rune('a' + i)), Current: s == '+', Offline: s == '-'})
		}
		return all
	}
	for _, c := range []struct {
		leader, others string // of the others "+" is current, "~" behind, "-" away
		quorum         bool
		behind         string
	}{
		{"L", "", true, ""},
		{"L", "++", true, ""},
		{"L", "+-", true, "b"},
		{"L", "~+", true, "a"},
		{"L", "--", false, "ab"},
		{"L", "++--", true, "cd"},
		{"", "~~-", true, "abc"},
		{"", "~--", false, "abc"},
		{"", "~~---", false, "abcde"},
		{"", "~-", false, "ab"},
		{"", "-", false, "a"},
	} {
		info := jetstream.ClusterInfo{Name: "C", Leader: c.leader, Replicas: replicas(c.others)}
		if got := info.HasQuorum(); got != c.quorum {
			t.Errorf("leader %q, others %q: quorum %v", c.leader, c.others, got)
		}
		var want []string
		for _, r := range c.behind {
			want = append(want, string(r))
		}
		if got := info.Behind(); !slices.Equal(got, want) {
			t.Errorf("leader %q, others %q: behind are %q", c.leader, c.others, got)
		}
	}
}
