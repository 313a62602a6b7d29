package location

import (
	"reflect"
	"slices"
	"testing"
)

func TestParseSFTP(t *testing.T) {
	for address, want := range map[string]machine{
		"host:dir":                 {"", "host", "", "dir"},
		"u@host:/srv/a b/":         {"u", "host", "", "/srv/a b"},
		"u@realm@host:a:b":         {"u@realm", "host", "", "a:b"},
		"u@[fe80::1%eth0]:dir":     {"u", "fe80::1%eth0", "", "dir"},
		"host:dir/[x]:y":           {"", "host", "", "dir/[x]:y"},
		"//host/dir":               {"", "host", "", "dir"},
		"//u@host:2222//srv/a%20b": {"u", "host", "2222", "/srv/a b"},
		"//[::1]:22/dir":           {"", "::1", "22", "dir"},
	} {
		if got, err := parseSFTP(address); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("parseSFTP(%q) = %+v, %v, want %+v", address, got, err, want)
		}
	}
}

// TestSSH: nothing of a location is an option of ssh.
func TestSSH(t *testing.T) {
	m := machine{"u", "host", "22", "dir"}
	want := []string{"ssh", "-J", "jump", "-p", "22", "-l", "u", "-s", "--", "host", "sftp"}
	if got := m.ssh([]string{"-J", "jump"}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
