package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

// TestIndexIsKept: runs that share an index load it once. After one that stored something and saved no snapshot, it is loaded anew: nobody else would
// find what that stored.
func TestIndexIsKept(t *testing.T) {
	t.Parallel()
	s := startServer(t, natsd.Options{Name: "n"})
	s.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	rnd := rand.New(rand.NewPCG(1, 2))
	be := &storagetest.Injector{Backend: mem.New()}
	r, err := repo.Init(t.Context(), be, secret.New(password), repo.Options{KDF: cheapKDF, PackSize: 1 << 20})
	must(t, err)
	c := connect(t, s)
	indexLoads := storagetest.Call{Op: storagetest.OpLoad, Kind: storage.Index}
	packSaves := storagetest.Call{Op: storagetest.OpSave, Kind: storage.Pack}
	var x *backup.Index
	run := func(ctx context.Context, host string) (loads int, err error) {
		t.Helper()
		s.publish(t, "s", 3, func(int) []byte { return noise(rnd, 1000) })
		was := be.Calls()[indexLoads]
		_, err = backup.Run(ctx, c, r, backup.Options{Selection: allStreams, Host: host, Index: x})
		return be.Calls()[indexLoads] - was, err
	}
	for i := range 3 {
		_, err := run(t.Context(), fmt.Sprint("host", i))
		must(t, err)
	}
	x = new(backup.Index)
	first, err := run(t.Context(), "a")
	must(t, err)
	next, err := run(t.Context(), "b")
	must(t, err)
	if first != 3+1 || next != 1 { // what a run stores, it reads back
		t.Errorf("the first run loads %d index files, the next %d", first, next)
	}

	s.publish(t, "s", 1500, func(int) []byte { return noise(rnd, 10_000) }) // several packs
	ctx, cancel := context.WithCancel(t.Context())
	be.Cancel, be.Plan = cancel, storagetest.Injection{Call: packSaves, N: be.Calls()[packSaves] + 4, Fault: storagetest.CancelsLate}
	if _, err = run(ctx, "a"); err == nil {
		t.Fatal("the run did not end with its context")
	}
	_, err = run(t.Context(), "a")
	must(t, err)
	report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true}, nil)
	must(t, err)
	if report.Damaged() {
		t.Errorf("the repository is damaged: %v", report.Findings)
	}
}
