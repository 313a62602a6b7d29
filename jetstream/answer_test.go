package jetstream

import (
	"bytes"
	"slices"
	"testing"
)

// TestAnswersAreBounded: however sound it is, an answer that is longer than any may be is refused.
func TestAnswersAreBounded(t *testing.T) {
	text := slices.Concat([]byte(`{}`), bytes.Repeat([]byte{' '}, maxAnswer))
	if _, err := checkAnswer(text[:maxAnswer]); err != nil {
		t.Error(err)
	}
	if _, err := checkAnswer(text[:maxAnswer+1]); err == nil {
		t.Error("one byte more than there may be is read")
	}
}
