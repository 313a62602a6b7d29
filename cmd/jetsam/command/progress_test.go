package command

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
)

// clocked is progress that is not shown by itself, at a time that the test sets.
func clocked(o *output) (*progress, *time.Time) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	pr := &progress{out: o, noun: "message", began: now, steps: make(map[string]*tracked)}
	pr.now = func() time.Time { return now }
	return pr, &now
}

func TestProgressSentence(t *testing.T) {
	pr, now := clocked(new(output))
	pr.report(step{name: "ORDERS", total: 3000})
	pr.report(step{name: "DONE", done: 1000, total: 1000, bytes: 1 << 20, ended: true})
	*now = now.Add(10 * time.Second)
	pr.report(step{name: "ORDERS", done: 1000, total: 3000, bytes: 19 << 20})
	got := pr.sentence(pr.status())
	want := "50%: 2,000 of 4,000 messages, 20 MiB, 2.0 MiB/s, 0:10 left (ORDERS 33%)"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestProgressOfManySteps(t *testing.T) {
	pr, now := clocked(new(output))
	for _, name := range []string{"A", "B", "C", "D", "E"} {
		pr.report(step{name: name, total: 10})
		*now = now.Add(time.Second)
	}
	pr.report(step{name: "B", stage: "verifying", done: 5, total: 10})
	if got, want := pr.sentence(pr.status()), "(A 0%, C 0%, D 0%, 2 more)"; !strings.HasSuffix(got, want) {
		t.Errorf("%q does not end in %q", got, want)
	}
}

func TestProgressWithMoreThanExpected(t *testing.T) {
	pr, _ := clocked(new(output))
	pr.report(step{name: "BUSY", done: 15, total: 10})
	pr.report(step{name: "EMPTY"})
	s := pr.status()
	if s.Fraction != 1 || s.Running[0].Fraction != 1 || s.Running[1].Fraction != 1 || s.Left != 0 {
		t.Errorf("status %+v, want everything done", s)
	}
}

func TestProgressLineInJSON(t *testing.T) {
	var stderr bytes.Buffer
	pr, now := clocked(&output{stderr: &stderr, json: true})
	pr.line()
	if stderr.Len() > 0 {
		t.Errorf("a line before anything is known: %s", stderr.String())
	}
	pr.report(step{name: "ORDERS", total: 200})
	*now = now.Add(time.Second)
	pr.report(step{name: "ORDERS", done: 100, total: 200, bytes: 1000})
	pr.line()
	var got status
	if err := json.Unmarshal(stderr.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if got.MessageType != "status" || got.Fraction != 0.5 || got.Left != 1 || len(got.Running) != 1 || got.Running[0].Rate != 1000 {
		t.Errorf("status %+v", got)
	}
}

func TestNoProgress(t *testing.T) {
	p := &program{out: &output{quiet: true}, now: time.Now}
	pr := p.showProgress("message")
	pr.report(step{name: "x"})
	pr.finish()
	if pr != nil {
		t.Error("progress is shown with --quiet")
	}
}

func TestShownProgressEnds(t *testing.T) {
	var stderr bytes.Buffer
	p := &program{out: &output{stderr: &stderr}, now: time.Now}
	pr := p.showProgress("message")
	pr.report(step{name: "x", done: 1, total: 2})
	pr.finish()
	if p.out.bar != nil {
		t.Error("a bar is left")
	}
}

func TestBarLineFits(t *testing.T) {
	s := stepStatus{Name: "注文注文注文注文注文注文注文注文\x1b[2J", Stage: "verifying", Fraction: 0.5, Done: 1 << 40, Total: 1 << 41, Bytes: 1 << 40, Rate: 1 << 30, Left: 4000}
	for width := 20; width < 200; width++ {
		for _, color := range []bool{false, true} {
			line := barLine(s, "message", width, color)
			if got := text.StringWidthWithoutEscSequences(line); got >= width {
				t.Fatalf("%d columns in a terminal of %d: %q", got, width, line)
			}
			if strings.Contains(line, "\x1b[2J") {
				t.Fatalf("the name reaches the terminal as it is: %q", line)
			}
		}
	}
	if got, want := barLine(s, "message", 200, false), " 50%  1.0 GiB/s 1:06:40 left  1,099,511,627,776 of 2,199,023,255,552 messages, 1.0 TiB"; !strings.Contains(got, want) {
		t.Errorf("%q lacks %q", got, want)
	}
}

func TestRemarksDoNotTearTheBar(t *testing.T) {
	var stderr bytes.Buffer
	o := &output{stderr: &stderr}
	o.setBar(&bar{lines: []string{"one", "two"}})
	o.warn("careful")
	o.setBar(nil)
	o.note("done")
	up := "\r" + strings.Repeat(lineUp+eraseLine, 2)
	want := "one\ntwo\n" + up + "warning: careful\n" + "one\ntwo\n" + up + "done\n"
	if got := stderr.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestClock(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0:00", 7.4: "0:07", 59.6: "1:00", 750: "12:30", 3723: "1:02:03"} {
		if got := clock(seconds); got != want {
			t.Errorf("clock(%v) = %q, want %q", seconds, got, want)
		}
	}
}
