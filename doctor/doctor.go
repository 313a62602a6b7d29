// Package doctor looks at what backups and restores need before somebody needs them: the server, what its user may do, the repository, the clocks.
//
// It changes nothing. In the repository it writes a lock, as every reader does, and removes it.
package doctor

import (
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

// dangers say what a server's flaws mean to who backs up.
func dangers(f jetstream.Flaw) string {
	return map[jetstream.Flaw]string{
		jetstream.FreezesForSnapshots: "snapshots, such as `nats stream backup` takes, can leave the replicas of a stream different from each other; jetsam reads the messages instead",
		jetstream.PassesOverLimits:    "restores do not keep to limits",
		jetstream.RestoresOfOthers:    "who may restore one stream may restore others (CVE-2026-33222)",
		jetstream.CrashesInRestores:   "restoring several streams at a time, as jetsam does not, can crash the server",
		jetstream.DamagesCompacted:    "compressed or encrypted streams can be damaged when they are compacted",
	}[f]
}

// least is the first minor version of 2 from which streams are backed up, and into which they are restored.
const least = 9

// Version says what is known of the server's version.
func Version(s jetstream.ServerInfo) []Finding {
	var f findings
	release := s.Release()
	switch {
	case release == jetstream.Release{}:
		f.add("version", Warning, "", "the server's version %q is none that is known", s.Version)
	case release.Before(2, least):
		f.add("version", Problem, fmt.Sprintf("use nats-server 2.%d or newer", least),
			"nats-server %s is older than 2.%d: neither backups of it nor restores into it are possible", s.Version, least)
	default:
		f.add("version", OK, "", "nats-server %s", s.Version)
	}
	for _, flaw := range s.Flaws() {
		f.add("version", Warning, "update the server", "nats-server %s: %s", s.Version, dangers(flaw))
	}
	return f
}
