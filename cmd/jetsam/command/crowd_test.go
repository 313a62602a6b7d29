package command

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"jetsam/backup"
)

// TestCrowd: of a few streams each is told of, and of many once where the same is said of them; what is said of one only is not lost among them.
func TestCrowd(t *testing.T) {
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	var c crowd
	for i := range mostAlike + 1 {
		name := fmt.Sprintf("S%d", i)
		c.add(say, name, "stream "+name+" is away: 100%", " are away: 100%")
		c.add(say, name, "stream "+name+" is odd", "")
		if i < mostAlike {
			c.add(say, name, "stream "+name+" is late", " are late")
		}
	}
	c.tell()
	want := []string{"6 streams (S0, S1, S2, S3, S4, …) are away: 100%"}
	for i := range mostAlike + 1 {
		want = append(want, fmt.Sprintf("stream S%d is odd", i))
		if i < mostAlike {
			want = append(want, fmt.Sprintf("stream S%d is late", i))
		}
	}
	if !slices.Equal(said, want) {
		t.Errorf("said\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
}

// TestTornInWords: how often a stream was read is said as it was.
func TestTornInWords(t *testing.T) {
	once := tornInWords(backup.StreamResult{Name: "S", Torn: "3 messages came, but the server counted 2"})
	twice := tornInWords(backup.StreamResult{Name: "S", Torn: "2 messages missing", Retried: "torn: 1 message missing"})
	for _, c := range []struct {
		text, has, lacks string
	}{
		{once, "3 messages came, but the server counted 2\n", "twice"},
		{once, "another attempt would find the same", "nobody purges it"},
		{twice, "it was tried twice", "another attempt would"},
		{twice, "of the other: torn: 1 message missing\n", "another attempt would"},
	} {
		if !strings.Contains(c.text, c.has) || strings.Contains(c.text, c.lacks) {
			t.Errorf("%q: want %q in it, and not %q", c.text, c.has, c.lacks)
		}
	}
}
