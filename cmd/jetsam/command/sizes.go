package command

import (
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// parseSize reads a number of bytes: "4096", "500K", "16MiB", "2G". K, M, G and T are powers of 1024, as restic reads them.
func parseSize(text string) (int64, error) {
	number := strings.TrimSpace(text)
	number = strings.TrimSuffix(number, "B")
	number = strings.TrimSuffix(number, "i")
	unit := int64(1)
	if n := len(number); n > 0 {
		if power := strings.IndexByte("KMGT", number[n-1]&^0x20); power >= 0 {
			unit <<= 10 * (power + 1)
			number = number[:n-1]
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f > 0) || f*float64(unit) >= math.MaxInt64 {
		return 0, usagef("size %q is not understood; write 500M, 16MiB or 2G", text)
	}
	return int64(f * float64(unit)), nil
}

// formatSize writes a number of bytes for people: "1.3 MiB".
func formatSize[N int | int64 | uint64](n N) string { return humanize.IBytes(uint64(max(n, 0))) }

// formatCount writes a number with separators: "1,234,567".
func formatCount[N int | int64 | uint64](n N) string {
	digits := strconv.FormatUint(uint64(max(n, 0)), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// plural writes "1 stream", "2 streams".
func plural[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return formatCount(n) + " " + noun + "s"
}
