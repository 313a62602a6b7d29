package location

import (
	"context"
	"strings"

	"jetsam/internal/child"
	"jetsam/storage"
	"jetsam/storage/rclone"
	"jetsam/storage/rest"
)

// rcloneRemotes are wherever rclone keeps files: rclone:remote:path.
var rcloneRemotes = scheme{
	parse: func(address string) (string, error) {
		if address == "" || strings.HasPrefix(address, "-") {
			return "", invalid("the repository's location, rclone: and a remote with a path on it such as rclone:b2:bucket/path: it names no remote")
		}
		return address, nil
	},
	show: showRclone,
	open: func(_ context.Context, address string, o *settings) (storage.Backend, error) {
		return backend(openRclone(address, o))
	},
	create: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		be, err := openRclone(address, o)
		return created(ctx, be, err)
	},
	options: []string{"program", "args"},
}

// showRclone leaves out the settings that may stand in the place, or behind the name,
// of a remote, since keys may be among them: ":s3,secret_access_key=…:bucket".
func showRclone(address string) string {
	name, rest, found := strings.Cut(address, ",")
	if !found {
		return "rclone:" + address
	}
	path := ""
	if i := strings.LastIndex(rest, ":"); i >= 0 {
		path = rest[i:]
	}
	if strings.Contains(name[min(1, len(name)):], ":") { // the comma is in the path
		return "rclone:" + address
	}
	return "rclone:" + name + ",…" + path
}

func openRclone(address string, o *settings) (*rest.Backend, error) {
	options := rclone.Options{Warn: o.warn}
	if line := o.get("program"); line != "" {
		words, err := child.Words(line)
		if err != nil || len(words) == 0 {
			return nil, invalid("option rclone.program names no program")
		}
		options.Program = words[0]
		options.Args = append(options.Args, words[1:]...)
	}
	args := rclone.Args
	if line := o.get("args"); line != "" {
		args = line
	}
	words, err := child.Words(args)
	if err != nil {
		return nil, invalid("option rclone.args: %v", err)
	}
	options.Args = append(options.Args, words...)
	return rclone.Open(address, showRclone(address), options), nil
}
