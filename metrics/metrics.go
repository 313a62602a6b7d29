// Package metrics tells Prometheus what a run did: in a file that node_exporter's
// textfile collector reads, or through a Pushgateway.
//
// A run that got no result says so, and leaves alone what the run before said of
// streams and snapshots: both ways replace a metric, with all its series, where
// the run has something to say of it, and nothing else.
package metrics

import (
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// Run is what is told of a run.
type Run struct {
	Command  string // such as "backup"
	Began    time.Time
	Took     time.Duration
	ExitCode int

	// StorageRetries counts requests to storages that were repeated.
	StorageRetries int64

	// Accounts are those that it saved a snapshot of. One may be there several times,
	// with a snapshot each, the last of which is told of.
	Accounts []Account
}

// Account is an account of which a snapshot was saved, or was found to hold all
// that there is.
type Account struct {
	Host, Name string
	Snapshot   time.Time // when it was taken
	Added      uint64    // to the repository, in bytes
	Streams    []Stream
}

// Stream is what a run did with a stream.
type Stream struct {
	Name            string
	OK              bool   // it is in the snapshot, and whole
	Messages, Bytes uint64 // in the snapshot
	New, Added      uint64 // messages that came; bytes that were stored
	LastSeq         uint64
}

// families returns what is told of a run, one family a metric.
func (r Run) families() []*dto.MetricFamily {
	f := new(table)
	f.add("jetsam_last_run_timestamp_seconds", "When the last run ended.", seconds(r.Began.Add(r.Took)))
	f.add("jetsam_last_run_duration_seconds", "How long the last run took.", r.Took.Seconds())
	f.add("jetsam_last_run_exit_code", "Exit code of the last run; 0 is success, 3 that part of it was not done.", float64(r.ExitCode))
	f.add("jetsam_last_run_storage_retries", "Requests to storages that the last run repeated.", float64(r.StorageRetries))
	if r.ExitCode == 0 {
		f.add("jetsam_last_success_timestamp_seconds", "When the last run ended that did all it was asked for.", seconds(r.Began.Add(r.Took)))
	}
	for _, a := range merged(r.Accounts) {
		of := []string{"host", a.Host, "account", a.Name}
		f.add("jetsam_snapshot_timestamp_seconds", "When the last snapshot of the account was taken.", seconds(a.Snapshot), of...)
		f.add("jetsam_snapshot_added_bytes", "What the last snapshot added to the repository.", float64(a.Added), of...)
		for _, s := range a.Streams {
			f.addStream(s, append(of[:len(of):len(of)], "stream", s.Name))
		}
	}
	return f.all
}

// merged returns each account, and each of its streams, once: Prometheus takes nothing
// of what has a metric twice.
func merged(all []Account) (out []Account) {
	for _, a := range all {
		at := slices.IndexFunc(out, func(b Account) bool { return b.Host == a.Host && b.Name == a.Name })
		if at < 0 {
			out = append(out, Account{Host: a.Host, Name: a.Name})
			at = len(out) - 1
		}
		again := make(map[string]bool, len(a.Streams))
		for _, s := range a.Streams {
			again[s.Name] = true
		}
		known := slices.DeleteFunc(out[at].Streams, func(old Stream) bool { return again[old.Name] })
		a.Streams = append(known, a.Streams...)
		out[at] = a
	}
	return out
}

func (t *table) addStream(s Stream, of []string) {
	ok := 0.0
	if s.OK {
		ok = 1
	}
	t.add("jetsam_stream_ok", "1 if the last run has the stream, whole; 0 if not.", ok, of...)
	if !s.OK {
		return
	}
	t.add("jetsam_stream_messages", "Messages of the stream in the last snapshot.", float64(s.Messages), of...)
	t.add("jetsam_stream_bytes", "Bytes of its subjects, headers and payloads.", float64(s.Bytes), of...)
	t.add("jetsam_stream_new_messages", "Messages that came since the snapshot before.", float64(s.New), of...)
	t.add("jetsam_stream_added_bytes", "What the stream added to the repository.", float64(s.Added), of...)
	t.add("jetsam_stream_last_sequence", "Last sequence of the stream in the last snapshot.", float64(s.LastSeq), of...)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// table gathers families in the order in which they were first named.
type table struct{ all []*dto.MetricFamily }

// add adds a gauge. labels are names and values in turn.
func (t *table) add(name, help string, value float64, labels ...string) {
	m := &dto.Metric{Gauge: &dto.Gauge{Value: &value}}
	for i := 0; i < len(labels); i += 2 {
		m.Label = append(m.Label, &dto.LabelPair{Name: &labels[i], Value: &labels[i+1]})
	}
	for _, f := range t.all {
		if f.GetName() == name {
			f.Metric = append(f.Metric, m)
			return
		}
	}
	t.all = append(t.all, &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{m}})
}
