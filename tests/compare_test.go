package tests

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

// TestRestoreIsCompared removes messages of a stream when it is restored, and before the server is asked what it has: that is no success.
func TestRestoreIsCompared(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 50, text)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	via := (&link{pass: func(subject string, _ []byte) bool {
		if strings.HasPrefix(subject, "$JS.API.STREAM.UPDATE.") { // which takes the mark of an unfinished restore off
			st, err := dst.js.Stream(context.Background(), "S")
			if err != nil {
				return true // it is tried first whether that would be allowed
			}
			if err := st.DeleteMsg(context.Background(), 7); err != nil {
				t.Error(err)
			}
		}
		return true
	}}).open(t, dst.URL())
	out := command{repo: dir, env: []string{"NATS_URL=" + via.url()}}.run(t, 23, "restore", "latest", "S")
	if !strings.Contains(out, "the server reports 49 messages, sequences 1 to 50; sent were 50, 1 to 50; the stream is left on the server as it is") {
		t.Errorf("it says\n%s", out)
	}
}
