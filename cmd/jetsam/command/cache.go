package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/cache"
)

// cacheReport is what the cache holds, or what was removed from it.
type cacheReport struct {
	MessageType string `json:"message_type"` // "cache", or "cache_cleared"
	Directory   string `json:"directory"`
	Files       int    `json:"files"`
	Bytes       int64  `json:"bytes"`
}

func (r cacheReport) text(o *output) {
	if r.MessageType == "cache_cleared" {
		o.printf("removed %s, %s, from %s\n", plural(r.Files, "file"), formatSize(r.Bytes), r.Directory)
		return
	}
	o.printf("%s: %s, %s\n", r.Directory, plural(r.Files, "file"), formatSize(r.Bytes))
}

func (p *program) cacheCommand() *cli.Command {
	return p.command(needsRepository, &cli.Command{
		Name:  "cache",
		Usage: "show or clear the local copies of what repositories elsewhere hold",
		Description: "Index files, snapshots and small blobs of repositories that are not in a directory are kept on this machine, as they are stored:\n" +
			"encrypted. What is not used for long is removed by itself when there is more than 1 GiB. All of it can be deleted at any time.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "clear", DisableDefaultText: true, Usage: "remove all copies"},
		},
		Action: p.showCache,
	})
}

func (p *program) showCache(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	dir, err := cacheDirectory(c)
	if err != nil {
		return err
	}
	store, err := cache.Open(dir, 0)
	if err != nil {
		return err
	}
	what, look := "cache", store.Usage
	if c.Bool("clear") {
		what, look = "cache_cleared", store.Clear
	}
	u, err := look()
	if err != nil {
		return fmt.Errorf("cache directory %s: %w", dir, err)
	}
	p.out.print(cacheReport{what, dir, u.Files, u.Bytes})
	return nil
}

// cacheDirectory is where copies are kept.
func cacheDirectory(c *cli.Context) (string, error) {
	if dir := c.String("cache-dir"); dir != "" {
		return filepath.Abs(dir)
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", usagef("no directory for the cache: %v; name one with --cache-dir, or do without with --no-cache", err)
	}
	return filepath.Join(user, programName), nil
}

// truthful are the commands that ask what the storage itself holds. Copies would hide that it is damaged.
var truthful = []string{"check", "doctor", "prune", "repair"}

// openCache opens the cache that commands use for a repository at a place: one in a directory needs none. It is nil if
// there is none, which only costs time.
func (p *program) openCache(c *cli.Context, at place) *cache.Cache {
	name, _, _ := strings.Cut(commandName(c), " ")
	if c.Bool("no-cache") || slices.Contains(truthful, name) || !at.Remote() && c.String("cache-dir") == "" {
		return nil
	}
	dir, err := cacheDirectory(c)
	var store *cache.Cache
	if err == nil {
		store, err = cache.Open(dir, 0)
	}
	if err != nil {
		p.out.warn("without a cache: %v", err)
		return nil
	}
	return store
}

// closeCache says what went wrong with the cache, which cost nothing but time.
func (p *program) closeCache(store *cache.Cache) {
	if store == nil {
		return
	}
	if err := store.Close(); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.out.warn("%v", err)
	}
}
