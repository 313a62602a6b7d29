package snapshot

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/storage"
)

func made(name string, at int64, host string, tags []string, paths ...string) *Snapshot {
	return &Snapshot{id: storage.Sum([]byte(name)), Time: time.Unix(at, 0), Hostname: host, Tags: tags, Paths: paths}
}

func TestFilter(t *testing.T) {
	s := made("s", 1, "eu", []string{"daily", "big"}, "/ACC/ORDERS", "/ACC/KV_x")
	bare := made("bare", 1, "eu", nil, "/ACC")
	tests := []struct {
		name   string
		filter Filter
		of     *Snapshot
		want   bool
	}{
		{"nothing asked", Filter{}, s, true},
		{"host", Filter{Hosts: []string{"us", "eu"}}, s, true},
		{"other host", Filter{Hosts: []string{"us"}}, s, false},
		{"one tag", Filter{Tags: [][]string{{"big"}}}, s, true},
		{"both tags", Filter{Tags: [][]string{{"big", "daily"}}}, s, true},
		{"one of two tags missing", Filter{Tags: [][]string{{"big", "weekly"}}}, s, false},
		{"one of two lists", Filter{Tags: [][]string{{"weekly"}, {"daily"}}}, s, true},
		{"empty list, tags", Filter{Tags: [][]string{{}}}, s, false},
		{"empty list, no tags", Filter{Tags: [][]string{{}}}, bare, true},
		{"path", Filter{Paths: []string{"/ACC/KV_x"}}, s, true},
		{"both paths", Filter{Paths: []string{"/ACC/KV_x", "/ACC/ORDERS"}}, s, true},
		{"path above is not the path", Filter{Paths: []string{"/ACC"}}, s, false},
		{"below the account", Filter{Below: []string{"/ACC"}}, s, true},
		{"below the account, slash", Filter{Below: []string{"/ACC/"}}, s, true},
		{"below itself", Filter{Below: []string{"/ACC"}}, bare, true},
		{"below root", Filter{Below: []string{"/"}}, s, true},
		{"not below a longer name", Filter{Below: []string{"/ACC/ORD"}}, s, false},
		{"one of two above", Filter{Below: []string{"/OTHER", "/ACC/ORDERS"}}, s, true},
		{"all must match", Filter{Hosts: []string{"eu"}, Tags: [][]string{{"weekly"}}}, s, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.filter.Match(tt.of); got != tt.want {
				t.Errorf("Match = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSortAndNewest(t *testing.T) {
	a, b, c := made("a", 1, "eu", nil), made("b", 3, "us", nil), made("c", 2, "eu", nil)
	same := made("same", 2, "eu", nil)
	list := []*Snapshot{b, same, c, a}
	Sort(list)
	later := []*Snapshot{c, same}
	if same.id.Compare(c.id) < 0 {
		later = []*Snapshot{same, c}
	}
	if want := []*Snapshot{a, later[0], later[1], b}; !slices.Equal(list, want) {
		t.Errorf("Sort: %v, want %v", list, want)
	}
	if got := Newest(list, Filter{}); got != b {
		t.Errorf("Newest: %v", got)
	}
	for _, order := range [][]*Snapshot{{a, c, same}, {same, c, a}} {
		if got := Newest(order, Filter{Hosts: []string{"eu"}}); got != later[1] {
			t.Errorf("Newest of host: %v, want %v", got, later[1])
		}
	}
	if got := Newest(list, Filter{Hosts: []string{"asia"}}); got != nil {
		t.Errorf("Newest of no host: %v", got)
	}
}

func TestFindID(t *testing.T) {
	id := func(prefix string) storage.ID {
		id, err := storage.ParseID(prefix + strings.Repeat("0", 64-len(prefix)))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	ids := []storage.ID{id("abc1"), id("abc2"), id("d")}
	tests := []struct {
		prefix string
		want   storage.ID
		err    error
	}{
		{"abc1", ids[0], nil},
		{ids[1].String(), ids[1], nil},
		{"d", ids[2], nil},
		{"abc", storage.ID{}, ErrAmbiguous},
		{"e", storage.ID{}, ErrNotFound},
		{"ABC1", storage.ID{}, ErrNotFound},
		{"", storage.ID{}, ErrNotFound},
		{ids[0].String() + "0", storage.ID{}, ErrNotFound},
	}
	for _, tt := range tests {
		got, err := FindID(ids, tt.prefix)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("FindID(%q) = %s, %v, want %s, %v", tt.prefix, got.Short(), err, tt.want.Short(), tt.err)
		}
	}
}

func TestGroups(t *testing.T) {
	a1 := made("a1", 2, "eu", []string{"x", "y"}, "/A")
	a2 := made("a2", 1, "eu", []string{"y", "x"}, "/A/S", "/A/T")
	b := made("b", 3, "us", nil, "/A", "/B/S")
	all := []*Snapshot{b, a1, a2}
	tests := []struct {
		name string
		by   GroupBy
		want [][]*Snapshot
	}{
		{"nothing", GroupBy{}, [][]*Snapshot{{a2, a1, b}}},
		{"host", GroupBy{Host: true}, [][]*Snapshot{{a2, a1}, {b}}},
		{"accounts", GroupBy{Accounts: true}, [][]*Snapshot{{a2, a1}, {b}}},
		{"paths", GroupBy{Paths: true}, [][]*Snapshot{{a1}, {b}, {a2}}},
		{"tags in any order", GroupBy{Tags: true}, [][]*Snapshot{{b}, {a2, a1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Groups(all, tt.by)
			if len(got) != len(tt.want) {
				t.Fatalf("%d groups, want %d", len(got), len(tt.want))
			}
			for i := range got {
				if !slices.Equal(got[i].Snapshots, tt.want[i]) {
					t.Errorf("group %d, %+v: %v, want %v", i, got[i].Key, got[i].Snapshots, tt.want[i])
				}
			}
		})
	}
	if got := b.Accounts(); !slices.Equal(got, []string{"A", "B"}) {
		t.Errorf("Accounts: %q", got)
	}
}

// Two snapshots of different paths are never one group, whatever their names hold.
func TestGroupsKeepKeysApart(t *testing.T) {
	a := made("a", 1, "h", nil, "/a b", "/c")
	b := made("b", 1, "h", nil, "/a", "b", "/c")
	c := made("c", 1, "h", nil, `/a" "b`, "/c")
	if got := Groups([]*Snapshot{a, b, c}, GroupBy{Paths: true}); len(got) != 3 {
		t.Errorf("%d groups, want 3", len(got))
	}
}
