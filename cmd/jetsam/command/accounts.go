package command

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"jetsam/backup"
	"jetsam/jetstream"
	"jetsam/repo"
)

// accountReport is what became of one account, of a run of several.
type accountReport struct {
	Job     string           `json:"job"`
	Account string           `json:"account,omitempty"` // its name, where it is known
	Code    int              `json:"code"`              // the exit code of the same backup alone
	Error   string           `json:"error,omitempty"`
	Summary *backupReport    `json:"summary,omitempty"` // as one account has it; nil where no snapshot holds it
	Streams []backedUpReport `json:"stream_results,omitempty"`
	Planned []plannedReport  `json:"planned_streams,omitempty"` // of a dry run

	err error
}

// accountsReport is what a run of several accounts did.
type accountsReport struct {
	MessageType string          `json:"message_type"`  // "run", or "planned_run" of a dry run
	Tag         string          `json:"tag,omitempty"` // that the snapshots have in common
	Time        time.Time       `json:"time"`          // likewise
	Accounts    []accountReport `json:"accounts"`
	Failed      int             `json:"failed_accounts"` // that are in no snapshot, or not whole
	Seconds     float64         `json:"seconds"`
	disturbances
}

func (r *accountsReport) text(o *output) {
	saved := plural(len(r.Accounts)-r.Failed, "account")
	if r.MessageType == "planned_run" {
		o.printf("would back up %s of %s; nothing was written\n", saved, formatCount(len(r.Accounts)))
		return
	}
	o.printf("%s of %s backed up, tag %s, in %s\n", saved, formatCount(len(r.Accounts)), r.Tag, took(r.Seconds))
}

// accountsRun backs up several accounts into one repository.
type accountsRun struct {
	p     *program
	r     *repo.Repo
	dry   bool
	alone bool // there is only one
	seen  map[owner]seenAccount
	index backup.Index // of the repository, loaded for the first one
}

// owner is what tells snapshots of different accounts apart, and seenAccount the account that was met under that.
type (
	owner       struct{ host, account string }
	seenAccount struct{ key, job string }
)

// backUpAccounts backs up one account after the other, with the repository locked all the while.
func (p *program) backUpAccounts(ctx context.Context, r *repo.Repo, jobs []job, dry bool) error {
	run := &accountsRun{p: p, r: r, dry: dry, alone: len(jobs) == 1, seen: map[owner]seenAccount{}}
	if dry {
		return run.all(ctx, jobs)
	}
	lock, err := r.Lock(ctx, false)
	if err != nil {
		return err
	}
	return errors.Join(run.all(lock.Context(), jobs), lock.Release())
}

func (a *accountsRun) all(ctx context.Context, jobs []job) error {
	began := a.p.now()
	report := &accountsReport{MessageType: "run", Tag: fmt.Sprintf("run-%08x", rand.Uint32()), Time: began}
	if a.dry {
		report.MessageType, report.Tag = "planned_run", ""
	}
	for _, j := range jobs {
		if j.options.Time.IsZero() {
			j.options.Time = began
		}
		report.Time = j.options.Time
		j.options.Index = &a.index
		if !a.dry {
			j.options.Tags = append(j.options.Tags[:len(j.options.Tags):len(j.options.Tags)], report.Tag)
		}
		done := a.one(ctx, j)
		if done.err != nil {
			report.Failed++
		}
		report.Accounts = append(report.Accounts, done)
		if ctx.Err() != nil {
			break
		}
	}
	report.Seconds = a.p.now().Sub(began).Seconds()
	a.p.out.print(report)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return failedAccounts(report)
}

// one backs up one account, or says what would be.
func (a *accountsRun) one(ctx context.Context, j job) (report accountReport) {
	a.p.out.about = "job " + j.name + ": "
	defer func() { a.p.out.about = "" }()
	report.Job = j.name
	report.err = a.backUp(ctx, j, &report)
	if report.err != nil {
		e := endingOf(report.err)
		report.Code, report.Error = e.code, report.err.Error()
		if ctx.Err() == nil {
			a.p.out.warn("%s", strings.TrimSuffix(report.Error+"\n"+e.advice, "\n"))
		}
	}
	return report
}

func (a *accountsRun) backUp(ctx context.Context, j job, report *accountReport) error {
	conn, err := a.p.connectTo(ctx, j.config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if report.Account, err = a.name(ctx, conn, j); err != nil {
		return err
	}
	if a.dry {
		return a.plan(ctx, conn, j, report)
	}
	res, err := a.p.capture(ctx, conn, a.r, j.options)
	if res != nil {
		summary := newBackupReport(res)
		summary.count(a.p.out)
		if report.Streams = summary.streams; err == nil {
			report.Summary = summary
		}
	}
	if err != nil {
		return err
	}
	a.show(report, report.Summary.text)
	return partialBackup(res)
}

func (a *accountsRun) plan(ctx context.Context, conn *jetstream.Conn, j job, report *accountReport) error {
	streams, err := backup.Plan(ctx, conn, j.options.Selection)
	if err != nil {
		return err
	}
	a.p.out.warnOfLeaderless(streams)
	report.Planned = newPlannedReports(streams)
	a.show(report, func(o *output) { o.tellPlanned(report.Planned) })
	return nil
}

// show prints for people what became of an account; for programs all stands together at the end.
func (a *accountsRun) show(report *accountReport, text func(*output)) {
	if !a.p.out.json {
		a.p.out.printf("account %s, job %s\n", report.Account, report.Job)
		text(a.p.out)
		a.p.out.printf("\n")
	}
}

// name finds out which account it is. Snapshots are told apart by host and account: one that could be taken for another is refused.
func (a *accountsRun) name(ctx context.Context, conn *jetstream.Conn, j job) (string, error) {
	account, err := conn.Account(ctx)
	if err != nil || a.alone {
		return account.Name, err
	}
	if account.Key == "" && j.config.Account == "" {
		return "", errors.New("the server does not tell the account's name, and without it the accounts of a run cannot be told apart\n" +
			"let the user publish to $SYS.REQ.USER.INFO, or name the account in the jobs file: \"account\"")
	}
	is := owner{backup.Host(conn.Server(), j.options), account.Name}
	if other, known := a.seen[is]; known && other.key != account.Key {
		return "", fmt.Errorf("it is another account than that of job %s, and both are called %s on %s: their snapshots could not be told apart\n"+
			"give one of them another host in the jobs file: \"host\"", other.job, is.account, is.host)
	}
	a.seen[is] = seenAccount{account.Key, j.name}
	return account.Name, nil
}

// failedAccounts is the error of a run in which accounts failed: of one where nothing was backed up, the first failure.
func failedAccounts(r *accountsReport) error {
	var names []string
	saved := false
	for _, a := range r.Accounts {
		saved = saved || a.Summary != nil || a.Planned != nil
		if a.err != nil {
			names = append(names, a.Job)
		}
	}
	switch {
	case len(names) == 0:
		return nil
	case !saved:
		return fmt.Errorf("none of %s was backed up; the first, job %s: %w", plural(len(names), "account"), names[0], r.Accounts[0].err)
	}
	return &partialError{fmt.Sprintf("%s accounts were not backed up, or not whole: %s\nthe warnings above say why; mend that and run the backup again",
		share(len(names), len(r.Accounts)), strings.Join(names, ", "))}
}
