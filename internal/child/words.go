package child

import (
	"errors"
	"runtime"
	"strings"
)

// Words cuts a command line at white space, but not within quotes; a backslash takes
// the next character as it is, except within single quotes, and on Windows.
func Words(line string) ([]string, error) {
	var (
		words  []string
		word   strings.Builder
		quote  rune
		inWord bool
		taken  bool // the last rune was a backslash
	)
	for _, r := range line {
		switch {
		case taken:
			word.WriteRune(r)
			taken = false
		case r == '\\' && quote != '\'' && runtime.GOOS != "windows":
			inWord, taken = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			inWord, quote = true, r
		case r == ' ' || r == '\t' || r == '\n':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 || taken {
		return nil, errors.New("it ends inside a quote")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
