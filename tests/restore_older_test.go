package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// What older servers got is asked of them, message by message and consumer by consumer, and compared with what a server of 2.15 says of its own.

// largePayloads lets an older server take messages of 16 MiB.
const largePayloads = "}\nmax_payload: 16MB\n#"

// connectOld connects to an older server as jetsam does.
func connectOld(t testing.TB, s *source) *conn.Conn {
	t.Helper()
	return connectTo(t, s.nc.ConnectedUrl())
}

// manyConsumers is a stream with 300 consumers, each of which stands elsewhere.
func manyConsumers(t testing.TB, s *source) {
	st := s.create(t, jetstream.StreamConfig{Name: "CROWD", Subjects: []string{"crowd.*"}})
	s.publish(t, "crowd.a", 40, text)
	for i := range 300 {
		c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: fmt.Sprintf("c-%d", i), AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, FilterSubject: "crowd.a"})
		must(t, err)
		if i%10 != 0 {
			continue
		}
		for n, m := range fetch(t, c, 1+i/10) {
			if n%3 != 1 {
				must(t, m.DoubleAck(t.Context()))
			}
		}
	}
}

// fiveMiB has large messages.
func fiveMiB(t testing.TB, s *source) {
	s.create(t, jetstream.StreamConfig{Name: "FIVE_MIB", Subjects: []string{"five"}})
	r := rand.New(rand.NewPCG(5, 5))
	for _, size := range []int{5 << 20, 10, 5 << 20} {
		_, err := s.js.Publish(t.Context(), "five", noise(r, size))
		must(t, err)
	}
}

// olderFixtures are streams of a server of 2.15 that older ones shall hold: those of every round trip, and those of older servers.
func olderFixtures() []fixture {
	all := slices.DeleteFunc(fixtures(), func(f fixture) bool { return f.stream == "LARGE" && !proof() }) // which takes long to ask for
	all = append(all, fixture{"CROWD", manyConsumers}, fixture{"FIVE_MIB", fiveMiB})
	for _, f := range oldStreams() {
		switch f.stream {
		case "KV_old", "LIMITED", "BLOCKS", "QUEUE", "CONSUMED":
			all = append(all, f)
		}
	}
	return all
}

// reported is what a server says of a stream's consumers, as far as a restore brings that.
func reported(t testing.TB, s *source, stream string) map[string]any {
	t.Helper()
	out := map[string]any{}
	st, err := s.js.Stream(t.Context(), stream)
	must(t, err)
	for name := range st.ConsumerNames(t.Context()).Name() {
		m, err := s.nc.Request("$JS.API.CONSUMER.INFO."+stream+"."+name, nil, 10*time.Second)
		must(t, err)
		var info struct {
			Config    map[string]any `json:"config"`
			Delivered struct {
				Consumer uint64 `json:"consumer_seq"`
				Stream   uint64 `json:"stream_seq"`
			} `json:"delivered"`
			Floor struct {
				Consumer uint64 `json:"consumer_seq"`
				Stream   uint64 `json:"stream_seq"`
			} `json:"ack_floor"`
			Waiting     int    `json:"num_ack_pending"`
			Redelivered int    `json:"num_redelivered"`
			Pending     uint64 `json:"num_pending"`
		}
		must(t, json.Unmarshal(m.Data, &info))
		maps.DeleteFunc(info.Config, func(field string, v any) bool { return field == "metadata" || field == "num_replicas" })
		out[name] = fmt.Sprintf("%+v", info)
	}
	return out
}

// TestRestoreToOldServers restores streams of every kind to servers of each older release.
func TestRestoreToOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	src := startServer(t, natsd.Options{MaxPayload: 16 << 20})
	for _, f := range olderFixtures() {
		f.fill(t, src)
	}
	r, _ := newRepo(t, repo.Options{})
	taken := backUp(t, src, r, backup.Options{Selection: allStreams})
	want, consumers := map[string]string{}, map[string]map[string]any{}
	for _, s := range taken.Streams {
		want[s.Name], consumers[s.Name] = asked(t, src, s.Name), reported(t, src, s.Name)
	}
	for _, version := range sortedKeys(servers) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			dst := startOld(t, servers[version], largePayloads)
			p, err := planInto(t, connectOld(t, dst), r, restore.Options{Selection: allStreams, Verify: true, Target: restore.Target{Storage: "file", DropUnsupported: true}})
			must(t, err)
			res, err := p.Run(t.Context())
			must(t, err)
			for _, s := range res.Streams {
				if s.Err != nil {
					t.Errorf("%v", s.Err)
					continue
				}
				if got := asked(t, dst, s.Name); got != want[s.Name] || !s.Verified {
					t.Errorf("stream %s, verified %v: (-want +got)\n%.2000s", s.Name, s.Verified, cmp.Diff(want[s.Name], got))
				}
				if d := cmp.Diff(consumers[s.Name], reported(t, dst, s.Name)); d != "" {
					t.Errorf("stream %s: consumers (-want +got)\n%.2000s", s.Name, d)
				}
			}
		})
	}
}

// restoreOlder restores streams of the newest snapshot to an older server, verified; all must succeed.
func restoreOlder(t testing.TB, dst *source, r *repo.Repo, o restore.Options) *restore.Result {
	t.Helper()
	o.Verify = true
	p, err := planInto(t, connectOld(t, dst), r, o)
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	for _, f := range res.Failed() {
		t.Fatal(f.Err)
	}
	return res
}

// wantOlderConflict wants the restore to an older server to be refused for that, and nothing to be there afterwards.
func wantOlderConflict(t testing.TB, dst *source, r *repo.Repo, o restore.Options, says ...string) {
	t.Helper()
	var conflict *restore.ConflictError
	_, err := planInto(t, connectOld(t, dst), r, o)
	if !errors.As(err, &conflict) {
		t.Errorf("%v: want a conflict that says %q", err, says)
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v: it does not say %q", err, text)
		}
	}
}

func selectOf(names ...string) streamlog.Selection { return streamlog.Selection{Names: names} }

// TestRestoreToOldServersRefuses: what an older server cannot hold is named, and refused before anything is sent.
func TestRestoreToOldServersRefuses(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	src := startServer(t, natsd.Options{MaxPayload: 34 << 20})
	src.create(t, jetstream.StreamConfig{Name: "MEMORY", Subjects: []string{"m"}, Storage: jetstream.MemoryStorage})
	src.create(t, jetstream.StreamConfig{Name: "FIELDS", Subjects: []string{"f"}, AllowMsgTTL: true, AllowAtomicPublish: true, Compression: jetstream.S2Compression})
	st := src.create(t, jetstream.StreamConfig{Name: "WATCHED", Subjects: []string{"w.*"}})
	until := time.Now().Add(time.Hour)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name, FilterSubjects: []string{"w.1", "w.2"}, PauseUntil: &until})
		must(t, err)
	}
	src.create(t, jetstream.StreamConfig{Name: "HUGE", Subjects: []string{"h"}, Storage: jetstream.MemoryStorage}) // files do not take it on any server
	_, err := src.js.Publish(t.Context(), "h", make([]byte, 33<<20))
	must(t, err)
	st = src.create(t, jetstream.StreamConfig{Name: "FLEETING", Subjects: []string{"fleeting"}})
	src.publish(t, "fleeting", 9, text)
	inMemory, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "m", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, MemoryStorage: true})
	must(t, err)
	must(t, fetch(t, inMemory, 5)[0].DoubleAck(t.Context()))
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	for version, program := range servers {
		dst := startOld(t, program, "}\nmax_payload: 64MB\n#")
		release := "of " + version[:strings.LastIndex(version, ".")]
		wantOlderConflict(t, dst, r, restore.Options{Selection: selectOf("MEMORY")}, "MEMORY", release, "--storage file")
		wantOlderConflict(t, dst, r, restore.Options{Selection: selectOf("HUGE"), Target: restore.Target{Storage: "file"}}, "34603008 bytes", release)
		fields, watched := []string{"allow_atomic (since 2.12)", "--drop-unsupported", "batches of messages"}, []string{}
		switch release {
		case "of 2.9":
			fields = append(fields, "compression (since 2.10)", "allow_msg_ttl (since 2.11)", "messages with a Nats-TTL do not expire")
			watched = []string{"filter_subjects (since 2.10) of consumer a, b, c and 2 more", "it delivers all messages", "pause_until"}
		case "of 2.10":
			fields = append(fields, "allow_msg_ttl (since 2.11)")
			watched = []string{"pause_until (since 2.11) of consumer a, b, c and 2 more", "it delivers at once"}
		case "of 2.12", "of 2.14":
			fields = nil
		}
		if fields != nil {
			for _, o := range []restore.Options{{}, {Parts: restore.ConfigOnly}} {
				o.Selection = selectOf("FIELDS")
				wantOlderConflict(t, dst, r, o, fields...)
			}
		}
		if len(watched) > 0 {
			wantOlderConflict(t, dst, r, restore.Options{Selection: selectOf("WATCHED")}, watched...)
			restoreOlder(t, dst, r, restore.Options{Selection: selectOf("WATCHED"), NoConsumers: true})
		}
		wantOlderConflict(t, dst, r, restore.Options{Selection: selectOf("FLEETING")}, "consumer m is kept in memory", release)
		restoreOlder(t, dst, r, restore.Options{Selection: selectOf("FLEETING"), Target: restore.Target{DropUnsupported: true}})
		if c, err := connectOld(t, dst).Consumer(t.Context(), "FLEETING", "m"); err != nil || c.Delivered.Stream != 5 || c.AckFloor.Stream != 1 || c.AckPending != 4 {
			t.Errorf("%s: consumer %+v, %v", version, c, err)
		}
		o := restore.Options{Selection: selectOf("FIELDS"), Target: restore.Target{DropUnsupported: true}}
		restoreOlder(t, dst, r, o)
		o.Existing, o.Save = restore.ReplaceExisting, func(context.Context, string) (string, error) { return "", errors.New("it was replaced") }
		wantOlderConflict(t, dst, r, o, "replaced in one go", "with --as and --no-consumers", release)
		replaceInSteps(t, dst, r)
		for name := range dst.js.StreamNames(t.Context()).Name() {
			if name != "FIELDS" && name != "WATCHED" && name != "FLEETING" {
				t.Errorf("%s: stream %s is there", version, name)
			}
		}
	}
}

// replaceInSteps does what the refusal to replace a stream says: a copy shows whether the snapshot is good, and takes nothing from the stream in use.
func replaceInSteps(t *testing.T, dst *source, r *repo.Repo) {
	t.Helper()
	o := restore.Options{Selection: selectOf("FLEETING"), Target: restore.Target{DropUnsupported: true, As: "COPY"}, NoConsumers: true, Verify: true}
	restoreOlder(t, dst, r, o)
	dst.publish(t, "fleeting", 1, text)
	if copied, used := dst.messages(t, "COPY"), dst.messages(t, "FLEETING"); copied != 9 || used != 10 {
		t.Errorf("%d messages in the copy, %d in the stream in use", copied, used)
	}
	must(t, dst.js.DeleteStream(t.Context(), "FLEETING"))
	time.Sleep(250 * time.Millisecond) // see jetstream.Conn.DeleteStream
	o.Target.As, o.NoConsumers = "", false
	restoreOlder(t, dst, r, o)
	if n := dst.messages(t, "FLEETING"); n != 9 {
		t.Errorf("%d messages", n)
	}
	must(t, dst.js.DeleteStream(t.Context(), "COPY"))
}

// TestRestoreToOldServersCut restores parts of streams under other names, and streams in parts.
func TestRestoreToOldServersCut(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	src := startServer(t, natsd.Options{})
	fillConsumed(t, src)
	for _, f := range oldStreams() {
		if f.stream == "KV_old" || f.stream == "DELETES" {
			f.fill(t, src)
		}
	}
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	was := asked(t, src, "CONSUMED")
	for version, program := range servers {
		dst := startOld(t, program, "")
		as := restore.Options{Selection: selectOf("CONSUMED"), Cut: restore.Cut{UntilSeq: 25}, Target: restore.Target{As: "UNTIL"}}
		if strings.HasPrefix(version, "2.9.") {
			wantOlderConflict(t, dst, r, as, `consumer filtered filters by "consumed.1"`)
			as.NoConsumers = true
		}
		cut := restoreOlder(t, dst, r, as).Streams[0]
		if got := asked(t, dst, "UNTIL"); cut.Messages != 25 || got != strings.Join(strings.SplitAfter(was, "\n")[:25], "") {
			t.Errorf("%s: %d messages up to 25:\n%s", version, cut.Messages, got)
		}
		ack, err := dst.js.Publish(t.Context(), "UNTIL", nil)
		if err != nil || ack.Sequence != 26 {
			t.Errorf("%s: behind the cut: %v, %v", version, ack, err)
		}
		restoreOlder(t, dst, r, restore.Options{Selection: selectOf("CONSUMED"), Cut: restore.Cut{Subjects: []string{"consumed.1"}}, Target: restore.Target{As: "SOME", Subjects: []string{"consumed.>"}}})
		if got := asked(t, dst, "SOME"); strings.Count(got, "\n") != 30 || strings.Contains(got, "consumed.0") {
			t.Errorf("%s: of one subject:\n%s", version, got)
		}
		restoreOlder(t, dst, r, restore.Options{Selection: selectOf("KV_old"), Target: restore.Target{As: "KV_new"}})
		kv, err := dst.js.KeyValue(t.Context(), "new")
		must(t, err)
		if e, err := kv.Get(t.Context(), "key.1"); err != nil || string(e.Value()) != string(text(111)) {
			t.Errorf("%s: in the bucket: %v, %v", version, e, err)
		}
		must(t, dst.js.DeleteStream(t.Context(), "SOME")) // which listens to the same
		partsOnOldServer(t, dst, r, src)
	}
}

// partsOnOldServer brings a configuration, then consumers, then another configuration.
func partsOnOldServer(t *testing.T, dst *source, r *repo.Repo, src *source) {
	t.Helper()
	restoreOlder(t, dst, r, restore.Options{Selection: selectOf("DELETES"), Parts: restore.ConfigOnly, Target: restore.Target{As: "EMPTY"}})
	if n := dst.messages(t, "EMPTY"); n != 0 {
		t.Errorf("%d messages with --config-only", n)
	}
	restoreOlder(t, dst, r, restore.Options{Selection: selectOf("CONSUMED"), NoConsumers: true})
	restoreOlder(t, dst, r, restore.Options{Selection: selectOf("CONSUMED"), Parts: restore.ConsumersOnly})
	if got, want := reported(t, dst, "CONSUMED"), reported(t, src, "CONSUMED"); len(got) != len(want)-1 { // one is ephemeral
		t.Errorf("consumers %v, of %v", got, want)
	}
	changed := json.RawMessage(`{"subjects":["deletes","more"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"discard":"old","storage":"file","num_replicas":1,"description":"changed"}`)
	restoreOlder(t, dst, r, restore.Options{Selection: selectOf("DELETES")})
	restoreOlder(t, dst, r, restore.Options{Selection: selectOf("DELETES"), Existing: restore.UpdateExisting, Target: restore.Target{Config: changed}})
	info, err := dst.js.Stream(t.Context(), "DELETES")
	must(t, err)
	if c := info.CachedInfo().Config; c.Description != "changed" || asked(t, dst, "DELETES") != asked(t, src, "DELETES") {
		t.Errorf("updated: %+v", c)
	}
	must(t, dst.js.DeleteStream(t.Context(), "DELETES"))
}

// TestRestoreToOldServersExpired: what has expired is there, in streams that let messages expire and in those that do not, or goes where it shall.
func TestRestoreToOldServersExpired(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "TTL", Subjects: []string{"ttl"}, AllowMsgTTL: true})
	for i := range 5 {
		_, err := src.js.Publish(t.Context(), "ttl", text(i), jetstream.WithMsgTTL(2*time.Second))
		must(t, err)
	}
	src.create(t, jetstream.StreamConfig{Name: "AGED", Subjects: []string{"aged"}, MaxAge: 2 * time.Second})
	src.publish(t, "aged", 5, text)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	was := asked(t, src, "TTL")
	time.Sleep(2100 * time.Millisecond)
	for version, program := range servers {
		for _, applied := range []bool{false, true} {
			dst := startOld(t, program, "")
			restoreOlder(t, dst, r, restore.Options{Selection: allStreams, Target: restore.Target{ApplyLimits: applied, DropUnsupported: true}})
			release := conn.ServerInfo{Version: version}.Release()
			got, aged := asked(t, dst, "TTL"), dst.messages(t, "AGED")
			want := was
			if !release.Before(2, 11) {
				want = strings.ReplaceAll(was, "Nats-TTL", "Jetsam-TTL")
			}
			if applied && !release.Before(2, 11) {
				want = ""
			}
			if got != want || (aged == 0) != applied {
				t.Errorf("%s, limits applied %v: %d aged messages, those with a time to live:\n%swant\n%s", version, applied, aged, got, want)
			}
		}
	}
}

// TestRestoreToOldServersFails: of what an older server could not restore nothing is left, and what somebody else made meanwhile is not touched.
func TestRestoreToOldServersFails(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 3000, func(i int) []byte { return []byte(strings.Repeat(string(text(i)), 30)) })
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	for version, program := range servers {
		dst := startOld(t, program, "")
		for _, meanwhile := range []string{"", "S"} {
			p, err := planInto(t, connectOld(t, dst), r, restore.Options{Selection: allStreams})
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			p.Options.Progress = func(x restore.Progress) {
				if x.Stage != restore.Sending || x.Messages < 1500 || ctx.Err() != nil {
					return
				}
				if meanwhile != "" {
					if _, err := dst.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"other"}}); err != nil {
						t.Error(err)
					}
				}
				cancel()
			}
			res, err := p.Run(ctx)
			if !errors.Is(err, context.Canceled) || len(res.Failed()) != 1 {
				t.Fatalf("%s: %v, %v", version, res.Failed(), err)
			}
			st, err := dst.js.Stream(t.Context(), "S")
			switch {
			case meanwhile == "" && !errors.Is(err, jetstream.ErrStreamNotFound):
				t.Errorf("%s: %v: a stream is left, %v", version, res.Failed()[0].Err, err)
			case meanwhile != "" && (err != nil || st.CachedInfo().Config.Subjects[0] != "other"):
				t.Errorf("%s: %v: the other stream: %v", version, res.Failed()[0].Err, err)
			}
		}
		must(t, dst.js.DeleteStream(t.Context(), "S"))
		time.Sleep(300 * time.Millisecond)
		restoreOlder(t, dst, r, restore.Options{Selection: allStreams})
	}
}

// TestRestoreToOldServersClustered restores streams of three replicas to clusters of older servers, after an attempt that was interrupted.
func TestRestoreToOldServersClustered(t *testing.T) {
	t.Parallel()
	if !proof() {
		t.Skip("takes a minute: with JETSAM_PROOF only")
	}
	servers := oldServers(t)
	src := startServer(t, natsd.Options{})
	fillConsumed(t, src)
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 3000, func(i int) []byte { return []byte(strings.Repeat(string(text(i)), 30)) })
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	for version, program := range servers {
		dst := startOldCluster(t, program)[0]
		o := restore.Options{Selection: selectOf("S"), Target: restore.Target{Replicas: 3}}
		p, err := planInto(t, connectOld(t, dst), r, o)
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		p.Options.Progress = func(x restore.Progress) {
			if x.Messages > 1500 {
				cancel()
			}
		}
		if res, err := p.Run(ctx); !errors.Is(err, context.Canceled) || len(res.Failed()) != 1 {
			t.Fatalf("%s: %+v, %v", version, res, err)
		}
		if _, err := dst.js.Stream(t.Context(), "S"); !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Errorf("%s: what was interrupted is left: %v", version, err)
		}
		o.Selection = allStreams
		restoreOlder(t, dst, r, o)
		for _, name := range []string{"S", "CONSUMED"} {
			if want, got := asked(t, src, name), asked(t, dst, name); want != got {
				t.Errorf("%s, %s: (-want +got)\n%.2000s", version, name, cmp.Diff(want, got))
			}
		}
	}
}
