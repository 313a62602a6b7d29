package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/storage"
	"jetsam/streamlog"
)

// repairedPackReport is a damaged pack, and what became of what it held.
type repairedPackReport struct {
	MessageType string `json:"message_type"` // "repaired_pack"
	ID          string `json:"id"`
	Error       string `json:"error"`          // what is wrong with it
	Gone        bool   `json:"gone,omitempty"` // it does not exist
	Blobs       int    `json:"blobs"`          // that it held, as far as that is known
	Saved       int    `json:"saved"`
	Lost        int    `json:"lost"`           // blobs that cannot be read in it, nor elsewhere
	Kept        string `json:"kept,omitempty"` // where the copy is
	Left        string `json:"left,omitempty"` // why it is left as it is
}

// packsRepairReport is what a repair of packs did, or would do.
type packsRepairReport struct {
	MessageType string   `json:"message_type"` // "packs_repaired"
	DryRun      bool     `json:"dry_run,omitempty"`
	Packs       int      `json:"packs"` // that are damaged
	Left        int      `json:"left"`  // of them, as they are
	Sound       []string `json:"sound,omitempty"`
	Saved       int      `json:"saved"`
	Lost        int      `json:"lost"`
	Losses      int      `json:"losses"` // files and directories of snapshots
	disturbances
}

// keeper keeps copies of damaged packs in a directory.
type keeper struct {
	dir  string
	kept map[storage.ID]string
}

// copyPiece is how many bytes of a pack are copied at a time.
const copyPiece = 16 << 20

// keep writes the copy of a pack, whole or not at all. One that is there already, with the same bytes, will do.
func (k *keeper) keep(_ context.Context, id storage.ID, size int64, read func(off int64, n int) ([]byte, error)) error {
	path := filepath.Join(k.dir, "pack-"+id.String())
	k.kept[id] = path
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return sameFile(path, size, read)
	}
	if err != nil {
		return fmt.Errorf("keep a copy: %w", err)
	}
	err = pieces(size, read, func(p []byte) error {
		_, err := f.Write(p)
		return err
	})
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("keep a copy in %s: %w", k.dir, err), os.Remove(path))
	}
	return nil
}

// pieces reads a pack piece by piece.
func pieces(size int64, read func(off int64, n int) ([]byte, error), take func([]byte) error) error {
	for off := int64(0); off < size; off += copyPiece {
		p, err := read(off, int(min(copyPiece, size-off)))
		if err == nil {
			err = take(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sameFile is an error where a file does not have the bytes of a pack.
func sameFile(path string, size int64, read func(off int64, n int) ([]byte, error)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("keep a copy: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	differs := fmt.Errorf("keep a copy: %s is there already, and has other bytes; move it away", path)
	if err != nil || info.Size() != size {
		return errors.Join(differs, err)
	}
	return pieces(size, read, func(p []byte) error {
		have := make([]byte, len(p))
		if _, err := io.ReadFull(f, have); err != nil || !bytes.Equal(have, p) {
			return errors.Join(differs, err)
		}
		return nil
	})
}

func (p *program) repairPacks(c *cli.Context) error {
	names := c.Args().Slice()
	switch {
	case c.Bool("read-data") && len(names) > 0:
		return usagef("--read-data finds the damaged packs, and %s names one; which is it?", names[0])
	case !c.Bool("read-data") && len(names) == 0:
		return usagef("name the packs, as `jetsam check --read-data` names them, or let --read-data find them")
	case c.Bool("no-keep") && c.IsSet("keep"):
		return usagef("--keep and --no-keep; which is it?")
	}
	o := repo.RepairPacksOptions{Contents: streamlog.NewChecker(), DryRun: c.Bool("dry-run")}
	k := &keeper{dir: c.String("keep"), kept: map[storage.ID]string{}}
	if !c.Bool("no-keep") && !o.DryRun {
		if info, err := os.Stat(k.dir); err != nil || !info.IsDir() {
			return usagef("--keep %s: there is no such directory", k.dir)
		}
		o.Keep = k.keep
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		for _, name := range names {
			id, err := findPack(ctx, r, name)
			if err != nil {
				return err
			}
			o.IDs = append(o.IDs, id)
		}
		x, err := showRepair(p, func(progress func(repo.RepairProgress)) (*repo.PacksRepair, error) {
			return r.RepairPacks(ctx, o, progress)
		})
		if err != nil {
			return err
		}
		return p.tellPacks(x, k, o.DryRun)
	})
}

// findPack finds the pack that a name means: an ID, also one of a pack that is gone, or the beginning of one.
func findPack(ctx context.Context, r *repo.Repo, name string) (storage.ID, error) {
	name = strings.TrimPrefix(name, "pack/") // as it stands in what check says
	if id, err := storage.ParseID(name); err == nil {
		return id, nil
	}
	id, err := r.Find(ctx, storage.Pack, name)
	if errors.Is(err, repo.ErrNotFound) {
		return id, usagef("there is no pack whose ID begins with %q; `jetsam list packs` lists them, and `jetsam repair index` takes those out of the index that are gone", name)
	}
	return id, err
}

// tellPacks says what became of packs, and what is lost by them.
func (p *program) tellPacks(x *repo.PacksRepair, k *keeper, dryRun bool) error {
	report := &packsRepairReport{MessageType: "packs_repaired", DryRun: dryRun, Sound: idTexts(x.Sound)}
	for _, pack := range x.Packs {
		r := newRepairedPackReport(pack, k)
		report.Packs, report.Saved, report.Lost = report.Packs+1, report.Saved+r.Saved, report.Lost+r.Lost
		if pack.Left != nil {
			report.Left++
		}
		p.out.print(r)
	}
	losses := x.Report.Losses()
	if report.Lost > 0 {
		report.Losses = len(losses)
		for _, f := range losses {
			if p.out.json {
				p.out.printJSON(newFindingReport(f))
			} else {
				p.out.printf("%v\n", f)
			}
		}
	}
	p.out.print(report)
	switch {
	case report.Left > 0:
		return &partialError{fmt.Sprintf("%s left as they are, see above; where no copy can be kept, --no-keep goes without", plural(report.Left, "pack"))}
	case report.Losses > 0:
		return &partialError{"what snapshots lose by it is said above; a backup stores again what the server still has,\n" +
			"and `jetsam repair snapshots` makes snapshots of what is left"}
	}
	return nil
}

func newRepairedPackReport(x repo.RepairedPack, k *keeper) repairedPackReport {
	r := repairedPackReport{MessageType: "repaired_pack", ID: x.ID.String(), Error: x.Reason.Error(), Gone: x.Gone, Blobs: x.Blobs, Saved: x.Saved}
	for _, l := range x.Lost {
		if !l.Elsewhere {
			r.Lost++
		}
	}
	if x.Left != nil {
		r.Left = x.Left.Error()
	} else {
		r.Kept = k.kept[x.ID]
	}
	return r
}

func (r repairedPackReport) text(o *output) {
	o.printf("pack/%s: %s\n", r.ID[:10], r.Error)
	switch {
	case r.Left != "":
		o.printf("  left as it is: %s\n", r.Left)
		return
	case r.Saved+r.Lost < r.Blobs:
		o.printf("  %s, of which %s can be read here, and %s are elsewhere\n", plural(r.Blobs, "blob"), formatCount(r.Saved), formatCount(r.Blobs-r.Saved-r.Lost))
	default:
		o.printf("  %s, of which %s can be read\n", plural(r.Blobs, "blob"), formatCount(r.Saved))
	}
	if r.Lost > 0 {
		o.printf("  %s lost\n", plural(r.Lost, "blob"))
	}
	if r.Kept != "" {
		o.printf("  a copy of it is %s\n", r.Kept)
	}
}

func (r *packsRepairReport) text(o *output) {
	for _, id := range r.Sound {
		o.printf("pack/%s is sound, and left as it is\n", id[:10])
	}
	switch {
	case r.Packs == 0:
		o.printf("no damaged packs\n")
	case r.DryRun:
		o.printf("%s damaged; this was a dry run: nothing was changed\n", plural(r.Packs, "pack"))
	default:
		o.printf("%s repaired: %s saved, %s lost\n", plural(r.Packs-r.Left, "pack"), plural(r.Saved, "blob"), formatCount(r.Lost))
	}
}
