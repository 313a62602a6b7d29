package tests

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/repo"
)

// TestDrill restores an account of every kind of stream, and of streams that copy, expire, republish and have consumers that nobody uses, into the
// private server: no harm comes to it from any of that, and it finds all of it equal, with the digests of another drill.
func TestDrill(t *testing.T) {
	t.Parallel()
	src, images := filled(t)
	src.create(t, jetstream.StreamConfig{Name: "MIRROR", Mirror: &jetstream.StreamSource{Name: "PLAIN_OF_DRILL"}, MirrorDirect: true})
	src.create(t, jetstream.StreamConfig{Name: "PLAIN_OF_DRILL", Subjects: []string{"drill.plain"}, MaxAge: 8 * time.Second, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: ">", Destination: "drill.again.>"}})
	src.create(t, jetstream.StreamConfig{Name: "AGAIN", Subjects: []string{"drill.again.>"}})
	src.create(t, jetstream.StreamConfig{Name: "SOURCED", Sources: []*jetstream.StreamSource{{Name: "AGAIN"}}})
	src.create(t, jetstream.StreamConfig{Name: "IN_MEMORY", Subjects: []string{"drill.memory"}, Storage: jetstream.MemoryStorage})
	src.publish(t, "drill.plain", 300, text)
	src.publish(t, "drill.memory", 300, text)
	src.waitMessages(t, "MIRROR", 300)
	src.waitMessages(t, "AGAIN", 300)
	src.waitMessages(t, "SOURCED", 300)
	r, dir := newRepo(t, repo.Options{})
	saved := backUp(t, src, r, backup.Options{Selection: allStreams})
	src.waitMessages(t, "PLAIN_OF_DRILL", 0) // all of it has expired
	src.Shutdown()

	var digests [2]map[string]string
	for i := range digests {
		digests[i] = map[string]string{}
		out := command{repo: dir}.run(t, 0, "verify", "--json", "--dir", t.TempDir())
		for line := range strings.Lines(out) {
			var s struct {
				Type    string `json:"message_type"`
				Name    string `json:"name"`
				Outcome string `json:"outcome"`
				Digest  string `json:"sha256"`
				Equal   bool   `json:"equal"`
			}
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				continue
			}
			switch {
			case s.Type == "drilled_stream" && (s.Outcome != "equal" || len(s.Digest) != 64):
				t.Errorf("%s", line)
			case s.Type == "drilled_stream":
				digests[i][s.Name] = s.Digest
			case s.Type == "drill" && !s.Equal:
				t.Errorf("%s", line)
			}
		}
		if len(digests[i]) != len(saved.Streams) || len(digests[i]) != len(images)+5 {
			t.Errorf("%d streams drilled of %d", len(digests[i]), len(saved.Streams))
		}
	}
	for name, d := range digests[0] {
		if digests[1][name] != d {
			t.Errorf("stream %s has digest %s, and then %s", name, d, digests[1][name])
		}
	}
}
