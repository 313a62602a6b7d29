package command

import (
	"cmp"
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/metrics"
)

const metricsHeading = "Metrics"

// metricsFlags say where the run is told of when it has ended. Every command takes them; those that schedulers run show them.
func metricsFlags(hidden bool) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "metrics-file", EnvVars: []string{"JETSAM_METRICS_FILE"}, Usage: "write metrics of the run to `FILE`, as node_exporter's textfile collector reads them", Category: metricsHeading, Hidden: hidden},
		&cli.StringFlag{Name: "metrics-push", EnvVars: []string{"JETSAM_METRICS_PUSH"}, Usage: "send metrics of the run to the Pushgateway at `URL`", Category: metricsHeading, Hidden: hidden},
		&cli.StringFlag{Name: "metrics-job", EnvVars: []string{"JETSAM_METRICS_JOB"}, Usage: "`NAME` of the job there", Value: programName, Category: metricsHeading, Hidden: hidden},
	}
}

// measurement is what will be told of a run, and where.
type measurement struct {
	file, push, job string
	command         string
	began           time.Time
}

func newMeasurement(c *cli.Context, now time.Time) *measurement {
	m := &measurement{file: c.String("metrics-file"), push: c.String("metrics-push"), job: cmp.Or(c.String("metrics-job"), programName), command: commandName(c), began: now}
	if m.file == "" && m.push == "" {
		return nil
	}
	return m
}

// measured is a report of which metrics tell more than that the run has ended.
type measured interface{ accounts() []metrics.Account }

// tell tells of the run that ends with code. What goes wrong with that is a warning: the run is what it is.
func (m *measurement) tell(ctx context.Context, o *output, now time.Time, code int) {
	if m == nil {
		return
	}
	r := metrics.Run{Command: m.command, Began: m.began, Took: now.Sub(m.began), ExitCode: code, StorageRetries: o.repeated.Load()}
	for _, x := range o.measured {
		r.Accounts = append(r.Accounts, x.accounts()...)
	}
	if m.file != "" {
		if err := metrics.WriteFile(m.file, r); err != nil {
			o.warn("%v", err)
		}
	}
	if m.push != "" {
		if err := metrics.Push(context.WithoutCancel(ctx), m.push, m.job, r); err != nil {
			o.warn("%v", err)
		}
	}
}

func (r *backupReport) accounts() []metrics.Account {
	a := metrics.Account{Host: r.Host, Name: r.Account, Snapshot: r.Time, Added: r.Added}
	for _, s := range r.streams {
		a.Streams = append(a.Streams, metrics.Stream{
			Name: s.Name, OK: s.Error == "" && s.Torn == "", Messages: s.Messages, Bytes: s.Bytes, New: s.New, Added: s.Added, LastSeq: s.LastSeq,
		})
	}
	return []metrics.Account{a}
}

func (r *accountsReport) accounts() (all []metrics.Account) {
	for _, a := range r.Accounts {
		if a.Summary != nil {
			all = append(all, a.Summary.accounts()...)
		}
	}
	return all
}
