package localtest

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Disk is a model of a disk below a directory, root, that is there and empty.
type Disk struct {
	root    string
	files   []*inode          // by Step.File
	now     map[string]*inode // what the running system sees
	durable map[string]*inode // what a power cut cannot take away
	pending []change          // what it can
}

// inode is a file or a folder.
type inode struct {
	folder bool
	data   []byte
	synced bool // data is durable
}

// change gives names to inodes or, where the inode is nil, takes them away, all at
// once.
type change map[string]*inode

func (c change) applyTo(names map[string]*inode) {
	for path, n := range c {
		if n == nil {
			delete(names, path)
		} else {
			names[path] = n
		}
	}
}

// NewDisk returns an empty disk.
func NewDisk(root string) *Disk {
	return &Disk{root: root, now: make(map[string]*inode), durable: make(map[string]*inode)}
}

// Pending returns how many changes of names a power cut could take away now.
func (d *Disk) Pending() int { return len(d.pending) }

// Do tells the disk an operation. The steps must be all those of one Recorder, in
// their order, but for any Sync and SyncDir.
func (d *Disk) Do(s Step) {
	switch s.Op {
	case Create:
		n := &inode{synced: true}
		d.files = append(d.files, n)
		d.change(change{s.Path: n})
	case Write:
		n := d.files[s.File]
		n.data, n.synced = append(n.data, s.Data...), false
	case Sync:
		d.files[s.File].synced = true
	case Mkdir:
		d.change(change{s.Path: &inode{folder: true}})
	case Link:
		d.change(change{s.Path: d.now[s.From]})
	case Rename:
		d.change(change{s.Path: d.now[s.From], s.From: nil})
	case Remove:
		d.change(change{s.Path: nil})
	case SyncDir:
		d.syncDir(s.Path)
	}
}

func (d *Disk) change(c change) {
	c.applyTo(d.now)
	d.pending = append(d.pending, c)
}

// syncDir makes the names in a folder durable. Both names of a rename are in one.
func (d *Disk) syncDir(dir string) {
	d.pending = slices.DeleteFunc(d.pending, func(c change) bool {
		for path := range c {
			if filepath.Dir(path) != dir {
				return false
			}
		}
		c.applyTo(d.durable)
		return true
	})
}

// State is what a power cut left. Paths are relative to the root.
type State struct {
	Folders []string
	Files   map[string][]byte
}

// States yields what a power cut now could leave: everything if that is not more
// than limit, else that nothing, and that everything is lost that can be, that just
// one change is lost or kept, and random parts as many as limit allows. A state may
// come twice.
func (d *Disk) States(limit int, rng *rand.Rand) iter.Seq[State] {
	open := d.unsynced()
	radix := make([]int, 0, len(d.pending)+len(open))
	for range d.pending {
		radix = append(radix, 2)
	}
	for _, n := range open {
		radix = append(radix, len(n.contents()))
	}
	return func(yield func(State) bool) {
		for pick := range picks(radix, limit, rng) {
			if !yield(d.state(pick, open)) {
				return
			}
		}
	}
}

// unsynced returns the files that have or may get a name, and whose data may be
// lost, in the order in which they were made.
func (d *Disk) unsynced() []*inode {
	return slices.DeleteFunc(slices.Clone(d.files), func(n *inode) bool {
		return n.synced || !d.named(n)
	})
}

func (d *Disk) named(n *inode) bool {
	for _, names := range append([]change{d.now, d.durable}, d.pending...) {
		for _, m := range names {
			if m == n {
				return true
			}
		}
	}
	return false
}

// contents returns what a power cut could make of a file that is not synced: the
// first is that nothing is left, the last that nothing is lost.
func (n *inode) contents() [][]byte {
	if len(n.data) == 0 {
		return [][]byte{nil}
	}
	half := len(n.data) / 2
	zeros := make([]byte, len(n.data))
	return [][]byte{nil, n.data[:half], n.data[:len(n.data)-1], zeros, append(slices.Clone(n.data[:half]), zeros[half:]...), n.data}
}

// picks yields numbers below each radix, in the way that States promises. 0 stands
// for what is lost, and the largest for what is kept.
func picks(radix []int, limit int, rng *rand.Rand) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		all := 1
		for _, r := range radix {
			if all *= r; all > limit {
				somePicks(radix, limit, rng, yield)
				return
			}
		}
		for i := range all {
			pick := make([]int, len(radix))
			for j, r := range radix {
				pick[j], i = i%r, i/r
			}
			if !yield(pick) {
				return
			}
		}
	}
}

func somePicks(radix []int, limit int, rng *rand.Rand, yield func([]int) bool) {
	lost, kept := make([]int, len(radix)), make([]int, len(radix))
	for i, r := range radix {
		kept[i] = r - 1
	}
	out := [][]int{kept, lost}
	// A long row of changes, such as new folders, has too many of these: some.
	for _, i := range rng.Perm(len(radix))[:min(len(radix), limit/3)] {
		one, rest := slices.Clone(lost), slices.Clone(kept)
		one[i], rest[i] = kept[i], lost[i]
		out = append(out, one, rest)
	}
	for len(out) < limit {
		pick := make([]int, len(radix))
		for i, r := range radix {
			pick[i] = rng.IntN(r)
		}
		out = append(out, pick)
	}
	for _, pick := range out[:max(limit, 1)] {
		if !yield(pick) {
			return
		}
	}
}

// state returns what is left if pick says which changes are kept and, behind them,
// what becomes of the files that are open.
func (d *Disk) state(pick []int, open []*inode) State {
	names := maps.Clone(d.durable)
	for i, c := range d.pending {
		if pick[i] != 0 {
			c.applyTo(names)
		}
	}
	left := make(map[*inode][]byte)
	for i, n := range open {
		left[n] = n.contents()[pick[len(d.pending)+i]]
	}
	s := State{Files: make(map[string][]byte)}
	for path, n := range names {
		if !d.reachable(names, path) {
			continue
		}
		rel, err := filepath.Rel(d.root, path)
		if err != nil {
			continue // reachable climbed from it to the root
		}
		data, unsynced := left[n]
		switch {
		case n.folder:
			s.Folders = append(s.Folders, rel)
		case unsynced:
			s.Files[rel] = data
		default:
			s.Files[rel] = n.data
		}
	}
	slices.Sort(s.Folders) // those above come first
	return s
}

// reachable reports whether path is below the root and all folders above it are
// there.
func (d *Disk) reachable(names map[string]*inode, path string) bool {
	for dir := filepath.Dir(path); dir != d.root; dir = filepath.Dir(dir) {
		if n := names[dir]; n == nil || !n.folder {
			return false // also where the path was never below the root
		}
	}
	return true
}

// Key returns a hash that differs where states differ.
func (s State) Key() [sha256.Size]byte {
	h := sha256.New()
	note := func(p []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	for _, folder := range s.Folders {
		note([]byte(folder))
	}
	note([]byte("//"))
	for _, path := range slices.Sorted(maps.Keys(s.Files)) {
		note([]byte(path))
		note(s.Files[path])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Write makes the state real below a directory, which must be there and empty.
func (s State) Write(dir string) error {
	for _, folder := range s.Folders {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return err
		}
	}
	for path, data := range s.Files {
		if err := os.WriteFile(filepath.Join(dir, path), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
