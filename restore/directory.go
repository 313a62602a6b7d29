package restore

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"jetsam/streamlog"
)

// directoryNames are names of directories that are in use, folded as file systems do that take upper and lower case for the same.
type directoryNames map[string]bool

// longestDirectory is the longest name of a directory, in bytes. Most file systems take 255.
const longestDirectory = 200

// deviceNames are what Windows takes for a device, in any case.
var deviceNames = regexp.MustCompile(`(?i)^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])$`)

// path is where a stream's directory stands below dir. It is called like the stream, with what file systems do not take escaped as in a
// repository. A name that is too long, or that some system could take for another's or a device's, ends in % and eight digits of its hash.
func (n directoryNames) path(dir, stream string) string {
	name := streamlog.EscapeName(stream)
	if len(name) > longestDirectory || deviceNames.MatchString(name) || n[fold(name)] {
		sum := sha256.Sum256([]byte(stream))
		name = fmt.Sprintf("%s%%%x", strings.ToValidUTF8(name[:min(len(name), longestDirectory)], ""), sum[:4])
	}
	n[fold(name)] = true
	return filepath.Join(dir, name)
}

func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }
