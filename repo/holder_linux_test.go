package repo

import (
	"os"
	"strings"
	"testing"
)

func TestThisProcess(t *testing.T) {
	h := thisProcess()
	if !h.complete() {
		t.Fatalf("%+v", h)
	}
	if again := thisProcess(); again != h {
		t.Errorf("%+v, then %+v", h, again)
	}
	if len(h.BootID) != 36 || !strings.HasPrefix(h.PIDNamespace, "pid:[") {
		t.Errorf("%+v", h)
	}
	if s := lookAt(os.Getpid()); s.gone || s.start != h.ProcessStart {
		t.Errorf("%+v, want start %s", s, h.ProcessStart)
	}
	if s := lookAt(1); s.gone {
		t.Error("process 1 is taken for gone")
	}
	const above = 1 << 22 // kernels give no higher ID
	if s := lookAt(above + 1); !s.gone {
		t.Errorf("process %d is taken for %+v", above+1, s)
	}
}

func TestParseStat(t *testing.T) {
	rest := " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"
	tests := []struct {
		name, in string
		state    byte
		ticks    string
		ok       bool
	}{
		{"plain", "7 (jetsam) S" + rest, 'S', "4242", true},
		{"odd name", "7 (a) Z 1 (b) R" + rest, 'R', "4242", true},
		{"zombie", "7 (x) Z" + rest, 'Z', "4242", true},
		{"empty", "", 0, "", false},
		{"no name", "7 S" + rest, 0, "", false},
		{"short", "7 (jetsam) S 1 2 3", 0, "", false},
		{"no state", "7 (jetsam) SS" + rest, 0, "", false},
	}
	for _, tt := range tests {
		state, ticks, ok := parseStat([]byte(tt.in))
		if state != tt.state || ticks != tt.ticks || ok != tt.ok {
			t.Errorf("%s: %c, %q, %v", tt.name, state, ticks, ok)
		}
	}
}
