package tests

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// wantRoundTrip backs up all streams of src, restores them into dst and wants what other people's code sees there to be the same.
// It returns what there was, and the repository's directory.
func wantRoundTrip(t *testing.T, src, dst *source, streams ...string) (map[string]image, string) {
	t.Helper()
	want := map[string]image{}
	for _, name := range streams {
		want[name] = lookAt(t, src, name)
	}
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	for _, name := range streams {
		t.Run(name, func(t *testing.T) { sameImage(t, want[name], lookAt(t, dst, name)) })
	}
	return want, dir
}

// fillAll fills a server with fixtures, and returns the names of their streams.
func fillAll(t *testing.T, s *source, fixtures []fixture) []string {
	t.Helper()
	var names []string
	for _, f := range fixtures {
		f.fill(t, s)
		names = append(names, f.stream)
	}
	return names
}

// publishTo sends a message to each subject in turn, n in all.
func (s *source) publishTo(t testing.TB, n int, subject func(i int) string) {
	t.Helper()
	for i := range n {
		_, err := s.js.PublishMsgAsync(&nats.Msg{Subject: subject(i), Data: text(i)}, jetstream.WithStallWait(time.Minute))
		must(t, err)
	}
	s.flush(t)
}

// hollow are streams that have lost all of their messages, or most, or never had one. All listen to the subject of their name in lower case.
func hollow() []fixture {
	stream := func(name string, first uint64, act func(t testing.TB, s *source, st jetstream.Stream)) fixture {
		return fixture{name, func(t testing.TB, s *source) {
			act(t, s, s.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}, FirstSeq: first}))
		}}
	}
	return []fixture{
		stream("UNUSED", 0, func(testing.TB, *source, jetstream.Stream) {}),
		stream("UNUSED_LATER", 5000, func(testing.TB, *source, jetstream.Stream) {}),
		stream("SINGLE", 0, func(t testing.TB, s *source, _ jetstream.Stream) { s.publish(t, "single", 1, text) }),
		stream("SINGLE_GONE", 0, func(t testing.TB, s *source, st jetstream.Stream) {
			s.publish(t, "single_gone", 1, text)
			remove(t, st, 1)
		}),
		stream("ALL_DELETED", 0, func(t testing.TB, s *source, st jetstream.Stream) {
			s.publish(t, "all_deleted", 5, text)
			remove(t, st, 3, 5, 1, 2, 4)
		}),
		stream("PURGED_ALL", 0, func(t testing.TB, s *source, st jetstream.Stream) {
			s.publish(t, "purged_all", 100, text)
			must(t, st.Purge(t.Context()))
		}),
		stream("PURGED_BELOW", 0, func(t testing.TB, s *source, st jetstream.Stream) {
			s.publish(t, "purged_below", 100, text)
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSequence(60)))
		}),
		stream("PURGED_TWICE", 7, func(t testing.TB, s *source, st jetstream.Stream) {
			s.publish(t, "purged_twice", 10, text)
			must(t, st.Purge(t.Context()))
			s.publish(t, "purged_twice", 10, text)
			must(t, st.Purge(t.Context()))
		}),
		stream("ENDS_DELETED", 0, func(t testing.TB, s *source, st jetstream.Stream) {
			s.publish(t, "ends_deleted", 10, text)
			remove(t, st, 1, 2, 9, 10)
		}),
		stream("LAST_OF_MANY", 0, func(t testing.TB, s *source, st jetstream.Stream) {
			s.publish(t, "last_of_many", sized(10_000, 1_000_000), text)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a server takes its time
			defer cancel()
			must(t, st.Purge(ctx, jetstream.WithPurgeKeep(1)))
		}),
	}
}

// TestHollowStreams restores streams with little or nothing in them: their first and last sequences are kept, and what is published next gets the
// sequence that it would have got.
func TestHollowStreams(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	names := fillAll(t, src, hollow())
	wantRoundTrip(t, src, dst, names...)
	for _, name := range names {
		subject := strings.ToLower(name)
		want, err := src.js.Publish(t.Context(), subject, []byte("next"))
		must(t, err)
		got, err := dst.js.Publish(t.Context(), subject, []byte("next"))
		must(t, err)
		if got.Sequence != want.Sequence {
			t.Errorf("%s: the next message gets sequence %d, want %d", name, got.Sequence, want.Sequence)
		}
	}
}

// subjectShapes are streams of subjects that are long, many, or look like something else.
func subjectShapes() []fixture {
	return []fixture{
		{"UNICODE", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "UNICODE", Subjects: []string{"größe.>", "注文.*", "🚢.*.⚓"}})
			subjects := []string{"größe.a", "größe.groß.größer.ß", "注文.東京", "🚢.e\u0301.⚓", "🚢.\u00e9.⚓", "größe.\u200b", "größe.\U0001F468\u200d\U0001F469"}
			s.publishTo(t, 10*len(subjects), func(i int) string { return subjects[i%len(subjects)] })
		}},
		{"ODD", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "ODD", Subjects: []string{"odd.>"}})
			subjects := []string{`odd."quoted"`, `odd.back\slash`, "odd./../etc", "odd.%41", "odd.<&>x", "odd.*x", "odd.x>", "odd.$JS", "odd.\x7f\x01", "odd.consumers/x", "odd.state+json"}
			s.publishTo(t, 10*len(subjects), func(i int) string { return subjects[i%len(subjects)] })
		}},
		{"STATE", func(t testing.TB, s *source) { // subjects that are names of the archive's own entries
			s.create(t, jetstream.StreamConfig{Name: "STATE", Subjects: []string{"state.json", "consumers/c"}})
			s.publishTo(t, 10, func(i int) string { return []string{"state.json", "consumers/c"}[i%2] })
		}},
		{"TOKENS", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "TOKENS", Subjects: []string{"tokens.>"}})
			s.publishTo(t, 20, func(i int) string { return "tokens" + strings.Repeat(fmt.Sprintf(".%d", i%10), 999) })
		}},
		{"LONG", func(t testing.TB, s *source) { // as long as a server's line of control may be
			s.create(t, jetstream.StreamConfig{Name: "LONG", Subjects: []string{"long.>"}})
			s.publishTo(t, 20, func(i int) string { return "long." + strings.Repeat(fmt.Sprint(i%10), 3900) })
		}},
		{"DISTINCT", func(t testing.TB, s *source) { // 10 MiB of subjects
			s.create(t, jetstream.StreamConfig{Name: "DISTINCT", Subjects: []string{"distinct.>"}})
			s.publishTo(t, sized(10_000, 100_000), func(i int) string { return fmt.Sprintf("distinct.%07d.%s", i, strings.Repeat("x", 90)) })
		}},
		{"KEYS", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "KEYS", Subjects: []string{"$KV.by-hand.>"}, MaxMsgsPerSubject: 1, DenyDelete: true, AllowRollup: true})
			s.publishTo(t, 300, func(i int) string { return fmt.Sprintf("$KV.by-hand.key=%d/x", i%50) })
		}},
		{"WILDCARDS", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "WILDCARDS", Subjects: []string{"w.*.b.>", "w.x.c", "w.*.only", "deep.*.*.*.*.>"}})
			subjects := []string{"w.1.b.2.3", "w.x.c", "w.a.only", "deep.1.2.3.4.5.6"}
			s.publishTo(t, 40, func(i int) string { return subjects[i%4] })
			_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "c", FilterSubjects: []string{"w.*.b.>", "w.a.only"}})
			must(t, err)
		}},
	}
}

// TestSubjectShapes restores streams whose subjects are unusual.
func TestSubjectShapes(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	names := fillAll(t, src, subjectShapes())
	want, _ := wantRoundTrip(t, src, dst, names...)
	if n := len(want["DISTINCT"].Messages); n != sized(10_000, 100_000) {
		t.Errorf("%d messages of distinct subjects", n)
	}
}

// nameShapes are streams whose names are trouble for file systems: devices, a drive, an option, the longest there can be, and such that differ in case only.
var nameShapes = []string{
	"Ünïcode", "e\u0301", "\u00e9", "注文", "🚢", "C:colon", "CON", "nul", "COM1", "LPT1:", "-", "--", "-rf", "~", "%41", "A", "a", "orders", "Orders", "ORDERS",
	"account=json", "account%2Ejson", "messages", `"quoted"`, "$G", "$JS", "|pipe", "a,b", "<x", "?", "\x01",
	strings.Repeat("n", 255), strings.Repeat("ü", 127), strings.Repeat(":", 255), strings.Repeat("N", 255),
}

// TestStreamNames stores and restores streams of unusual names, and wants restic to list a directory for each.
func TestStreamNames(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	for i, name := range nameShapes {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{fmt.Sprintf("n.%d", i)}})
		src.publish(t, fmt.Sprintf("n.%d", i), i+1, text)
	}
	_, dir := wantRoundTrip(t, src, dst, nameShapes...)
	c := command{repo: dir}
	c.run(t, 0, "check", "--read-data")
	listed := c.run(t, 0, "ls", "latest", "--json")
	if n := strings.Count(listed, `"message_type":"stream"`); n != len(nameShapes) {
		t.Errorf("ls tells of %d streams, want %d", n, len(nameShapes))
	}
	restic(t, dir, "check", "--read-data")
	directories := map[string]int{}
	for line := range strings.Lines(restic(t, dir, "ls", "latest")) {
		parts := strings.Split(strings.TrimSpace(line), "/")
		if len(parts) == 3 && parts[2] != "account.json" {
			directories[parts[2]]++
		}
	}
	if len(directories) != len(nameShapes) {
		t.Errorf("restic lists %d directories, want %d: %v", len(directories), len(nameShapes), directories)
	}
}

// TestManyStreamsOneBroken backs up 200 streams of which one may not be read: the others are saved, the exit code is 3, and each has its line.
func TestManyStreamsOneBroken(t *testing.T) {
	t.Parallel()
	const n, broken = 200, "S117"
	src := startServer(t, natsd.Options{Config: `
		authorization { users [
			{ user: admin, password: a }
			{ user: backup, password: b, permissions: { publish: { deny: ["$JS.API.STREAM.SNAPSHOT.` + broken + `"] } } }
		] }
		no_auth_user: admin`})
	for i := range n {
		src.create(t, jetstream.StreamConfig{Name: fmt.Sprintf("S%03d", i), Subjects: []string{fmt.Sprintf("s.%d", i)}, Storage: jetstream.MemoryStorage})
		src.publish(t, fmt.Sprintf("s.%d", i), 2, text)
	}
	_, dir := newRepo(t, repo.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + strings.Replace(src.URL(), "://", "://backup:b@", 1)}}
	out := c.run(t, 3, "backup", "--all")
	lines := map[string]int{}
	for line := range strings.Lines(out) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); len(name) == len(broken) && name[0] == 'S' {
			lines[name]++
			if failed := strings.Contains(line, "FAILED"); failed != (name == broken) {
				t.Errorf("line %q", line)
			}
		}
	}
	if len(lines) != n {
		t.Errorf("%d streams have a line", len(lines))
	}
	for name, times := range lines {
		if times != 1 {
			t.Errorf("%s has %d lines", name, times)
		}
	}
	if strings.Count(out, "stream "+broken+" was not backed up") != 1 || !strings.Contains(out, "$JS.API.STREAM.SNAPSHOT."+broken) || !strings.Contains(out, "1 of 200") {
		t.Errorf("it says\n%s", out)
	}
	listed := c.run(t, 0, "ls", "latest", "--json")
	if saved := strings.Count(listed, `"message_type":"stream"`); saved != n-1 || strings.Count(listed, `"message_type":"failed_stream"`) != 1 {
		t.Errorf("%d streams are in the snapshot", saved)
	}
	dst := startServer(t, natsd.Options{})
	c.env = []string{"NATS_URL=" + dst.URL()}
	c.run(t, 3, "restore") // which lacks what the backup could not read
	for i := range n {
		name := fmt.Sprintf("S%03d", i)
		if name != broken && dst.messages(t, name) != 2 {
			t.Errorf("%s is not what it was", name)
		}
	}
}

// TestHighSequencesRestored restores sequences up to the highest that servers keep, into a server that is started anew afterwards, and refuses higher ones.
func TestHighSequencesRestored(t *testing.T) {
	t.Parallel()
	for _, first := range []uint64{1<<53 + 1, 1 << 61, 1<<62 - 5} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			src := startServer(t, natsd.Options{})
			st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, FirstSeq: first})
			src.publish(t, "s", 5, text) // up to 2^62-1, of the highest
			remove(t, st, first+2)
			store := t.TempDir()
			dst := startServer(t, natsd.Options{StoreDir: store})
			want, _ := wantRoundTrip(t, src, dst, "S")
			if seqs := want["S"].sequences(t); len(seqs) != 4 || seqs[0] != first || seqs[3] != first+4 {
				t.Fatalf("the stream has %d", seqs)
			}
			dst.nc.Close()
			dst.Shutdown()
			sameImage(t, want["S"], lookAt(t, startServer(t, natsd.Options{StoreDir: store}), "S"))
		})
	}
	for _, first := range []uint64{1<<62 - 4, 1 << 63} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			src := startServer(t, natsd.Options{})
			src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, FirstSeq: first, Storage: jetstream.MemoryStorage})
			src.publish(t, "s", 5, text)
			_, dir := newRepo(t, repo.Options{})
			out := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}.run(t, 0, "backup", "--all")
			if !strings.Contains(out, "2^62") {
				t.Errorf("the backup does not warn:\n%s", out)
			}
			dst := startServer(t, natsd.Options{})
			cmd := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
			bin := cmd.prepare(t, "restore")
			refusal, _ := bin.CombinedOutput()
			t.Logf("%d: %s", bin.ProcessState.ExitCode(), refusal)
			if _, err := dst.js.Stream(context.Background(), "S"); err == nil || bin.ProcessState.ExitCode() == 0 {
				t.Error("it was restored")
			}
		})
	}
}
