package tests

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// plainConfig says everything that it may leave to the server, as a program writes that does not leave out what is nothing.
const plainConfig = `{"name":"S","description":"","subjects":[],"retention":"limits","max_consumers":0,"max_msgs":0,"max_bytes":0,"max_age":0,"max_msgs_per_subject":0,
	"max_msg_size":0,"discard":"old","storage":"file","num_replicas":0,"no_ack":false,"duplicate_window":0,"placement":null,"mirror":null,"sources":[],
	"sealed":false,"deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"allow_direct":false,"mirror_direct":false,"republish":{"src":"","dest":"copy.>","headers_only":false}}`

// newerConfig is what servers from 2.11 and 2.12 on make something else of.
var newerConfig = map[string]string{
	"marks":     `{"name":"S","subjects":["s"],"retention":"limits","storage":"file","discard":"old","max_msgs":-5,"allow_msg_ttl":false,"subject_delete_marker_ttl":5000000000,"allow_rollup_hdrs":false,"deny_purge":true}`,
	"schedules": `{"name":"S","subjects":["s"],"retention":"limits","storage":"file","discard":"old","max_bytes":-2,"allow_msg_schedules":true,"allow_rollup_hdrs":false,"deny_purge":false,"persist_mode":"default"}`,
	"mirror":    `{"name":"S","mirror":{"name":"DIRECT","opt_start_seq":0,"filter_subject":""},"retention":"limits","storage":"file","discard":"old","mirror_direct":false,"duplicate_window":0}`,
}

// TestConfigAsServersTakeIt restores streams with configurations that say what a server says otherwise, to servers of each release: that is no
// difference. One that the server changes beyond that is.
func TestConfigAsServersTakeIt(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 3, text)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	give := func(t *testing.T, dst *source, config string, parts restore.Parts) error {
		t.Helper()
		p, err := planInto(t, connectOld(t, dst), r, restore.Options{Selection: selectOf("S"), Verify: true, Parts: parts, Target: restore.Target{Config: json.RawMessage(config)}})
		must(t, err)
		res, err := p.Run(t.Context())
		must(t, err)
		return res.Streams[0].Err
	}
	servers := maps.Clone(oldServers(t))
	servers["newest"] = ""
	for version, program := range servers {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			start := func() *source {
				if program == "" {
					return startServer(t, natsd.Options{})
				}
				return startOld(t, program, "")
			}
			for _, parts := range []restore.Parts{restore.Everything, restore.ConfigOnly} {
				if err := give(t, start(), plainConfig, parts); err != nil {
					t.Errorf("parts %d: %v", parts, err)
				}
			}
			if program != "" {
				return
			}
			for name, config := range newerConfig {
				dst := start()
				dst.create(t, jetstream.StreamConfig{Name: "DIRECT", Subjects: []string{"direct"}, AllowDirect: true})
				if err := give(t, dst, config, restore.Everything); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	t.Run("updated", func(t *testing.T) {
		dst := startServer(t, natsd.Options{})
		must(t, give(t, dst, plainConfig, restore.Everything))
		p, err := plan(t, dst, r, restore.Options{Selection: selectOf("S"), Existing: restore.UpdateExisting, Target: restore.Target{Config: json.RawMessage(plainConfig)}})
		must(t, err)
		for _, change := range p.Streams[0].Changes {
			t.Log(change)
		}
		res, err := p.Run(t.Context())
		must(t, errors.Join(err, res.Streams[0].Err))
	})
}
