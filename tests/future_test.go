package tests

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/repo"
)

// TestUnknownSettings backs up a stream of a server from the future, which has a setting that a server of today does not know. Such a server refuses it:
// nothing is created, and it is said what can be done. One that is less strict takes the rest.
func TestUnknownSettings(t *testing.T) {
	t.Parallel()
	const known, unknown = `"name":"S",`, `"name":"S","from_the_future":{"deep":[1,2.50]},`
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 10, text)
	want := lookAt(t, src, "S")
	future := (&link{answer: func(body []byte) []byte {
		return bytes.Replace(body, []byte(known), []byte(unknown), 1)
	}}).open(t, src.URL())
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + future.url()}}
	c.run(t, 0, "backup", "--all")
	if config := string(document(t, r, "S").Config); !strings.Contains(config, unknown) {
		t.Fatalf("the configuration is %s", config)
	}
	strict, lax := startServer(t, natsd.Options{}), startServer(t, natsd.Options{Config: "jetstream { strict: false }"})
	c.env = []string{"NATS_URL=" + strict.URL()}
	out := c.run(t, 22, "restore")
	t.Log(out)
	if !strings.Contains(out, "from_the_future") || !strings.Contains(out, "--config") || !strings.Contains(out, "nothing was changed") {
		t.Error("it does not say what the server does not know, and what to do")
	}
	if n := len(streamsOf(t, strict)); n != 0 {
		t.Errorf("%d streams are there", n)
	}
	c.env = []string{"NATS_URL=" + lax.URL()}
	t.Log(c.run(t, 23, "restore"))
	sameImage(t, want, lookAt(t, lax, "S"))
}
