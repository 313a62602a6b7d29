package command

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
)

// drilledReport is what became of one stream in a drill.
type drilledReport struct {
	MessageType string   `json:"message_type"` // "drilled_stream"
	Name        string   `json:"name"`
	Snapshot    string   `json:"snapshot_id"`
	Messages    uint64   `json:"messages"`
	Bytes       uint64   `json:"bytes"` // of subjects, headers and payloads
	FirstSeq    uint64   `json:"first_seq,omitempty"`
	LastSeq     uint64   `json:"last_seq,omitempty"`
	Consumers   int      `json:"consumers"`
	Sampled     bool     `json:"sampled,omitempty"` // only a part of it was restored
	Restoring   float64  `json:"restore_seconds"`
	Comparing   float64  `json:"compare_seconds"`
	Digest      string   `json:"sha256,omitempty"` // of the entries of all its messages
	Outcome     string   `json:"outcome"`          // "equal", "differs", "failed", "not captured", "nothing chosen"
	Differences []string `json:"differences,omitempty"`
	Notes       []string `json:"notes,omitempty"`
	Error       string   `json:"error,omitempty"`
}

// drillReport is what a drill found.
type drillReport struct {
	MessageType string  `json:"message_type"` // "drill"
	Snapshot    string  `json:"snapshot_id"`
	At          string  `json:"at,omitempty"`
	Streams     int     `json:"streams"` // that are equal
	Failed      int     `json:"failed_streams"`
	Messages    uint64  `json:"messages"`
	Bytes       uint64  `json:"bytes"`
	Consumers   int     `json:"consumers"`
	Equal       bool    `json:"equal"`           // all that was chosen, or sampled of it, was restored, and is what the snapshot says
	Restoring   float64 `json:"restore_seconds"` // until all streams were there
	Comparing   float64 `json:"compare_seconds"`
	disturbances

	streams []drilledReport
}

func (r *drillReport) text(o *output) {
	l := newListing("Stream", "Messages>", "Size>", "Consumers>", "Restored in>", "Compared in>", "SHA-256", "")
	for _, s := range r.streams {
		digest := s.Digest
		if len(digest) > 16 {
			digest = digest[:16]
		}
		outcome := s.Outcome
		if s.Sampled {
			outcome += fmt.Sprintf(", a sample: %d to %d", s.FirstSeq, s.LastSeq)
		}
		l.row(s.Name, formatCount(s.Messages), formatSize(s.Bytes), s.Consumers, took(s.Restoring), took(s.Comparing), digest, outcome)
	}
	o.table(l)
	verdict := "all are what the snapshot says"
	if slices.ContainsFunc(r.streams, func(s drilledReport) bool { return s.Sampled }) {
		verdict = "what was sampled is what the snapshot says"
	}
	switch {
	case r.Failed == 0 && r.Streams == 0:
		verdict = "nothing was chosen, and nothing is known"
	case !r.Equal:
		verdict = fmt.Sprintf("%s not what the snapshot says", plural(r.Failed, "stream"))
	}
	o.printf("restored %s of snapshot %s, %s messages, %s, into an empty server in %s (%s/s); compared every message and consumer in %s: %s\n",
		plural(len(r.streams), "stream"), r.Snapshot[:10], formatCount(r.Messages), formatSize(r.Bytes), took(r.Restoring),
		formatSize(uint64(float64(r.Bytes)/max(r.Restoring, 0.001))), took(r.Comparing), verdict)
}

func (p *program) verifyCommand() *cli.Command {
	return p.command(scheduled|needsRepository|needsSnapshots, &cli.Command{
		Name:      "verify",
		Usage:     "restore drill: restore streams into a private server, and compare every message and consumer",
		ArgsUsage: "[SNAPSHOT] [STREAM…]",
		Description: "Starts a NATS server inside this program, on the loopback interface, which only this program can use, with its files in a\n" +
			"temporary directory; restores the streams of the snapshot (latest where nothing is given) into it, reads everything back,\n" +
			"compares, says how long the restore took, and removes all of it. The streams stand for themselves there: in files, without\n" +
			"replicas, mirrors, sources and expiry. No other server is asked for anything.",
		Flags: append(append(selectionFlags(), cutFlags()...),
			&cli.StringFlag{Name: "sample", Usage: "of each stream that is larger, only a run of messages of about `SIZE`, anywhere in it: 500MiB, 10GiB"},
			&cli.StringFlag{Name: "dir", Usage: "keep the server's files below `DIR`, which needs room for the streams", DefaultText: "the system's directory for temporary files"},
			&cli.BoolFlag{Name: "no-consumers", DisableDefaultText: true, Usage: "leave consumers out"},
			concurrencyFlag("restore `N` streams"),
		),
		Action: p.verify,
	})
}

func (p *program) verify(c *cli.Context) error {
	name, o, err := p.drillOptions(c)
	if err != nil {
		return err
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		from, rd, err := p.origin(ctx, c, r, name, o.Cut)
		if err != nil {
			return err
		}
		private, err := startPrivate(ctx, c.String("dir"))
		if err != nil {
			return err
		}
		defer private.stop()
		var bars *progress
		o.Progress = func(x restore.Progress) { bars.report(restoreStep(x)) }
		plan, err := from.plan(ctx, rd, private.conn, o)
		if err != nil {
			return drillFailure(err)
		}
		for _, w := range plan.Warnings {
			p.out.warn("%s", w)
		}
		if err := private.hasRoom(plan); err != nil {
			return err
		}
		bars = p.showProgress("message")
		res, err := plan.Run(ctx)
		if err != nil {
			bars.finish()
			return err
		}
		restored := res.Took
		began := p.now()
		err = plan.Compare(ctx, res)
		bars.finish()
		if err != nil {
			return err
		}
		return p.drilled(plan, res, restored, p.now().Sub(began))
	})
}

func (p *program) drillOptions(c *cli.Context) (name string, o restore.Options, err error) {
	if name, o, err = restoreOptions(c, p.now()); err != nil {
		return name, o, err
	}
	if text := c.String("sample"); text != "" {
		o.Cut.Sample, err = humanize.ParseBytes(text)
		if err != nil || o.Cut.Sample == 0 {
			return name, o, usagef("--sample %q is no size; it is a number and a unit: 500MiB, 10GiB", text)
		}
		o.Cut.Seed = mathrand.Uint64()
	}
	o.Target.Alone = true
	return name, o, nil
}

// drillFailure is why nothing could be restored into the private server.
func drillFailure(err error) error {
	var conflict *restore.ConflictError
	if errors.As(err, &conflict) {
		return &damageError{fmt.Sprintf("an empty server cannot take what the snapshot has: %v", err)}
	}
	return err
}

// drilled prints what a drill found.
func (p *program) drilled(plan *restore.Plan, res *restore.Result, restoring, comparing time.Duration) error {
	r := &drillReport{MessageType: "drill", Snapshot: plan.Snapshot.ID().String(), Restoring: restoring.Seconds(), Comparing: comparing.Seconds()}
	if at := plan.Options.Cut.At; !at.IsZero() {
		r.At = at.UTC().Format(time.RFC3339Nano)
	}
	for i, s := range res.Streams {
		r.add(newDrilledReport(plan.Streams[i], s))
	}
	for _, f := range plan.Missing {
		r.add(drilledReport{MessageType: "drilled_stream", Name: f.Name, Snapshot: r.Snapshot, Outcome: "not captured", Error: f.Error})
	}
	r.Equal = r.Failed == 0 && r.Streams > 0
	var first string
	for _, s := range r.streams {
		if p.out.json {
			p.out.printJSON(s)
		}
		for _, note := range s.Notes {
			p.out.note("stream %s: %s", s.Name, note)
		}
		if s.Error != "" {
			p.out.warn("stream %s: %s", s.Name, s.Error)
			first = cmp.Or(first, s.Name)
		}
	}
	p.out.print(r)
	if len(res.Failed()) > 0 {
		return &damageError{fmt.Sprintf("%s streams are not what the snapshot says; the first is %s, and the warnings above say why", share(r.Failed, len(r.streams)), first)}
	}
	return notCaptured(plan, "")
}

func newDrilledReport(s *restore.StreamPlan, res restore.StreamResult) drilledReport {
	r := drilledReport{
		MessageType: "drilled_stream", Name: res.Name, Snapshot: s.From.ID().String(), Messages: res.Messages, Bytes: res.Bytes, FirstSeq: res.FirstSeq, LastSeq: res.LastSeq,
		Consumers: res.Consumers, Sampled: s.Sampled(), Restoring: res.Took.Seconds(), Comparing: res.Comparing.Seconds(), Digest: res.Digest, Outcome: "equal", Notes: res.Notes,
	}
	var differs *restore.DifferenceError
	switch {
	case errors.As(res.Err, &differs):
		r.Outcome, r.Differences, r.Error = "differs", differs.Differences, differs.Error()
	case res.Err != nil:
		r.Outcome, r.Error = "failed", strings.TrimPrefix(res.Err.Error(), "stream "+res.Name+": ")
	case res.Nothing != "":
		r.Outcome = outcomeNothing
	}
	return r
}

func (r *drillReport) add(s drilledReport) {
	r.streams = append(r.streams, s)
	switch s.Outcome {
	case "equal":
		r.Streams++
		r.Messages, r.Bytes, r.Consumers = r.Messages+s.Messages, r.Bytes+s.Bytes, r.Consumers+s.Consumers
	case outcomeNothing:
	default:
		r.Failed++
	}
}

// privateServer is a server that only this process can use.
type privateServer struct {
	dir  string
	srv  *natsd.Server
	conn *jetstream.Conn
}

// drillPayload is the largest message that a server can be told to take, in bytes.
const drillPayload = 64 << 20

// startPrivate starts a server with its files in a directory of its own below dir.
func startPrivate(ctx context.Context, dir string) (*privateServer, error) {
	own, err := os.MkdirTemp(dir, programName+"-verify-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the private server: %w", err)
	}
	s := &privateServer{dir: own}
	user, password := rand.Text(), rand.Text()
	s.srv, err = natsd.Start(natsd.Options{
		StoreDir: filepath.Join(own, "nats"), Name: programName + "-verify", MaxPayload: drillPayload, Users: []natsd.User{{Name: user, Password: password}},
	})
	if err == nil {
		s.conn, err = jetstream.Connect(ctx, jetstream.Config{Servers: s.srv.URL(), User: user, Password: secret.New(password)})
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("private server: %w", err)
	}
	return s, nil
}

func (s *privateServer) stop() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.srv != nil {
		s.srv.Shutdown()
	}
	os.RemoveAll(s.dir)
}

// hasRoom fails where the streams need more of the disk than the server may use.
func (s *privateServer) hasRoom(plan *restore.Plan) error {
	var need uint64
	for _, x := range plan.Streams {
		need += x.ArchiveSize
	}
	if room := s.srv.MaxStore(); need > uint64(max(room, 0)) {
		return usagef("the streams need %s, and the private server may use %s below %s: give it another place with --dir, or take a --sample",
			formatSize(need), formatSize(room), filepath.Dir(s.dir))
	}
	return nil
}
