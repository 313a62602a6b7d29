package tests

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// TestDocumentLinks: every relative link in a Markdown page leads to a file or folder that is there, and to a heading where it names one.
func TestDocumentLinks(t *testing.T) {
	pages := moduleFiles(t, ".md")
	if len(pages) == 0 {
		t.Fatal("found no page")
	}
	links := 0
	for _, page := range pages {
		for _, target := range linkTargets(readPage(t, page)) {
			links++
			if problem := checkLink(t, page, target); problem != "" {
				t.Errorf("%s links to %s: %s", page, target, problem)
			}
		}
	}
	if links == 0 {
		t.Error("found no relative link on any page")
	}
}

// TestEveryPageIsInTheIndex: docs/README.md leads to every page of docs.
func TestEveryPageIsInTheIndex(t *testing.T) {
	const index = "docs/README.md"
	targets := linkTargets(readPage(t, index))
	for _, page := range moduleFiles(t, ".md") {
		name, ok := strings.CutPrefix(page, "docs/")
		if ok && page != index && !slices.Contains(targets, name) {
			t.Errorf("%s does not link to %s", index, name)
		}
	}
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	return withoutCode(string(text))
}

// withoutCode takes fenced blocks and code within lines out of a page, but leaves headings as they are.
func withoutCode(page string) string {
	code := regexp.MustCompile("`[^`]*`")
	var b strings.Builder
	fenced := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if fenced {
			continue
		}
		if !strings.HasPrefix(line, "#") {
			line = code.ReplaceAllString(line, "")
		}
		b.WriteString(line)
	}
	return b.String()
}

// linkTargets are the targets of a page's links but for those that lead out of the project.
func linkTargets(page string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`\]\(([^()\s]+)\)`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") {
			out = append(out, m[1])
		}
	}
	return out
}

// checkLink says what is wrong with a link, or nothing.
func checkLink(t *testing.T, page, target string) string {
	t.Helper()
	name, heading, _ := strings.Cut(target, "#")
	name, err := url.PathUnescape(name)
	if err != nil {
		return err.Error()
	}
	to := page
	if name != "" {
		to = path.Join(path.Dir(page), name)
	}
	if strings.HasPrefix(to, "../") || strings.HasPrefix(name, "/") {
		return "it leads out of the project"
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
		return "there is no such file"
	}
	if heading != "" && !slices.Contains(headings(readPage(t, to)), heading) {
		return "there is no such heading"
	}
	return ""
}

// headings are the anchors that GitHub gives a page's headings.
func headings(page string) []string {
	var out []string
	seen := map[string]int{}
	for line := range strings.Lines(page) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		anchor := slug(strings.TrimSpace(title))
		n := seen[anchor]
		seen[anchor]++
		if n > 0 {
			anchor += "-" + strconv.Itoa(n)
		}
		out = append(out, anchor)
	}
	return out
}

// slug is GitHub's anchor of a heading: lower case, spaces become hyphens, other punctuation goes.
func slug(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-':
			return '-'
		case r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

func TestHeadings(t *testing.T) {
	page := "# One page\n\ntext # not\n## `code` & more\n## Same\n## Same\n#no heading\n"
	want := []string{"one-page", "code--more", "same", "same-1"}
	if got := headings(page); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLinkTargets(t *testing.T) {
	page := "[a](a.md) and ![b](b/c.png#d), [far](https://example.org/x), `[code](no.md)`\n```\n[fenced](no.md)\n```\n"
	want := []string{"a.md", "b/c.png#d"}
	if got := linkTargets(withoutCode(page)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
