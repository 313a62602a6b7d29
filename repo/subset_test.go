package repo_test

import (
	"fmt"
	"testing"

	"jetsam/repo"
	"jetsam/repo/repotest"
)

func TestParseSubset(t *testing.T) {
	for _, text := range []string{"1/1", "3/256", "100%", "0.5%", "1", "500K", "10m", "2G", "1t"} {
		if s, err := repo.ParseSubset(text); err != nil || s == (repo.Subset{}) {
			t.Errorf("ParseSubset(%q): %+v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "0/1", "2/1", "1/257", "1/", "/", "-1/5", "0%", "101%", "NaN%", "-1%", "%", "0", "-5", "5X", "1.5G", "K", "9999999T"} {
		if s, err := repo.ParseSubset(text); err == nil {
			t.Errorf("ParseSubset(%q) = %+v", text, s)
		}
	}
}

func TestReadSubset(t *testing.T) {
	rng := newRand(t)
	o := repotest.Options()
	o.PackSize = 10_000
	r, _ := faultyRepo(t, o)
	files := map[string][][]byte{"f": {}}
	for range 40 {
		files["f"] = append(files["f"], randomBytes(rng, 9_000))
	}
	backup(t, r, files)
	read := func(text string) (packs int, bytes int64) {
		s, err := repo.ParseSubset(text)
		if err != nil {
			t.Fatal(err)
		}
		report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true, Subset: s}, nil)
		if err != nil || len(report.Findings) > 0 {
			t.Fatalf("%s: %v, %v", text, report, err)
		}
		return report.PacksRead, report.BytesRead
	}
	all, allBytes := read("100%")
	if all < 40 {
		t.Fatalf("%d packs", all)
	}
	var parts int
	for i := range 7 {
		n, _ := read(fmt.Sprint(i+1, "/7"))
		parts += n
	}
	if parts != all {
		t.Errorf("seven sevenths have %d packs, want %d", parts, all)
	}
	if n, _ := read("10%"); n != (all+9)/10 {
		t.Errorf("10%% of %d packs are %d", all, n)
	}
	if n, bytes := read("50K"); bytes < 50<<10 || bytes > 70<<10 {
		t.Errorf("50K are %d packs of %d bytes", n, bytes)
	}
	if n, bytes := read("1T"); n != all || bytes != allBytes {
		t.Errorf("1T are %d packs of %d bytes", n, bytes)
	}
}
