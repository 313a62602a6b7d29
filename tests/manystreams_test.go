package tests

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/streamlog"
)

// lookedUp counts how often each place in a pack is read.
type lookedUp struct {
	storage.Backend

	mu    sync.Mutex
	reads map[whereBlob]int
}

// whereBlob is where a blob lies.
type whereBlob struct {
	pack   storage.ID
	offset int64
}

func (l *lookedUp) Load(ctx context.Context, f storage.File, offset int64, n int) ([]byte, error) {
	if f.Kind == storage.Pack {
		l.mu.Lock()
		l.reads[whereBlob{f.ID, offset}]++
		l.mu.Unlock()
	}
	return l.Backend.Load(ctx, f, offset, n)
}

// during returns how often each place is read while do runs, and how many reads those are together.
func (l *lookedUp) during(do func()) (reads map[whereBlob]int, all int) {
	l.mu.Lock()
	l.reads = map[whereBlob]int{}
	l.mu.Unlock()
	do()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.reads {
		all += n
	}
	return l.reads, all
}

// accountTrees are the directories of the streams, of each of the snapshots.
func accountTrees(t testing.TB, rd *repo.Reader, snapshots []*snapshot.Snapshot) (trees []whereBlob) {
	t.Helper()
	wanted := map[blob.ID]bool{}
	for _, sn := range snapshots {
		root, err := rd.LoadTree(t.Context(), sn.Tree)
		must(t, err)
		wanted[root.Nodes[0].Subtree] = true
	}
	for h, at := range rd.All() {
		if h.Kind == blob.Tree && wanted[h.ID] {
			trees = append(trees, whereBlob{at.Pack, int64(at.Offset)})
		}
	}
	return trees
}

// TestDirectoryOfStreamsIsReadOnce: however many streams a snapshot has, what says which they are is read a few times, and not once for each of them; and
// of streams that are not asked for, nothing is read.
func TestDirectoryOfStreamsIsReadOnce(t *testing.T) {
	t.Parallel()
	const streams, few = 40, 3
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	counted := &lookedUp{Backend: mem.New(), reads: map[whereBlob]int{}}
	r, err := repo.Init(t.Context(), counted, secret.New(password), repo.Options{KDF: cheapKDF})
	must(t, err)
	for i := range streams {
		name := fmt.Sprintf("S%02d", i)
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.MemoryStorage})
		src.publish(t, name, 3, text)
	}
	first := backUp(t, src, r, backUpOptions)
	for i := range streams {
		src.publish(t, fmt.Sprintf("S%02d", i), 1, text)
	}
	between := time.Now()
	src.publish(t, "S00", 1, text)
	backUp(t, src, r, backUpOptions)
	snapshots := snapshotsOf(t, r)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	trees := accountTrees(t, rd, snapshots)
	if len(trees) != 2 {
		t.Fatalf("the two snapshots have %d directories of streams", len(trees))
	}

	one := streamlog.Selection{Names: []string{"S07"}}
	same := backup.Options{Selection: allStreams, SkipSame: true}
	planned := func(_ *restore.Plan, err error) { must(t, err) }
	for _, c := range []struct {
		name string
		do   func()
		most int // reads of packs; 0: any number
	}{
		{"backup", func() {
			if res := backUp(t, src, r, same); res.Same != snapshots[1].ID() {
				t.Errorf("a snapshot was saved of what has not changed: %+v", res)
			}
		}, 0},
		{"plan", func() {
			planned(restore.NewPlan(t.Context(), rd, snapshots[1], connect(t, dst), restore.Options{Selection: allStreams}))
		}, 0},
		{"plan of one", func() {
			planned(restore.NewPlan(t.Context(), rd, snapshots[1], connect(t, dst), restore.Options{Selection: one}))
		}, streams},
		{"plan for a moment", func() {
			planned(restore.NewPlanAt(t.Context(), rd, snapshots, connect(t, dst), restore.Options{Selection: allStreams, Cut: restore.Cut{At: between}}))
		}, 0},
		{"plan of one for a moment", func() {
			planned(restore.NewPlanAt(t.Context(), rd, snapshots, connect(t, dst), restore.Options{Selection: one, Cut: restore.Cut{At: between}}))
		}, streams},
		{"survey", func() {
			_, err := restore.NewSurvey(t.Context(), rd, snapshots[1], connect(t, src), allStreams)
			must(t, err)
		}, 0},
		{"diff", func() {
			changes, err := restore.Diff(t.Context(), rd, snapshots[0], snapshots[1], allStreams)
			must(t, err)
			if len(changes) != streams {
				t.Errorf("diff tells of %d streams", len(changes))
			}
		}, 0},
		{"diff of one", func() {
			_, err := restore.Diff(t.Context(), rd, snapshots[0], snapshots[1], one)
			must(t, err)
		}, streams},
		{"find", func() {
			_, _, err := restore.Find(t.Context(), rd, snapshots, restore.Query{Selection: allStreams, FromSeq: 2, UntilSeq: 2})
			must(t, err)
		}, 0},
		{"find in one", func() {
			found, _, err := restore.Find(t.Context(), rd, snapshots, restore.Query{Selection: one, FromSeq: 2, UntilSeq: 2})
			must(t, err)
			if len(found) != 1 || len(found[0].Snapshots) != 2 {
				t.Errorf("found %v", found)
			}
		}, streams},
		{"list", func() {
			_, err := streamlog.Open(t.Context(), rd, first.Snapshot.Tree)
			must(t, err)
		}, 0},
		{"check", func() {
			report, err := r.Check(t.Context(), repo.CheckOptions{Contents: streamlog.NewChecker()}, nil)
			must(t, err)
			if report.Damaged() {
				t.Errorf("check finds %v", report.Findings)
			}
		}, 0},
	} {
		reads, all := counted.during(c.do)
		of := 0
		for _, tree := range trees {
			if reads[tree] > few {
				t.Errorf("%s: a directory of %d streams is read %d times", c.name, streams, reads[tree])
			}
			of += reads[tree]
		}
		if of == 0 {
			t.Errorf("%s: no directory of streams is read: nothing was counted", c.name)
		}
		if c.most > 0 && all > c.most {
			t.Errorf("%s: %d reads, more than %d, though it is one of %d streams", c.name, all, c.most, streams)
		}
	}
}

// TestFindDoesNotOpenWhatIsTheSame: a stream that is as in the snapshot before is not read for that, not even what it says of itself.
func TestFindDoesNotOpenWhatIsTheSame(t *testing.T) {
	t.Parallel()
	const streams, rounds = 20, 5
	src := startServer(t, natsd.Options{})
	counted := &lookedUp{Backend: mem.New(), reads: map[whereBlob]int{}}
	r, err := repo.Init(t.Context(), counted, secret.New(password), repo.Options{KDF: cheapKDF})
	must(t, err)
	for i := range streams {
		name := fmt.Sprintf("S%02d", i)
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.MemoryStorage})
		src.publish(t, name, 1, text)
	}
	for range rounds {
		backUp(t, src, r, backUpOptions)
	}
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	search := func(snapshots []*snapshot.Snapshot) func() {
		return func() {
			found, _, err := restore.Find(t.Context(), rd, snapshots, restore.Query{Selection: allStreams})
			must(t, err)
			if len(found) != streams || len(found[0].Snapshots) != len(snapshots) {
				t.Errorf("found %d messages, the first in %d of %d snapshots", len(found), len(found[0].Snapshots), len(snapshots))
			}
		}
	}
	all := snapshotsOf(t, r)
	_, inOne := counted.during(search(all[:1]))
	_, inAll := counted.during(search(all))
	if more := inAll - inOne; more > (rounds-1)*streams/2 {
		t.Errorf("%d reads for one snapshot, %d more for %d in which nothing changed", inOne, more, rounds-1)
	}
}
