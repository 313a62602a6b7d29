package command

import (
	"github.com/dustin/go-humanize"

	"jetsam/internal/digits"
)

// formatSize writes a number of bytes for people: "1.3 MiB".
func formatSize[N int | int64 | uint64](n N) string { return humanize.IBytes(uint64(max(n, 0))) }

// formatCount writes a number with separators: "1,234,567".
func formatCount[N int | int64 | uint64](n N) string { return digits.Grouped(n) }

// share writes "7 of 1,234".
func share(part, whole int) string { return formatCount(part) + " of " + formatCount(whole) }

// plural writes "1 stream", "2 streams".
func plural[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return formatCount(n) + " " + noun + "s"
}
