package command

import (
	"slices"

	"github.com/urfave/cli/v2"

	"jetsam/streamlog"
)

// selectionFlags choose streams beside the positional names and globs.
func selectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "all", DisableDefaultText: true, Usage: "all streams"},
		&cli.StringSliceFlag{Name: "exclude", Usage: "leave out streams whose name matches `GLOB`"},
		&cli.StringSliceFlag{Name: "kv", Usage: "the key-value store `BUCKET`"},
		&cli.StringSliceFlag{Name: "object-store", Usage: "the object store `BUCKET`"},
	}
}

// selection is what the flags and the names select.
func selection(c *cli.Context, names []string) (streamlog.Selection, error) {
	s := streamlog.Selection{All: c.Bool("all"), Names: slices.Clone(names), Exclude: c.StringSlice("exclude")}
	for _, bucket := range c.StringSlice("kv") {
		s.Names = append(s.Names, "KV_"+bucket)
	}
	for _, bucket := range c.StringSlice("object-store") {
		s.Names = append(s.Names, "OBJ_"+bucket)
	}
	if s.All && len(s.Names) > 0 {
		return s, usagef("--all and streams by name (%s); which is it?", s.Names[0])
	}
	return s, nil
}
