package command

import (
	"testing"
	"time"
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
