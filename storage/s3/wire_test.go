package s3_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"jetsam/internal/chance"
	"jetsam/internal/testserver"
	"jetsam/storage"
	"jetsam/storage/s3"
	"jetsam/storage/s3/s3test"
	"jetsam/storage/storagetest"
)

// wire is a line to a server that can be made bad.
type wire struct {
	*toxiproxy.Proxy
	url string
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(api, t.Name(), testserver.FreeAddress(t), strings.TrimPrefix(server, "http://"))
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &wire{p, "http://" + p.Listen}
}

// spoil makes the line bad.
func (w *wire) spoil(t *testing.T, toxic string) {
	t.Helper()
	if _, err := w.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
}

// TestBadLine does everything over a line that is bad in many ways. What was said to be saved is there, what was not is there whole or not
// at all, and a list is complete or ends in an error.
func TestBadLine(t *testing.T) {
	t.Parallel()
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	cut := func(direction string, most int) string {
		return `{"type":"limit_data","stream":"` + direction + `","attributes":{"bytes":` + strconv.Itoa(rnd.IntN(most)) + `}}`
	}
	server := s3test.Fake(t)
	for name, toxic := range map[string]string{
		"cut in a request":         cut("upstream", 60_000),
		"cut in a header":          cut("upstream", 400),
		"cut in an answer":         cut("downstream", 60_000),
		"cut in an answer's start": cut("downstream", 400),
		"reset":                    `{"type":"reset_peer","stream":"downstream","attributes":{"timeout":1}}`,
		"reset at once":            `{"type":"reset_peer","stream":"upstream","attributes":{"timeout":0}}`,
		"half open":                `{"type":"timeout","stream":"downstream","attributes":{"timeout":0}}`,
		"slow close":               `{"type":"slow_close","attributes":{"delay":50}}`,
		"latency":                  `{"type":"latency","attributes":{"latency":20,"jitter":10}}`,
		"narrow":                   `{"type":"bandwidth","stream":"upstream","attributes":{"rate":1000}}`,
		"crumbs":                   `{"type":"slicer","stream":"upstream","attributes":{"average_size":500,"size_variation":100,"delay":10}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := create(t, server, s3.Options{})
			defer direct.Close()
			sound, patience := slices.Contains([]string{"slow close", "latency", "narrow", "crumbs"}, name), 200*time.Millisecond
			if sound {
				patience = 10 * time.Second
			}
			w := newWire(t, server)
			be := openAt(t, w.url+strings.TrimPrefix(strings.TrimPrefix(direct.Location(), "s3:"), server), s3.Options{Idle: patience})
			w.spoil(t, toxic)
			useBadLine(t, be, direct, sound)
		})
	}
}

// useBadLine works over the line, and looks from the other side of it at what came of that. Over one that is sound nothing fails.
func useBadLine(t *testing.T, be, direct *s3.Backend, sound bool) {
	there := 0
	for i := range 4 {
		f, data := storagetest.RandomFile(storage.Pack, 1+i*20_000)
		err := be.Save(t.Context(), f, data)
		wantTransient(t, "save", err, sound)
		stored, directErr := direct.Load(t.Context(), f, 0, -1)
		switch {
		case directErr == nil && !bytes.Equal(stored, data):
			t.Errorf("%v is there in part", f)
		case directErr != nil && (err == nil || !errors.Is(directErr, storage.ErrNotExist)):
			t.Errorf("%v: %v, and save said %v", f, directErr, err)
		}
		if directErr != nil {
			continue
		}
		there++
		got, err := be.Load(t.Context(), f, 0, -1)
		wantTransient(t, "load", err, sound)
		if err == nil && !bytes.Equal(got, data) {
			t.Errorf("load %v gives other bytes", f)
		}
	}
	listed, ended := 0, error(nil)
	for _, err := range be.List(t.Context(), storage.Pack) {
		if ended = err; err == nil {
			listed++
		}
	}
	if ended == nil && listed != there {
		t.Errorf("%d of %d files are listed", listed, there)
	}
	if sound && ended != nil {
		t.Errorf("list: %v", ended)
	}
}

func wantTransient(t *testing.T, op string, err error, sound bool) {
	t.Helper()
	if err == nil || errors.Is(err, storage.ErrUnreachable) && !sound {
		wantNoSecret(t, err)
		return
	}
	t.Errorf("%s: %v", op, err)
}
