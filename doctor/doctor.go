// Package doctor looks at what backups and restores need before somebody needs them: the server, what its user may do, the repository, the clocks.
//
// It changes nothing. In the repository it writes a lock, as every reader does, and removes it.
package doctor

import (
	"errors"
	"fmt"
	"time"

	"jetsam/jetstream"
)

// Level says how good what was found is.
type Level string

// What Level can be.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Problem Level = "problem" // a backup or a restore would fail
)

// Finding is one thing that was looked at.
type Finding struct {
	About  string // "connection"
	Level  Level
	Text   string
	Advice string // what to do; may be empty
}

// findings are what one part of the examination finds.
type findings []Finding

func (f *findings) add(about string, level Level, advice, text string, args ...any) {
	*f = append(*f, Finding{about, level, fmt.Sprintf(text, args...), advice})
}

// clockSkew is how far two clocks may be apart without a warning.
const clockSkew = 5 * time.Minute

// compareClocks compares another clock with this machine's, which showed now when the other showed other.
func (f *findings) compareClocks(whose string, other, now time.Time) {
	apart, which := other.Sub(now), "ahead of"
	if apart < 0 {
		apart, which = -apart, "behind"
	}
	if apart <= clockSkew {
		f.add("clock", OK, "", "%s's clock and this machine's agree", whose)
		return
	}
	f.add("clock", Warning, "let all machines take the time from the same place: times of snapshots, the age of locks, --at and max_age go by these clocks",
		"%s's clock is %v %s this machine's", whose, apart.Round(time.Second), which)
}

// danger is something that servers of some versions do wrong.
type danger struct {
	what  string
	fixed map[int]int // by minor version of 2, the first patch that does not
	since int         // the first minor version of which none does
}

// dangers are what matters to who backs up, with the first releases that are right.
var dangers = []danger{
	{"snapshots, such as `nats stream backup` takes, can leave the replicas of a stream different from each other; jetsam reads the messages instead", map[int]int{11: 12, 12: 3}, 14},
	{"restores do not keep to limits", map[int]int{10: 27, 11: 1}, 12},
	{"who may restore one stream may restore others (CVE-2026-33222)", map[int]int{11: 15, 12: 6}, 14},
	{"restoring several streams at a time, as jetsam does not, can crash the server", map[int]int{11: 11, 12: 2}, 14},
	{"compressed or encrypted streams can be damaged when they are compacted", map[int]int{12: 12, 14: 3}, 15},
}

// least is the first minor version of 2 from which streams are backed up, and into which they are restored.
const least = 9

// Version says what is known of the server's version.
func Version(s jetstream.ServerInfo) []Finding {
	var f findings
	major, minor, patch, err := parseVersion(s.Version)
	switch {
	case err != nil:
		f.add("version", Warning, "", "the server's version %q is none that is known", s.Version)
		return f
	case major == 2 && minor < least:
		f.add("version", Problem, fmt.Sprintf("use nats-server 2.%d or newer", least),
			"nats-server %s is older than 2.%d: neither backups of it nor restores into it are possible", s.Version, least)
	default:
		f.add("version", OK, "", "nats-server %s", s.Version)
	}
	for _, d := range dangers {
		if patches, some := d.fixed[minor]; major == 2 && minor < d.since && (!some || patch < patches) {
			f.add("version", Warning, "update the server", "nats-server %s: %s", s.Version, d.what)
		}
	}
	return f
}

func parseVersion(text string) (major, minor, patch int, err error) {
	if n, err := fmt.Sscanf(text, "%d.%d.%d", &major, &minor, &patch); n < 3 {
		return 0, 0, 0, errors.Join(errors.New("no version"), err)
	}
	return major, minor, patch, nil
}
