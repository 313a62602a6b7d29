package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// subjectReport is one subject of a stream in a snapshot.
type subjectReport struct {
	MessageType string    `json:"message_type"` // "subject"
	Subject     string    `json:"subject"`
	Messages    uint64    `json:"messages"`
	Bytes       uint64    `json:"bytes"` // of subjects, headers and payloads
	FirstSeq    uint64    `json:"first_seq"`
	LastSeq     uint64    `json:"last_seq"`
	LastTime    time.Time `json:"last_time"`
}

// subjectsReport are the subjects of a stream in a snapshot.
type subjectsReport struct {
	MessageType string `json:"message_type"` // "subjects"
	ID          string `json:"id"`
	Name        string `json:"name"`
	Messages    uint64 `json:"messages"`
	Subjects    int    `json:"subjects"`

	subjects []*subjectReport
}

func (r *subjectsReport) text(o *output) {
	l := newListing("Subject", "Messages>", "Size>", "Sequences", "Last")
	for _, s := range r.subjects {
		l.row(s.Subject, formatCount(s.Messages), formatSize(s.Bytes), sequences(s.FirstSeq, s.LastSeq), localTime(s.LastTime))
	}
	o.table(l)
	o.printf("%s, %s, in stream %s of snapshot %s\n", plural(r.Subjects, "subject"), plural(r.Messages, "message"), r.Name, r.ID[:10])
}

// mostSubjects is how many subjects are listed at most: they are counted in memory.
const mostSubjects = 4 << 20

// lsSubjects lists the subjects of a stream.
func (p *program) lsSubjects(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, stream string) error {
	in, err := restore.Read(ctx, rd, sn, restore.Options{Selection: streamlog.Selection{Names: []string{stream}}})
	if err != nil {
		return err
	}
	r := &subjectsReport{MessageType: "subjects", ID: sn.ID().String(), Name: in.Stream()}
	bySubject := map[string]*subjectReport{}
	for m, err := range in.Messages(ctx) {
		if err != nil {
			return err
		}
		s := bySubject[string(m.Subject)]
		if s == nil {
			if len(bySubject) == mostSubjects {
				return fmt.Errorf("stream %s has more than %d subjects: `jetsam dump` prints its messages one by one", in.Stream(), mostSubjects)
			}
			s = &subjectReport{MessageType: "subject", Subject: string(m.Subject), FirstSeq: m.Seq}
			bySubject[s.Subject] = s
			r.subjects = append(r.subjects, s)
		}
		s.add(m)
		r.Messages++
	}
	slices.SortFunc(r.subjects, func(a, b *subjectReport) int { return strings.Compare(a.Subject, b.Subject) })
	r.Subjects = len(r.subjects)
	if p.out.json {
		for _, s := range r.subjects {
			p.out.printJSON(s)
		}
	}
	p.out.print(r)
	return nil
}

func (s *subjectReport) add(m *archive.Message) {
	s.Messages++
	s.Bytes += uint64(len(m.Subject) + len(m.Header) + len(m.Payload))
	s.LastSeq, s.LastTime = m.Seq, time.Unix(0, m.Time).UTC()
}
