package command

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// listing is a table for people.
type listing struct{ w table.Writer }

// newListing returns a table with these columns. Where a name ends in ">", the column is aligned to the right.
func newListing(columns ...string) *listing {
	w := table.NewWriter()
	w.SetStyle(table.StyleLight)
	w.Style().Options = table.Options{SeparateHeader: true}
	w.Style().Format.Header = text.FormatDefault
	w.Style().Box.PaddingLeft = ""
	w.Style().Box.PaddingRight = "  "
	header := make(table.Row, 0, len(columns))
	var configs []table.ColumnConfig
	for i, c := range columns {
		name, right := strings.CutSuffix(c, ">")
		if right {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
		header = append(header, name)
	}
	w.AppendHeader(header)
	w.SetColumnConfigs(configs)
	return &listing{w}
}

// row adds a row. A cell is one line; what a terminal would obey in it is made visible.
func (l *listing) row(cells ...any) {
	oneLine := strings.NewReplacer("\n", `\n`, "\t", `\t`)
	row := make(table.Row, 0, len(cells))
	for _, c := range cells {
		row = append(row, oneLine.Replace(visible(fmt.Sprint(c))))
	}
	l.w.AppendRow(row)
}

// table writes the listing to stdout.
func (o *output) table(l *listing) {
	var b strings.Builder
	for line := range strings.SplitSeq(l.w.Render(), "\n") {
		b.WriteString(strings.TrimRight(line, " "))
		b.WriteByte('\n')
	}
	o.write([]byte(b.String()))
}
