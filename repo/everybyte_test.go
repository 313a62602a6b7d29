package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
)

func TestEveryByteMatters(t *testing.T) {
	rng := newRand(t)
	r, be := faultyRepo(t, repotest.Options())
	files := map[string][][]byte{"f": {randomBytes(rng, 50), jsonEvents(rng, 300)}}
	sn, _ := backup(t, r, files)
	data := make(map[storage.ID]bool)
	for h, l := range loadIndex(t, r).All() {
		data[l.Pack] = h.Kind == blob.Data
	}
	var cases int
	for _, k := range []storage.Kind{storage.Config, storage.Key, storage.Snapshot, storage.Index, storage.Pack} {
		for _, f := range hide(t, be, k) {
			for i := range f.data {
				changed := bytes.Clone(f.data)
				changed[i] ^= 1 << rng.IntN(8)
				if err := be.Save(t.Context(), f.file, changed); err != nil {
					t.Fatal(err)
				}
				at := fmt.Sprintf("%v, byte %d of %d", f.file, i, len(changed))
				if k == storage.Config || k == storage.Key {
					if err := openDamaged(t, be); err != nil {
						t.Fatalf("%s: %v", at, err)
					}
				} else {
					// The last bytes of a pack are header, which a plain check samples.
					wantPlain := !data[f.file.ID] || i >= len(changed)-100
					if err := checkDamaged(t, r, wantPlain); err != nil {
						t.Fatalf("%s: %v", at, err)
					}
					if err := restoreRight(t.Context(), r, sn, files); err != nil {
						t.Fatalf("%s: %v", at, err)
					}
				}
				if err := be.Remove(t.Context(), f.file); err != nil {
					t.Fatal(err)
				}
				cases++
			}
			if err := be.Save(t.Context(), f.file, f.data); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d bytes", cases)
	repotest.Verify(t, be)
}

func openDamaged(t *testing.T, be storage.Backend) error {
	r, err := repo.Open(t.Context(), be, secret.New(repotest.Password), repotest.Options())
	if err != nil {
		if errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrWrongPassword) {
			return nil
		}
		return fmt.Errorf("open: %w", err)
	}
	return checkDamaged(t, r, true)
}

func checkDamaged(t *testing.T, r *repo.Repo, wantPlain bool) error {
	if wantPlain && !check(t, r, false).Damaged() {
		return errors.New("a plain check finds nothing")
	}
	if !check(t, r, true).Damaged() {
		return errors.New("a full check finds nothing")
	}
	return nil
}

func restoreRight(ctx context.Context, r *repo.Repo, sn *snapshot.Snapshot, files map[string][][]byte) error {
	rd, err := r.LoadIndex(ctx, nil)
	if err != nil {
		return err
	}
	for _, contents := range files {
		for _, p := range contents {
			got, err := rd.Load(ctx, dataHandle(p), nil)
			if err == nil && !bytes.Equal(got, p) {
				return errors.New("a blob is read with other content")
			}
			if err != nil && !errors.Is(err, repo.ErrCorrupt) {
				return fmt.Errorf("%w, want ErrCorrupt", err)
			}
		}
	}
	if _, err := rd.LoadTree(ctx, sn.Tree); err != nil && !errors.Is(err, repo.ErrCorrupt) {
		return fmt.Errorf("%w, want ErrCorrupt", err)
	}
	return nil
}
