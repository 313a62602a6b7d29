// Command licenses checks the licences of everything that the jetsam program is built from, and writes their texts beside a release.
//
// It lists the modules behind ./cmd/jetsam for each system that is released, reads the licence files from each package's folder up to its
// module's root, and fails where one is missing, not recognised, or not among the accepted ones.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	out := flag.String("o", "", "write the texts of all licences to this `FILE`")
	flag.Parse()
	if err := run(*out, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(out string, report io.Writer) error {
	modules, err := shipped()
	if err != nil {
		return err
	}
	var bad []error
	for _, m := range modules {
		if err := m.read(); err != nil {
			bad = append(bad, err)
			continue
		}
		fmt.Fprintf(report, "%-40s %-14s %s\n", m.path, m.version, strings.Join(m.licences(), ", "))
	}
	if err := errors.Join(bad...); err != nil {
		return err
	}
	if out == "" {
		return nil
	}
	return os.WriteFile(out, notices(modules), 0o644)
}

// module is a dependency and what its licence files say.
type module struct {
	path, version, dir string
	packages           map[string]bool // folders of its packages that are built in
	texts              []licenceFile
}

// licenceFile is one file, and what was recognised in it. A NOTICE file names no licence.
type licenceFile struct {
	name  string // from the module's root
	text  []byte
	names []string
}

// systems are those that releases are built for. The set of packages differs between them.
func systems() []string { return []string{"linux", "darwin", "windows"} }

// shipped are the modules that the program is built from on any of the systems, and Go itself, in the order of their paths.
func shipped() ([]*module, error) {
	found := map[string]*module{}
	for _, system := range systems() {
		lines, err := goList(system, "-deps", "-f", "{{if not .Standard}}{{.Module.Path}}\t{{.Module.Version}}\t{{.Module.Dir}}\t{{.Dir}}\t{{.Module.Main}}{{end}}", "./cmd/jetsam")
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			f := strings.Split(line, "\t")
			if len(f) != 5 {
				return nil, fmt.Errorf("go list printed %q", line)
			}
			if f[4] == "true" {
				continue
			}
			m := found[f[0]]
			if m == nil {
				m = &module{path: f[0], version: f[1], dir: f[2], packages: map[string]bool{}}
				found[f[0]] = m
			}
			m.packages[f[3]] = true
		}
	}
	goroot, err := goTool("", "env", "GOROOT", "GOVERSION")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || len(goroot) != 2 {
		return nil, errors.New("go list named no module")
	}
	out := slices.SortedFunc(maps.Values(found), func(a, b *module) int { return strings.Compare(a.path, b.path) })
	std := &module{path: "the Go standard library", version: goroot[1], dir: goroot[0], packages: map[string]bool{goroot[0]: true}}
	return append(out, std), nil
}

func goList(system string, args ...string) ([]string, error) {
	return goTool(system, append([]string{"list"}, args...)...)
}

// goTool runs the go command for a system and returns the lines that it prints, but for empty ones.
func goTool(system string, args ...string) ([]string, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if system != "" {
		cmd.Env = append(cmd.Env, "GOOS="+system)
	}
	cmd.Stderr = os.Stderr
	p, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	lines := strings.Split(string(p), "\n")
	return slices.DeleteFunc(lines, func(s string) bool { return s == "" }), nil
}

// read finds and recognises the module's licence files.
func (m *module) read() error {
	for _, dir := range m.folders() {
		if err := m.readFolder(dir); err != nil {
			return err
		}
	}
	if len(m.licences()) == 0 {
		return fmt.Errorf("%s %s has no licence file", m.path, m.version)
	}
	return nil
}

// folders are those of the packages, and those above them up to the module's root, in order.
func (m *module) folders() []string {
	all := map[string]bool{m.dir: true}
	for dir := range m.packages {
		for ; dir != m.dir && strings.HasPrefix(dir, m.dir); dir = filepath.Dir(dir) {
			all[dir] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (m *module) readFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		notice := strings.HasPrefix(strings.ToUpper(e.Name()), "NOTICE")
		if e.IsDir() || !notice && !namesLicence(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		name, err := filepath.Rel(m.dir, filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		f := licenceFile{name: filepath.ToSlash(name), text: text}
		if !notice {
			if f.names, err = classify(string(text)); err != nil {
				return fmt.Errorf("%s %s: %s: %w", m.path, m.version, f.name, err)
			}
		}
		m.texts = append(m.texts, f)
	}
	return nil
}

func namesLicence(name string) bool {
	upper := strings.ToUpper(name)
	if strings.HasSuffix(upper, ".GO") {
		return false
	}
	return slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING", "UNLICENSE"}, func(p string) bool { return strings.HasPrefix(upper, p) })
}

// licences are the names of all licences of the module.
func (m *module) licences() []string {
	var out []string
	for _, f := range m.texts {
		out = append(out, f.names...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// notices is the text that goes with a release. It depends on the modules alone.
func notices(modules []*module) []byte {
	var b bytes.Buffer
	b.WriteString("jetsam is built from the following, each under the licence below it.\n")
	for _, m := range modules {
		for _, f := range m.texts {
			fmt.Fprintf(&b, "\n%s\n%s %s: %s\n\n%s\n", strings.Repeat("=", 80), m.path, m.version, f.name, bytes.TrimSpace(f.text))
		}
	}
	return b.Bytes()
}
