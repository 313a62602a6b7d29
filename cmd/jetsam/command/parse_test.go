package command

import (
	"testing"
	"time"
	_ "time/tzdata" // for systems that have none
)

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, zone)
	for _, tc := range []struct{ in, want string }{
		{"2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"},
		{"2026-11-22T10:00:00.123456789+02:00", "2026-11-22T08:00:00.123456789Z"},
		{"2026-11-22 10:00", "2026-11-22T09:00:00Z"},
		{"2026-11-22 10:00:30", "2026-11-22T09:00:30Z"},
		{"2026-11-22 10:00:30.5", "2026-11-22T09:00:30.5Z"},
		{"2026-11-22", "2026-11-21T23:00:00Z"},
		{"@1795341600", "2026-11-22T10:00:00Z"},
		{"@0", "1970-01-01T00:00:00Z"},
		{"@-1", "1969-12-31T23:59:59Z"},
		{"90s", "2026-11-22T10:58:30Z"},
		{"2h", "2026-11-22T09:00:00Z"},
		{"3d", "2026-11-19T11:00:00Z"},
		{"2w", "2026-11-08T11:00:00Z"},
		{"1w2d3h", "2026-11-13T08:00:00Z"},
		{"0s", "2026-11-22T11:00:00Z"},
	} {
		got, err := parseTime(tc.in, now)
		if err != nil {
			t.Errorf("parseTime(%q): %v", tc.in, err)
			continue
		}
		if s := got.UTC().Format(time.RFC3339Nano); s != tc.want {
			t.Errorf("parseTime(%q) = %s, want %s", tc.in, s, tc.want)
		}
	}
	for _, in := range []string{"", "yesterday", "@", "@x", "@1e9", "@999999999999999", "-2h", "3x", "d", "w", "1d-2h", "2026-13-01", "2026-11-22T10:00", "99999999w"} {
		if got, err := parseTime(in, now); err == nil {
			t.Errorf("parseTime(%q) = %v, want an error", in, got)
		}
	}
}

// TestParseTimeWhereClocksChange: a time that clocks show twice is the first of the two, one that they skip is what they would have shown if they had
// not been set forward. So it is in every zone, east and west.
func TestParseTimeWhereClocksChange(t *testing.T) {
	for _, tc := range []struct{ zone, in, want, why string }{
		{"Europe/Berlin", "2026-03-29 01:59:59", "2026-03-29T00:59:59Z", "before clocks are set forward"},
		{"Europe/Berlin", "2026-03-29 02:30", "2026-03-29T01:30:00Z", "skipped"},
		{"Europe/Berlin", "2026-03-29 03:00", "2026-03-29T01:00:00Z", "after it"},
		{"Europe/Berlin", "2026-10-25 01:59:59", "2026-10-24T23:59:59Z", "before they are set back"},
		{"Europe/Berlin", "2026-10-25 02:30", "2026-10-25T00:30:00Z", "twice"},
		{"Europe/Berlin", "2026-10-25 03:00", "2026-10-25T02:00:00Z", "after it"},
		{"America/New_York", "2026-03-08 02:30", "2026-03-08T07:30:00Z", "skipped"},
		{"America/New_York", "2026-11-01 01:30", "2026-11-01T05:30:00Z", "twice"},
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", "a day without a midnight"},
		{"America/Sao_Paulo", "2018-02-17 23:30", "2018-02-18T01:30:00Z", "twice"},
		{"Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03T15:45:00Z", "half an hour is skipped"},
		{"Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04T14:45:00Z", "half an hour comes twice"},
		{"Australia/Lord_Howe", "2026-04-05 01:15", "2026-04-04T14:15:00Z", "before it"},
		{"Pacific/Apia", "2011-12-30 12:00", "2011-12-30T22:00:00Z", "a day that there was not"},
		{"Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z", "the day after it"},
		{"Europe/Berlin", "2028-02-29 12:00", "2028-02-29T11:00:00Z", "a leap day"},
		{"Europe/Berlin", "2038-07-01", "2038-06-30T22:00:00Z", "more than 32 bits of seconds"},
		{"Europe/Berlin", "2100-03-01", "2100-02-28T23:00:00Z", "no leap year"},
		{"UTC", "2026-03-29 02:30", "2026-03-29T02:30:00Z", "no change at all"},
	} {
		zone, err := time.LoadLocation(tc.zone)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseTime(tc.in, time.Now().In(zone))
		if s := got.UTC().Format(time.RFC3339Nano); err != nil || s != tc.want {
			t.Errorf("%s: %s in %s is %s (%v), want %s", tc.why, tc.in, tc.zone, s, err, tc.want)
		}
	}
	if got, err := parseTime("2100-02-29", time.Now()); err == nil {
		t.Errorf("2100 has no 29th of February, and that is %v", got)
	}
}

func TestFormatCount(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567", 1<<64 - 1: "18,446,744,073,709,551,615"} {
		if got := formatCount(n); got != want {
			t.Errorf("formatCount(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestVisible(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "ORDERS", "ORDERS"},
		{"unicode", "Ünïcode 注文", "Ünïcode 注文"},
		{"line ends and tabs stay", "a\n\tb", "a\n\tb"},
		{"escape sequence", "\x1b[2Jx", `\u001b[2Jx`},
		{"carriage return", "a\rb", `a\u000db`},
		{"C1 control", "a\u009bb", `a\u009bb`},
		{"not UTF-8", "a\xffb", `a\xffb`},
		{"replacement character stays", "a\uFFFDb", "a\uFFFDb"},
		{"text turned around", "a\u202eb", `a\u202eb`},
	} {
		if got := visible(tc.in); got != tc.want {
			t.Errorf("%s: visible(%q) = %q, want %q", tc.name, tc.in, got, tc.want)
		}
	}
}
