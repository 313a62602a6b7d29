package streamlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/snapshot"
	"jetsam/storage"
)

// Whole says whether all blobs of a tree are there.
func (m damagedMemory) Whole(id blob.ID) bool {
	if m.Lost(blob.Handle{Kind: blob.Tree, ID: id}) != nil {
		return false
	}
	t, err := m.LoadTree(context.Background(), id)
	if err != nil {
		return false
	}
	for _, n := range t.Nodes {
		if n.Type == snapshot.TypeDir && !m.Whole(n.Subtree) {
			return false
		}
		for _, id := range n.Content {
			if m.Lost(blob.Handle{Kind: blob.Data, ID: id}) != nil {
				return false
			}
		}
	}
	return true
}

// mend mends the specimen, whose root is then the mended one.
func (s *specimen) mend() (*MendedSnapshot, error) {
	s.t.Helper()
	x := &mending{src: s.m, left: &remains{checked: s.m}, dst: s.m.memory, known: map[directoryKey]mended{}}
	sn, err := snapshot.Decode(storage.ID{1}, fmt.Appendf(nil, `{"time":"2026-05-01T00:00:00Z","paths":["/A"],"tree":"%s"}`, s.root))
	if err != nil {
		s.t.Fatal(err)
	}
	root, err := x.run(s.t.Context(), sn)
	if x.left.unreadable != nil {
		s.t.Fatal(x.left.unreadable)
	}
	if err == nil {
		s.root = root
	}
	return &x.out, err
}

// TestMend loses each blob of a stream, and each two of them (some of these, where time is short), one with dead entries and one without. What is made of the rest passes a check that reads
// every byte, says how much of it is left, and holds every group of which no blob is lost.
func TestMend(t *testing.T) {
	for name, newOne := range map[string]func(*testing.T) *specimen{"alive": newSpecimen, "some dead": newDeadSpecimen} {
		t.Run(name, func(t *testing.T) {
			whole := newOne(t)
			needed := whole.neededBlobs()
			chunks := whole.node(inChunks).Content[0]
			all := slices.SortedFunc(maps.Keys(whole.m.blobs), func(a, b blob.Handle) int { return a.ID.Compare(b.ID) })
			mended := 0
			for i, a := range all {
				for _, b := range all[i:] {
					if a != b && os.Getenv("JETSAM_PROOF") == "" && rand.IntN(4) > 0 {
						continue
					}
					s := newOne(t)
					delete(s.m.blobs, a)
					delete(s.m.blobs, b)
					if s.mendsWithout(needed, chunks, a, b) {
						mended++
					}
					if t.Failed() {
						t.Fatalf("without %v and %v", a, b)
					}
				}
			}
			t.Logf("%d blobs, %d losses mended", len(all), mended)
			if mended < len(all)/2 {
				t.Errorf("%d losses were mended", mended)
			}
		})
	}
}

// mendsWithout reports whether the specimen, which lost these blobs, could be mended.
func (s *specimen) mendsWithout(needed []blob.Handle, chunks blob.ID, lost ...blob.Handle) bool {
	s.t.Helper()
	found, err := s.mend()
	if err != nil {
		if !slices.ContainsFunc(lost, func(h blob.Handle) bool { return slices.Contains(needed, h) }) {
			s.t.Errorf("not mended: %v", err)
		}
		return false
	}
	if got := s.check(true); got != "" {
		s.t.Errorf("check says:\n%s", got)
	}
	held, err := OpenStream(s.t.Context(), s.m, s.root, "S")
	if err != nil {
		s.t.Error(err)
		return true
	}
	dead, err := held.Dead(s.t.Context())
	if err != nil {
		s.t.Error(err)
	}
	var left uint64
	have := map[uint64]bool{}
	for part, err := range held.Parts(s.t.Context()) {
		if err != nil {
			s.t.Fatal(err)
		}
		groups, err := part.Groups(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, g := range groups {
			left += g.Alive(dead)
			have[g.First] = true
		}
	}
	if left != held.Document.Jetsam.Messages {
		s.t.Errorf("%d messages are left, it says %d", left, held.Document.Jetsam.Messages)
	}
	s.keepsAll(have, chunks, lost)
	for _, x := range found.Streams {
		if torn := held.Document.Jetsam.Torn != ""; torn != (len(x.Lost) > 0) {
			s.t.Errorf("torn %q, lost %v", held.Document.Jetsam.Torn, x.Lost)
		}
		for _, l := range x.Lost {
			if !strings.Contains(held.Document.Jetsam.Torn, l.String()) {
				s.t.Errorf("the document does not name %v: %s", l, held.Document.Jetsam.Torn)
			}
		}
	}
	return true
}

// keepsAll wants all groups whose blobs are there, unless it is lost which blobs these are.
func (s *specimen) keepsAll(have map[uint64]bool, chunks blob.ID, lost []blob.Handle) {
	s.t.Helper()
	inGroup, isChunks := false, false
	for _, h := range lost {
		if h.Kind == blob.Tree {
			return
		}
		inGroup, isChunks = inGroup || slices.Contains(s.ids, h.ID), isChunks || h.ID == chunks
	}
	if inGroup && isChunks {
		return
	}
	ids := s.ids
	for _, g := range s.groups {
		mine := ids[:len(g.Blobs)]
		ids = ids[len(g.Blobs):]
		gone := slices.ContainsFunc(lost, func(h blob.Handle) bool { return slices.Contains(mine, h.ID) })
		if have[g.First] == gone {
			s.t.Errorf("messages from %d to %d are there: %v, and lost: %v", g.First, g.Last, have[g.First], gone)
		}
	}
}

// neededBlobs are those without which nothing can be restored: the document, the dead, and the directories of the stream and above it.
func (s *specimen) neededBlobs() (out []blob.Handle) {
	s.t.Helper()
	out = append(out, blob.Handle{Kind: blob.Tree, ID: s.root})
	for _, path := range []string{"/A", inStream} {
		out = append(out, blob.Handle{Kind: blob.Tree, ID: s.node(path).Subtree})
	}
	for _, n := range s.tree(s.node(inStream).Subtree).Nodes {
		for _, id := range n.Content {
			if n.Name == documentName || n.Name == deadName {
				out = append(out, blob.Handle{Kind: blob.Data, ID: id})
			}
		}
	}
	return out
}

var errNoPack = errors.New("the pack is damaged")

// rotten is a memory in which a blob that is listed cannot be read.
type rotten struct {
	damagedMemory
	blob blob.Handle
}

func (m rotten) Lost(blob.Handle) error { return nil }

func (m rotten) Load(ctx context.Context, h blob.Handle, dst []byte) ([]byte, error) {
	if h == m.blob {
		return nil, errNoPack
	}
	return m.damagedMemory.Load(ctx, h, dst)
}

// TestMendRefusesRot wants nothing given up that another repair may find: what is listed and cannot be read.
func TestMendRefusesRot(t *testing.T) {
	s := newSpecimen(t)
	for _, path := range []string{inStream + "/backup.json", inStream + "/head.arc.s2", inChunks, "/A/account.json"} {
		src := rotten{s.m, blob.Handle{Kind: blob.Data, ID: s.node(path).Content[0]}}
		x := &mending{src: nothingWhole{}, left: &remains{checked: src}, dst: s.m.memory, known: map[directoryKey]mended{}}
		_, err := x.run(t.Context(), &snapshot.Snapshot{Tree: s.root})
		if !errors.Is(err, errNoPack) || x.left.unreadable == nil || !strings.Contains(x.left.unreadable.Error(), "repair packs") {
			t.Errorf("%s: %v, %v", path, err, x.left.unreadable)
		}
	}
}

type nothingWhole struct{}

func (nothingWhole) Whole(blob.ID) bool { return false }

// TestLostMessagesAreTold: of one message neither how many it is nor two times are said.
func TestLostMessagesAreTold(t *testing.T) {
	from, to := time.Date(2026, 5, 1, 0, 0, 1, 0, time.UTC), time.Date(2026, 5, 1, 0, 0, 2, 0, time.UTC)
	for want, l := range map[string]LostMessages{
		"message 3 (2026-05-01T00:00:01Z)":                                          {First: 3, Last: 3, Messages: 1, From: from, To: from},
		"message 3 (2026-05-01T00:00:01Z to 2026-05-01T00:00:02Z)":                  {First: 3, Last: 3, Messages: 1, From: from, To: to},
		"messages 3 to 5 (2 of them, 2026-05-01T00:00:01Z to 2026-05-01T00:00:02Z)": {First: 3, Last: 5, Messages: 2, From: from, To: to},
		"messages 3 to 5": {First: 3, Last: 5},
	} {
		if got := l.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	alone := span{first: 3, last: 3, messages: 1, from: from.UnixNano(), to: from.UnixNano(), err: errors.New("gone")}
	if got, want := alone.describe().Error(), "message 3 cannot be read, of 2026-05-01T00:00:01Z: gone"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
