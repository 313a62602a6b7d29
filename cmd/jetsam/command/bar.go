package command

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// bar is what stands at the bottom of the terminal until it is painted over.
type bar struct{ lines []string }

// Control sequences of a terminal.
const (
	lineUp    = "\x1b[1A"
	eraseLine = "\x1b[2K"
)

func (b *bar) erase() string { return "\r" + strings.Repeat(lineUp+eraseLine, len(b.lines)) }

func (b *bar) draw() string {
	if len(b.lines) == 0 {
		return ""
	}
	return strings.Join(b.lines, "\n") + "\n"
}

// around is text written above the bar.
func (b *bar) around(text string) string { return b.erase() + text + b.draw() }

// setBar paints b in place of what is there; nil takes it away.
func (o *output) setBar(b *bar) {
	o.mu.Lock()
	defer o.mu.Unlock()
	paint := ""
	if o.bar != nil {
		paint = o.bar.erase()
	}
	if b != nil {
		paint += b.draw()
	}
	o.bar = b
	if paint != "" {
		io.WriteString(o.stderr, paint) // a terminal that is gone shows nothing
	}
}

// Widths of the parts of a bar's line, in columns.
const (
	nameWidth       = 20
	meterWidth      = 20
	shownBars       = 8
	fallbackColumns = 80
)

// paint shows the bars: one for everything, and one for each of the first steps that run.
func (pr *progress) paint() {
	s := pr.status()
	if s.Total == 0 && len(s.Running) == 0 {
		return
	}
	width := columns(pr.out.stderr)
	color := hasColor(pr.out.stderr)
	b := new(bar)
	if s.Ended+len(s.Running) > 1 {
		total := stepStatus{Name: formatCount(s.Ended) + " done", Fraction: s.Fraction, Done: s.Done, Total: s.Total, Bytes: s.Bytes, Left: s.Left}
		if s.Seconds > 0 {
			total.Rate = float64(s.Bytes) / s.Seconds
		}
		b.lines = append(b.lines, barLine(total, pr.noun, width, color))
	}
	for _, r := range s.Running[:min(shownBars, len(s.Running))] {
		b.lines = append(b.lines, barLine(r, pr.noun, width, color))
	}
	if more := len(s.Running) - shownBars; more > 0 {
		b.lines = append(b.lines, formatCount(more)+" more")
	}
	pr.out.setBar(b)
}

func columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return n
		}
	}
	return fallbackColumns
}

// barLine is one bar, at most width columns wide.
func barLine(s stepStatus, noun string, width int, color bool) string {
	name := strings.TrimSpace(s.Stage + " " + visible(s.Name))
	name = text.Pad(text.Snip(name, nameWidth, "…"), nameWidth, ' ')
	rate, rest := "", ""
	if s.Rate > 0 {
		rate = formatSize(int64(s.Rate)) + "/s"
	}
	if s.Left > 0 {
		rest = clock(s.Left) + " left"
	}
	facts := fmt.Sprintf("%4s %10s %12s  %s of %s %ss", percent(s.Fraction), rate, rest, formatCount(s.Done), formatCount(s.Total), noun)
	if s.Bytes > 0 {
		facts += ", " + formatSize(s.Bytes)
	}
	full := int(s.Fraction * meterWidth)
	done, todo := strings.Repeat("━", full), strings.Repeat("─", meterWidth-full)
	if color {
		done, todo = "\x1b[36m"+done+"\x1b[0m", "\x1b[2m"+todo+"\x1b[0m"
	}
	return text.Trim(name+" "+done+todo+" "+facts, width-1)
}
