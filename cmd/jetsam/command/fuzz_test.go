package command

import (
	"strings"
	"testing"
	"time"
)

// FuzzTime: a time that is accepted can be stored, and a duration is never negative and grows with its number.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-11-22T10:00:00Z", "2026-11-22 10:00", "2026-11-22", "@1795341600", "@-62167219200", "@253402300800", "90s", "2h", "3d", "2w", "1w1d1h", "20000w", "65535w", "65535d", "15250w2562047h", "w", "-1s", "1d-1s", "NaN", "0000-01-01", "9999-12-31T23:59:59-23:59"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := parseTime(text, now); err == nil {
			if _, err := at.MarshalJSON(); err != nil && at.Year() != 10000 && at.Year() != -1 { // a zone may carry it over
				t.Fatalf("%q is %v: %v", text, at, err)
			}
		}
		d, err := parseDuration(text)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q is %v", text, d)
		}
		if whole, ok := strings.CutSuffix(text, "w"); ok && !strings.ContainsAny(whole, "wd") {
			if days, err := parseDuration(whole + "d"); err == nil && d != 7*days {
				t.Fatalf("%q is %v, but in days %v", text, d, days)
			}
		}
	})
}

// FuzzGroupBy: what is accepted says something unless it is empty, and an error names what was given.
func FuzzGroupBy(f *testing.F) {
	for _, s := range []string{"", "host", "hosts, paths", "tags,account", ",", "host,,", "Host"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		by, err := parseGroupBy(text)
		if err == nil && text != "" && !by.Host && !by.Accounts && !by.Paths && !by.Tags {
			t.Fatalf("%q groups by nothing", text)
		}
	})
}
