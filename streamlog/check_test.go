package streamlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
)

// damagedMemory is a memory as a check sees it, some of whose blobs cannot be read.
type damagedMemory struct {
	*memory
	lost map[blob.ID]struct{}
}

func (m damagedMemory) Lost(h blob.Handle) error {
	if _, lost := m.lost[h.ID]; lost {
		return errors.New("gone")
	}
	_, err := m.Load(context.Background(), h, nil)
	return err
}

// specimen is a snapshot of one stream, S, of three groups, the second of which ends in a large message.
type specimen struct {
	t      *testing.T
	m      damagedMemory
	root   blob.ID
	groups []Group
	ids    []blob.ID
}

const (
	inStream  = "/A/S"
	inShelf   = "/A/S/messages/00000000000000000011"
	inPart    = inShelf + "/00000000000000000011"
	inChunks  = inPart + "/chunks.json"
	inArchive = inPart + "/arc.s2"
)

func newSpecimen(t *testing.T) *specimen {
	t.Helper()
	return newSpecimenOf(t, `{"messages":13,"first_seq":11,"last_seq":31,"consumer_count":1}`, 13, nil)
}

// newDeadSpecimen is a specimen of whose first group three messages died, of its second all but the last, and of its third none.
func newDeadSpecimen(t *testing.T) *specimen {
	t.Helper()
	return newSpecimenOf(t, `{"messages":9,"first_seq":13,"last_seq":31,"consumer_count":1}`, 9, deadOf(3, 5, 11, 12, 15, 15, 21, 29))
}

// newSpecimenOf is a specimen of a stream in that state, of whose log dead is not alive.
func newSpecimenOf(t *testing.T, stateText string, messages uint64, dead *Dead) *specimen {
	t.Helper()
	m := damagedMemory{newMemory(), map[blob.ID]struct{}{}}
	rng := rand.New(rand.NewPCG(7, 7))
	var encoded []byte
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	add := func(seq uint64, size int) {
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(rng.Uint32())
		}
		encoded = archive.AppendMessage(encoded, "s", at.Add(time.Duration(seq)*time.Second).UnixNano(), seq, nil, payload)
	}
	for seq := uint64(11); seq < 20; seq++ {
		add(seq, 100)
	}
	add(20, chunker.LargePayload) // ends the first group
	add(21, 10)
	add(30, chunker.LargePayload) // ends the second
	add(31, 50)
	state := json.RawMessage(stateText)
	head := &archive.Head{State: state, Consumers: []archive.Consumer{{Name: "c", JSON: json.RawMessage(`{"config":{"name":"c"},"state":{}}`)}}}
	doc := &Document{Config: json.RawMessage(`{"name":"S"}`), State: state, Jetsam: Capture{
		Format: FormatVersion, Messages: messages, Consumers: []ConsumerFidelity{{Name: "c", Fidelity: FidelityExact}},
	}}
	out := write(t, m.memory, encoded)
	var err error
	if out.Dead, err = SaveDead(t.Context(), m.memory, nil, dead); err != nil {
		t.Fatal(err)
	}
	node, _, err := SaveStream(t.Context(), m.memory, "S", doc, head, out)
	if err != nil {
		t.Fatal(err)
	}
	account := &Account{Format: FormatVersion, Account: "A", Captured: []CapturedStream{{Name: "S", LastSeq: 31}}}
	root, _, err := SaveAccount(t.Context(), m.memory, account, []*snapshot.Node{node}, at)
	if err != nil {
		t.Fatal(err)
	}
	s := &specimen{t: t, m: m, root: root}
	arc := s.node(inArchive)
	s.ids = arc.Content
	if s.groups, err = decodeChunks(s.file(inChunks), s.ids); err != nil {
		t.Fatal(err)
	}
	if len(s.groups) != 3 || len(s.ids) != 5 {
		t.Fatalf("%d groups of %d blobs, want 3 of 5", len(s.groups), len(s.ids))
	}
	return s
}

func (s *specimen) tree(id blob.ID) *snapshot.Tree {
	s.t.Helper()
	t, err := s.m.LoadTree(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

// node finds a node by its path.
func (s *specimen) node(path string) *snapshot.Node {
	s.t.Helper()
	n := &snapshot.Node{Subtree: s.root}
	for name := range strings.SplitSeq(path[1:], "/") {
		if n = s.tree(n.Subtree).Find(name); n == nil {
			s.t.Fatalf("there is no %s", path)
		}
	}
	return n
}

func (s *specimen) file(path string) []byte {
	s.t.Helper()
	p, err := loadBlobs(s.t.Context(), s.m, s.node(path).Content, maxDocument)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// edit changes the nodes of the directory at path, and all directories above it.
func (s *specimen) edit(path string, change func(*snapshot.Tree)) {
	s.t.Helper()
	s.root = s.editBelow(s.root, path, change)
}

func (s *specimen) editBelow(id blob.ID, path string, change func(*snapshot.Tree)) blob.ID {
	s.t.Helper()
	t := s.tree(id)
	if path == "" {
		change(t)
	} else {
		name, rest, _ := strings.Cut(path[1:], "/")
		if rest != "" {
			rest = "/" + rest
		}
		n := t.Find(name)
		n.Subtree = s.editBelow(n.Subtree, rest, change)
	}
	id, _, err := s.m.SaveTree(s.t.Context(), t)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// write replaces the content of a file.
func (s *specimen) write(path string, p []byte) {
	s.t.Helper()
	id, _, err := s.m.Save(s.t.Context(), blob.Data, p)
	if err != nil {
		s.t.Fatal(err)
	}
	dir, name := path[:strings.LastIndex(path, "/")], path[strings.LastIndex(path, "/")+1:]
	s.edit(dir, func(t *snapshot.Tree) {
		*t.Find(name) = *snapshot.FileNode(name, []blob.ID{id}, uint64(len(p)), time.Time{})
	})
}

func (s *specimen) replace(path, old, with string) {
	s.t.Helper()
	text := s.file(path)
	if !bytes.Contains(text, []byte(old)) {
		s.t.Fatalf("%s does not hold %s: %s", path, old, text)
	}
	s.write(path, bytes.Replace(text, []byte(old), []byte(with), 1))
}

// setGroups replaces chunks.json.
func (s *specimen) setGroups(groups []Group) {
	s.t.Helper()
	text, err := encodeChunks(groups)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(inChunks, text)
}

// check returns what a check finds, one finding a line. With read it has read all blobs.
func (s *specimen) check(read bool) string {
	s.t.Helper()
	c := NewChecker()
	if read {
		for h, p := range s.m.blobs {
			if _, lost := s.m.lost[h.ID]; !lost && h.Kind == blob.Data {
				c.Blob(h.ID, p)
			}
		}
	}
	found, err := c.snapshot(s.t.Context(), s.m, s.root)
	if err != nil {
		s.t.Fatal(err)
	}
	again, err := c.snapshot(s.t.Context(), s.m, s.root)
	if err != nil || again.text() != found.text() {
		s.t.Errorf("a second look finds %s, %v; the first found %s", again.text(), err, found.text())
	}
	return found.text()
}

func (p problems) text() string {
	var b strings.Builder
	for _, x := range p.list {
		fmt.Fprintf(&b, "%v %s: %v\n", x.severity, x.path, x.err)
	}
	return b.String()
}

// Streams that are authentic, every blob of them sound, and wrong: a faulty program may have written them.
func TestCheckerFindsWhatDoesNotAgree(t *testing.T) {
	group := func(i int, change func(*Group)) func(*specimen) {
		return func(s *specimen) { change(&s.groups[i]); s.setGroups(s.groups) }
	}
	rename := func(dir, old, name string) func(*specimen) {
		return func(s *specimen) { s.edit(dir, func(t *snapshot.Tree) { t.Find(old).Name = name }) }
	}
	drop := func(dir, name string) func(*specimen) {
		return func(s *specimen) {
			s.edit(dir, func(t *snapshot.Tree) {
				for i, n := range t.Nodes {
					if n.Name == name {
						t.Nodes = append(t.Nodes[:i], t.Nodes[i+1:]...)
						return
					}
				}
			})
		}
	}
	const part, other = "00000000000000000011", "00000000000000000012"
	for _, c := range []struct {
		name string
		do   func(*specimen)
		want string // in what is found; empty: nothing is
		read bool   // only when the blobs were read
	}{
		{"sound", func(*specimen) {}, "", false},
		{"account is of a later format", func(s *specimen) { s.replace("/A/account.json", `"format":1`, `"format":2`) }, "note /A: ", false},
		{"account is another", func(s *specimen) { s.replace("/A/account.json", `"account":"A"`, `"account":"B"`) }, "damage /A/account.json: ", false},
		{"account is not JSON", func(s *specimen) { s.write("/A/account.json", []byte("{")) }, "damage /A/account.json: ", false},
		{"account lists a stream more", func(s *specimen) { s.replace("/A/account.json", `"name":"S"`, `"name":"R.1"`) }, "damage /A/R%2E1: stream R.1 was captured", false},
		{"account does not list the stream", func(s *specimen) { s.replace("/A/account.json", `"name":"S"`, `"name":"R.1"`) }, "damage /A/S: account.json does not list", false},
		{"stream's name is no name", rename("/A", "S", "%53"), "canonical", false},
		{"stream is another", rename("/A", "S", "T"), `configuration of stream "S"`, false},
		{"document is gone", drop(inStream, documentName), "damage /A/S: stream S: backup.json is missing", false},
		{"document is not JSON", func(s *specimen) { s.write(inStream+"/backup.json", []byte("{")) }, "damage /A/S: stream S: ", false},
		{"document needs a newer version", func(s *specimen) { s.replace(inStream+"/backup.json", `"requires":[]`, `"requires":["x"]`) }, "note /A/S: ", false},
		{"document has other counts", func(s *specimen) {
			s.replace(inStream+"/backup.json", `"format":1,"requires":[],"created":"0001-01-01T00:00:00Z","messages":13`, `"format":1,"messages":14`)
		}, "hold 13 messages, backup.json says 14", false},
		{"document's state is none", func(s *specimen) {
			s.replace(inStream+"/backup.json", `"state":{"messages":13`, `"state":{"messages":-1`)
		}, "damage /A/S/backup.json: ", false},
		{"document has other consumers", func(s *specimen) { s.replace(inStream+"/backup.json", `"name":"c"`, `"name":"d"`) }, "damage /A/S/head.arc.s2: it has 1 consumers, others", false},
		{"head is gone", drop(inStream, headName), "damage /A/S: stream S: head.arc.s2 is missing", false},
		{"head is cut short", func(s *specimen) {
			p := s.file(inStream + "/head.arc.s2")
			s.write(inStream+"/head.arc.s2", p[:len(p)-1])
		}, "damage /A/S/head.arc.s2: ", false},
		{"head's state is narrower", func(s *specimen) {
			plain, _ := archive.AppendUnframed(nil, s.file(inStream+"/head.arc.s2"))
			s.write(inStream+"/head.arc.s2", archive.AppendFrame(nil, bytes.Replace(plain, []byte(`"last_seq":31`), []byte(`"last_seq":30`), 1)))
		}, "it holds messages 11 to 31, the stream's state says 11 to 30", false},
		{"head's state counts less", func(s *specimen) {
			plain, _ := archive.AppendUnframed(nil, s.file(inStream+"/head.arc.s2"))
			s.write(inStream+"/head.arc.s2", archive.AppendFrame(nil, bytes.Replace(plain, []byte(`"messages":13`), []byte(`"messages":12`), 1)))
		}, "damage /A/S/head.arc.s2: its state says 12 messages, backup.json 13", false},
		{"head's state is impossible", func(s *specimen) {
			plain, _ := archive.AppendUnframed(nil, s.file(inStream+"/head.arc.s2"))
			s.write(inStream+"/head.arc.s2", archive.AppendFrame(nil, bytes.Replace(plain, []byte(`"messages":13`), []byte(`"messages":99`), 1)))
		}, "99 messages between", false},
		{"end is gone", drop(inStream, endName), "damage /A/S: stream S: end.arc.s2 is missing", false},
		{"end is something else", func(s *specimen) { s.write(inStream+"/end.arc.s2", archive.AppendFrame(nil, []byte("end"))) }, "damage /A/S/end.arc.s2: it is not the end mark", false},
		{"messages are gone", drop(inStream, messagesName), "damage /A/S: stream S: messages is missing", false},
		{"shelf's name is none", rename(inStream+"/messages", part, "11"), "damage /A/S/messages/11: ", false},
		{"shelf's name is another's", rename(inStream+"/messages", part, other), "the shelf begins with part 11", false},
		{"shelf is empty", drop(inShelf, part), "damage " + inShelf + ": the shelf is empty", false},
		{"part's name is another's", rename(inShelf, part, other), "messages from 12 to 31 cannot be read: part 00000000000000000012 begins with message 11", false},
		{"part is there twice", func(s *specimen) {
			s.edit(inShelf, func(t *snapshot.Tree) {
				n := *t.Find(part)
				n.Name = other
				t.Nodes = append(t.Nodes, &n)
			})
		}, "messages from 12 to 31 cannot be read", false},
		{"part follows itself on another shelf", func(s *specimen) {
			s.edit(inStream+"/messages", func(t *snapshot.Tree) {
				n := *t.Find(part)
				n.Name = other
				t.Nodes = append(t.Nodes, &n)
			})
		}, "message 11 does not follow message 31 of the part before", false},
		{"messages of a part are gone", drop(inPart, archiveName), "messages from 11 to 31 cannot be read: arc.s2 is missing", false},
		{"list of groups is gone", drop(inPart, chunksName), "messages from 11 to 31 cannot be read: chunks.json is missing", false},
		{"list of groups is empty", func(s *specimen) { s.setGroups(nil) }, "5 blobs of the part belong to no group", false},
		{"list of groups is short", func(s *specimen) { s.setGroups(s.groups[:2]) }, "1 blobs of the part belong to no group", false},
		{"groups are swapped", func(s *specimen) { s.groups[1], s.groups[2] = s.groups[2], s.groups[1]; s.setGroups(s.groups) }, "messages from 11 to 31 cannot be read: decode chunks.json", false},
		{"blobs of groups are swapped", func(s *specimen) {
			s.edit(inPart, func(t *snapshot.Tree) { c := t.Find(archiveName).Content; c[0], c[1] = c[1], c[0] })
		}, "blob 0 is ", false},
		{"group has a blob less", func(s *specimen) {
			s.edit(inPart, func(t *snapshot.Tree) { n := t.Find(archiveName); n.Content = n.Content[:4] })
		}, "messages from 11 to 31 cannot be read", false},
		{"group is longer", group(2, func(g *Group) { g.Bytes++ }), "group of messages 31 to 31: chunks.json says", false},
		{"group begins earlier", group(1, func(g *Group) { g.First = 20 }), "do not follow", false},
		{"group has more messages than sequences", group(2, func(g *Group) { g.Messages = 2; g.Last = 31 }), "do not follow", false},
		{"group has other messages", group(1, func(g *Group) { g.Messages = 3 }), "its parts hold 14 messages, backup.json says 13", false},
		{"group has another first message", group(1, func(g *Group) { g.First = 22 }), "group of messages 22 to 30: chunks.json says", true},
		{"group has another last message", group(1, func(g *Group) { g.Last = 29 }), "group of messages 21 to 29: chunks.json says", true},
		{"group has an earlier time", group(0, func(g *Group) { g.From-- }), "group of messages 11 to 20: chunks.json says", true},
		{"group has a later time", group(0, func(g *Group) { g.To++ }), "group of messages 11 to 20: chunks.json says", true},
		{"large group is longer", group(0, func(g *Group) { g.Bytes++ }), "group of messages 11 to 20: chunks.json says", true},
		{"group's payload is another's", func(s *specimen) {
			s.ids[1] = s.ids[4]
			s.groups[0].Blobs[1] = shortID(s.ids[4])
			s.edit(inPart, func(t *snapshot.Tree) { t.Find(archiveName).Content = s.ids })
			s.setGroups(s.groups)
		}, "bytes less than its last message has", true},
		{"group begins with a payload", func(s *specimen) {
			s.ids[0], s.ids[1] = s.ids[1], s.ids[0]
			s.groups[0].Blobs[0], s.groups[0].Blobs[1] = s.groups[0].Blobs[1], s.groups[0].Blobs[0]
			s.edit(inPart, func(t *snapshot.Tree) { t.Find(archiveName).Content = s.ids })
			s.setGroups(s.groups)
		}, "it does not hold messages", true},
		{"a blob is lost", func(s *specimen) { s.m.lost[s.ids[3]] = struct{}{} },
			"damage /A/S: messages 21 to 30 cannot be read, 2 of them, from 2026-05-01T00:00:21Z to 2026-05-01T00:00:30Z: data/", false},
		{"blobs of two groups are lost", func(s *specimen) { s.m.lost[s.ids[0]], s.m.lost[s.ids[2]] = struct{}{}, struct{}{} },
			"damage /A/S: messages 11 to 30 cannot be read, 12 of them", false},
		{"the tree of messages is lost", func(s *specimen) { s.forget(s.node(inStream + "/messages")) }, "messages from 11 to 31 cannot be read", false},
		{"the tree of a shelf is lost", func(s *specimen) { s.forget(s.node(inShelf)) }, "messages from 11 to 31 cannot be read", false},
		{"the tree of a part is lost", func(s *specimen) { s.forget(s.node(inPart)) }, "messages from 11 to 31 cannot be read", false},
		{"the tree of the stream is lost", func(s *specimen) { s.forget(s.node(inStream)) }, "damage /A/S: ", false},
		{"another program's snapshot", drop("/A", accountName), "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSpecimen(t)
			c.do(s)
			plain, full := s.check(false), s.check(true)
			if c.want == "" && plain+full != "" {
				t.Errorf("found without need:\n%s%s", plain, full)
			}
			if !strings.Contains(full, c.want) {
				t.Errorf("with all data read nothing says %q:\n%s", c.want, full)
			}
			if c.read && plain != "" || !c.read && !strings.Contains(plain, c.want) {
				t.Errorf("without data read, %q is to be found %v:\n%s", c.want, !c.read, plain)
			}
		})
	}
}

// forget makes a directory's tree one that cannot be read.
func (s *specimen) forget(n *snapshot.Node) {
	delete(s.m.blobs, blob.Handle{Kind: blob.Tree, ID: n.Subtree})
}

// A check that is cancelled says so, and remembers nothing of what it could not look at.
func TestCheckerIsCancelled(t *testing.T) {
	s := newSpecimen(t)
	c := NewChecker()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := c.snapshot(ctx, s.m, s.root); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", p, err)
	}
	if p, err := c.snapshot(t.Context(), s.m, s.root); err != nil || len(p.list) > 0 {
		t.Errorf("afterwards: %v, %v", p, err)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var p, all problems
	for range maxProblems + 7 {
		p.damage("/x", "bad")
	}
	all.addAll("/S", p)
	all.addAll("/T", p)
	if len(all.list) != maxProblems || all.more != 7+maxProblems+7 || all.list[0].path != "/S/x" || all.list[0].severity != repo.Damage {
		t.Errorf("%d problems and %d more, the first %+v", len(all.list), all.more, all.list[0])
	}
}
