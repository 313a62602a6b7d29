package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
)

// contentReport is a file's or blob's content for programs.
type contentReport struct {
	MessageType string          `json:"message_type"` // "content"
	Type        string          `json:"type"`
	ID          string          `json:"id,omitempty"`
	Content     json.RawMessage `json:"content,omitempty"`
	Bytes       []byte          `json:"bytes,omitempty"` // of what is not JSON, in base64
}

func (p *program) catCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:      "cat",
		Usage:     "print a file or blob of the repository, decrypted",
		ArgsUsage: "config|snapshot|index|key|lock|tree|blob|pack [ID]",
		Description: "ID is the whole ID or the beginning of one; for blobs the whole. A tree can also be named as SNAPSHOT:PATH.\n" +
			"JSON is indented; blobs and packs are printed as they are, packs encrypted.",
		Action: p.cat,
	})
}

func (p *program) cat(c *cli.Context) error {
	args, err := arguments(c, 1, 2)
	if err != nil {
		return err
	}
	kinds := alternatives(c.Command.ArgsUsage)
	if !slices.Contains(kinds, args[0]) {
		return usagef("cat knows nothing of the type %q; it knows %s", args[0], strings.Join(kinds, ", "))
	}
	if want := 2; args[0] == "config" && len(args) == want || args[0] != "config" && len(args) < want {
		return usagef("write `%s config`, or another type and an ID", c.Command.HelpName)
	}
	id := args[len(args)-1]
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		switch args[0] {
		case "blob":
			return p.catBlob(ctx, r, id)
		case "tree":
			return p.catTree(ctx, r, snapshotSelector(c), id)
		case "pack":
			return p.catPack(ctx, r, id)
		case "snapshot":
			return p.catSnapshot(ctx, r, snapshotSelector(c), id)
		case "config":
			return p.catFile(ctx, r, storage.File{Kind: storage.Config})
		}
		kind, err := parseKind(args[0])
		if err != nil {
			return err
		}
		file, err := findFile(ctx, r, kind, id)
		if err != nil {
			return err
		}
		return p.catFile(ctx, r, storage.File{Kind: kind, ID: file})
	})
}

// findFile returns the ID of the one file that begins with the digits of prefix.
func findFile(ctx context.Context, r *repo.Repo, kind storage.Kind, prefix string) (storage.ID, error) {
	id, err := r.Find(ctx, kind, prefix)
	switch {
	case errors.Is(err, repo.ErrNotFound):
		return id, usagef("no %v has an ID that begins with %q; `%s list` shows what there is", kind, prefix, programName)
	case errors.Is(err, repo.ErrAmbiguous):
		return id, usagef("more than one %v has an ID that begins with %q; write more digits", kind, prefix)
	}
	return id, err
}

func (p *program) catFile(ctx context.Context, r *repo.Repo, f storage.File) error {
	text, err := r.LoadUnpacked(ctx, f)
	if err != nil {
		return err
	}
	id := ""
	if f.Kind != storage.Config {
		id = f.ID.String()
	}
	return p.printContent(f.Kind.String(), id, text)
}

func (p *program) catSnapshot(ctx context.Context, r *repo.Repo, s selector, name string) error {
	sn, err := s.find(ctx, r, name)
	if err != nil {
		return err
	}
	return p.catFile(ctx, r, storage.File{Kind: storage.Snapshot, ID: sn.ID()})
}

func (p *program) catTree(ctx context.Context, r *repo.Repo, s selector, name string) error {
	id, err := blob.ParseID(name)
	if err == nil {
		return p.printTree(ctx, r, id)
	}
	name, path, _ := strings.Cut(name, ":")
	sn, err := s.find(ctx, r, name)
	if err != nil {
		return err
	}
	rd, err := p.loadIndex(ctx, r)
	if err != nil {
		return err
	}
	id = sn.Tree
	for element := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if element == "" {
			continue
		}
		tree, err := rd.LoadTree(ctx, id)
		if err != nil {
			return err
		}
		n := tree.Find(element)
		if n == nil || n.Type != snapshot.TypeDir {
			return usagef("snapshot %s has no directory %q", sn.ID().Short(), path)
		}
		id = n.Subtree
	}
	return p.printTree(ctx, r, id)
}

func (p *program) printTree(ctx context.Context, r *repo.Repo, id blob.ID) error {
	rd, err := p.loadIndex(ctx, r)
	if err != nil {
		return err
	}
	text, err := rd.Load(ctx, blob.Handle{Kind: blob.Tree, ID: id}, nil)
	if err != nil {
		return err
	}
	return p.printContent("tree", id.String(), text)
}

func (p *program) catBlob(ctx context.Context, r *repo.Repo, name string) error {
	id, err := blob.ParseID(name)
	if err != nil {
		return usagef("blob %q: an ID of 64 hexadecimal digits is needed", name)
	}
	rd, err := p.loadIndex(ctx, r)
	if err != nil {
		return err
	}
	for _, kind := range []blob.Kind{blob.Data, blob.Tree} {
		h := blob.Handle{Kind: kind, ID: id}
		if !rd.Has(h) {
			continue
		}
		content, err := rd.Load(ctx, h, nil)
		if err != nil {
			return err
		}
		p.printBytes("blob", id.String(), content)
		return nil
	}
	return usagef("no index lists blob %s", id.Short())
}

func (p *program) catPack(ctx context.Context, r *repo.Repo, prefix string) error {
	id, err := findFile(ctx, r, storage.Pack, prefix)
	if err != nil {
		return err
	}
	content, err := r.Backend().Load(ctx, storage.File{Kind: storage.Pack, ID: id}, 0, -1)
	if err != nil {
		return err
	}
	if storage.Sum(content) != id {
		p.out.warn("%v is damaged: its content does not match its name", storage.File{Kind: storage.Pack, ID: id})
	}
	p.printBytes("pack", id.String(), content)
	return nil
}

// printContent prints JSON.
func (p *program) printContent(kind, id string, text []byte) error {
	if p.out.json {
		p.out.printJSON(contentReport{MessageType: "content", Type: kind, ID: id, Content: text})
		return nil
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, bytes.TrimSpace(text), "", "  "); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	p.out.printf("%s\n", indented.String())
	return nil
}

// printBytes prints what is not JSON, as it is.
func (p *program) printBytes(kind, id string, content []byte) {
	if p.out.json {
		p.out.printJSON(contentReport{MessageType: "content", Type: kind, ID: id, Bytes: content})
		return
	}
	p.out.write(content)
}
