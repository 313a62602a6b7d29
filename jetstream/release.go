package jetstream

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Release is a line of releases of nats-server, 2.14 for example. What servers take, and know of, changes from one to the next. The zero Release is
// that of a version that cannot be read, and before all others.
type Release struct{ Major, Minor int }

func (r Release) String() string { return fmt.Sprintf("%d.%d", r.Major, r.Minor) }

// Before reports whether r is older than major.minor.
func (r Release) Before(major, minor int) bool { return r.compare(Release{major, minor}) < 0 }

func (r Release) compare(other Release) int {
	return cmp.Or(cmp.Compare(r.Major, other.Major), cmp.Compare(r.Minor, other.Minor))
}

// TakesArchives reports whether servers of the release restore archives of messages. Those before restore files of their store.
func (r Release) TakesArchives() bool { return !r.Before(2, 15) }

// Release is that of the server's version. Pre-releases count as the release.
func (s ServerInfo) Release() Release {
	v, ok := s.version()
	if !ok {
		return Release{}
	}
	return Release{v[0], v[1]}
}

// AtLeast reports whether the server's version is major.minor or later. Pre-releases of a version count as that version.
func (s ServerInfo) AtLeast(major, minor int) bool {
	r := s.Release()
	return r != Release{} && !r.Before(major, minor)
}

// version is the server's version, in which the patch may be missing.
func (s ServerInfo) version() (v [3]int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(s.Version, "v"), ".", 3)
	for i, part := range parts {
		n, err := strconv.Atoi(leadingDigits(part))
		if err != nil && i < 2 {
			return v, false
		}
		v[i] = n
	}
	return v, len(parts) >= 2
}

func leadingDigits(s string) string {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		return s[:i]
	}
	return s
}

// levels are the last releases of which servers say that their API has that level (nats-server, JSApiLevel).
var levels = []Release{{2, 10}, {2, 11}, {2, 12}, {2, 12}, {2, 14}}

// Oldest is the older of two releases: that of the server which c is connected to, and that of the one which answers the JetStream API, as far as
// its level tells. In a cluster that is updated, and behind a leaf node, these differ, and what the older one takes, all take.
func (c *Conn) Oldest(a AccountInfo) Release { return oldest(c.Server().Release(), a.APILevel) }

func oldest(connected Release, level int) Release {
	if level >= len(levels) {
		return connected
	}
	if answers := levels[max(level, 0)]; answers.compare(connected) < 0 {
		return answers
	}
	return connected
}
