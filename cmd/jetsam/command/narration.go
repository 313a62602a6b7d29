package command

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// narrationWidth is how wide the demo's text is, in columns.
const narrationWidth = 88

// style wraps text in a terminal's control sequence, where there are colours.
func (d *demo) style(code, s string) string {
	if !d.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Control codes of the narration's styles.
const (
	bold      = "1"
	faint     = "2"
	boldCyan  = "1;36"
	boldGreen = "1;32"
)

// tell writes narration, unless results are for a program.
func (d *demo) tell(s string) {
	if !d.p.out.json {
		d.p.out.write([]byte(s))
	}
}

func (d *demo) title(s string) {
	d.tell(d.style(bold, "jetsam demo") + "\n" + s + "\n")
}

// act begins a step.
func (d *demo) act(name string) {
	d.step++
	d.tell("\n" + d.style(boldCyan, fmt.Sprintf(" %d  %s", d.step, name)) + "\n")
}

// say writes a paragraph.
func (d *demo) say(format string, args ...any) {
	for line := range strings.SplitSeq(text.WrapSoft(visible(fmt.Sprintf(format, args...)), narrationWidth), "\n") {
		d.tell("    " + strings.TrimRight(line, " ") + "\n")
	}
}

// show writes a command line.
func (d *demo) show(format string, args ...any) {
	d.tell("    " + d.style(faint, "$ ") + d.style(bold, visible(fmt.Sprintf(format, args...))) + "\n")
}

func (d *demo) verdict(format string, args ...any) {
	d.tell("\n    " + d.style(boldGreen, "✔ "+fmt.Sprintf(format, args...)) + "\n\n")
}
