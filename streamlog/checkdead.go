package streamlog

import (
	"context"
	"crypto/sha256"
	"fmt"

	"jetsam/blob"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
)

// maxGaps is how many bytes are kept of the gaps between messages that were read. Of what is above, blobs are read again when it is needed.
const maxGaps = 64 << 20

// memory is how many bytes the set takes, about.
func (d *Dead) memory() int {
	if d == nil {
		return 0
	}
	const perMark = 24
	return cap(d.runs) + perMark*cap(d.marks)
}

// skim finds out what a blob holds.
func skim(plain []byte) (c contents) {
	gaps := newDeadBuilder(0)
	var last uint64
	c.size = len(plain)
	c.tally, c.open, c.err = archive.SkimEach(plain, archive.Limits{}, func(seq uint64) {
		if last > 0 && seq > last+1 {
			gaps.add(Run{last + 1, seq - 1})
		}
		last = seq
	})
	c.gaps = gaps.dead()
	return c
}

// compareStates holds the head's state against what else is said of the stream: a server that restores it takes no more messages than that has.
// Where there are dead entries, it is the state of the log, and held against the stream's own.
func (j *judge) compareStates() {
	said := j.stream.Document.Jetsam
	if said.Dead == nil {
		if j.state.Messages < said.Messages {
			j.out.damage("/"+headName, "its state says %d messages, %s %d", j.state.Messages, documentName, said.Messages)
		}
		return
	}
	if log, live := j.state, j.live; log.LastSeq != live.LastSeq || log.FirstSeq > live.FirstSeq || log.Messages != said.Entries() {
		j.out.damage("/"+headName, "its state says %d messages, %d to %d; %s has %d entries in the log, and the stream goes from %d to %d",
			log.Messages, log.FirstSeq, log.LastSeq, documentName, said.Entries(), live.FirstSeq, live.LastSeq)
	}
}

// deadFile reads what is not alive.
func (j *judge) deadFile(ctx context.Context) {
	var err error
	if j.dead, err = j.stream.Dead(ctx); err != nil {
		j.doubt = true
		j.out.add(repo.Damage, "/"+deadName, err)
	}
}

// living is the span without the dead, if anything is left of it.
func (s span) living(d *Dead) (span, bool) {
	if d.Count(s.first, s.last) == 0 {
		return s, true
	}
	r, some := d.Living(s.first, s.last)
	if s.messages > 0 {
		s.messages = alive(s.first, s.last, s.messages, d)
	}
	s.first, s.last = r.First, r.Last
	return s, some
}

// livingPart is what was found when a part was held against a set of the dead.
type livingPart struct {
	dead     [sha256.Size]byte // of the set within the part
	messages uint64            // that are alive
	first    uint64            // the first of them; 0 where there is none
	problems problems
}

// alive counts the live messages of a part. If its groups have dead ones, it looks at each.
func (j *judge) alive(ctx context.Context, path string, dir *snapshot.Node, p *checkedPart) uint64 {
	found := livingPart{messages: p.messages, first: p.first}
	if within := j.dead.Within(p.first, p.last); within != nil {
		if sum := sha256.Sum256(EncodeSegment(within)); sum != p.living.dead {
			p.living = j.livingPart(ctx, dir)
			if ctx.Err() == nil {
				p.living.dead = sum
			}
		}
		found = p.living
	}
	j.out.addAll(path, found.problems)
	if found.first > 0 && found.first < j.live.FirstSeq && !j.doubt {
		j.out.damage(path, "message %d is alive, the stream's state begins at %d", found.first, j.live.FirstSeq)
	}
	return found.messages
}

func (j *judge) livingPart(ctx context.Context, dir *snapshot.Node) (out livingPart) {
	p, err := j.stream.readPart(ctx, dir)
	var groups []Group
	if err == nil {
		groups, err = p.Groups(ctx)
	}
	if err != nil { // it was read a moment ago
		out.problems.add(repo.Damage, "", err)
		return out
	}
	first := p.Blobs
	for _, g := range groups {
		n := g.Alive(j.dead)
		if out.messages += n; n > 0 && out.first == 0 {
			out.first = g.First
			if r, some := j.dead.Living(g.First, g.Last); some {
				out.first = r.First
			}
		}
		err := error(nil)
		if n > g.Messages {
			err = fmt.Errorf("%d of its %d messages should be alive", n, g.Messages)
		} else if j.dead.Count(g.First, g.Last) > 0 {
			err = j.compareGaps(ctx, first[0], g)
		}
		if err != nil {
			out.problems.damage("/"+archiveName, "group of messages %d to %d: %s: %w", g.First, g.Last, deadName, err)
		}
		first = first[len(g.Blobs):]
	}
	return out
}

// compareGaps wants each sequence that the group with this first blob does not have in the set of the dead, if the blob was read. That it
// holds the group's messages is looked at elsewhere.
func (j *judge) compareGaps(ctx context.Context, id blob.ID, g Group) error {
	found, ok := j.checker.contents(id)
	if !ok || found.err != nil || found.first() != g.First {
		return nil
	}
	if found.many {
		framed, err := j.src.Load(ctx, blob.Handle{Kind: blob.Data, ID: id}, nil)
		if err != nil {
			return err
		}
		plain, err := archive.AppendUnframed(nil, framed)
		if err != nil {
			return err
		}
		found = skim(plain)
	}
	for r := range found.gaps.Minus(j.dead.Within(g.First, g.Last)).Runs() {
		return fmt.Errorf("message %d should be alive, and is not there", r.First)
	}
	return nil
}

// first is the sequence of the first message, which may be the open one.
func (c *contents) first() uint64 {
	if c.tally.Messages == 0 {
		return c.open.Seq
	}
	return c.tally.FirstSeq
}
