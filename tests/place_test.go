package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/storage/azure/azuretest"
	"jetsam/storage/gs/gstest"
	"jetsam/storage/s3/s3test"
)

// TestS3 does everything in a bucket, with the built command, and has restic judge it; and reads there what restic wrote.
func TestS3(t *testing.T) { inBucket(t, s3test.Fake(t)) }

// TestS3Versity is the same on a real server.
func TestS3Versity(t *testing.T) { inBucket(t, s3test.Versity(t)) }

func inBucket(t *testing.T, url string) {
	s3test.Environment.Set(t)
	j := command{repo: "s3:" + url + "/backups/cluster-1"}
	inPlace(t, j, true)

	readsWhatResticWrote(t, command{repo: "s3:" + url + "/backups/by-restic"})

	j.env = append(j.env, "AWS_SECRET_ACCESS_KEY=", "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_EC2_METADATA_DISABLED=true")
	if out := j.run(t, 24, "snapshots"); !strings.Contains(out, "AWS_SECRET_ACCESS_KEY") {
		t.Errorf("without credentials:\n%s", out)
	}
}

// TestAzure does everything in a container of Azurite, to which restic cannot be led.
func TestAzure(t *testing.T) {
	azuretest.Environment.Set(t)
	j := command{repo: "azure:backups:/cluster-1"}
	inPlace(t, j, false, "-o", "azure.endpoint="+azuretest.Azurite(t))
}

// TestGoogle does everything in a bucket of fake-gcs-server, at Google's own address, by way of a proxy: restic, the judge, knows no other.
func TestGoogle(t *testing.T) {
	proxy, certificate := gstest.Google(t)
	gstest.Environment.Set(t)
	t.Setenv("HTTPS_PROXY", proxy)
	t.Setenv("NO_PROXY", "127.0.0.1")
	t.Setenv("SSL_CERT_FILE", certificate) // for restic
	cacert := []string{"-o", "gs.cacert=" + certificate}
	inPlace(t, command{repo: "gs:backups:/cluster-1"}, true, cacert...)
	readsWhatResticWrote(t, command{repo: "gs:backups:/by-restic"}, cacert...)
}

// inPlace does everything in a place where there is nothing yet, with these flags. Restic judges it if it can.
func inPlace(t *testing.T, j command, byRestic bool, flags ...string) {
	t.Helper()
	s := startServer(t, natsd.Options{})
	s.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	payload := func(i int) []byte { return fmt.Append(nil, strings.Repeat("order ", 1000), i) }
	s.publish(t, "orders.new", 2000, payload)
	j.env = append(j.env, "NATS_URL="+s.address())
	run := func(exit int, args ...string) { t.Helper(); j.run(t, exit, slices.Concat(flags, args)...) }
	judge := func(args ...string) {
		t.Helper()
		if byRestic {
			restic(t, j.repo, args...)
		}
	}

	run(10, "snapshots") // there is nothing
	run(0, "init")
	run(1, "init")
	run(0, "backup", "--all")
	s.publish(t, "orders.new", 100, payload)
	run(0, "backup", "--all")
	run(0, "check", "--read-data")
	judge("check", "--read-data")

	target := startServer(t, natsd.Options{})
	run(0, "--server", target.address(), "restore", "--verify")
	st, err := target.js.Stream(t.Context(), "ORDERS")
	must(t, err)
	if info, err := st.Info(t.Context()); err != nil || info.State.Msgs != 2100 {
		t.Errorf("restored: %+v, %v", info, err)
	}
	run(0, "forget", "--keep-last", "1", "--prune", "--grace", "0", "--max-unused", "0")
	judge("check", "--read-data")
	judge("prune")
	run(0, "check", "--read-data")
}

func readsWhatResticWrote(t *testing.T, j command, flags ...string) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600))
	restic(t, j.repo, "init")
	restic(t, j.repo, "backup", dir)
	j.run(t, 0, append(flags, "check", "--read-data")...)
}
