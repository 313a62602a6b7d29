package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/repo"
)

// stdout runs the built command, which must end well, and returns what it prints as its result.
func (c command) stdout(t *testing.T, args ...string) string {
	t.Helper()
	cmd := c.prepare(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

// TestDump prints messages, keys and objects of a repository, without a server.
func TestDump(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	ctx := t.Context()
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	src.publish(t, "s.a", 3, func(i int) []byte { return fmt.Appendf(nil, "text <%d> é", i) })
	_, err := src.js.PublishMsg(ctx, &nats.Msg{Subject: "s.b", Header: nats.Header{"X": {"1", "2"}, "Y": {"z: 3"}}, Data: []byte{0xff, 0}})
	must(t, err)
	src.publishRaw(t, "s.c", "odd line\r\n")
	src.waitMessages(t, "S", 5)
	kv, err := src.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "users", History: 2})
	must(t, err)
	for _, v := range []string{"first", "second"} {
		_, err = kv.PutString(ctx, "alice", v)
		must(t, err)
	}
	_, err = kv.PutString(ctx, "bob", "gone")
	must(t, err)
	must(t, kv.Delete(ctx, "bob"))
	objects, err := src.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "files"})
	must(t, err)
	content := strings.Repeat("some content ", 40_000)
	_, err = objects.PutString(ctx, "a/b.txt", content)
	must(t, err)
	info, err := objects.GetInfo(ctx, "a/b.txt")
	must(t, err)
	_, err = objects.AddLink(ctx, "link", info)
	must(t, err)
	_, err = objects.PutString(ctx, "old", "x")
	must(t, err)
	must(t, objects.Delete(ctx, "old"))
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backUpOptions)
	between := time.Now()
	time.Sleep(2 * time.Millisecond)
	_, err = kv.PutString(ctx, "alice", "third")
	must(t, err)
	backUp(t, src, r, backUpOptions)
	src.Shutdown()

	c := command{repo: dir}
	var lines []map[string]any
	for line := range strings.Lines(c.stdout(t, "dump", "latest", "S")) {
		var m map[string]any
		must(t, json.Unmarshal([]byte(line), &m))
		lines = append(lines, m)
	}
	if len(lines) != 5 {
		t.Fatalf("%d lines", len(lines))
	}
	if m := lines[1]; fmt.Sprintf("%v %v %v %v", m["message_type"], m["seq"], m["subject"], m["data"]) != "message 2 s.a text <1> é" {
		t.Errorf("%v", m)
	}
	if at, err := time.Parse(time.RFC3339Nano, lines[0]["time"].(string)); err != nil || time.Since(at) > time.Hour {
		t.Error(at, err)
	}
	if m := lines[3]; fmt.Sprint(m["headers"]) != "map[X:[1 2] Y:[z: 3]]" || m["data_base64"] != "/wA=" || m["data"] != nil {
		t.Errorf("%v", m)
	}
	if m := lines[4]; m["raw_header"] == nil || m["headers"] != nil || m["data"] != "raw 0" {
		t.Errorf("%v", m)
	}
	for _, x := range []struct{ args, want string }{
		{"latest S --seq 3 --format raw", "text <2> é"},
		{"latest S --from-seq 2 --until-seq 3 --format raw", "text <1> étext <2> é"},
		{"latest S --subject s.b --format raw", "\xff\x00"},
		{"latest S --subject s.nothing", ""},
		{"latest --kv users --key alice", "third"},
		{"latest KV_users --key alice --at " + between.UTC().Format(time.RFC3339Nano), "second"},
		{"latest --object-store files --object a/b.txt", content},
	} {
		if got := c.stdout(t, append([]string{"dump"}, strings.Fields(x.args)...)...); got != x.want {
			t.Errorf("dump %s gives %.200q, want %.200q", x.args, got, x.want)
		}
	}
	for _, x := range []struct{ args, want string }{
		{"latest --kv users --key bob", `key "bob" was deleted on`},
		{"latest --kv users --key carol", `there is no key "carol"`},
		{"latest S --key a", "it is no key-value store"},
		{"latest S --object a", "it is no object store"},
		{"latest --object-store files --object nothing", `there is no object "nothing"`},
		{"latest --object-store files --object old", `object "old" was deleted on`},
		{"latest --object-store files --object link", `object "link" is a link`},
		{"latest S --seq 99", "its last sequence is 5"},
		{"latest", "one stream"},
		{"latest S --kv users", "one stream"},
		{"latest S --format yaml", `--format "yaml"`},
		{"latest NOSUCH", `no stream matches "NOSUCH"`},
		{"latest S --seq 0", "--seq is one sequence"},
	} {
		if got := c.run(t, 1, append([]string{"dump"}, strings.Fields(x.args)...)...); !strings.Contains(got, x.want) {
			t.Errorf("dump %s says %s, want %q", x.args, got, x.want)
		}
	}
}
