package repo

import (
	"testing"

	"jetsam/storage"
)

// FuzzSubset: what is accepted chooses some of the packs that are there, each once.
func FuzzSubset(f *testing.F) {
	for _, text := range []string{"1/5", "256/256", "2.5%", "500M", "1t", "1e-300%", "0x1p-2%", "+1/2", "9223372036854775807", "8388608T", "NaN%", "1/257", ""} {
		f.Add(text)
	}
	packs := make([]storage.Info, 9)
	for i := range packs {
		packs[i] = storage.Info{File: storage.File{Kind: storage.Pack, ID: storage.ID{byte(i * 31)}}, Size: int64(i) << 60}
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSubset(text)
		if err != nil {
			if s != (Subset{}) || len(err.Error()) > 200 {
				t.Fatalf("%+v with %v", s, err)
			}
			return
		}
		if s == (Subset{}) {
			t.Fatalf("%q means all", text)
		}
		seen := map[storage.ID]bool{}
		for _, p := range s.choose(packs) {
			if seen[p.File.ID] {
				t.Fatalf("%q chooses %v twice", text, p.File)
			}
			seen[p.File.ID] = true
		}
		if s.parts == 0 && len(seen) == 0 {
			t.Fatalf("%q chooses nothing", text)
		}
	})
}
