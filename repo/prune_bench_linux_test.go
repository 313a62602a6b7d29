package repo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
)

// vast is a repository of so many blobs of about a megabyte each. Their packs are files without content, so that nothing but the index and the trees of
// two snapshots can be read. The second snapshot needs every other blob.
func vast(b *testing.B, dir string, blobs int) *Repo {
	b.Helper()
	const perPack, perFile = 16, 3125 // of blobs; of packs, 50,000 blobs together
	be, err := local.Create(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { be.Close() })
	r, err := Init(b.Context(), be, secret.New(testPassword), testOptions(nil))
	if err != nil {
		b.Fatal(err)
	}
	var all []blob.ID
	var texts [][]byte
	for len(all) < blobs {
		var packs []index.Pack
		for range perFile {
			p := randomPack(b, perPack)
			for _, l := range p.Blobs {
				all = append(all, l.Handle.ID)
			}
			packs = append(packs, p)
			f := storage.File{Kind: storage.Pack, ID: p.ID}
			if err := sparse(filepath.Join(dir, filepath.FromSlash(f.Path())), pack.FileSize(p.Blobs)); err != nil {
				b.Fatal(err)
			}
		}
		text, err := index.Encode(packs)
		if err != nil {
			b.Fatal(err)
		}
		texts = append(texts, text)
	}
	for _, half := range []bool{false, true} {
		snapshotOf(b, r, all, half)
	}
	for _, text := range texts {
		if _, _, err := r.saveUnpacked(b.Context(), storage.Index, text); err != nil {
			b.Fatal(err)
		}
	}
	return r
}

func randomPack(b *testing.B, blobs int) (p index.Pack) {
	b.Helper()
	random := func(id []byte) {
		if _, err := rand.Read(id); err != nil {
			b.Fatal(err)
		}
	}
	random(p.ID[:])
	for i := range blobs {
		l := pack.Blob{Offset: uint32(i << 20), Length: 1 << 20, PlainLength: 3 << 20}
		random(l.Handle.ID[:])
		p.Blobs = append(p.Blobs, l)
	}
	return p
}

// sparse makes a file of that length that takes no room.
func sparse(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// snapshotOf stores a snapshot of directories with blobs that nobody has stored: all, or every other one.
func snapshotOf(b *testing.B, r *Repo, ids []blob.ID, half bool) {
	b.Helper()
	const perDir = 10_000
	w, err := r.NewWriter(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Abort()
	at := time.Unix(1_800_000_000, 0)
	root := new(snapshot.Tree)
	for i := 0; i < len(ids); i += perDir {
		var content []blob.ID
		for k, id := range ids[i:min(i+perDir, len(ids))] {
			if !half || k%2 == 0 {
				content = append(content, id)
			}
		}
		dir, _, err := w.SaveTree(b.Context(), &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.FileNode("f", content, uint64(len(content))*(3<<20), at)}})
		if err != nil {
			b.Fatal(err)
		}
		root.Nodes = append(root.Nodes, snapshot.DirNode(fmt.Sprintf("%08d", i), dir, at))
	}
	tree, _, err := w.SaveTree(b.Context(), root)
	if err != nil {
		b.Fatal(err)
	}
	host := map[bool]string{false: "all", true: "half"}[half]
	if _, err := w.Commit(b.Context(), &snapshot.Snapshot{Tree: tree, Paths: []string{"/A"}, Hostname: host, Time: at}); err != nil {
		b.Fatal(err)
	}
}

// heap returns the bytes that are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// benchBlobs is 5 million, or JETSAM_BENCH_BLOBS.
func benchBlobs(b *testing.B) int {
	b.Helper()
	text := os.Getenv("JETSAM_BENCH_BLOBS")
	if text == "" {
		return 5_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatalf("JETSAM_BENCH_BLOBS: %v", err)
	}
	return n
}

// cpu returns the core-seconds that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkVastIndex opens, and plans to prune, a repository of 5 million blobs, 5 TB, in a local directory; half of the blobs are not needed. Times are
// core-seconds. restic does the same, if it is installed: times-restic says how many times as much the plan takes.
func BenchmarkVastIndex(b *testing.B) {
	blobs := benchBlobs(b)
	dir := b.TempDir()
	r := vast(b, dir, blobs)
	for sn, err := range r.Snapshots(b.Context()) {
		if err != nil {
			b.Fatal(err)
		}
		if sn.Hostname == "all" {
			if _, err := r.Forget(b.Context(), []storage.ID{sn.ID()}); err != nil {
				b.Fatal(err)
			}
		}
	}
	var open, plan time.Duration
	var openBytes, planBytes uint64
	for b.Loop() {
		before, start := heap(), cpu(b)
		rd, err := r.LoadIndex(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		open += cpu(b) - start
		openBytes = heap() - before
		runtime.KeepAlive(rd)
		rd = nil
		before, start = heap(), cpu(b)
		p, err := r.PlanPrune(b.Context(), PruneOptions{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		plan += cpu(b) - start
		planBytes = heap() - before
		if n := p.Unused.Count; n < blobs/2 || p.Used.Count < blobs/2 {
			b.Fatalf("%d unused blobs, %d used", n, p.Used.Count)
		}
	}
	b.ReportMetric(open.Seconds()/float64(b.N), "open-core-s")
	b.ReportMetric(plan.Seconds()/float64(b.N), "plan-core-s")
	b.ReportMetric(float64(openBytes)/float64(blobs), "open-B/blob")
	b.ReportMetric(float64(planBytes)/float64(blobs), "plan-B/blob")
	if d, ok := resticTime(b, dir, "prune", "--dry-run", "--no-cache"); ok {
		b.ReportMetric(plan.Seconds()/float64(b.N)/d.Seconds(), "times-restic")
	}
}

// resticTime runs restic and returns the core-seconds that it took, without what it takes to find the key.
func resticTime(b *testing.B, dir string, args ...string) (time.Duration, bool) {
	b.Helper()
	if _, err := exec.LookPath("restic"); err != nil {
		return 0, false
	}
	run := func(args ...string) time.Duration {
		cmd := exec.CommandContext(context.Background(), "restic", append([]string{"-q", "-r", dir}, args...)...)
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+testPassword)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("restic %v: %v\n%s", args, err, out)
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	base := run("cat", "config", "--no-cache", "--no-lock")
	return run(args...) - base, true
}

// BenchmarkPruneIncrements prunes a repository of 10,000 increments in a local directory, of which half are forgotten, and joins its small packs.
// open-core-s and opened-core-s are what a backup takes to open it before and afterwards. Times are core-seconds.
func BenchmarkPruneIncrements(b *testing.B) {
	const increments = 10_000
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		manyIncrements(b, dir, increments)
		be, err := local.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		r := reopen(b, be, testOptions(nil))
		for i, id := range listIDs(b, be, storage.Snapshot) {
			if i%2 == 0 {
				if err := be.Remove(b.Context(), storage.File{Kind: storage.Snapshot, ID: id}); err != nil {
					b.Fatal(err)
				}
			}
		}
		before := openTime(b, r)
		restic, installed := resticTime(b, dir, "prune", "--dry-run", "--no-cache")
		b.StartTimer()
		start := cpu(b)
		lock, err := r.Lock(b.Context(), true)
		if err != nil {
			b.Fatal(err)
		}
		plan, err := r.PlanPrune(lock.Context(), PruneOptions{RepackSmall: true}, nil)
		if err != nil {
			b.Fatal(err)
		}
		planned := cpu(b) - start
		if _, err := plan.Execute(lock.Context(), nil); err != nil {
			b.Fatal(err)
		}
		executed := cpu(b) - start - planned
		if err := lock.Release(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(planned.Seconds(), "plan-core-s")
		b.ReportMetric(executed.Seconds(), "execute-core-s")
		b.ReportMetric(before.Seconds(), "open-core-s")
		b.ReportMetric(openTime(b, r).Seconds(), "opened-core-s")
		b.ReportMetric(float64(len(listIDs(b, be, storage.Pack))), "packs-left")
		if installed {
			b.ReportMetric(planned.Seconds()/restic.Seconds(), "times-restic")
		}
		be.Close()
		b.StartTimer()
	}
}

// openTime is how long a backup takes until it has the index.
func openTime(b *testing.B, r *Repo) time.Duration {
	b.Helper()
	start := cpu(b)
	w, err := r.NewWriter(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Abort()
	return cpu(b) - start
}
