package streamlog

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/jetstream/archive"
	"jetsam/snapshot"
)

const inDead = inStream + "/dead"

// stream opens the specimen's only stream.
func (s *specimen) stream() *Stream {
	s.t.Helper()
	c, err := Open(s.t.Context(), s.m, s.root)
	if err != nil || len(c.Streams) != 1 || c.Streams[0].Err != nil {
		s.t.Fatalf("open: %+v, %v", c, err)
	}
	return c.Streams[0]
}

// setDead replaces the segments of the dead, and what backup.json says of them.
func (s *specimen) setDead(sets ...*Dead) {
	s.t.Helper()
	var ids []blob.ID
	var size uint64
	var all *Dead
	for _, d := range sets {
		p := EncodeSegment(d)
		id, _, err := s.m.Save(s.t.Context(), blob.Data, p)
		if err != nil {
			s.t.Fatal(err)
		}
		ids, size, all = append(ids, id), size+uint64(len(p)), all.Union(d)
	}
	s.edit(inStream, func(t *snapshot.Tree) { *t.Find(deadName) = *snapshot.FileNode(deadName, ids, size, time.Time{}) })
	s.document(func(c *Capture) { c.Dead = &DeadSummary{len(ids), all.Len()} })
}

// document changes backup.json.
func (s *specimen) document(change func(*Capture)) {
	s.t.Helper()
	doc, err := DecodeDocument(s.file(inStream + "/backup.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	change(&doc.Jetsam)
	text, err := doc.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(inStream+"/backup.json", text)
}

// head changes the bytes of the head.
func (s *specimen) head(old, with string) {
	s.t.Helper()
	plain, err := archive.AppendUnframed(nil, s.file(inStream+"/head.arc.s2"))
	if err != nil || !bytes.Contains(plain, []byte(old)) || len(old) != len(with) {
		s.t.Fatalf("%v: %s", err, plain)
	}
	s.write(inStream+"/head.arc.s2", archive.AppendFrame(nil, bytes.Replace(plain, []byte(old), []byte(with), 1)))
}

// TestStreamWithDead wants what a stream with dead entries says of itself: the document of the live ones, the head of the log.
func TestStreamWithDead(t *testing.T) {
	s := newDeadSpecimen(t)
	if found := s.check(false) + s.check(true); found != "" {
		t.Fatal(found)
	}
	st := s.stream()
	c := st.Document.Jetsam
	if c.Messages != 9 || c.Stored != 13 || c.Entries() != 13 || *c.Dead != (DeadSummary{1, 15}) || !slices.Equal(c.Requires, []string{"dead"}) {
		t.Errorf("document: %+v", c)
	}
	h, err := st.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"messages":13,"first_seq":11,"last_seq":31,"consumer_count":1}`; string(h.State) != want || len(h.Consumers) != 1 {
		t.Errorf("head: %s", h.State)
	}
	d, err := st.Dead(t.Context())
	if err != nil || !slices.Equal(runsOf(d), []Run{{3, 5}, {11, 12}, {15, 15}, {21, 29}}) {
		t.Errorf("dead: %v, %v", runsOf(d), err)
	}
	if d, err := newSpecimen(t).stream().Dead(t.Context()); d != nil || err != nil {
		t.Errorf("of a stream without: %v, %v", d, err)
	}
}

// TestCheckerFindsWhatDeadDoesNotAgreeWith: streams with dead entries that are authentic, and wrong.
func TestCheckerFindsWhatDeadDoesNotAgreeWith(t *testing.T) {
	drop := func(s *specimen) {
		s.edit(inStream, func(t *snapshot.Tree) {
			t.Nodes = slices.DeleteFunc(t.Nodes, func(n *snapshot.Node) bool { return n.Name == deadName })
		})
	}
	for _, c := range []struct {
		name string
		do   func(*specimen)
		want string // in what is found; empty: nothing is
		read bool   // only when the blobs were read
	}{
		{"sound", func(*specimen) {}, "", false},
		{"in two segments that overlap", func(s *specimen) { s.setDead(deadOf(3, 5, 11, 12, 21, 25), deadOf(15, 15, 24, 29)) }, "", false},
		{"the file is gone", drop, "damage /A/S/dead: stream S: dead: is missing", false},
		{"the file is lost", func(s *specimen) { delete(s.m.blobs, blob.Handle{Kind: blob.Data, ID: s.node(inDead).Content[0]}) }, "damage /A/S/dead: ", false},
		{"nothing is said of the file", func(s *specimen) {
			s.document(func(c *Capture) { c.Dead, c.Requires, c.Stored = nil, nil, 0 })
		}, "backup.json does not speak of it", false},
		{"it is not said to be needed", func(s *specimen) { s.document(func(c *Capture) { c.Requires = nil }) }, "requires and dead do not agree", false},
		{"more is stored, it is said, and nothing dead", func(s *specimen) {
			drop(s)
			s.document(func(c *Capture) { c.Dead, c.Requires = nil, nil })
		}, "but none is dead", false},
		{"less is stored, it is said, than alive", func(s *specimen) { s.document(func(c *Capture) { c.Stored = 8 }) }, "of 8 stored entries 9 are alive", false},
		{"no segments, it is said", func(s *specimen) { s.document(func(c *Capture) { c.Dead.Segments = 0 }) }, "0 segments", false},
		{"a segment more, it is said", func(s *specimen) { s.document(func(c *Capture) { c.Dead.Segments++ }) }, "it has 1 segments, backup.json says 2", false},
		{"a sequence more, it is said", func(s *specimen) { s.document(func(c *Capture) { c.Dead.Sequences++ }) }, "it holds 15 sequences, backup.json says 16", false},
		{"a byte of a segment is another", func(s *specimen) {
			p := s.file(inDead)
			p[10] ^= 1
			s.write(inDead, p)
		}, "its checksum is wrong", false},
		{"the segment is another's", func(s *specimen) { s.write(inDead, EncodeSegment(deadOf(1, 3))) }, "it holds 3 sequences", false},
		{"too many segments", func(s *specimen) {
			s.setDead(slices.Repeat([]*Dead{deadOf(11, 11)}, maxSegments+1)...)
		}, "in more than 1024 segments", false},
		{"another entry is dead", func(s *specimen) { s.setDead(deadOf(3, 5, 11, 12, 15, 16, 21, 29)) }, "its parts hold 8 messages, backup.json says 9", false},
		{"a gap of a group is not dead", func(s *specimen) {
			s.setDead(deadOf(3, 5, 11, 12, 15, 15, 21, 28))
			s.document(func(c *Capture) { c.Messages++ })
		}, "group of messages 21 to 30: dead: message 29 should be alive, and is not there", true},
		{"all gaps of a group are not dead", func(s *specimen) { s.setDead(deadOf(3, 5, 11, 12, 15, 15, 21, 21)) }, "group of messages 21 to 30: dead: 9 of its 2 messages should be alive", false},
		{"other entries are stored, it is said", func(s *specimen) { s.document(func(c *Capture) { c.Stored = 14 }) }, "its parts hold 13 entries, dead ones with them, backup.json says 14", false},
		{"the log begins behind the stream", func(s *specimen) { s.head(`"first_seq":11`, `"first_seq":14`) }, "its state says 13 messages, 14 to 31", false},
		{"the log ends elsewhere", func(s *specimen) { s.head(`"last_seq":31`, `"last_seq":32`) }, "its state says 13 messages, 11 to 32", false},
		{"the log has other entries", func(s *specimen) { s.head(`"messages":13`, `"messages":12`) }, "its state says 12 messages", false},
		{"a message below the first one is alive", func(s *specimen) { s.setDead(deadOf(3, 5, 11, 11, 15, 16, 21, 29)) }, "message 12 is alive, the stream's state begins at 13", false},
		{"the head is gone", func(s *specimen) {
			delete(s.m.blobs, blob.Handle{Kind: blob.Data, ID: s.node(inStream + "/head.arc.s2").Content[0]})
		}, "damage /A/S/head.arc.s2: ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newDeadSpecimen(t)
			c.do(s)
			plain, full := s.check(false), s.check(true)
			if (c.want == "") != (full == "") || !strings.Contains(full, c.want) {
				t.Errorf("with all data read, %q is to be found:\n%s", c.want, full)
			}
			if lines := strings.Count(full, "\n"); lines > 2 {
				t.Errorf("%d problems are found:\n%s", lines, full)
			}
			if c.read && plain != "" || !c.read && !strings.Contains(plain, c.want) {
				t.Errorf("without data read, %q is to be found %v:\n%s", c.want, !c.read, plain)
			}
		})
	}
}

// TestLossesAreOfTheLiving: what is dead is not lost.
func TestLossesAreOfTheLiving(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*specimen)
		want string // in what is found
	}{
		{"blobs of two groups", func(s *specimen) { s.m.lost[s.ids[0]], s.m.lost[s.ids[2]] = struct{}{}, struct{}{} },
			"damage /A/S: messages 13 to 30 cannot be read, 8 of them"},
		{"a shelf", func(s *specimen) { s.forget(s.node(inShelf)) }, "damage /A/S: messages from 13 to 31 cannot be read"},
		{"a group without live messages", func(s *specimen) {
			s.setDead(deadOf(11, 12, 15, 15, 21, 30))
			s.document(func(c *Capture) { c.Messages-- })
			s.m.lost[s.ids[2]] = struct{}{}
		}, ""},
		{"a part without live messages", func(s *specimen) {
			s.setDead(deadOf(11, 31))
			s.document(func(c *Capture) { c.Messages = 0 })
			s.forget(s.node(inPart))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newDeadSpecimen(t)
			c.do(s)
			if found := s.check(false); !strings.Contains(found, c.want) || (c.want == "") != (found == "") {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

// TestGapsThatTakeTooMuchMemory: the blob is read again.
func TestGapsThatTakeTooMuchMemory(t *testing.T) {
	s := newDeadSpecimen(t)
	s.setDead(deadOf(3, 5, 11, 12, 15, 15, 21, 28))
	s.document(func(c *Capture) { c.Messages++ })
	c := NewChecker()
	c.gaps = maxGaps
	for h, p := range s.m.blobs {
		if h.Kind == blob.Data {
			c.Blob(h.ID, p)
		}
	}
	found, err := c.snapshot(t.Context(), s.m, s.root)
	if err != nil || !strings.Contains(found.text(), "message 29 should be alive") || c.gaps != maxGaps {
		t.Errorf("found %s, %v, and kept %d bytes of gaps", found.text(), err, c.gaps)
	}
}

// TestCheckerLooksAgainWhenOthersDie: two snapshots share the parts of a stream, and not what is dead of it.
func TestCheckerLooksAgainWhenOthersDie(t *testing.T) {
	s := newDeadSpecimen(t)
	c := NewChecker()
	look := func() string {
		t.Helper()
		found, err := c.snapshot(context.Background(), s.m, s.root)
		if err != nil {
			t.Fatal(err)
		}
		return found.text()
	}
	if found := look(); found != "" {
		t.Fatal(found)
	}
	s.setDead(deadOf(3, 5, 11, 12, 14, 15, 21, 29))
	if found := look(); !strings.Contains(found, "its parts hold 8 messages, backup.json says 9") {
		t.Errorf("when one more has died: %q", found)
	}
	s.document(func(c *Capture) { c.Messages-- })
	if found := look(); found != "" {
		t.Error(found)
	}
}
