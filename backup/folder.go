package backup

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// folder is a place that may hold the files of a dump.
type folder interface {
	// written says whether there is something of that name that is no folder, and when it was written.
	written(ctx context.Context, name string) (time.Time, bool)
	// open opens a regular file and says how many bytes it has. Where ctx ends, reading it does.
	open(ctx context.Context, name string) (io.ReadCloser, int64, error)
}

// directory is a folder of this machine.
type directory string

func (d directory) written(_ context.Context, name string) (time.Time, bool) {
	info, err := os.Stat(filepath.Join(string(d), name))
	if err != nil || info.IsDir() {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// open looks at the file first: to open a pipe would wait for somebody to write to it.
func (d directory) open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	name = filepath.Join(string(d), name)
	info, err := os.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	return &openFile{f, context.AfterFunc(ctx, func() { f.Close() })}, info.Size(), nil
}

// openFile is a file that is closed when a context ends.
type openFile struct {
	*os.File
	stop func() bool
}

func (f *openFile) Close() error {
	f.stop()
	return f.File.Close()
}
