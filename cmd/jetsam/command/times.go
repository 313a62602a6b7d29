package command

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// parseTime reads a point in time as people write it: RFC 3339, "2006-01-02 15:04[:05]" or "2006-01-02" in the zone
// of now, "@unix" in seconds, or how long ago ("90s", "2h", "3d", "2w").
func parseTime(text string, now time.Time) (time.Time, error) {
	if seconds, ok := strings.CutPrefix(text, "@"); ok {
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil || n < minUnix || n > maxUnix {
			return time.Time{}, usagef("time %q is not a number of seconds since 1970", text)
		}
		return time.Unix(n, 0), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05.999999999", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return byClock(t, now.Location()), nil
		}
	}
	if ago, err := parseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, usagef("time %q is not understood; write 2026-11-22T10:00:00Z, \"2026-11-22 10:00\", @1795341600, or how long ago: 90s, 2h, 3d, 2w", text)
}

// byClock is when clocks of a zone show what one of UTC shows at t. Of the two times at which clocks that are set back show it, it is the first; where they
// skip it, it is when they would have shown it had they not been set forward. time.Date promises neither.
func byClock(t time.Time, zone *time.Location) time.Time {
	at := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
	by := func(other time.Time) time.Time { // the offset that is in force at another time
		_, offset := other.Zone()
		return t.Add(-time.Duration(offset) * time.Second).In(zone)
	}
	if skipped := at.Day() != t.Day() || at.Hour() != t.Hour() || at.Minute() != t.Minute(); skipped {
		if later := by(at); later.After(at) {
			return later
		}
		return at
	}
	if change, _ := at.ZoneBounds(); !change.IsZero() {
		if first := by(change.Add(-time.Second)); first.Before(change) {
			return first
		}
	}
	return at
}

// Seconds since 1970 of the years 0 and 9999, the first and last that the repository format can hold.
const (
	minUnix = -62167219200
	maxUnix = 253402300799
)

// parseDuration reads what time.ParseDuration reads, and days and weeks before it: "90s", "1h30m", "3d", "2w", "1d12h".
func parseDuration(text string) (time.Duration, error) {
	var whole time.Duration
	rest := text
	for _, unit := range []struct {
		suffix string
		length time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, after, ok := strings.Cut(rest, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, notDuration(text)
		}
		if n > uint64((math.MaxInt64-whole)/unit.length) {
			return 0, notDuration(text)
		}
		whole += time.Duration(n) * unit.length
		rest = after
	}
	if rest == "" && rest != text {
		return whole, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-whole {
		return 0, notDuration(text)
	}
	return whole + d, nil
}

func notDuration(text string) error {
	return usagef("duration %q is not understood; write 90s, 10m, 2h, 3d or 2w", text)
}
