package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"jetsam/internal/chance"
	"jetsam/internal/testserver"
	"jetsam/storage"
	"jetsam/storage/rest"
	"jetsam/storage/rest/resttest"
	"jetsam/storage/retry"
	"jetsam/storage/storagetest"
)

// line is a way to a server that faults can be put on. It ends with the test.
func line(t testing.TB, upstream string) *toxiproxy.Proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "line", testserver.FreeAddress(t), upstream)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// poison puts a fault on what comes from the server ("downstream") or goes there ("upstream").
func poison(t testing.TB, p *toxiproxy.Proxy, kind, stream string, attributes map[string]any) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"name": kind, "type": kind, "stream": stream, "attributes": attributes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Toxics.AddToxicJson(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// TestSlowAndSlicedLine: a line that takes its time changes nothing.
func TestSlowAndSlicedLine(t *testing.T) {
	server := resttest.Start(t)
	p := line(t, server.Address)
	poison(t, p, "latency", "downstream", map[string]any{"latency": 50, "jitter": 20})
	poison(t, p, "slicer", "upstream", map[string]any{"average_size": 3000, "size_variation": 2000, "delay": 10})
	poison(t, p, "slow_close", "downstream", map[string]any{"delay": 200})
	be := open(t, "http://"+p.Listen+"/", rest.Options{})
	defer be.Close()
	if err := be.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, data := storagetest.RandomFile(storage.Pack, 1<<20)
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	if got, err := be.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestLineThatIsCut: connections that end after k bytes, in either direction, whatever is on the way then. All calls
// succeed in the end, nothing is lost, and what was repeated is told.
func TestLineThatIsCut(t *testing.T) {
	t.Parallel()
	server := resttest.Start(t)
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	cuts := 2
	if os.Getenv("JETSAM_PROOF") != "" {
		cuts = 50
	}
	for _, stream := range []string{"upstream", "downstream"} {
		for i := range 2 * cuts {
			k := 1 + rnd.IntN(400) // in what precedes the bytes of a file
			if i%2 == 0 {
				k = 1 + rnd.IntN(30_000)
			}
			t.Run(fmt.Sprintf("%s after %d", stream, k), func(t *testing.T) {
				t.Parallel()
				p := line(t, server.Address)
				be := open(t, fmt.Sprintf("http://%s/%s-%d/", p.Listen, stream, i), rest.Options{Idle: 5 * time.Second})
				if err := be.Create(t.Context()); err != nil {
					t.Fatal(err)
				}
				// From the first repeat on the line is whole again.
				poison(t, p, "limit_data", stream, map[string]any{"bytes": k})
				repeats := 0
				again := retry.New(be, retry.Options{Limit: time.Minute, Notify: func(err error, _ time.Duration) {
					torn := strings.Contains(err.Error(), "broke off") // which rest-server leaves of a config
					if !torn && (!errors.Is(err, storage.ErrUnreachable) || !strings.Contains(err.Error(), p.Listen)) {
						t.Errorf("the error does not tell who cannot be reached: %v", err)
					}
					repeats++
					p.Toxics.ResetToxics(context.Background())
				}})
				defer again.Close()
				live(t, again)
				if repeats == 0 || again.Repeated() != repeats {
					t.Errorf("told of %d repeats, counted %d", repeats, again.Repeated())
				}
			})
		}
	}
}

// live saves, looks at, loads, lists and removes files, all of which must succeed.
func live(t *testing.T, be storage.Backend) {
	t.Helper()
	for _, k := range storage.Kinds() {
		f, data := storagetest.RandomFile(k, 20_000)
		err := be.Save(t.Context(), f, data)
		if k == storage.Config && errors.Is(err, storage.ErrExist) {
			// Too little of it came to tell whose it is: that is for people to see.
			if info, err := be.Stat(t.Context(), f); err != nil || info.Size >= 16 {
				t.Fatalf("%d bytes, %v, where there was nothing", info.Size, err)
			}
			if err := be.Remove(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			err = be.Save(t.Context(), f, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := be.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("load: %d bytes, %v", len(got), err)
		}
		for info, err := range be.List(t.Context(), k) {
			if err != nil || info != (storage.Info{File: f, Size: int64(len(data))}) {
				t.Fatalf("list: %v, %v", info, err)
			}
		}
		if k == storage.Config {
			continue // without it, a folder that is missing means that all is gone
		}
		if err := be.Remove(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLineThatIsReset: connections that are reset in the middle of everything.
func TestLineThatIsReset(t *testing.T) {
	server := resttest.Start(t)
	p := line(t, server.Address)
	be := open(t, "http://"+p.Listen+"/", rest.Options{})
	defer be.Close()
	if err := be.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	poison(t, p, "reset_peer", "downstream", map[string]any{"timeout": 0})
	_, err := be.Stat(t.Context(), storage.File{Kind: storage.Config})
	if !errors.Is(err, storage.ErrUnreachable) || storage.IsPermanent(err) {
		t.Errorf("stat: %v", err)
	}
}

// TestHalfOpenLine: nothing comes any more, nor does the connection end. The request does, and says what happened; so
// it does, sooner, when its caller is no longer there.
func TestHalfOpenLine(t *testing.T) {
	server := resttest.Start(t)
	for _, stream := range []string{"upstream", "downstream"} {
		t.Run(stream, func(t *testing.T) {
			p := line(t, server.Address)
			const idle = time.Second
			patient := open(t, server.URL()+stream, rest.Options{})
			defer patient.Close()
			if err := patient.Create(t.Context()); err != nil {
				t.Fatal(err)
			}
			be := open(t, "http://"+p.Listen+"/"+stream, rest.Options{Idle: idle})
			defer be.Close()
			poison(t, p, "timeout", stream, map[string]any{"timeout": 0})
			f, data := storagetest.RandomFile(storage.Pack, 8<<20) // more than sockets hold
			err := be.Save(t.Context(), f, data)
			if !errors.Is(err, storage.ErrUnreachable) || storage.IsPermanent(err) || !strings.Contains(err.Error(), p.Listen+": nothing came or went for 1s") {
				t.Errorf("save: %v", err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("the lock is lost")
			time.AfterFunc(idle/10, func() { cancel(cause) })
			if _, err := be.Stat(ctx, f); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
				t.Errorf("stat: %v", err)
			}
		})
	}
}

// TestSlowButMoving: what takes longer than may pass without a byte, and moves, is let end.
func TestSlowButMoving(t *testing.T) {
	server := resttest.Start(t)
	p := line(t, server.Address)
	patient := open(t, server.URL(), rest.Options{})
	defer patient.Close()
	if err := patient.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, data := storagetest.RandomFile(storage.Pack, 200<<10)
	if err := patient.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	be := open(t, "http://"+p.Listen+"/", rest.Options{Idle: time.Second})
	defer be.Close()
	poison(t, p, "bandwidth", "downstream", map[string]any{"rate": 100}) // KB a second
	began := time.Now()
	got, err := be.Load(t.Context(), f, 0, -1)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("the line was not slow: %v", took)
	}
}

// TestServerThatIsKilled: a server that is killed and started again in the middle of a life is waited for.
func TestServerThatIsKilled(t *testing.T) {
	server := resttest.Start(t)
	be := open(t, server.URL(), rest.Options{})
	if err := be.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := retry.New(be, retry.Options{Limit: time.Minute, Notify: func(error, time.Duration) {
		if server.Running() {
			return
		}
		server.Restart(t)
	}})
	defer again.Close()
	server.Kill()
	live(t, again)
	if again.Repeated() == 0 {
		t.Error("nothing was repeated")
	}
}
