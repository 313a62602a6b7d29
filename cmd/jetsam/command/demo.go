package command

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/internal/natsd"
	"jetsam/internal/shop"
)

// demoOrders is how many orders the demo's shop has; each is two messages.
const demoOrders = 20_000

// demoReport is what the demo did.
type demoReport struct {
	MessageType string   `json:"message_type"` // "demo"
	Streams     int      `json:"streams"`
	Messages    int      `json:"messages"`
	Consumers   int      `json:"consumers"`
	First       int64    `json:"first_backup_bytes"` // that the repository grew by
	Second      int64    `json:"second_backup_bytes"`
	NewMessages int      `json:"second_backup_messages"` // that the second backup found new
	Undone      int      `json:"undone_messages"`        // that were purged, and are back
	Differences []string `json:"differences"`            // between the lost server and the restored one
	Seconds     float64  `json:"seconds"`
	Kept        string   `json:"kept,omitempty"` // where everything lies
}

func (p *program) demoCommand() *cli.Command {
	return p.command(0, &cli.Command{
		Name:  "demo",
		Usage: "show the whole round trip: nothing to install, nothing is left behind",
		Description: "Starts a NATS server inside this program, fills it, backs it up, undoes a purge, destroys the server, restores into another,\n" +
			"and compares the two message by message. Everything happens on the loopback interface and in a temporary directory.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "orders", Usage: "how many orders the demo's shop has", Value: demoOrders},
			&cli.StringFlag{Name: "keep", Usage: "keep the repository in `DIR`, to look at it afterwards"},
		},
		Action: p.demo,
	})
}

func (p *program) demo(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	orders := c.Int("orders")
	if orders < 100 || orders > 1_000_000 {
		return usagef("--orders %d is out of range; it is 100 to 1000000", orders)
	}
	forgetEnvironment()
	d := &demo{p: p, orders: orders, began: p.now(), color: hasColor(p.out.stdout)}
	d.report.MessageType = "demo"
	if err := d.settle(c.String("keep")); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer d.leave()
	if err := d.play(c.Context); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// forgetEnvironment takes the variables away that would lead the demo's commands to another server or repository.
func forgetEnvironment() {
	for _, f := range withShared(0) {
		if f, ok := f.(cli.DocGenerationFlag); ok {
			for _, name := range f.GetEnvVars() {
				os.Unsetenv(name)
			}
		}
	}
	os.Unsetenv("JETSAM_PASSWORD")
}

// demo is one performance.
type demo struct {
	p      *program
	orders int
	began  time.Time
	color  bool
	step   int
	aloud  bool // what commands have to say on stderr is part of the show

	dir, repository, passwordFile string
	kept                          bool

	source, target *natsd.Server
	shop           *shop.Shop
	lost           *shop.Account // what the first server held when it was destroyed
	report         demoReport
}

// settle finds a place to play.
func (d *demo) settle(keep string) (err error) {
	if d.dir, err = os.MkdirTemp("", "jetsam-demo-"); err != nil {
		return err
	}
	d.repository = filepath.Join(d.dir, "repository")
	d.passwordFile = filepath.Join(d.dir, "password")
	if keep != "" {
		if err := os.MkdirAll(keep, 0o700); err != nil {
			return err
		}
		d.repository, d.passwordFile = filepath.Join(keep, "repository"), filepath.Join(keep, "password")
		d.kept, d.report.Kept = true, keep
	}
	return os.WriteFile(d.passwordFile, []byte(rand.Text()+"\n"), 0o600)
}

// leave stops what runs and removes the temporary directory.
func (d *demo) leave() {
	if d.shop != nil {
		d.shop.Close()
	}
	for _, srv := range []*natsd.Server{d.source, d.target} {
		if srv != nil {
			srv.Shutdown()
		}
	}
	os.RemoveAll(d.dir)
}

// play is the performance, act by act.
func (d *demo) play(ctx context.Context) error {
	d.title("A NATS server, a small shop, a mistake, a disaster, and everything back.")
	for _, act := range []func(context.Context) error{
		d.openShop, d.createRepository, d.backUpFirst, d.tradeOn, d.undo, d.destroy, d.restoreAll, d.compare,
	} {
		if err := act(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
	}
	return d.finish()
}

func (d *demo) openShop(ctx context.Context) (err error) {
	d.act("A NATS server, and a shop that lives on it")
	if d.source, err = natsd.Start(natsd.Options{StoreDir: filepath.Join(d.dir, "nats-1"), Name: "demo"}); err != nil {
		return err
	}
	d.say("nats-server runs inside this program, at %s, with JetStream. A shop opens and does business: a stream of order events with headers, a work queue of e-mails, a key-value bucket of settings, an object store of invoices.", d.source.URL())
	if d.shop, err = shop.Open(ctx, d.source.URL(), 1); err != nil {
		return err
	}
	if err := d.shop.Trade(ctx, d.orders); err != nil {
		return err
	}
	d.say("%s orders later, billing and shipping are in the middle of their work: some events are acknowledged, some are waiting, some were delivered twice. A customer asked to be forgotten, so there are gaps.", formatCount(d.orders))
	return nil
}

func (d *demo) createRepository(ctx context.Context) error {
	d.act("An encrypted repository")
	if err := d.run(ctx, nil, "init", "--quiet"); err != nil {
		return err
	}
	d.say("Its format is restic's, version 2: if jetsam were gone, stock restic would read it.")
	return nil
}

func (d *demo) backUpFirst(ctx context.Context) (err error) {
	d.act("The first backup")
	d.report.First, err = d.growth(func() error { return d.run(ctx, d.source, "backup", "--all") })
	return err
}

func (d *demo) tradeOn(ctx context.Context) (err error) {
	d.act("More traffic, and a second backup")
	before, err := d.shop.Stored(ctx)
	if err != nil {
		return err
	}
	more := max(20, d.orders/100)
	if err := d.shop.Trade(ctx, more); err != nil {
		return err
	}
	after, err := d.shop.Stored(ctx)
	if err != nil {
		return err
	}
	d.report.NewMessages = after - before
	d.say("%s more orders, and all that comes with them: %s. The second backup goes on from the first: it fetches and stores what is new.", formatCount(more), plural(d.report.NewMessages, "new message"))
	d.report.Second, err = d.growth(func() error { return d.run(ctx, d.source, "backup", "--all") })
	if err != nil {
		return err
	}
	d.say("The repository grew by %s, after %s the first time.", formatSize(d.report.Second), formatSize(d.report.First))
	return nil
}

// undo purges a stream and restores it as it was the second before.
func (d *demo) undo(ctx context.Context) error {
	d.act("A mistake, and the second before it")
	d.aloud = true
	defer func() { d.aloud = false }()
	if err := sleepUntil(ctx, d.p.now().Truncate(time.Second).Add(time.Second)); err != nil {
		return err
	}
	before, err := shop.Look(ctx, d.source.URL())
	if err != nil {
		return err
	}
	moment := d.p.now().Truncate(time.Second)
	if err := sleepUntil(ctx, moment.Add(time.Second)); err != nil {
		return err
	}
	if d.report.Undone, err = d.shop.PurgeOrders(ctx); err != nil {
		return err
	}
	d.say("Somebody purges ORDERS in the wrong terminal: %s are gone. The next backup runs as if nothing had happened, and the newest snapshot has an empty stream.", plural(d.report.Undone, "message"))
	if err := d.run(ctx, d.source, "backup", "--all"); err != nil {
		return err
	}
	d.say("An earlier one tells how it was at %s. That is made beside the stream and read back; then the stream is backed up as it is now, and replaced.", moment.Local().Format(time.TimeOnly))
	if err := d.run(ctx, d.source, "restore", "latest", "ORDERS", "--at="+moment.Local().Format(time.DateTime), "--replace"); err != nil {
		return err
	}
	after, err := shop.Look(ctx, d.source.URL())
	if err != nil {
		return err
	}
	if differences := shop.Diff(before, after); len(differences) > 0 {
		return fmt.Errorf("the purge is not undone: %s", strings.Join(differences[:min(len(differences), 10)], "; "))
	}
	d.say("An application that looks finds every message and every consumer where it was before the purge. The backup goes on from there.")
	return d.run(ctx, d.source, "backup", "--all")
}

// sleepUntil returns at that time, or when ctx ends.
func sleepUntil(ctx context.Context, t time.Time) error {
	select {
	case <-time.After(time.Until(t)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *demo) destroy(ctx context.Context) (err error) {
	d.act("The disaster")
	if d.lost, err = shop.Look(ctx, d.source.URL()); err != nil {
		return err
	}
	d.shop.Close()
	d.shop = nil
	d.source.Shutdown()
	d.source = nil
	if err := os.RemoveAll(filepath.Join(d.dir, "nats-1")); err != nil {
		return err
	}
	d.say("The server is gone, and its disk with it. What is left is the repository and its password.")
	return nil
}

func (d *demo) restoreAll(ctx context.Context) (err error) {
	d.act("A new server, and everything back")
	if d.target, err = natsd.Start(natsd.Options{StoreDir: filepath.Join(d.dir, "nats-2"), Name: "phoenix"}); err != nil {
		return err
	}
	if err := d.run(ctx, nil, "check", "--read-data"); err != nil {
		return err
	}
	return d.run(ctx, d.target, "restore", "latest", "--verify")
}

func (d *demo) compare(ctx context.Context) error {
	d.act("The proof")
	found, err := shop.Look(ctx, d.target.URL())
	if err != nil {
		return err
	}
	d.report.Streams, d.report.Messages, d.report.Consumers = len(found.Streams), found.Messages(), found.Consumers()
	d.report.Differences = append([]string{}, shop.Diff(d.lost, found)...)
	d.say("Before the disaster, the demo had read the whole account as an application would, with none of jetsam's own code. Now it has read the new server and compared: sequence, time to the nanosecond, subject, header bytes and payload of every message, every gap, every stream's configuration, every consumer's place.")
	return nil
}

// finish says how it ended.
func (d *demo) finish() error {
	d.report.Seconds = d.p.now().Sub(d.began).Seconds()
	if d.p.out.json {
		d.p.out.printJSON(d.report)
	}
	if n := len(d.report.Differences); n > 0 {
		for _, difference := range d.report.Differences[:min(n, 10)] {
			d.p.out.warn("%s", difference)
		}
		return fmt.Errorf("the restored account differs from the lost one in %s", plural(n, "thing"))
	}
	d.verdict("%s messages in %s, %s: all equal. It took %s.",
		formatCount(d.report.Messages), plural(d.report.Streams, "stream"), plural(d.report.Consumers, "consumer"), took(d.report.Seconds))
	d.farewell()
	return nil
}

func (d *demo) farewell() {
	if d.kept {
		d.say("The repository is kept. Look at it with jetsam, or with stock restic:")
		d.show("jetsam -r %s -p %s snapshots", d.repository, d.passwordFile)
		d.show("restic -r %s -p %s snapshots", d.repository, d.passwordFile)
	} else {
		d.say("Nothing is left behind. To keep the repository and look at it with stock restic: jetsam demo --keep DIR")
	}
	d.say("With your own server, it is the same three commands:")
	d.show("jetsam init --repo /srv/backup")
	d.show("jetsam backup --repo /srv/backup --server nats://localhost:4222 --all")
	d.show("jetsam restore --repo /srv/backup --server nats://localhost:4222 latest")
	d.say("jetsam help lists the commands, and jetsam COMMAND --help explains one.")
}

// run shows a command of jetsam and runs it as it is, with the demo's repository and server.
func (d *demo) run(ctx context.Context, srv *natsd.Server, args ...string) error {
	d.show("%s %s", programName, quoted(args))
	full := append(slices.Clone(args), "--repo="+d.repository, "--password-file="+d.passwordFile)
	if srv != nil {
		full = append(full, "--server="+srv.URL())
	}
	stdout, stderr := io.Writer(&indented{to: d.p.out}), d.p.sys.Stderr
	if d.aloud && !d.p.out.json && !d.p.out.quiet {
		stderr, full = stdout, append(full, "--no-progress")
	}
	if d.p.out.json {
		stdout, full = io.Discard, append(full, "--json")
	}
	if d.p.out.quiet || d.p.out.json {
		full = append(full, "--quiet")
	}
	if d.p.out.noProgress {
		full = append(full, "--no-progress")
	}
	code := Run(ctx, System{Stdout: stdout, Stderr: stderr}, full)
	if code != exitDone {
		return fmt.Errorf("`%s %s` ended with exit code %d", programName, strings.Join(args, " "), code)
	}
	return nil
}

// quoted is a command line as one types it.
func quoted(args []string) string {
	line := make([]string, len(args))
	for i, a := range args {
		if line[i] = a; strings.Contains(a, " ") {
			name, value, _ := strings.Cut(a, "=")
			line[i] = name + ` "` + value + `"`
		}
	}
	return strings.Join(line, " ")
}

// growth is by how many bytes f lets the repository grow.
func (d *demo) growth(f func() error) (int64, error) {
	before, err := directorySize(d.repository)
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := directorySize(d.repository)
	return after - before, err
}

func directorySize(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		return nil
	})
	return size, err
}

// indented writes lines below the narration.
type indented struct {
	to      *output
	partial []byte
}

func (w *indented) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	for {
		line, rest, found := bytes.Cut(w.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.to.write([]byte(strings.TrimRight("      "+string(line), " ") + "\n"))
		w.partial = rest
	}
}
