package tests

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jsm.go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"
)

// Where updateVariable is set, the dumps that older servers make become those in dumpsDir.
const (
	updateVariable = "JETSAM_UPDATE_DUMPS"
	dumpsDir       = "testdata/dumps"
)

// oldServers are the programs of older servers, by version. Where there are none, the test fails or, outside of CI, is skipped.
func oldServers(t testing.TB) map[string]string {
	t.Helper()
	dir := testserver.Dir(t)
	programs, err := filepath.Glob(filepath.Join(dir, "nats-server*"))
	must(t, err)
	if len(programs) == 0 {
		testserver.Unable(t, "there is no nats-server before 2.15 in %s: `make servers` gets some", dir)
	}
	found := map[string]string{}
	for _, path := range programs {
		out, err := exec.Command(path, "--version").Output()
		must(t, err)
		var minor int
		version := regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+`).FindString(string(out))
		if n, _ := fmt.Sscanf(version, "2.%d.", &minor); n == 1 && minor < 15 {
			found[version] = path
		}
	}
	return found
}

// startOld starts an older server, which ends with the test.
func startOld(t testing.TB, program, jetstreamConfig string) *source {
	t.Helper()
	address := testserver.FreeAddress(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "nats.conf")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "listen: %q\njetstream { store_dir: %q, max_file: 1GB, max_mem: 1MB, %s }\n", address, filepath.Join(dir, "store"), jetstreamConfig), 0o600))
	cmd := exec.Command(program, "-c", config)
	must(t, cmd.Start())
	p := &serverProcess{cmd: cmd, url: "nats://" + address}
	t.Cleanup(p.kill)
	s := p.client(t)
	s.awaitJetStream(t)
	return s
}

// awaitJetStream waits for JetStream, which is ready a little later than the connection.
func (s *source) awaitJetStream(t testing.TB) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		_, err := s.js.AccountInfo(ctx)
		return err
	})
}

// oldStreams are kinds of streams that older servers write down in ways of their own.
func oldStreams() []fixture {
	return []fixture{
		{"PLAIN", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "PLAIN", Subjects: []string{"plain.>"}, Description: "a plain stream"})
			s.publishRaw(t, "plain.raw", "b-key: one\r\nA-Key:  two\r\n", "Same: 1\r\nsame: 2\r\n")
			s.publish(t, "plain.a", 40, text)
			s.publish(t, "plain.empty", 2, func(int) []byte { return nil })
		}},
		{"NEVER_USED", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "NEVER_USED", Subjects: []string{"never"}})
		}},
		{"EMPTIED", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "EMPTIED", Subjects: []string{"emptied"}})
			s.publish(t, "emptied", 77, text)
			must(t, st.Purge(t.Context()))
		}},
		{"DELETES", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "DELETES", Subjects: []string{"deletes"}})
			s.publish(t, "deletes", 200, text)
			remove(t, st, 1, 2, 17, 18, 100, 199, 200)
			for _, seq := range []uint64{3, 50, 51, 120} {
				must(t, st.SecureDeleteMsg(t.Context(), seq))
			}
		}},
		{"PURGED", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "PURGED", Subjects: []string{"purged.*"}})
			for i := range 100 {
				s.publish(t, fmt.Sprintf("purged.%d", i%3), 1, text)
			}
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("purged.1")))
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSequence(20)))
		}},
		{"KV_old", func(t testing.TB, s *source) {
			kv, err := s.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "old", History: 2})
			must(t, err)
			for i := range 120 {
				_, err := kv.Put(t.Context(), fmt.Sprintf("key.%d", i%11), text(i))
				must(t, err)
			}
			must(t, kv.Delete(t.Context(), "key.3"))
			must(t, kv.Purge(t.Context(), "key.4"))
		}},
		{"LIMITED", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "LIMITED", Subjects: []string{"limited"}, MaxMsgs: 30})
			s.publish(t, "limited", 100, text)
		}},
		{"BLOCKS", func(t testing.TB, s *source) { // in many small blocks
			st := s.create(t, jetstream.StreamConfig{Name: "BLOCKS", Subjects: []string{"blocks.*"}, MaxBytes: 120_000})
			for i := range 500 {
				s.publish(t, fmt.Sprintf("blocks.%d", i%5), 1, func(int) []byte { return []byte(strings.Repeat(string(text(i)), 10)) })
			}
			info, err := st.Info(t.Context())
			must(t, err)
			remove(t, st, info.State.LastSeq-3, info.State.LastSeq-100, info.State.LastSeq-101)
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("blocks.2")))
		}},
		{"COMPRESSED", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "COMPRESSED", Subjects: []string{"compressed"}, MaxBytes: 120_000, Compression: jetstream.S2Compression})
			s.publish(t, "compressed", 500, func(i int) []byte { return []byte(strings.Repeat(string(text(i)), 10)) })
			info, err := st.Info(t.Context())
			must(t, err)
			remove(t, st, info.State.FirstSeq+1, info.State.FirstSeq+2, info.State.LastSeq-150, info.State.LastSeq)
		}},
		{"QUEUE", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "QUEUE", Subjects: []string{"queue"}, Retention: jetstream.WorkQueuePolicy})
			s.publish(t, "queue", 60, text)
			c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
			must(t, err)
			for i, m := range fetch(t, c, 30) {
				if i%3 != 0 {
					must(t, m.DoubleAck(t.Context()))
				}
			}
		}},
		{"CONSUMED", fillConsumed},
	}
}

// fetch takes n messages. A consumer that was just made may have nobody yet who gives them.
func fetch(t testing.TB, c jetstream.Consumer, n int) (out []jetstream.Msg) {
	t.Helper()
	eventually(t, func(context.Context) error {
		b, err := c.Fetch(n-len(out), jetstream.FetchMaxWait(10*time.Second))
		if err != nil {
			return err
		}
		for m := range b.Messages() {
			out = append(out, m)
		}
		if len(out) != n {
			return fmt.Errorf("fetched %d messages of %d: %w", len(out), n, cmp.Or(b.Error(), io.ErrUnexpectedEOF))
		}
		return nil
	})
	return out
}

func fillConsumed(t testing.TB, s *source) {
	st := s.create(t, jetstream.StreamConfig{Name: "CONSUMED", Subjects: []string{"consumed.*"}})
	for i := range 60 {
		s.publish(t, fmt.Sprintf("consumed.%d", i%2), 1, text)
	}
	create := func(c jetstream.ConsumerConfig) jetstream.Consumer {
		t.Helper()
		made, err := st.CreateConsumer(t.Context(), c)
		must(t, err)
		return made
	}
	create(jetstream.ConsumerConfig{Durable: "fresh", AckPolicy: jetstream.AckExplicitPolicy})
	for i, m := range fetch(t, create(jetstream.ConsumerConfig{Durable: "some", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour}), 30) {
		if i < 10 || i == 20 {
			must(t, m.DoubleAck(t.Context()))
		}
	}
	filtered := create(jetstream.ConsumerConfig{Durable: "filtered", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, FilterSubject: "consumed.1"})
	for _, m := range fetch(t, filtered, 6) {
		must(t, m.Nak())
	}
	for again := 0; again < 6; { // new ones come as long as the server has not heard
		m, err := fetch(t, filtered, 1)[0].Metadata()
		must(t, err)
		if m.NumDelivered > 1 {
			again++
		}
	}
	for _, m := range fetch(t, create(jetstream.ConsumerConfig{Durable: "all", AckPolicy: jetstream.AckAllPolicy, AckWait: time.Hour}), 12)[8:9] {
		must(t, m.DoubleAck(t.Context()))
	}
	fetch(t, create(jetstream.ConsumerConfig{Name: "none", AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: time.Hour}), 7)
}

// asked is what a server says of a stream's messages, asked for each: a line a message, of sequence, time, subject, headers and payload.
func asked(t testing.TB, s *source, stream string) string {
	t.Helper()
	st, err := s.js.Stream(t.Context(), stream)
	must(t, err)
	info, err := st.Info(t.Context())
	must(t, err)
	var out strings.Builder
	for seq := max(1, info.State.FirstSeq); seq <= info.State.LastSeq; seq++ {
		if line := ask(t, s.nc, stream, seq); line != "" {
			fmt.Fprintln(&out, line)
		}
	}
	return out.String()
}

func ask(t testing.TB, nc *nats.Conn, stream string, seq uint64) string {
	t.Helper()
	m, err := nc.Request("$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"seq":%d}`, seq), 10*time.Second)
	must(t, err)
	var answer struct {
		Message *struct {
			Subject string    `json:"subject"`
			Header  string    `json:"hdrs"`
			Data    string    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
		Error *struct {
			Code int `json:"code"`
		} `json:"error"`
	}
	must(t, json.Unmarshal(m.Data, &answer))
	if answer.Error != nil && answer.Error.Code == 404 {
		return ""
	}
	if answer.Message == nil {
		t.Fatalf("message %d of %s: %s", seq, stream, m.Data)
	}
	header, err := base64.StdEncoding.DecodeString(answer.Message.Header)
	must(t, err)
	data, err := base64.StdEncoding.DecodeString(answer.Message.Data)
	must(t, err)
	return fmt.Sprintf("%d %d %q %q %q", seq, answer.Message.Time.UnixNano(), answer.Message.Subject, header, data)
}

// messagesFile stands beside a dump in tests: what its server said of the messages.
const messagesFile = "messages.txt"

// dumpOld dumps the streams of an older server below dir, but those that are there.
func dumpOld(t testing.TB, s *source, dir string) {
	t.Helper()
	mgr, err := jsm.New(s.nc)
	must(t, err)
	names, err := mgr.StreamNames(nil)
	must(t, err)
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			continue
		}
		dump(t, s, name, filepath.Join(dir, name))
		must(t, os.WriteFile(filepath.Join(dir, name, messagesFile), []byte(asked(t, s, name)), 0o600))
	}
}

// TestImportFromOldServers fills older servers, whose stores are plain, or encrypted in one of two ways, dumps them, and compares what is imported
// with what they say.
func TestImportFromOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	seed := chance.Seed(t)
	for _, version := range sortedKeys(servers) {
		configs := map[string]string{"plain": ""}
		if proof() || version == "2.10.29" {
			configs["chacha"], configs["aes"] = "key: secret", "key: secret, cipher: aes"
		}
		for name, config := range configs {
			t.Run(version+" "+name, func(t *testing.T) {
				s := startOld(t, servers[version], config)
				for _, f := range oldStreams() {
					f.fill(t, s)
				}
				dir := t.TempDir()
				dumpOld(t, s, dir)
				if os.Getenv(updateVariable) != "" && name == "plain" {
					packUp(t, dir, filepath.Join(dumpsDir, version+".tar.gz"))
				}
				churn(t, s, seed)
				dumpOld(t, s, dir)
				importOld(t, dir)
				importBusy(t, s, version)
			})
		}
	}
}

// churn makes a stream of random life: messages of all sizes come and go in any order.
func churn(t testing.TB, s *source, seed uint64) {
	t.Helper()
	st := turmoil(t, s, seed)
	if perSubject := mostOfASubject(t, s); perSubject > maxChurn {
		t.Logf("%d messages of a subject, %d are allowed: the limit is lifted, or a server of today would remove them", perSubject, maxChurn)
		config := st.CachedInfo().Config
		config.MaxMsgsPerSubject = -1
		_, err := s.js.UpdateStream(t.Context(), config)
		must(t, err)
	}
}

// maxChurn is how many messages of a subject the stream CHURN shall have.
const maxChurn = 9

func turmoil(t testing.TB, s *source, seed uint64) jetstream.Stream {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 0))
	st := s.create(t, jetstream.StreamConfig{Name: "CHURN", Subjects: []string{"churn.*"}, MaxBytes: 200_000, MaxMsgsPerSubject: maxChurn})
	for range 300 {
		size := rnd.IntN(1 << rnd.IntN(13))
		s.publish(t, fmt.Sprintf("churn.%d", rnd.IntN(40)), 1+rnd.IntN(3), func(int) []byte { return noise(rnd, size) })
		info, err := st.Info(t.Context())
		must(t, err)
		switch seq := info.State.FirstSeq + rnd.Uint64N(info.State.LastSeq-info.State.FirstSeq+1); rnd.IntN(9) {
		case 0:
			_ = st.DeleteMsg(t.Context(), seq) // it may be gone
		case 1:
			_ = st.SecureDeleteMsg(t.Context(), seq)
		case 2:
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject(fmt.Sprintf("churn.%d", rnd.IntN(40)))))
		}
	}
	return st
}

// mostOfASubject is how many messages there are of the subject with most, asked for each.
func mostOfASubject(t testing.TB, s *source) (most int) {
	t.Helper()
	n := make(map[string]int)
	for line := range strings.Lines(asked(t, s, "CHURN")) {
		subject := strings.Fields(line)[2]
		n[subject]++
		most = max(most, n[subject])
	}
	return most
}

// TestStreamBeyondItsLimit restores a stream that has more messages of a subject than its configuration allows, because its server counted wrongly.
// A server of today removes those: that is told, with the limit, and without the limit all of it is restored.
func TestStreamBeyondItsLimit(t *testing.T) {
	t.Parallel()
	s := startOld(t, oldServers(t)["2.9.10"], "")
	turmoil(t, s, 10227061632428319480)
	if n := mostOfASubject(t, s); n != 2*maxChurn {
		t.Fatalf("%d messages of a subject, want %d", n, 2*maxChurn)
	}
	r, dir := newRepo(t, repo.Options{})
	backUp(t, s, r, backup.Options{Selection: allStreams})

	dst := startServer(t, natsd.Options{})
	cmd := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	out := cmd.run(t, 23, "restore", "latest", "CHURN")
	for _, want := range []string{"sent were 250, 25 to 611 (where a stream has more", "max_bytes 200000, max_msgs_per_subject 9;", "left on the server as it is"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	must(t, dst.js.DeleteStream(t.Context(), "CHURN"))
	config := filepath.Join(t.TempDir(), "config.json")
	must(t, os.WriteFile(config, []byte(`{"name":"CHURN","subjects":["churn.*"],"max_bytes":200000,"max_msgs_per_subject":18}`), 0o600))
	cmd.run(t, 0, "restore", "latest", "CHURN", "--config", config, "--verify")
	sameLines(t, asked(t, s, "CHURN"), asked(t, dst, "CHURN"))
}

// importBusy dumps a stream that is written to all the time, and drops its oldest. From 2.10 on a dump tells which messages were alive in the end.
func importBusy(t *testing.T, s *source, version string) {
	t.Helper()
	s.create(t, jetstream.StreamConfig{Name: "BUSY", Subjects: []string{"busy.*"}, MaxMsgs: 400, MaxMsgsPerSubject: 20})
	ctx, cancel := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = s.js.Publish(ctx, fmt.Sprintf("busy.%d", i*7%31), []byte(strings.Repeat(string(text(i)), 1+i%20)))
		}
	})
	defer publishing.Wait()
	defer cancel()
	for s.messages(t, "BUSY") < 300 {
		time.Sleep(time.Millisecond)
	}
	for range 5 {
		dir := t.TempDir()
		dump(t, s, "BUSY", dir)
		r, _ := newRepo(t, repo.Options{})
		got := importAll(t, r, backup.ImportOptions{}, dir).Streams[0]
		t.Logf("%d messages up to %d, %d removed, torn: %s", got.Messages, got.LastSeq, got.Removed, got.Torn)
		if got.Err != nil || got.Torn != "" && !strings.HasPrefix(version, "2.9.") {
			t.Errorf("%v, torn: %s", got.Err, got.Torn)
		}
	}
}
