package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// CheckFilter returns an error for what is no subject with the wildcards * (one token) and > (one and all that follow).
func CheckFilter(filter string) error {
	if filter == "" {
		return errors.New("a subject filter is empty")
	}
	if strings.ContainsAny(filter, " \t\r\n\f\x00") {
		return fmt.Errorf("subject filter %q has a space in it", filter)
	}
	for rest, more := filter, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		switch {
		case token == "":
			return fmt.Errorf("subject filter %q has an empty token", filter)
		case token == ">" && more:
			return fmt.Errorf("subject filter %q goes on behind >, which must be the last token", filter)
		}
	}
	return nil
}

// SubjectMatches says whether a filter matches a subject, which has no wildcards.
func SubjectMatches(filter string, subject []byte) bool {
	for {
		var want string
		want, filter, _ = strings.Cut(filter, ".")
		if want == ">" {
			return len(subject) > 0
		}
		dot := bytes.IndexByte(subject, '.')
		token := subject
		if dot >= 0 {
			token = subject[:dot]
		}
		if want != "*" && want != string(token) || len(token) == 0 {
			return false
		}
		if dot < 0 || filter == "" {
			return dot < 0 && filter == ""
		}
		subject = subject[dot+1:]
	}
}

// SubjectsOverlap says whether some subject matches both filters.
func SubjectsOverlap(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		if as[i] == ">" || bs[i] == ">" {
			return true
		}
		if as[i] != bs[i] && as[i] != "*" && bs[i] != "*" {
			return false
		}
	}
	return len(as) == len(bs)
}
