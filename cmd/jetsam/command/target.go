package command

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/restore"
)

const targetHeading = "How streams shall be on the server"

// targetFlags say how streams shall be, where that is otherwise than in the snapshot.
func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "as", Usage: "restore the one stream under another `NAME`; it listens to that name only, unless --subjects says otherwise", Category: targetHeading},
		&cli.StringSliceFlag{Name: "rename", Usage: "restore the stream OLD as NEW: `OLD=NEW`", Category: targetHeading},
		&cli.StringSliceFlag{Name: "subjects", Usage: "what the one stream listens to: `SUBJECT[,SUBJECT…]`", Category: targetHeading},
		&cli.IntFlag{Name: "replicas", Usage: "`N` replicas", Category: targetHeading, DefaultText: "as it was"},
		&cli.StringFlag{Name: "storage", Usage: "`file or memory`", Category: targetHeading, DefaultText: "as it was"},
		&cli.StringFlag{Name: "cluster", Usage: "place streams in the cluster `NAME`", Category: targetHeading},
		&cli.StringSliceFlag{Name: "placement-tag", Usage: "place streams on servers with `TAG`", Category: targetHeading},
		&cli.StringFlag{Name: "config", Usage: "configuration of the one stream, instead of its own: a JSON `FILE`", Category: targetHeading},
		&cli.BoolFlag{Name: "apply-limits", DisableDefaultText: true, Usage: "restore a stream with its max_age even where that has passed, so that the server removes what is older", Category: targetHeading},
	}
}

// maxConfigFile is how large a configuration may be, in bytes.
const maxConfigFile = 1 << 20

// target is what the flags say.
func target(c *cli.Context) (restore.Target, error) {
	t := restore.Target{
		As: c.String("as"), Replicas: c.Int("replicas"), Storage: c.String("storage"), Cluster: c.String("cluster"),
		PlacementTags: c.StringSlice("placement-tag"), ApplyLimits: c.Bool("apply-limits"),
		DropUnsupported: c.Bool("drop-unsupported"),
	}
	for _, pair := range c.StringSlice("rename") {
		old, now, ok := strings.Cut(pair, "=")
		if !ok || old == "" || now == "" {
			return t, usagef("--rename %q is not OLD=NEW", pair)
		}
		if _, twice := t.Rename[old]; twice {
			return t, usagef("--rename gives stream %s two names", old)
		}
		if t.Rename == nil {
			t.Rename = map[string]string{}
		}
		t.Rename[old] = now
	}
	for _, list := range c.StringSlice("subjects") {
		for subject := range strings.SplitSeq(list, ",") {
			t.Subjects = append(t.Subjects, strings.TrimSpace(subject))
		}
	}
	if c.IsSet("as") && t.As == "" {
		return t, usagef("--as without a name")
	}
	if c.IsSet("replicas") && t.Replicas < 1 {
		return t, usagef("--replicas %d: at least 1", t.Replicas)
	}
	if t.Storage != "" && t.Storage != "file" && t.Storage != "memory" {
		return t, usagef("--storage %q: file or memory", t.Storage)
	}
	if name := c.String("config"); name != "" {
		raw, err := readConfig(name)
		if err != nil {
			return t, err
		}
		t.Config = raw
	}
	return t, nil
}

// readConfig reads a stream's configuration: the object itself, or what `nats stream info --json` prints, which has it in "config".
func readConfig(name string) (json.RawMessage, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > maxConfigFile {
		return nil, usagef("--config %s: larger than %d bytes", name, maxConfigFile)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, usagef("--config %s: not a stream's configuration in JSON: %v", name, err)
	}
	if inner, ok := fields["config"]; ok {
		return inner, nil
	}
	return raw, nil
}
