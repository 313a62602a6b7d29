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
	addBuckets(&s, c.StringSlice("kv"), c.StringSlice("object-store"))
	if s.All && len(s.Names) > 0 {
		return s, usagef("--all and streams by name (%s); which is it?", s.Names[0])
	}
	return s, nil
}

// addBuckets selects the streams of buckets.
func addBuckets(s *streamlog.Selection, kv, objects []string) {
	for _, bucket := range kv {
		s.Names = append(s.Names, "KV_"+bucket)
	}
	for _, bucket := range objects {
		s.Names = append(s.Names, "OBJ_"+bucket)
	}
}
