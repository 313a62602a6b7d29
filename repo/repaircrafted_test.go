package repo

import (
	"testing"

	"jetsam/blob"
)

// A pack whose header calls other bytes by a blob's name is authentic, and its blob is lost all the same.
func TestRepairPacksTrustsNoHeader(t *testing.T) {
	r, be, _ := testRepo(t)
	h := &crafter{t: t, r: r, be: be}
	p := h.pack(part{handle: blob.Handle{Kind: blob.Data, ID: blob.Sum([]byte("the blob"))}, payload: []byte("other bytes")})
	x, err := r.RepairPacks(t.Context(), RepairPacksOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Packs) != 1 || x.Packs[0].ID != p.ID || x.Packs[0].Saved != 0 || len(x.Packs[0].Lost) != 1 {
		t.Errorf("%+v, want one pack with one blob, which is lost", x.Packs)
	}
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true}, nil)
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("afterwards: %v, %v", report.Findings, err)
	}
}
