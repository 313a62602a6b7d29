package restore

import (
	"fmt"
	"slices"
	"strings"

	"jetsam/snapshot"
	"jetsam/streamlog"
)

// NotCapturedError says that nothing of what was chosen is in the snapshot: the backup could not read it.
type NotCapturedError struct {
	Snapshot string // the beginning of its ID
	Streams  []streamlog.FailedStream
}

func (e *NotCapturedError) Error() string {
	lines := make([]string, len(e.Streams))
	for i, f := range e.Streams {
		lines[i] = fmt.Sprintf("snapshot %s: stream %s is not in it, because the backup could not read it: %s", e.Snapshot, f.Name, withoutName(f))
	}
	return strings.Join(lines, "\n")
}

// withoutName is why a stream was not captured, without its name.
func withoutName(f streamlog.FailedStream) string {
	return strings.TrimPrefix(f.Error, "stream "+f.Name+": ")
}

// pickMissing puts those of the picked streams into the plan that the backup could not read, and returns the others.
func (p *Plan) pickMissing(picked []string, held map[string]*snapshot.Node) (there []string, err error) {
	failed := make(map[string]streamlog.FailedStream, len(p.Account.Failed))
	for _, f := range slices.Backward(p.Account.Failed) {
		failed[f.Name] = f
	}
	for _, name := range picked {
		if held[name] != nil {
			there = append(there, name)
			continue
		}
		p.Missing = append(p.Missing, failed[name])
	}
	if len(there) == 0 && len(p.Missing) > 0 {
		return nil, &NotCapturedError{Snapshot: p.Snapshot.ID().Short(), Streams: p.Missing}
	}
	for _, f := range p.Missing {
		p.Warnings = append(p.Warnings, fmt.Sprintf("stream %s is not in this snapshot, because the backup could not read it: %s", f.Name, withoutName(f)))
	}
	return there, nil
}

// failedNames are the names of the streams that the backup could not read.
func (p *Plan) failedNames() []string {
	var names []string
	for _, f := range p.Account.Failed {
		names = append(names, f.Name)
	}
	return names
}
