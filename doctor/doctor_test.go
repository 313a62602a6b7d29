package doctor_test

import (
	"strings"
	"testing"

	"jetsam/doctor"
	"jetsam/jetstream"
)

// TestVersion: a server that cannot be backed up is a problem, and what it does wrong is warned of until the release that mends it.
func TestVersion(t *testing.T) {
	for _, c := range []struct {
		version  string
		level    doctor.Level // of the first finding
		warnings int          // besides
	}{
		{"2.15.2", doctor.OK, 0},
		{"2.16.0-RC.1", doctor.OK, 0},
		{"3.0.0", doctor.OK, 0},
		{"2.15.0", doctor.OK, 0},
		{"2.14.3", doctor.OK, 0},
		{"2.14.2", doctor.OK, 1},
		{"2.13.9", doctor.OK, 4},
		{"2.12.12", doctor.OK, 0},
		{"2.12.6", doctor.OK, 1},
		{"2.12.2", doctor.OK, 3},
		{"2.11.15", doctor.OK, 1},
		{"2.10.29", doctor.OK, 4},
		{"2.9.10", doctor.OK, 5},
		{"2.8.4", doctor.Problem, 5},
		{"", doctor.Warning, 0},
		{"dev", doctor.Warning, 0},
	} {
		got := doctor.Version(jetstream.ServerInfo{Version: c.version})
		if len(got) != 1+c.warnings || got[0].Level != c.level {
			t.Errorf("%q: %+v", c.version, got)
			continue
		}
		for _, f := range got[1:] {
			if f.Level != doctor.Warning || strings.HasSuffix(f.Text, ": ") {
				t.Errorf("%q: %+v", c.version, f)
			}
		}
	}
}
