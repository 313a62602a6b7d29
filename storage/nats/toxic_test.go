package nats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	natsgo "github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// line is a way to the server of b that faults can be put on, and the same stream at its other end.
func line(t *testing.T, b *Backend, o Options) (*toxiproxy.Proxy, *Backend) {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(api, t.Name(), testserver.FreeAddress(t), strings.TrimPrefix(b.place.Servers, "nats://"))
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	far, err := Open(t.Context(), Place{Servers: "nats://" + p.Listen, Stream: b.place.Stream}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return p, far
}

// spoil puts a fault on the line.
func spoil(t *testing.T, p *toxiproxy.Proxy, toxic string) {
	t.Helper()
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
}

// live saves, looks at, loads, lists and removes files of one message and of several, all of which must succeed.
func live(t *testing.T, b, near *Backend) {
	t.Helper()
	for _, size := range []int{1000, 3*chunkSize + 1} {
		f, data := storagetest.RandomFile(storage.Pack, size)
		if err := b.Save(t.Context(), f, data); err != nil {
			t.Fatal(err)
		}
		for _, b := range []*Backend{b, near} {
			if got, err := b.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("load: %d bytes, %v", len(got), err)
			}
		}
		for info, err := range b.List(t.Context(), storage.Pack) {
			if err != nil || info != (storage.Info{File: f, Size: int64(size)}) {
				t.Fatalf("list: %v, %v", info, err)
			}
		}
		if err := b.Remove(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Stat(t.Context(), f); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("stat of what was removed: %v", err)
		}
	}
}

// TestSlowLine: a line that takes its time changes nothing.
func TestSlowLine(t *testing.T) {
	t.Parallel()
	s := start(t, natsd.Options{})
	for name, toxic := range map[string]string{
		"latency":    `{"type":"latency","attributes":{"latency":30,"jitter":20}}`,
		"narrow":     `{"type":"bandwidth","stream":"upstream","attributes":{"rate":2000}}`,
		"crumbs":     `{"type":"slicer","stream":"upstream","attributes":{"average_size":5000,"size_variation":2000,"delay":10}}`,
		"slow close": `{"type":"slow_close","attributes":{"delay":100}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near := create(t, s.URL(), Options{})
			defer near.Close()
			p, far := line(t, near, Options{})
			spoil(t, p, toxic)
			live(t, far, near)
		})
	}
}

// TestLineThatBreaks breaks the line in many ways. As long as it is broken, what fails says that no server answers, and a file is there whole or not at
// all. When it is whole again in the middle of a save, nothing fails.
func TestLineThatBreaks(t *testing.T) {
	t.Parallel()
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	cut := func(direction string, most int) string {
		return fmt.Sprintf(`{"type":"limit_data","stream":%q,"attributes":{"bytes":%d}}`, direction, 1+rnd.IntN(most))
	}
	toxics := map[string]string{
		"reset":             `{"type":"reset_peer","stream":"downstream","attributes":{"timeout":0}}`,
		"answers get lost":  `{"type":"timeout","stream":"downstream","attributes":{"timeout":0}}`,
		"requests get lost": `{"type":"timeout","stream":"upstream","attributes":{"timeout":0}}`,
	}
	if os.Getenv("JETSAM_PROOF") == "" {
		toxics["cut"] = []string{cut("upstream", 3*chunkSize), cut("upstream", 1000), cut("downstream", 20_000)}[rnd.IntN(3)]
	} else {
		for i := range 25 {
			toxics[fmt.Sprint("cut in a chunk ", i)] = cut("upstream", 3*chunkSize)
			toxics[fmt.Sprint("cut in a greeting ", i)] = cut("upstream", 1000)
			toxics[fmt.Sprint("cut in an answer ", i)] = cut("downstream", 20_000)
		}
	}
	s := start(t, natsd.Options{})
	for name, toxic := range toxics {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near := create(t, s.URL(), Options{})
			defer near.Close()
			p, far := line(t, near, Options{})
			spoil(t, p, toxic)
			far.patience = 300 * time.Millisecond
			useBrokenLine(t, far, near)
			far.patience = defaultPatience
			time.AfterFunc(300*time.Millisecond, func() { p.Toxics.ResetToxics(context.Background()) })
			live(t, far, near)
		})
	}
}

// TestRemovalWhoseAnswerIsLost: what is asked for twice was there.
func TestRemovalWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	near := create(t, start(t, natsd.Options{}).URL(), Options{})
	defer near.Close()
	p, far := line(t, near, Options{})
	f, data := storagetest.RandomFile(storage.Pack, 2*chunkSize+1)
	if err := near.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	_, err := near.nc.Subscribe("$JS.API.STREAM.PURGE."+near.place.Stream, func(m *natsgo.Msg) {
		if bytes.Contains(m.Data, []byte(near.headSubject(f, "*"))) {
			asked <- struct{}{}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := near.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// The first answer is still on its way when the line breaks.
	spoil(t, p, `{"type":"latency","stream":"downstream","attributes":{"latency":500}}`)
	removed := make(chan error)
	go func() { removed <- far.Remove(t.Context(), f) }()
	<-asked
	p.Stop()
	p.Toxics.ResetToxics(t.Context())
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-removed; err != nil {
		t.Errorf("remove: %v", err)
	}
	if len(asked) == 0 {
		t.Error("the answer was not lost: the server was asked once")
	}
	if err := far.Remove(t.Context(), f); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("remove once more: %v", err)
	}
}

// useBrokenLine works over the line, and looks from the other side of it at what came of that. It leaves nothing behind.
func useBrokenLine(t *testing.T, b, near *Backend) {
	t.Helper()
	wantUnreachable := func(op string, err error) {
		if err != nil && !errors.Is(err, storage.ErrUnreachable) {
			t.Errorf("%s: %v", op, err)
		}
	}
	there := 0
	for _, size := range []int{100, 2*chunkSize + 1} {
		f, data := storagetest.RandomFile(storage.Pack, size)
		err := b.Save(t.Context(), f, data)
		wantUnreachable("save", err)
		stored, nearErr := near.Load(t.Context(), f, 0, -1)
		switch {
		case nearErr == nil && !bytes.Equal(stored, data):
			t.Errorf("%v is there in part", f)
		case nearErr != nil && (err == nil || !errors.Is(nearErr, storage.ErrNotExist)):
			t.Errorf("%v: %v, and save said %v", f, nearErr, err)
		}
		if nearErr != nil {
			continue
		}
		there++
		got, err := b.Load(t.Context(), f, 0, -1)
		wantUnreachable("load", err)
		if err == nil && !bytes.Equal(got, data) {
			t.Errorf("load %v gives other bytes", f)
		}
	}
	listed, ended := 0, error(nil)
	for _, err := range b.List(t.Context(), storage.Pack) {
		if ended = err; err == nil {
			listed++
		}
	}
	wantUnreachable("list", ended)
	if ended == nil && listed != there {
		t.Errorf("%d of %d files are listed", listed, there)
	}
	for info, err := range near.List(t.Context(), storage.Pack) {
		if err := errors.Join(err, near.Remove(t.Context(), info.File)); err != nil {
			t.Fatal(err)
		}
	}
}
