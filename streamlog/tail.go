package streamlog

import (
	"math/bits"

	"jetsam/chunker"
)

// tail is the end of a log, behind the last cut that content defined: groups that follow one another, each of one blob. What comes next is
// gathered behind them. With the next cut they become part of the blob that it ends. Until then a few new messages make a group of their
// own, and groups are joined when there are many of about a size, so that little is written often and no list grows long.
type tail struct {
	groups  []logGroup
	resumed bool                            // the cutter knows of them
	read    func(logGroup) (*pieces, error) // what lives of a group, in one blob
	keep    func(logGroup) error            // leaves a group as it is
	left    uint64                          // entries of groups that were not left as they are
}

// bytes is how many bytes the tail has been told to the cutter.
func (t *tail) bytes() (n uint64) {
	for _, g := range t.groups {
		n += g.Bytes
	}
	return n
}

// resume sets the cutter to where the tail ends.
func (t *tail) resume(cut *chunker.Cutter) error {
	t.resumed = true
	count := int(t.bytes())
	var last []byte
	for i := len(t.groups) - 1; i >= 0 && len(last) < chunker.Window && chunker.NeedsLast(count); i-- {
		p, err := t.read(t.groups[i])
		if err != nil {
			return err
		}
		last = append(joined(p), last...)
	}
	cut.Resume(count, last)
	return nil
}

// joined are the bytes of a group of one blob, or of none.
func joined(p *pieces) []byte {
	if len(p.plain) == 0 {
		return nil
	}
	return p.plain[0]
}

// take removes the last n groups from the tail, and returns what lives of them as one group.
func (t *tail) take(n int) (*pieces, error) {
	var out pieces
	var plain []byte
	from := len(t.groups) - n
	for _, g := range t.groups[from:] {
		p, err := t.read(g)
		if err != nil {
			return nil, err
		}
		plain = append(plain, joined(p)...)
		out.join(p)
		t.left += g.Messages
	}
	t.groups = t.groups[:from]
	if len(plain) > 0 {
		out.plain = [][]byte{plain}
	}
	return &out, nil
}

// keepAll leaves all groups as they are.
func (t *tail) keepAll() error {
	for _, g := range t.groups {
		if err := t.keep(g); err != nil {
			return err
		}
	}
	t.groups = nil
	return nil
}

const (
	// mostAlike is how many tail groups of about a size there may be.
	mostAlike = 15
	// largeInTail is from which size on a group waits for the cut: that is near, and stores it anew in any case.
	largeInTail = 128 << 10
)

// class is about how large a group is: each is sixteen times as large as the one before.
func class(size uint64) int { return bits.Len64(size) / 4 }

// joins is how many groups at the end of the tail a new one of that size is to be joined with.
func (t *tail) joins(size uint64) int {
	n, i, total := 0, len(t.groups), size
	for i > 0 {
		alike, sum := 0, total
		for j := i - 1; j >= 0 && t.groups[j].Bytes < largeInTail && class(t.groups[j].Bytes) <= class(total); j-- {
			alike++
			sum += t.groups[j].Bytes
		}
		if alike < mostAlike {
			return n
		}
		n, i, total = n+alike, i-alike, sum
	}
	return n
}

// join adds what follows.
func (p *pieces) join(next *pieces) {
	if next.Messages == 0 {
		return
	}
	if p.Messages == 0 {
		p.First, p.From, p.To = next.First, next.From, next.To
	}
	p.Last = next.Last
	p.From, p.To = min(p.From, next.From), max(p.To, next.To)
	p.Messages += next.Messages
	p.Bytes += next.Bytes
	p.largest = max(p.largest, next.largest)
	p.content += next.content
}
