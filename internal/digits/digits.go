// Package digits writes numbers as people read them.
package digits

import "strconv"

// Grouped writes a number with separators: "1,234,567". What is below 0 is 0.
func Grouped[N int | int64 | uint64](n N) string {
	digits := strconv.FormatUint(uint64(max(n, 0)), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
