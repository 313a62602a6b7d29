package jetstream

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"jetsam/secret"
)

// mask stands where credentials stood.
const mask = secret.URLMask

// maxText bounds how much of a server's own words an error repeats.
const maxText = 512

// redactor takes credentials out of texts: those of any URL, and those of the URLs that it was made with, however badly
// they are formed.
type redactor struct {
	known []string
}

// newRedactor returns a redactor for the credentials of urls, a list separated by commas.
func newRedactor(urls string) redactor {
	var r redactor
	for _, u := range strings.Split(urls, ",") {
		_, rest, found := strings.Cut(u, "://")
		if !found {
			rest = u
		}
		at := strings.LastIndex(rest, "@")
		if at <= 0 {
			continue
		}
		plain := rest[:at]
		quoted := strconv.Quote(plain) // as url.Error prints it
		r.known = append(r.known, plain, quoted[1:len(quoted)-1])
		if un, err := url.PathUnescape(plain); err == nil {
			r.known = append(r.known, un)
		}
	}
	return r
}

// text returns s without credentials.
func (r redactor) text(s string) string {
	for _, k := range r.known {
		s = strings.ReplaceAll(s, k+"@", mask+"@")
	}
	return secret.HideUserInfo(s)
}

// printable returns s, which a server sent, cut to a length that fits into an error and without control characters.
func printable(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
