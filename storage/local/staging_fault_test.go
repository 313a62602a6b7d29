package local

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"jetsam/storage"
)

// TestStagingFaults fails every step once. Afterwards the directory is whole, or nothing is left, and the error says which.
func TestStagingFaults(t *testing.T) {
	fault := errors.New("injected")
	failed := map[string]bool{}
	for k := 1; ; k++ {
		op := ""
		top := t.TempDir()
		disk := &faultFS{FileSystem: osFS{}, before: failAt(k, fault, &op)}
		err := stageOne(filepath.Join(top, "dir"), disk)
		if op == "" {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		failed[op] = true
		if op == "close" && err == nil { // of what was only read
			continue
		}
		known := (*StagingError)(nil)
		if !errors.Is(err, fault) || !errors.As(err, &known) {
			t.Errorf("step %d, %s: %v", k, op, err)
		}
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) > 0 {
			t.Errorf("step %d, %s: left behind %v, %v", k, op, entries, err)
		}
	}
	for _, op := range []string{"mkdir", "create", "write", "sync", "close", "open", "fstat", "read", "syncdir", "rename"} {
		if !failed[op] {
			t.Errorf("no %s was failed, only %v", op, failed)
		}
	}
}

func stageOne(path string, disk FileSystem) error {
	s, err := StageOn(path, disk)
	if err != nil {
		return err
	}
	err = s.Add("file", func(w io.Writer) error {
		_, err := io.WriteString(w, "content")
		return err
	})
	if err == nil {
		err = s.Read("file", func(r io.Reader) error {
			_, err := io.ReadAll(r)
			return err
		})
	}
	if err == nil {
		err = s.Commit()
	}
	return errors.Join(err, s.Abort())
}

// TestStagingFull: a full disk is said to be one, and what could not be removed is named.
func TestStagingFull(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its errors are others")
	}
	top := t.TempDir()
	disk := &faultFS{FileSystem: osFS{}, before: func(op, name string) error {
		switch op {
		case "write":
			return syscall.ENOSPC
		case "remove":
			return syscall.EIO
		}
		return nil
	}}
	s, err := StageOn(filepath.Join(top, "dir"), disk)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Add("file", func(w io.Writer) error {
		_, err := w.Write([]byte("content"))
		return err
	})
	if !errors.Is(err, storage.ErrFull) {
		t.Errorf("a full disk: %v", err)
	}
	if err := s.Abort(); err == nil || !errors.Is(err, syscall.EIO) {
		t.Errorf("abort: %v", err)
	}
	if left := temporaries(t, top); len(left) == 0 {
		t.Error("nothing is left, and nothing failed")
	}
}
