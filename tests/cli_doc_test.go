package tests

import (
	"go/ast"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"jetsam/internal/doctest"
)

const (
	cliPage       = "docs/cli.md"
	scriptingPage = "docs/scripting.md"
)

// help is what `jetsam ARGS --help` prints.
func help(t *testing.T, args ...string) string {
	t.Helper()
	bin, err := binary()
	must(t, err)
	out, err := exec.Command(bin, append(args, "--help")...).Output()
	must(t, err)
	return string(out)
}

// commandNames are the commands that a help text lists.
func commandNames(helpText string) []string {
	_, list, _ := strings.Cut(helpText, "COMMANDS:\n")
	var out []string
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(line, "   ") {
			out = append(out, strings.TrimSuffix(f[0], ","))
		} else {
			break
		}
	}
	return out
}

// longFlags are the flags named in a text: "--repo".
func longFlags(text string) []string {
	found := regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// TestCommandLinePage: the page explains every command and flag that the program has, and no other.
func TestCommandLinePage(t *testing.T) {
	page := doctest.Page(t, cliPage)
	commands := commandNames(help(t))
	if len(commands) < 10 {
		t.Fatalf("the program's help lists only the commands %q", commands)
	}
	var flags []string
	for _, name := range commands {
		if !mentionsCommand(page, name) {
			t.Errorf("%s has no heading for %s", cliPage, name)
		}
		if name == "help" {
			continue
		}
		text := help(t, name)
		for _, sub := range commandNames(text) {
			if sub != "help" && !strings.Contains(page, "`"+name+" "+sub) {
				t.Errorf("%s does not mention %s %s", cliPage, name, sub)
			}
			flags = append(flags, flagColumn(help(t, name, sub))...)
		}
		flags = append(flags, flagColumn(text)...)
	}
	for _, f := range flags {
		if !strings.Contains(page, "`"+f+"`") && !strings.Contains(page, "`"+f+" ") {
			t.Errorf("%s does not explain %s", cliPage, f)
		}
	}
	for _, f := range longFlags(page) {
		if !slices.Contains(flags, f) && f != "--help" {
			t.Errorf("%s explains %s, which no command has", cliPage, f)
		}
	}
}

// mentionsCommand says whether a heading of the page names the command.
func mentionsCommand(page, name string) bool {
	for line := range strings.Lines(page) {
		title, ok := strings.CutPrefix(line, "## ")
		if ok && slices.Contains(strings.FieldsFunc(title, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }), name) {
			return true
		}
	}
	return false
}

// flagColumn are the flags that a help text explains: those at the beginning of its lines.
func flagColumn(helpText string) []string {
	var out []string
	for line := range strings.Lines(helpText) {
		if f := longFlags(line); len(f) > 0 && strings.HasPrefix(line, "   --") {
			name, _, _ := strings.Cut(strings.Fields(line)[0], ",")
			out = append(out, name)
		}
	}
	return out
}

// TestScriptingPage: the page names every field of every JSON object that commands print.
func TestScriptingPage(t *testing.T) {
	page := doctest.Page(t, scriptingPage)
	fields := 0
	for _, f := range sources(t)["cmd/jetsam/command"] {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if tag, ok := n.(*ast.Field); ok && tag.Tag != nil {
				if name := jsonName(t, tag.Tag.Value); name != "" && name != "-" {
					fields++
					if !strings.Contains(page, "`"+name+"`") {
						t.Errorf("%s does not explain field %s of %s", scriptingPage, name, f.name)
					}
				}
			}
			return true
		})
	}
	if fields == 0 {
		t.Error("found no JSON field")
	}
}

// jsonName is the name of a field in JSON.
func jsonName(t *testing.T, literal string) string {
	t.Helper()
	tag, err := strconv.Unquote(literal)
	must(t, err)
	name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
	return name
}

// TestScriptingPageExitCodes: the page has a row for every exit code that the program knows, and the codes are the ones documented.
func TestScriptingPageExitCodes(t *testing.T) {
	page := doctest.Page(t, scriptingPage)
	var codes []string
	for _, f := range sources(t)["cmd/jetsam/command"] {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 || !regexp.MustCompile(`^exit[A-Z]`).MatchString(v.Names[0].Name) {
				return true
			}
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				codes = append(codes, lit.Value)
			}
			return true
		})
	}
	if len(codes) < 10 {
		t.Fatalf("found only the exit codes %q", codes)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(page, -1)
	for _, code := range codes {
		if !slices.ContainsFunc(rows, func(m []string) bool { return m[1] == code }) {
			t.Errorf("%s has no row for exit code %s", scriptingPage, code)
		}
	}
	for _, m := range rows {
		if !slices.Contains(codes, m[1]) && m[1] != "2" {
			t.Errorf("%s has a row for exit code %s, which the program does not use", scriptingPage, m[1])
		}
	}
}
