package tests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// succeeding are streams in which newer messages take the place of older ones.
var succeeding = map[string]jetstream.StreamConfig{
	"keys":     {MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, AllowRollup: true},
	"history":  {MaxMsgsPerSubject: 3},
	"messages": {MaxMsgs: 40},
	"bytes":    {MaxBytes: 6000},
	"both":     {MaxMsgs: 40, MaxBytes: 6500},
	"mixed":    {MaxMsgs: 40, MaxMsgsPerSubject: 5, AllowRollup: true},
	"memory":   {MaxBytes: 5000, Storage: jetstream.MemoryStorage},
}

// mostPut is how many messages are published to a stream that was restored: no stream is full with those alone, so that all of them are there, but for
// those that other ones take the place of by their subject. What has come and gone tells nobody how many bytes it had.
const mostPut = 13

// put publishes n messages of random lengths to a few subjects, some of them rollups where the stream takes those.
func put(t testing.TB, s *source, random *rand.Rand, c jetstream.StreamConfig, n int) {
	t.Helper()
	for range n {
		m := &nats.Msg{Subject: fmt.Sprintf("%s.%d", c.Name, random.IntN(12)), Header: nats.Header{}, Data: noise(random, random.IntN(300))}
		if c.AllowRollup && random.IntN(30) == 0 {
			m.Header.Set("Nats-Rollup", "sub")
		}
		_, err := s.js.PublishMsg(t.Context(), m)
		must(t, err)
	}
}

// TestSuccession reads streams back into which clients have published since they were restored, so that servers of each release removed restored
// messages: that is told, and is no difference. One message that nobody's took the place of is.
func TestSuccession(t *testing.T) {
	t.Parallel()
	seed := chance.Seed(t)
	src := startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	random := rand.New(rand.NewPCG(seed, 0))
	for name, c := range succeeding {
		c.Name, c.Subjects = name, []string{name + ".*"}
		src.create(t, c)
		put(t, src, random, c, 60)
	}
	backUp(t, src, r, backup.Options{Selection: allStreams})
	servers := map[string]string{"newest": ""}
	for version, program := range oldServers(t) {
		servers[version] = program
	}
	for version, program := range servers {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			for round := range 3 {
				dst := startServer(t, natsd.Options{})
				o := restore.Options{Selection: allStreams}
				if program != "" {
					dst = startOld(t, program, "")
					o.Selection.Exclude, o.Target = []string{"memory"}, restore.Target{DropUnsupported: true}
				}
				p, err := planInto(t, connectOld(t, dst), r, o)
				must(t, err)
				res, err := p.Run(t.Context())
				must(t, err)
				before := map[string]uint64{}
				for _, s := range res.Streams {
					name, c := s.Name, succeeding[s.Name]
					st, err := dst.js.Stream(t.Context(), name)
					must(t, err)
					before[name] = st.CachedInfo().State.Msgs
					c.Name = name
					put(t, dst, random, c, 1+random.IntN(mostPut))
					if c.AllowRollup && random.IntN(5) == 0 {
						_, err := dst.js.PublishMsg(t.Context(), &nats.Msg{Subject: name + ".last", Header: nats.Header{"Nats-Rollup": {"all"}}})
						must(t, err)
					}
				}
				must(t, p.Compare(t.Context(), res))
				for _, s := range res.Streams {
					t.Logf("%s: %s", s.Name, strings.Join(s.Notes, "; "))
					if s.Err != nil || !s.Verified {
						t.Errorf("round %d, stream %s of %d messages: %v", round, s.Name, before[s.Name], s.Err)
					}
				}
			}
		})
	}
	t.Run("one that is missing", func(t *testing.T) {
		dst := startServer(t, natsd.Options{})
		p, err := plan(t, dst, r, restore.Options{Selection: allStreams})
		must(t, err)
		res, err := p.Run(t.Context())
		must(t, err)
		for name, c := range succeeding {
			st, err := dst.js.Stream(t.Context(), name)
			must(t, err)
			last := st.CachedInfo().State.LastSeq
			c.Name, c.AllowRollup = name, false
			must(t, st.DeleteMsg(t.Context(), last)) // the newest of its subject, and of the stream
			_, err = dst.js.Publish(t.Context(), name+".another", nil)
			must(t, err)
		}
		must(t, p.Compare(t.Context(), res))
		for _, s := range res.Streams {
			var differs *restore.DifferenceError
			if !errors.As(s.Err, &differs) || differs.Count != 1 || s.Verified {
				t.Errorf("stream %s: %v", s.Name, s.Err)
			}
		}
	})
}

// TestKeyPutAtOnce restores a bucket of which a client puts a key again before the restore has looked at what it made, and another one before it was
// read back.
func TestKeyPutAtOnce(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	kv, err := src.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "users"})
	must(t, err)
	for i := range 50 {
		_, err := kv.PutString(t.Context(), fmt.Sprint("key", i), "old")
		must(t, err)
	}
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	for _, erase := range []bool{false, true} {
		var sent, puts atomic.Int64
		way := (&link{pass: func(subject string, _ []byte) bool {
			if isChunk(subject) {
				sent.Add(1)
			}
			ask := subject == "$JS.API.STREAM.INFO.KV_users" || strings.HasPrefix(subject, "$JS.API.STREAM.SNAPSHOT.")
			if !ask || sent.Load() == 0 {
				return true
			}
			there, err := dst.js.KeyValue(t.Context(), "users")
			if err != nil {
				return true // it is still being made
			}
			if st, err := dst.js.Stream(t.Context(), "KV_users"); err != nil || st.CachedInfo().State.LastSeq < 50 {
				return true
			}
			n := puts.Add(1)
			if _, err := there.PutString(t.Context(), fmt.Sprint("key", n), "new"); err != nil {
				t.Error(err)
			}
			if st, err := dst.js.Stream(t.Context(), "KV_users"); err == nil && erase && n == 1 {
				if err := st.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.users.key39")); err != nil {
					t.Error(err)
				}
			}
			return true
		}}).open(t, dst.nc.ConnectedUrl())
		p, err := planInto(t, through(t, way), r, restore.Options{Selection: allStreams, Verify: !erase})
		must(t, err)
		res, err := p.Run(t.Context())
		must(t, err)
		s := res.Streams[0]
		t.Logf("%d puts: %v; notes %s", puts.Load(), s.Err, strings.Join(s.Notes, "; "))
		var incomplete *restore.IncompleteError
		switch {
		case puts.Load() == 0:
			t.Error("no key was put")
		case erase && (!errors.As(s.Err, &incomplete) || !strings.Contains(s.Err.Error(), "message 40 is missing")):
			t.Errorf("error %v, want that message 40 is missing", s.Err)
		case !erase && (s.Err != nil || !s.Verified || !strings.Contains(strings.Join(s.Notes, "; "), "newer messages had taken the place of")):
			t.Errorf("error %v, notes %q", s.Err, s.Notes)
		}
		must(t, dst.js.DeleteStream(t.Context(), "KV_users"))
		time.Sleep(250 * time.Millisecond) // servers bring files of a stream back that is made again at once
	}
}
