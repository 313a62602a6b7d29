package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// moment finds out which snapshots tell what the streams of an account were at a time.
type moment struct {
	rd     *repo.Reader
	at     time.Time
	before []*snapshot.Snapshot // none younger, the newest first
	after  []*snapshot.Snapshot // all younger, the oldest first

	accounts map[*snapshot.Snapshot]*register // of those that were read; nil where it cannot be, or is none of jetsam's
	warnings []string
}

// register is an account of a snapshot, with its streams by their names.
type register struct {
	*streamlog.Account
	captured map[string]*streamlog.CapturedStream
	failed   map[string]bool
}

func newRegister(a *streamlog.Account) *register {
	r := &register{a, make(map[string]*streamlog.CapturedStream, len(a.Captured)), make(map[string]bool, len(a.Failed))}
	for i := range slices.Backward(a.Captured) {
		r.captured[a.Captured[i].Name] = &a.Captured[i]
	}
	for _, f := range a.Failed {
		r.failed[f.Name] = true
	}
	return r
}

// has says whether the account's snapshot captured a stream.
func (r *register) has(name string) bool { return r != nil && r.captured[name] != nil }

// picked is a chosen stream, and the snapshots between which the time lies.
type picked struct {
	name string
	base *snapshot.Snapshot // the newest in which the stream was captured by then
	next *snapshot.Snapshot // the next one that has it; nil: none
	why  string             // why there is no base

	inBase, inNext entry
}

// entry is a stream's directory in a snapshot, or why there is none.
type entry struct {
	dir *snapshot.Node
	err error
}

// open reads the stream, but not its messages.
func (e entry) open(ctx context.Context, rd *repo.Reader) (*streamlog.Stream, error) {
	if e.err != nil {
		return nil, e.err
	}
	s := streamlog.OpenDir(ctx, rd, e.dir)
	return s, s.Err
}

// locate finds the directories of the chosen streams. Each snapshot's directory of streams is read once, and only one is in memory at a time.
func (m *moment) locate(ctx context.Context, chosen []picked) error {
	sought := map[*snapshot.Snapshot]map[string]*entry{}
	seek := func(sn *snapshot.Snapshot, name string, e *entry) {
		if sn == nil {
			return
		}
		if sought[sn] == nil {
			sought[sn] = map[string]*entry{}
		}
		sought[sn][name] = e
	}
	for i := range chosen {
		c := &chosen[i]
		seek(c.base, c.name, &c.inBase)
		seek(c.next, c.name, &c.inNext)
	}
	for sn, entries := range sought {
		d, err := streamlog.OpenDirectory(ctx, m.rd, sn.Tree)
		if err != nil {
			d, err = streamlog.OpenDirectory(ctx, m.rd, sn.Tree) // what a storage fails to give once is not lost yet
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for name, e := range entries {
			if e.err = err; err == nil {
				e.dir, e.err = d.Find(name)
			}
		}
	}
	return nil
}

// newestOf is the newest of the snapshots that streams are taken from, or none.
func newestOf(chosen []picked, none *snapshot.Snapshot) *snapshot.Snapshot {
	var out *snapshot.Snapshot
	for _, c := range chosen {
		if c.base != nil && (out == nil || c.base.Time.After(out.Time)) {
			out = c.base
		}
	}
	return cmp.Or(out, none)
}

// newMoment sorts the snapshots, which must be of one host and account, but for those that hold other files than streams.
func newMoment(ctx context.Context, rd *repo.Reader, snapshots []*snapshot.Snapshot, at time.Time) (*moment, error) {
	m := &moment{rd: rd, at: at, accounts: map[*snapshot.Snapshot]*register{}}
	sorted, err := m.oneOwner(ctx, snapshots)
	if err != nil {
		return nil, err
	}
	for _, sn := range sorted {
		if sn.Time.After(at) {
			m.after = append(m.after, sn)
		} else {
			m.before = append(m.before, sn)
		}
	}
	slices.Reverse(m.before)
	if len(m.before) == 0 {
		first := m.after[0]
		return nil, &RequestError{Reason: fmt.Sprintf("no snapshot was taken by %s: %s, the first one, was taken on %s; naming it with the same --at restores "+
			"what it has from before, which lacks what had been deleted since", when(at), first.ID().Short(), when(first.Time))}
	}
	return m, nil
}

// oneOwner returns the snapshots in their order, without those of owners whose newest one holds no streams. More than one owner is an error.
func (m *moment) oneOwner(ctx context.Context, snapshots []*snapshot.Snapshot) ([]*snapshot.Snapshot, error) {
	sorted := slices.Clone(snapshots)
	snapshot.Sort(sorted)
	newest := map[string]*snapshot.Snapshot{}
	for _, sn := range sorted {
		newest[ownerOf(sn)] = sn
	}
	if len(newest) > 1 {
		for owner, sn := range newest {
			a, err := m.account(ctx, sn)
			if err != nil {
				return nil, err
			}
			if a == nil {
				delete(newest, owner)
			}
		}
	}
	if len(newest) > 1 {
		whose := slices.Sorted(maps.Keys(newest))
		return nil, &RequestError{Reason: "there are snapshots of several hosts or accounts (" + strings.Join(whose, "; ") + "): choose with --host and --account"}
	}
	sorted = slices.DeleteFunc(sorted, func(sn *snapshot.Snapshot) bool { return newest[ownerOf(sn)] == nil })
	if len(sorted) == 0 {
		return nil, &RequestError{Reason: "no snapshot matches"}
	}
	return sorted, nil
}

// ownerOf names the host and the account that a snapshot is of.
func ownerOf(sn *snapshot.Snapshot) string {
	account := ""
	if len(sn.Paths) > 0 {
		account, _, _ = strings.Cut(strings.TrimPrefix(sn.Paths[0], "/"), "/")
	}
	return sn.Hostname + ", account " + account
}

// wasToHoldAll says whether a snapshot was told to hold all streams of the account, but for those that its account.json excludes.
func wasToHoldAll(sn *snapshot.Snapshot) bool {
	return slices.ContainsFunc(sn.Paths, func(p string) bool { return !strings.Contains(strings.TrimPrefix(p, "/"), "/") })
}

// account reads a snapshot's account. The error is ctx's, or that of a storage which does not give it just now.
func (m *moment) account(ctx context.Context, sn *snapshot.Snapshot) (*register, error) {
	if r, known := m.accounts[sn]; known {
		return r, nil
	}
	a, err := streamlog.OpenAccount(ctx, m.rd, sn.Tree)
	if err != nil && !errors.Is(err, streamlog.ErrNoStreams) {
		a, err = streamlog.OpenAccount(ctx, m.rd, sn.Tree) // what a storage fails to give once is not lost yet
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case repo.IsUnread(err):
		return nil, fmt.Errorf("snapshot %s: %w", sn.ID().Short(), err)
	case err != nil && !errors.Is(err, streamlog.ErrNoStreams):
		if a, err = m.guess(ctx, sn, err); err != nil {
			return nil, err
		}
	}
	var r *register
	if a != nil {
		r = newRegister(a)
	}
	m.accounts[sn] = r
	return r, nil
}

// guess makes up the account of a snapshot whose own cannot be read, from the names of its streams: they were captured after its time.
func (m *moment) guess(ctx context.Context, sn *snapshot.Snapshot, why error) (*streamlog.Account, error) {
	d, err := streamlog.OpenDirectory(ctx, m.rd, sn.Tree)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case repo.IsUnread(err):
		return nil, fmt.Errorf("snapshot %s: %w", sn.ID().Short(), err)
	case err != nil:
		m.warnings = append(m.warnings, fmt.Sprintf("snapshot %s is passed over: %v", sn.ID().Short(), why))
		return nil, nil
	}
	m.warnings = append(m.warnings, fmt.Sprintf("what snapshot %s says of the whole account cannot be read, and when exactly its streams were captured: %v", sn.ID().Short(), why))
	a := &streamlog.Account{Excluded: []string{"*"}}
	for name := range d.Streams() {
		a.Captured = append(a.Captured, streamlog.CapturedStream{Name: name, Captured: sn.Time})
	}
	return a, nil
}

// pick finds the chosen streams. Those of a glob, and all, are those of the newest snapshot of the whole account by then, and of the snapshots
// of single streams that came after it. One that is named is looked for further back too.
func (m *moment) pick(ctx context.Context, sel streamlog.Selection) ([]picked, error) {
	bases, known, err := m.bases(ctx, sel)
	if err != nil {
		return nil, err
	}
	names, err := sel.Pick(known)
	var unmatched *streamlog.UnmatchedError
	if errors.As(err, &unmatched) {
		return nil, m.absent(ctx, unmatched)
	} else if err != nil {
		return nil, err
	}
	if err := m.tellNew(ctx, sel, known); err != nil {
		return nil, err
	}
	out := make([]picked, 0, len(names))
	for _, name := range names {
		p := picked{name: name, base: bases[name]}
		if p.base == nil {
			p.why = fmt.Sprintf("no snapshot captured it by %s", when(m.at))
		} else if p.next, err = m.nextOf(ctx, name, p.base); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, m.locate(ctx, out)
}

// tellNew warns of streams that are chosen by a glob or as all, and that were made between the snapshots: there is none to restore them from.
func (m *moment) tellNew(ctx context.Context, sel streamlog.Selection, known []string) error {
	for _, sn := range m.after[:min(len(m.after), mostAhead)] {
		a, err := m.account(ctx, sn)
		if err != nil {
			return err
		}
		if a == nil || !wasToHoldAll(sn) {
			continue
		}
		for _, c := range a.Captured {
			if _, there := slices.BinarySearch(known, c.Name); there || c.Created.IsZero() || c.Created.After(m.at) {
				continue
			}
			if sel.Has(c.Name) {
				m.warnings = append(m.warnings, fmt.Sprintf("stream %s, which was made on %s, is not restored: no snapshot captured it by %s; the first that did is %s of %s",
					c.Name, when(c.Created), when(m.at), sn.ID().Short(), when(sn.Time)))
			}
		}
		return nil
	}
	return nil
}

// bases finds the newest snapshot by then of each stream that was there, and the names of all that were.
func (m *moment) bases(ctx context.Context, sel streamlog.Selection) (bases map[string]*snapshot.Snapshot, known []string, err error) {
	bases = map[string]*snapshot.Snapshot{}
	there := map[string]bool{}                // streams that were there; false: not captured by then, as far as was looked
	failed := map[string]*snapshot.Snapshot{} // the newest in which a stream could not be read
	var whole []*register                     // of the snapshots of the whole account that were seen
	gone := func(name string) bool {          // one of these neither has it nor excludes it: older ones do not say that it was there
		_, found := there[name]
		return !found && slices.ContainsFunc(whole, func(a *register) bool { return !a.Excludes(name) })
	}
	for _, sn := range m.before {
		a, err := m.account(ctx, sn)
		if err != nil {
			return nil, nil, err
		}
		if a == nil {
			continue
		}
		for _, c := range a.Captured {
			deleted := gone(c.Name)
			if there[c.Name] || deleted && !slices.Contains(sel.Names, c.Name) {
				continue
			}
			if there[c.Name] = !c.Captured.After(m.at); there[c.Name] {
				bases[c.Name] = sn
				if deleted {
					m.warnings = append(m.warnings, fmt.Sprintf("stream %s is in no newer snapshot than %s of %s by then, though there are some of the whole account: it may have been deleted",
						c.Name, sn.ID().Short(), when(sn.Time)))
				}
			}
		}
		for _, f := range a.Failed {
			if _, found := there[f.Name]; !found && !gone(f.Name) {
				there[f.Name], failed[f.Name] = false, sn
			}
		}
		if wasToHoldAll(sn) {
			whole = append(whole, a)
		}
		settled := slices.ContainsFunc(whole, func(a *register) bool { return len(a.Excluded) == 0 })
		if settled && complete(there, sel.Names) {
			break
		}
	}
	for name := range there {
		known = append(known, name)
		if sn := failed[name]; sn != nil && bases[name] != nil {
			m.warnings = append(m.warnings, fmt.Sprintf("stream %s could not be read for snapshot %s of %s: an older one is used", name, sn.ID().Short(), when(sn.Time)))
		}
	}
	slices.Sort(known)
	return bases, known, nil
}

// complete says whether nothing more can be found in older snapshots: all streams that were there have been captured, and all names are among them.
func complete(there map[string]bool, names []string) bool {
	for _, captured := range there {
		if !captured {
			return false
		}
	}
	for _, name := range names {
		if !there[name] && !strings.ContainsAny(name, `*?[\`) {
			return false
		}
	}
	return true
}

// mostAhead is in how many later snapshots a stream is looked for.
const mostAhead = 100

// ahead are the snapshots after base, the oldest first.
func (m *moment) ahead(base *snapshot.Snapshot) []*snapshot.Snapshot {
	at := max(0, slices.Index(m.before, base))
	out := slices.Clone(m.before[max(0, at-mostAhead):at])
	slices.Reverse(out)
	out = append(out, m.after[:min(len(m.after), mostAhead)]...)
	return out[:min(len(out), mostAhead)]
}

// nextOf is the next snapshot after base in which the stream was captured, if it was still there then.
func (m *moment) nextOf(ctx context.Context, name string, base *snapshot.Snapshot) (*snapshot.Snapshot, error) {
	for _, sn := range m.ahead(base) {
		a, err := m.account(ctx, sn)
		if err != nil {
			return nil, err
		}
		if a.has(name) {
			return sn, nil
		}
		if a != nil && !a.failed[name] && wasToHoldAll(sn) && !a.Excludes(name) {
			return nil, nil
		}
	}
	return nil, nil
}

// absent is the error for a name that no snapshot has by then. Where a later one has it, it says so.
func (m *moment) absent(ctx context.Context, unmatched *streamlog.UnmatchedError) error {
	for _, sn := range m.after[:min(len(m.after), mostAhead)] {
		a, err := m.account(ctx, sn)
		if err != nil {
			return err
		}
		if a.has(unmatched.Name) {
			return &RequestError{Stream: unmatched.Name, Reason: fmt.Sprintf("no snapshot captured it by %s: the first that did is %s of %s; naming that one with the same --at "+
				"restores what it has from before, which lacks what had been deleted since", when(m.at), sn.ID().Short(), when(sn.Time))}
		}
	}
	err := fmt.Errorf("of the snapshots taken by %s: %w", when(m.at), unmatched)
	if len(m.warnings) > 0 {
		err = fmt.Errorf("%w; %s", err, strings.Join(m.warnings, "; "))
	}
	return err
}
