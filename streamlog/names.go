// Package streamlog is a stream as a repository holds it: the log of its messages in groups, parts and shelves, and the documents beside it.
//
// A stream is a directory of a snapshot:
//
//	/ACCOUNT/account.json                            what was captured, when, and from which server
//	/ACCOUNT/STREAM/backup.json                      the stream's configuration and state, and what jetsam knows of the capture
//	/ACCOUNT/STREAM/head.arc.s2                      the archive's magic, state and consumers
//	/ACCOUNT/STREAM/messages/SHELF/PART/arc.s2       messages
//	/ACCOUNT/STREAM/messages/SHELF/PART/chunks.json  what each group of blobs of arc.s2 holds
//	/ACCOUNT/STREAM/end.arc.s2                       the archive's end mark
//	/ACCOUNT/STREAM/dead                             which messages of these are not alive; absent where all of them are
//
// The concatenation of head.arc.s2, every arc.s2 in order, and end.arc.s2 is an archive that nats-server 2.15 restores,
// with what is not alive.
//
// Nothing in these files depends on the run that wrote them, so that a stream that did not change is stored once.
package streamlog

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names of the files and directories of a stream. Part of the format.
const (
	documentName = "backup.json"
	headName     = "head.arc.s2"
	messagesName = "messages"
	endName      = "end.arc.s2"
	archiveName  = "arc.s2"
	chunksName   = "chunks.json"
	deadName     = "dead"
	accountName  = "account.json"
)

// seqDigits is how many digits name a part or a shelf: enough for every uint64. Part of the format.
const seqDigits = 20

// seqName is the directory name of the part or shelf whose first sequence is seq.
func seqName(seq uint64) string { return fmt.Sprintf("%0*d", seqDigits, seq) }

// parseSeqName is the inverse of seqName.
func parseSeqName(s string) (uint64, error) {
	if len(s) != seqDigits {
		return 0, fmt.Errorf("directory %q is not named by a sequence of %d digits", s, seqDigits)
	}
	seq, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("directory %q is not named by a sequence", s)
	}
	return seq, nil
}

// EscapeName makes an account's or stream's name fit for a file name on any system:
// every byte of it but letters, digits, '_', '-', '$' and printable non-ASCII characters becomes %XX.
// Part of the format.
func EscapeName(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if keepsAsIs(r, n) {
			b.WriteString(name[i : i+n])
		} else {
			for _, c := range []byte(name[i : i+n]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
		i += n
	}
	return b.String()
}

func keepsAsIs(r rune, size int) bool {
	switch {
	case r == utf8.RuneError && size == 1:
		return false
	case r >= utf8.RuneSelf:
		return unicode.IsPrint(r)
	}
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '$'
}

// UnescapeName is the inverse of EscapeName. It refuses what EscapeName does not write.
func UnescapeName(escaped string) (string, error) {
	var b []byte
	for i := 0; i < len(escaped); i++ {
		if escaped[i] != '%' {
			b = append(b, escaped[i])
			continue
		}
		if i+3 > len(escaped) {
			return "", fmt.Errorf("name %q: incomplete escape", escaped)
		}
		c, err := strconv.ParseUint(escaped[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("name %q: bad escape", escaped)
		}
		b = append(b, byte(c))
		i += 2
	}
	if EscapeName(string(b)) != escaped {
		return "", fmt.Errorf("name %q is not in canonical form", escaped)
	}
	return string(b), nil
}
