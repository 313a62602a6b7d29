package shop

import "fmt"

// Diff tells in words how b differs from a: nothing where they are equal.
func Diff(a, b *Account) []string {
	d := &differ{}
	theirs := make(map[string]Stream, len(b.Streams))
	for _, s := range b.Streams {
		theirs[s.Name] = s
	}
	for _, s := range a.Streams {
		other, ok := theirs[s.Name]
		delete(theirs, s.Name)
		if !ok {
			d.add("stream %s is missing", s.Name)
			continue
		}
		d.stream(s, other)
	}
	for name := range theirs {
		d.add("stream %s is there without being asked for", name)
	}
	return d.found
}

type differ struct{ found []string }

func (d *differ) add(format string, args ...any) {
	d.found = append(d.found, fmt.Sprintf(format, args...))
}

func (d *differ) equal(what string, a, b any) {
	if a != b {
		d.add("%s is %v, was %v", what, b, a)
	}
}

func (d *differ) stream(a, b Stream) {
	of := "stream " + a.Name + ": "
	d.equal(of+"configuration", a.Config, b.Config)
	d.equal(of+"state", a.State, b.State)
	d.equal(of+"number of messages", len(a.Messages), len(b.Messages))
	for i := range min(len(a.Messages), len(b.Messages)) {
		if a.Messages[i] != b.Messages[i] {
			d.add("%smessage %d differs (message %d there)", of, a.Messages[i].Seq, b.Messages[i].Seq)
			break // the rest is likely to be shifted
		}
	}
	d.equal(of+"number of consumers", len(a.Consumers), len(b.Consumers))
	for i := range min(len(a.Consumers), len(b.Consumers)) {
		x, y := a.Consumers[i], b.Consumers[i]
		d.equal(of+"consumer", x.Name, y.Name)
		d.equal(of+"consumer "+x.Name+": configuration", x.Config, y.Config)
		d.equal(of+"consumer "+x.Name+": progress", x.Progress, y.Progress)
	}
}
