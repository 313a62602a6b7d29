package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// TestFind tells which snapshots have which messages, of a bucket whose keys are overwritten and of a stream from which some are deleted.
func TestFind(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	ctx := t.Context()
	kv, err := src.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "users"})
	must(t, err)
	st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	r, dir := newRepo(t, repo.Options{})
	var ids []string
	back := func() {
		t.Helper()
		backUp(t, src, r, backUpOptions)
		all := snapshotsOf(t, r)
		ids = append(ids, all[len(all)-1].ID().Short())
	}
	put := func(value string) {
		t.Helper()
		_, err := kv.PutString(ctx, "alice", value)
		must(t, err)
	}
	put("one") // message 1 of the bucket
	src.publish(t, "s.a", 5, kib)
	_, err = src.js.PublishMsg(ctx, &nats.Msg{Subject: "s.b.c", Header: nats.Header{"Order": {"4711", "4712"}}, Data: []byte("x")})
	must(t, err)
	back()
	put("two")
	between := now()
	remove(t, st, 3)
	back()
	src.publish(t, "s.a", 5, kib)
	back()
	must(t, src.js.DeleteKeyValue(ctx, "users"))
	remove(t, st, 6)
	backUp(t, src, r, backup.Options{Selection: allStreams, Mode: backup.ModeFull})
	all := snapshotsOf(t, r)
	ids = append(ids, all[len(all)-1].ID().Short())

	// in writes what was found: stream, sequence, and the numbers of the snapshots.
	in := func(q restore.Query) string {
		t.Helper()
		rd, err := r.LoadIndex(ctx, nil)
		must(t, err)
		found, lost, err := restore.Find(ctx, rd, all, q)
		must(t, err)
		if len(lost) > 0 {
			t.Errorf("lost: %q", lost)
		}
		var out []string
		for _, f := range found {
			s := fmt.Sprintf("%s %d:", f.Stream, f.Seq)
			for _, sn := range f.Snapshots {
				for i, id := range ids {
					if id == sn.ID().Short() {
						s += fmt.Sprint(i)
					}
				}
			}
			out = append(out, s)
		}
		return strings.Join(out, ", ")
	}
	one := func(name string) streamlog.Selection { return streamlog.Selection{Names: []string{name}} }
	for _, c := range []struct {
		q    restore.Query
		want string
	}{
		{restore.Query{Selection: allStreams, Subjects: []string{"$KV.*.alice"}}, "KV_users 1:0, KV_users 2:12"},
		{restore.Query{Selection: one("S"), FromSeq: 3, UntilSeq: 3}, "S 3:0"},
		{restore.Query{Selection: one("S"), FromSeq: 5, UntilSeq: 7}, "S 5:0123, S 6:012, S 7:23"},
		{restore.Query{Selection: allStreams, Since: between}, "S 7:23, S 8:23, S 9:23, S 10:23, S 11:23"},
		{restore.Query{Selection: streamlog.Selection{All: true, Exclude: []string{"S"}}, Until: between}, "KV_users 1:0, KV_users 2:12"},
		{restore.Query{Selection: allStreams, Headers: map[string]string{"Order": "4712"}}, "S 6:012"},
		{restore.Query{Selection: allStreams, Headers: map[string]string{"Order": "1"}}, ""},
		{restore.Query{Selection: allStreams, Subjects: []string{"s.nothing"}}, ""},
	} {
		if got := in(c.q); got != c.want {
			t.Errorf("%+v: found %q, want %q", c.q, got, c.want)
		}
	}

	cmd := command{repo: dir}
	lines := strings.Split(strings.TrimSpace(cmd.stdout(t, "find", "--kv", "users", "--key", "alice", "--json")), "\n")
	var f struct {
		Name      string
		Seq       uint64
		Snapshots []string `json:"snapshot_ids"`
	}
	must(t, json.Unmarshal([]byte(lines[1]), &f))
	if len(lines) != 3 || f.Name != "KV_users" || f.Seq != 2 || len(f.Snapshots) != 2 || !strings.HasPrefix(f.Snapshots[1], ids[2]) {
		t.Errorf("%q", lines)
	}
	if out := cmd.run(t, 0, "find", "S", "--seq", "5"); !strings.Contains(out, ids[0]+" … "+ids[3]+" (4)") || !strings.Contains(out, "1 message in 4 snapshots") {
		t.Error(out)
	}
	for _, c := range []struct{ args, want string }{
		{"NOSUCH", "none of the snapshots has such a stream"},
		{"S --most 3", "too many messages match: more than 3: look for less"},
		{"S --header x", `--header "x" is not NAME=VALUE`},
		{"S --subject a..b", "empty token"},
		{"S --seq 0", "--seq 0: sequences begin at 1"},
		{"S --since 1h --until 2h", "there are none"},
	} {
		if out := cmd.run(t, 1, append([]string{"find"}, strings.Fields(c.args)...)...); !strings.Contains(out, c.want) {
			t.Errorf("find %s says %s", c.args, out)
		}
	}
}

// TestFindDamage searches what is whole, and names what it could not search.
func TestFindDamage(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	r, dir := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}})
	src.create(t, jetstream.StreamConfig{Name: "B", Subjects: []string{"b"}})
	src.publish(t, "a", 5, text)
	src.publish(t, "b", 5, text)
	backUp(t, src, r, backUpOptions)
	p := admitted(t, dir, "latest")
	_, blobs := p.groups(t, "A")
	p.rot(t, data(blobs[0][0]))
	out := (command{repo: dir}).run(t, 3, "find", "--seq", "2")
	if !strings.Contains(out, "1 message in 1 snapshot") || !strings.Contains(out, "not searched: snapshot") || !strings.Contains(out, "stream A: messages 1 to 5") {
		t.Error(out)
	}
}
