package command

import (
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// Version is this program's version.
const Version = "0.1.0"

// shortCommit is how many digits of a commit are told.
const shortCommit = 12

type versionReport struct {
	MessageType string `json:"message_type"` // "version"
	Version     string `json:"version"`
	Commit      string `json:"commit,omitempty"`
	GoVersion   string `json:"go_version"`
	System      string `json:"system"` // operating system and processor, as Go names them
}

func (v versionReport) text(o *output) {
	commit := ""
	if v.Commit != "" {
		commit = " " + v.Commit
	}
	o.printf("%s %s%s (%s, %s)\n", programName, v.Version, commit, v.GoVersion, v.System)
}

func (p *program) versionCommand() *cli.Command {
	return p.command(0, &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0); err != nil {
				return err
			}
			p.out.print(versionReport{"version", Version, commit(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
			return nil
		},
	})
}

// build is what `make build` and `make release` say of the commit, by -ldflags -X; the linker can set nothing but a variable.
var build string

// commit is the commit that the program was built from, or empty where the build did not record it.
func commit() string {
	if build != "" {
		return build
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), shortCommit)]
		}
	}
	return ""
}
