package archive

import (
	"errors"
	"slices"
	"testing"
)

func skim(p []byte, limits Limits) (Tally, Open, error) {
	return SkimEach(p, limits, func(uint64) {})
}

func TestSkim(t *testing.T) {
	one := AppendMessage(nil, "a", 30, 5, nil, []byte("first"))
	two := AppendMessage(nil, "b.c", 10, 9, []byte("NATS/1.0\r\nK: v\r\n\r\n"), []byte("second, with a payload"))
	both := append(one[:len(one):len(one)], two...)
	want := Tally{Messages: 2, Bytes: uint64(len(both)), FirstSeq: 5, LastSeq: 9, MinTime: 10, MaxTime: 30}
	if got, open, err := skim(both, Limits{}); got != want || open != (Open{}) || err != nil {
		t.Errorf("two messages: %+v, %+v, %v", got, open, err)
	}
	var seen []uint64
	if _, _, err := SkimEach(both[:len(both)-1], Limits{}, func(seq uint64) { seen = append(seen, seq) }); err != nil || !slices.Equal(seen, []uint64{5, 9}) {
		t.Errorf("sequences of one and a half messages: %d, %v", seen, err)
	}
	if got, open, err := skim(nil, Limits{}); got != (Tally{}) || open != (Open{}) || err != nil {
		t.Errorf("nothing: %+v, %+v, %v", got, open, err)
	}
	payload := len("second, with a payload")
	for cut := 1; cut < len(two); cut++ {
		got, open, err := skim(both[:len(both)-cut], Limits{})
		if cut > payload {
			if !errors.Is(err, ErrTruncated) {
				t.Errorf("%d bytes cut off: %v, want ErrTruncated", cut, err)
			}
			continue
		}
		if wantOpen := (Open{Seq: 9, Time: 10, Length: len(two), Missing: cut}); open != wantOpen || got.Messages != 1 || err != nil {
			t.Errorf("%d bytes cut off: %+v, %+v, %v", cut, got, open, err)
		}
	}
	if _, _, err := skim(append(two[:len(two):len(two)], one...), Limits{}); !errors.Is(err, ErrOrder) {
		t.Errorf("descending sequences: %v, want ErrOrder", err)
	}
	if _, _, err := skim(both, Limits{MaxMessage: 10}); !errors.Is(err, ErrLimit) {
		t.Errorf("a message above the limit: %v, want ErrLimit", err)
	}
	if _, _, err := skim(AppendEnd(nil), Limits{}); !errors.Is(err, ErrFormat) {
		t.Errorf("end mark: %v, want ErrFormat", err)
	}
}
