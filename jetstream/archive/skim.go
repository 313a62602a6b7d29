package archive

import "fmt"

// Open is an entry of which only the beginning is there. Its zero value is none.
type Open struct {
	Seq     uint64
	Time    int64 // Unix nanoseconds
	Length  int   // of the whole entry, in bytes
	Missing int   // bytes of its payload that are not there
}

// SkimEach counts the messages that p holds, and calls each with the sequence of every
// one, in ascending order. Where p ends within the payload of one, as the first blob of
// a group with a large payload does, that one is open: each is called with it too, and it
// is not counted. p is plain, not framed. Nothing is copied.
func SkimEach(p []byte, limits Limits, each func(seq uint64)) (t Tally, open Open, err error) {
	r := entries{limits: limits.withDefaults()}
	for at := 0; at < len(p); {
		if open, err = r.skim(p[at:]); err != nil {
			return t, Open{}, fmt.Errorf("read entry at byte %d, after sequence %d: %w", at, t.LastSeq, err)
		}
		each(r.entry.seq)
		if open.Length > 0 {
			return t, open, nil
		}
		t.Add(&r.msg)
		at += len(r.msg.Raw)
	}
	return t, Open{}, nil
}

// skim makes the entry at the start of p the one at hand, or returns it as open.
func (r *entries) skim(p []byte) (Open, error) {
	e := &r.entry
	ok, err := e.parse(p)
	switch {
	case err != nil:
		return Open{}, err
	case !ok:
		return Open{}, ErrTruncated
	case !e.within(r.limits.MaxName, r.limits.MaxMessage):
		return Open{}, e.tooLarge(r.limits.MaxName, r.limits.MaxMessage)
	}
	n := e.length()
	missing := max(0, n-len(p))
	if missing > int(e.payload) {
		return Open{}, ErrTruncated
	}
	r.msg = Message{Subject: p[e.size:][:e.name]}
	if err := r.admit(); err != nil {
		return Open{}, err
	}
	if missing > 0 {
		return Open{Seq: e.seq, Time: e.time, Length: n, Missing: missing}, nil
	}
	e.slice(p[:n:n], &r.msg)
	return Open{}, nil
}
