package archive

import (
	"strings"
	"unicode/utf8"
)

// headerLine begins every header block of fields.
const headerLine = "NATS/1.0\r\n"

// HeaderFields reads a header block: the values of each name, in their order, without the space around them. ok is false for what is no list
// of fields in UTF-8; an empty block has none.
func HeaderFields(block []byte) (fields map[string][]string, ok bool) {
	if len(block) == 0 {
		return nil, true
	}
	rest, begins := strings.CutPrefix(string(block), headerLine)
	rest, ends := strings.CutSuffix(rest, "\r\n")
	if !begins || !ends || !utf8.ValidString(rest) {
		return nil, false
	}
	fields = map[string][]string{}
	for line := range strings.Lines(rest) {
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\r\n"), ":")
		if !found || name == "" {
			return nil, false
		}
		fields[name] = append(fields[name], strings.TrimSpace(value))
	}
	return fields, true
}
