package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/storage/s3/s3test"
)

// TestS3 does everything in a bucket, with the built command, and has restic judge it; and reads there what restic wrote.
func TestS3(t *testing.T) { inBucket(t, s3test.Fake(t)) }

// TestS3Versity is the same on a real server.
func TestS3Versity(t *testing.T) { inBucket(t, s3test.Versity(t)) }

func inBucket(t *testing.T, url string) {
	s3test.Setenv(t)
	s := startServer(t, natsd.Options{})
	s.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	payload := func(i int) []byte { return fmt.Append(nil, strings.Repeat("order ", 1000), i) }
	s.publish(t, "orders.new", 2000, payload)
	j := command{repo: "s3:" + url + "/backups/cluster-1", env: []string{"NATS_URL=" + s.address()}}

	j.run(t, 10, "snapshots") // there is no bucket
	j.run(t, 0, "init")
	j.run(t, 1, "init")
	j.run(t, 0, "backup", "--all")
	s.publish(t, "orders.new", 100, payload)
	j.run(t, 0, "backup", "--all")
	j.run(t, 0, "check", "--read-data")
	restic(t, j.repo, "check", "--read-data")

	target := startServer(t, natsd.Options{})
	j.run(t, 0, "--server", target.address(), "restore", "--verify")
	st, err := target.js.Stream(t.Context(), "ORDERS")
	must(t, err)
	if info, err := st.Info(t.Context()); err != nil || info.State.Msgs != 2100 {
		t.Errorf("restored: %+v, %v", info, err)
	}
	j.run(t, 0, "forget", "--keep-last", "1")
	restic(t, j.repo, "prune")
	j.run(t, 0, "check", "--read-data")
	if out := restic(t, j.repo, "snapshots"); !strings.Contains(out, "1 snapshots") {
		t.Errorf("restic lists\n%s", out)
	}

	byRestic := command{repo: "s3:" + url + "/backups/by-restic"}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), payload(1), 0o600))
	restic(t, byRestic.repo, "init")
	restic(t, byRestic.repo, "backup", dir)
	byRestic.run(t, 0, "check", "--read-data")

	j.env = append(j.env, "AWS_SECRET_ACCESS_KEY=", "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_EC2_METADATA_DISABLED=true")
	if out := j.run(t, 24, "snapshots"); !strings.Contains(out, "AWS_SECRET_ACCESS_KEY") {
		t.Errorf("without credentials:\n%s", out)
	}
}
