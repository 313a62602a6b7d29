package local

import (
	"io/fs"
	"testing"
	"time"

	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// aheadFS is kept by somebody whose clock is an hour ahead, or who keeps no times.
type aheadFS struct {
	osFS
	timeless bool
}

func (d aheadFS) Create(name string) (OpenFile, error) {
	f, err := d.osFS.Create(name)
	return aheadFile{f, d.timeless}, err
}

type aheadFile struct {
	OpenFile
	timeless bool
}

func (f aheadFile) Stat() (fs.FileInfo, error) {
	info, err := f.OpenFile.Stat()
	return aheadInfo{info, f.timeless}, err
}

type aheadInfo struct {
	fs.FileInfo
	timeless bool
}

func (i aheadInfo) ModTime() time.Time {
	if i.timeless {
		return time.Unix(0, 0)
	}
	return i.FileInfo.ModTime().Add(time.Hour)
}

// TestClock: what is saved tells the clock of whoever keeps the directory, if he keeps times.
func TestClock(t *testing.T) {
	for _, timeless := range []bool{false, true} {
		b, err := CreateOn(t.TempDir(), aheadFS{timeless: timeless})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if at, known := b.Clock(); known {
			t.Errorf("%v, before it told", at)
		}
		f, data := storagetest.RandomFile(storage.Lock, 100)
		if err := b.Save(t.Context(), f, data); err != nil {
			t.Fatal(err)
		}
		at, known := b.Clock()
		if known == timeless || known && (time.Until(at) < 50*time.Minute || time.Until(at) > 70*time.Minute) {
			t.Errorf("timeless %v: %v, %v", timeless, at, known)
		}
	}
}
