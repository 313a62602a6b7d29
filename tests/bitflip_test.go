package tests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/streamlog"
)

// flipStride is how many bytes lie between those that are changed where time is short. With JETSAM_PROOF=1 every bit of every byte is.
const flipStride = 24

// TestEveryBitMatters changes bits of a small repository of real streams, one at a time. A check with --read-data must find each
// of them, a plain one all that are not in a pack of data, and those that are in such a pack's header. What can still be read
// must be right.
func TestEveryBitMatters(t *testing.T) {
	base, treePacks := smallRepository(t)
	want, err := readAll(t.Context(), openOverlay(t, &overlay{Backend: base}))
	must(t, err)
	if len(want) != 3 {
		t.Fatalf("the repository holds %d streams in snapshots, want 3", len(want))
	}
	seed := chance.Seed(t)
	flips := allFlips(t, base, rand.New(rand.NewPCG(seed, 0)))

	var next, plainInData atomic.Int64
	var g errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			be := &overlay{Backend: base}
			whole := openOverlay(t, be)
			for i := next.Add(1) - 1; int(i) < len(flips); i = next.Add(1) - 1 {
				f := flips[i]
				be.set(f.file, f.damaged())
				plain, err := tryFlip(t.Context(), whole, want, f, f.file.Kind != storage.Pack || treePacks[f.file] || f.inHeader())
				if err != nil {
					return fmt.Errorf("seed %d: %v: %w", seed, f, err)
				}
				if plain && f.file.Kind == storage.Pack && !treePacks[f.file] {
					plainInData.Add(1)
				}
			}
			return nil
		})
	}
	must(t, g.Wait())
	t.Logf("%d bits changed, all found; %d of those in packs of data by a plain check", len(flips), plainInData.Load())
}

// tryFlip looks at a repository of which one bit is another. It returns whether a plain check found it.
func tryFlip(ctx context.Context, r *repo.Repo, want map[string][32]byte, f bitFlip, wantPlain bool) (plain bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // so that one which hangs is told from one which is slow
	defer cancel()
	if f.file.Kind == storage.Config || f.file.Kind == storage.Key {
		r, err = repo.Open(ctx, r.Backend(), secret.New(password), repo.Options{NoLock: true})
		if errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrWrongPassword) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("open: %w", err)
		}
	}
	for _, readData := range []bool{false, true} {
		report, err := r.Check(ctx, repo.CheckOptions{ReadData: readData, Contents: streamlog.NewChecker()}, nil)
		switch {
		case err != nil:
			return false, err
		case !report.Damaged() && (readData || wantPlain):
			return false, fmt.Errorf("check finds nothing, data read: %v", readData)
		case !report.Damaged():
		case !namesFile(report, f.file):
			return false, fmt.Errorf("check does not name %v, data read: %v: %v", f.file, readData, report.Findings)
		case !readData:
			plain = true
		}
	}
	got, err := readAll(ctx, r)
	if err != nil && !errors.Is(err, repo.ErrCorrupt) {
		return false, fmt.Errorf("read: %w, want ErrCorrupt", err)
	}
	if err == nil && len(got) != len(want) {
		return false, fmt.Errorf("%d streams are read, want %d, and there is no error", len(got), len(want))
	}
	for name, sum := range got {
		if want[name] != sum {
			return false, fmt.Errorf("%s is read with other content", name)
		}
	}
	return plain, nil
}

func namesFile(report *repo.Report, f storage.File) bool {
	return slices.ContainsFunc(report.Findings, func(x repo.Finding) bool { return strings.Contains(x.String(), f.String()) })
}

// smallRepository is two backups of small streams in memory, and which of its packs hold trees.
func smallRepository(t *testing.T) (be *mem.Backend, treePacks map[storage.File]bool) {
	t.Helper()
	src := startServer(t, natsd.Options{Name: "small"})
	orders := src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	src.publish(t, "orders.new", 12, text)
	_, err := orders.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	src.create(t, jetstream.StreamConfig{Name: "EMPTY", Subjects: []string{"empty"}})
	be = mem.New()
	r, err := repo.Init(t.Context(), be, secret.New(password), repo.Options{KDF: cheapKDF, LockWait: time.Nanosecond, Hostname: "h", Username: "u"})
	must(t, err)
	backUp(t, src, r, backup.Options{Selection: allStreams})
	src.publish(t, "orders.new", 2, text)
	backUp(t, src, r, backup.Options{Selection: streamlog.Selection{Names: []string{"ORDERS"}}})
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	treePacks = map[storage.File]bool{}
	for h, at := range rd.All() {
		treePacks[storage.File{Kind: storage.Pack, ID: at.Pack}] = h.Kind == blob.Tree
	}
	return be, treePacks
}

func openOverlay(t *testing.T, be *overlay) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), be, secret.New(password), repo.Options{NoLock: true})
	must(t, err)
	return r
}

// readAll reads every stream of every snapshot, and returns a hash of each by its snapshot and name. The error joins why some are not there.
func readAll(ctx context.Context, r *repo.Repo) (map[string][32]byte, error) {
	out := map[string][32]byte{}
	var errs []error
	infos := 0
	for _, err := range r.Backend().List(ctx, storage.Snapshot) {
		if err != nil {
			return nil, err
		}
		infos++
	}
	rd, err := r.LoadIndex(ctx, nil)
	if err != nil {
		return nil, err
	}
	for sn, err := range r.Snapshots(ctx) {
		if err != nil {
			return nil, err
		}
		infos--
		errs = append(errs, readSnapshot(ctx, rd, sn, out))
	}
	if infos > 0 {
		errs = append(errs, fmt.Errorf("%w: %d snapshots cannot be read", repo.ErrCorrupt, infos))
	}
	return out, errors.Join(errs...)
}

func readSnapshot(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, out map[string][32]byte) error {
	held, err := streamlog.Open(ctx, rd, sn.Tree)
	if err != nil {
		return err
	}
	errs := []error{held.AccountErr}
	for _, s := range held.Streams {
		sum, err := readStream(ctx, rd, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out[sn.ID().Short()+"/"+held.Account.Account+"/"+s.Name] = sum
	}
	return errors.Join(errs...)
}

// readStream hashes all that a restore sends.
func readStream(ctx context.Context, rd *repo.Reader, s *streamlog.Stream) (sum [32]byte, err error) {
	if s.Err != nil {
		return sum, s.Err
	}
	head, err := s.Head(ctx)
	if err != nil {
		return sum, err
	}
	text, err := s.Document.Encode()
	if err != nil {
		return sum, err
	}
	all := bytes.NewBuffer(head.Append(text))
	for p, err := range s.Parts(ctx) {
		if err != nil {
			return sum, err
		}
		if _, err := p.Groups(ctx); err != nil {
			return sum, err
		}
		for content, err := range rd.Blobs(ctx, p.Blobs, 2) {
			if err != nil {
				return sum, err
			}
			all.Write(content)
		}
	}
	return sha256.Sum256(all.Bytes()), nil
}

// bitFlip is one bit of a file that is changed.
type bitFlip struct {
	file storage.File
	data []byte // as it was
	at   int    // byte
	bit  int
}

func (f bitFlip) String() string {
	return fmt.Sprintf("%v, byte %d of %d, bit %d", f.file, f.at, len(f.data), f.bit)
}

func (f bitFlip) damaged() []byte {
	p := bytes.Clone(f.data)
	p[f.at] ^= 1 << f.bit
	return p
}

// inHeader says whether the byte is certainly in the header of a pack: that has a length, a nonce and a MAC, and an entry.
func (f bitFlip) inHeader() bool { return f.at >= len(f.data)-4-32-37 }

// allFlips returns what to change of each file: every bit, or one bit of every flipStride bytes.
func allFlips(t *testing.T, be storage.Backend, r *rand.Rand) []bitFlip {
	t.Helper()
	var flips []bitFlip
	var size int
	for _, f := range filesOf(t, be) {
		data, err := be.Load(t.Context(), f, 0, -1)
		must(t, err)
		size += len(data)
		if proof() {
			for i := range 8 * len(data) {
				flips = append(flips, bitFlip{f, data, i / 8, i % 8})
			}
			continue
		}
		for at := r.IntN(flipStride); at < len(data); at += 1 + r.IntN(2*flipStride-1) {
			flips = append(flips, bitFlip{f, data, at, r.IntN(8)})
		}
	}
	t.Logf("a repository of %d bytes", size)
	return flips
}

// filesOf lists all files, in the same order each time.
func filesOf(t *testing.T, be storage.Backend) []storage.File {
	t.Helper()
	var files []storage.File
	for _, k := range storage.Kinds() {
		for info, err := range be.List(t.Context(), k) {
			must(t, err)
			files = append(files, info.File)
		}
	}
	slices.SortFunc(files, func(a, b storage.File) int { return strings.Compare(a.Path(), b.Path()) })
	return files
}

// overlay is a backend one of whose files has other bytes.
type overlay struct {
	*mem.Backend
	file storage.File
	data []byte // nil: none has
}

func (o *overlay) set(f storage.File, data []byte) { o.file, o.data = f, data }

func (o *overlay) changes(f storage.File) bool { return o.data != nil && f == o.file }

func (o *overlay) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	if !o.changes(f) {
		return o.Backend.Load(ctx, f, off, n)
	}
	n, err := storage.Range(int64(len(o.data)), off, n)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(o.data[off : off+int64(n)]), nil
}

func (o *overlay) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	if !o.changes(f) {
		return o.Backend.Stat(ctx, f)
	}
	return storage.Info{File: f, Size: int64(len(o.data))}, nil
}

func (o *overlay) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range o.Backend.List(ctx, k) {
			if err == nil && o.changes(info.File) {
				info.Size = int64(len(o.data))
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
