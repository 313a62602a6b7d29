package tests

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

// statusInstead is a message of a server that ends a snapshot, on the way of a chunk.
func statusInstead(chunk []byte, status string) []byte {
	args := strings.Fields(string(chunk[:bytes.IndexByte(chunk, '\n')]))
	header := "NATS/1.0 " + status + "\r\n\r\n"
	return fmt.Appendf(nil, "HMSG %s %s %d %d\r\n%s\r\n", args[1], args[2], len(header), len(header), header)
}

// meddlings are what may become of the chunks of a snapshot on their way, from the one with that index on; and what is said of it.
func meddlings(at int) map[string]struct {
	meddle func(index int, chunk []byte) ([]byte, bool)
	says   string
} {
	type meddling = struct {
		meddle func(index int, chunk []byte) ([]byte, bool)
		says   string
	}
	instead := func(change func(chunk []byte) []byte) func(int, []byte) ([]byte, bool) {
		return func(index int, chunk []byte) ([]byte, bool) {
			if index == at {
				chunk = change(chunk)
			}
			return chunk, true
		}
	}
	ended := func(status string) func(int, []byte) ([]byte, bool) {
		return func(index int, chunk []byte) ([]byte, bool) {
			if index > at {
				return nil, true
			}
			return instead(func(chunk []byte) []byte { return statusInstead(chunk, status) })(index, chunk)
		}
	}
	var kept []byte
	return map[string]meddling{
		"dropped":    {instead(func([]byte) []byte { return nil }), fmt.Sprintf("chunk %d came instead of chunk %d", at+1, at)},
		"sent twice": {instead(func(chunk []byte) []byte { return slices.Concat(chunk, chunk) }), fmt.Sprintf("chunk %d came instead of chunk %d", at, at+1)},
		"swapped": {func(index int, chunk []byte) ([]byte, bool) {
			switch index {
			case at:
				kept = chunk
				return nil, true
			case at + 1:
				return slices.Concat(chunk, kept), true
			}
			return chunk, true
		}, fmt.Sprintf("chunk %d came instead of chunk %d", at+1, at)},
		"flipped":        {instead(func(chunk []byte) []byte { return flipped(chunk, len(chunk)/2) }), "malformed"},
		"ended with 408": {ended("408 No Flow Response"), "408 No Flow Response"},
		"ended with 500": {ended("500 could not read"), "500 could not read"},
		"ended with 204": {ended("204"), "cut short"},
		"ended with 100": {ended("100"), "100"},
		"silent":         {func(index int, chunk []byte) ([]byte, bool) { return chunk[:len(chunk)*min(1, max(0, at-index))], true }, "nothing came"},
		"cut in mid-chunk": {func(index int, chunk []byte) ([]byte, bool) {
			if index == at {
				return chunk[:len(chunk)/2], false
			}
			return chunk, true
		}, "connection to NATS lost"},
	}
}

// TestBadSnapshots meddles with a server's snapshot on the way. Once: the snapshot is the stream, and it is said why it was read again, or gone on with.
// Each time: nothing is saved.
func TestBadSnapshots(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	src.fillNoise(t, "s", 500)
	want := lookAt(t, src, "S")
	o := small
	o.WindowSize = 256 << 10 // so that chunks come while one is missing
	for _, at := range []int{1, 25} {
		for _, name := range sortedKeys(meddlings(at)) {
			t.Run(fmt.Sprintf("%s at %d", name, at), func(t *testing.T) {
				t.Parallel()
				o := o
				if name == "silent" {
					o.IdleTimeout = time.Second
				}
				for _, once := range []bool{true, false} {
					m, began := meddlings(at)[name], 0
					k := &link{meddle: func(index int, chunk []byte) ([]byte, bool) {
						if index == 1 {
							began++
						}
						if once && began > 1 {
							return chunk, true
						}
						return m.meddle(index, chunk)
					}}
					r, _ := newRepo(t, repo.Options{})
					res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, o)
					if !once && (err != nil || len(res.Streams[0].Resumed) == 0) { // what broke off is gone on with by another way than chunks
						t.Log(err)
						if err == nil || !strings.Contains(err.Error(), m.says) {
							t.Errorf("it does not say %q: %v, %+v", m.says, err, res)
						}
						noSnapshot(t, r)
						continue
					}
					must(t, err)
					got := res.Streams[0]
					t.Logf("resumed %+v, retried %q", got.Resumed, got.Retried)
					if got.Err != nil || got.Torn != "" || !strings.Contains(got.Retried+fmt.Sprint(got.Resumed), m.says) {
						t.Errorf("%+v", got)
					}
					if !slices.Equal(stored(t, r, "S").Messages, want.Messages) {
						t.Error("the snapshot is not the stream")
					}
				}
			})
		}
	}
}
