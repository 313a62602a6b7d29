package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// maxFile is the length of the longest file that is read, in bytes.
const maxFile = 64 << 20

// command is the label that tells the runs of different commands apart.
const command = "command"

// WriteFile writes what is told of a run to a file, whole or not at all, in the
// place of what it says of earlier runs of the same command. What is in the file
// besides stays. A file that cannot be understood is replaced.
func WriteFile(path string, r Run) error {
	earlier, err := readFile(path)
	if err != nil {
		return fmt.Errorf("metrics file: %w", err)
	}
	now := r.families()
	for _, f := range now {
		for _, m := range f.Metric {
			m.Label = append([]*dto.LabelPair{{Name: ptr(command), Value: &r.Command}}, m.Label...)
		}
		if old := earlier[f.GetName()]; old != nil {
			f.Metric = append(f.Metric, slices.DeleteFunc(old.Metric, func(m *dto.Metric) bool { return commandOf(m) == r.Command })...)
			delete(earlier, f.GetName())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(earlier)) {
		now = append(now, earlier[name])
	}
	var text bytes.Buffer
	for _, f := range now {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			return fmt.Errorf("metrics file: %w", err)
		}
	}
	if err := replace(path, text.Bytes()); err != nil {
		return fmt.Errorf("metrics file: %w", err)
	}
	return nil
}

// readFile returns what a file says, by the names of metrics: nothing, if there is
// none, or none of metrics.
func readFile(path string) (map[string]*dto.MetricFamily, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes, more than %d: is it one of metrics?", path, info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, nil
	}
	return families, nil
}

// replace writes a file under another name, and gives it its own when it is there
// as a whole, readable for all: who collects metrics is another user.
func replace(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func commandOf(m *dto.Metric) string {
	for _, l := range m.Label {
		if l.GetName() == command {
			return l.GetValue()
		}
	}
	return ""
}

func ptr[T any](x T) *T { return &x }
