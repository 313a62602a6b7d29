package tests

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	s3credentials "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/doctest"
	"jetsam/internal/natsd"
	"jetsam/storage/s3/s3test"
)

// bucketPolicy is a policy of the page for users, as a bucket has it: it says who they are.
func bucketPolicy(t *testing.T, names map[string]string) string {
	t.Helper()
	type policy struct {
		Version   string
		Statement []map[string]any
	}
	var all policy
	for user, example := range names {
		var p policy
		must(t, json.Unmarshal([]byte(doctest.Example(t, "docs/operations/append-only.md", example)), &p))
		for _, s := range p.Statement {
			s["Principal"] = map[string]any{"AWS": user}
			all.Statement = append(all.Statement, s)
		}
		all.Version = p.Version
	}
	text, err := json.Marshal(all)
	must(t, err)
	return string(text)
}

// TestS3Policies gives two users what the page says. The one that backs up can do that, and cannot forget, and leaves no lock behind;
// the other one can forget.
func TestS3Policies(t *testing.T) {
	s3test.Environment.Set(t)
	url := s3test.Versity(t, "--iam-dir", t.TempDir())
	root, err := minio.New(strings.TrimPrefix(url, "http://"), &minio.Options{Creds: s3credentials.NewStaticV4(s3test.Key, s3test.Secret, "")})
	must(t, err)
	must(t, root.MakeBucket(t.Context(), "jetsam-backups", minio.MakeBucketOptions{}))
	for _, user := range []string{"writer", "pruner"} {
		out, err := exec.Command(s3test.Program(t), "admin", "--access", s3test.Key, "--secret", s3test.Secret, "--endpoint-url", url,
			"create-user", "--access", user, "--secret", "secret-of-"+user, "--role", "user").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	must(t, root.SetBucketPolicy(t.Context(), "jetsam-backups", bucketPolicy(t, map[string]string{"writer": "writer-policy", "pruner": "pruner-policy"})))

	s := startServer(t, natsd.Options{})
	s.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	as := func(user string) command {
		return command{repo: "s3:" + url + "/jetsam-backups/cluster-1", env: []string{"NATS_URL=" + s.address(), "AWS_ACCESS_KEY_ID=" + user, "AWS_SECRET_ACCESS_KEY=secret-of-" + user}}
	}
	writer, pruner := as("writer"), as("pruner")
	writer.run(t, 0, "init")
	for range 3 {
		s.publish(t, "orders.new", 10, func(int) []byte { return []byte("order") })
		writer.run(t, 0, "backup", "--all")
	}
	out := writer.run(t, 24, "forget", "--keep-last", "1")
	if !strings.Contains(out, "not permitted") || !strings.Contains(out, "jetsam-backups/cluster-1/snapshots/") {
		t.Errorf("forget says\n%s", out)
	}
	if out := writer.run(t, 0, "list", "locks"); strings.TrimSpace(out) != "" {
		t.Errorf("locks are left:\n%s", out)
	}
	if n := strings.Count(writer.run(t, 0, "list", "snapshots"), "\n"); n != 3 {
		t.Errorf("%d snapshots, want 3", n)
	}
	pruner.run(t, 0, "forget", "--keep-last", "1")
	writer.run(t, 0, "backup", "--all")
	pruner.run(t, 0, "check", "--read-data")
	elsewhere := writer
	elsewhere.repo = "s3:" + url + "/jetsam-backups/cluster-2"
	if out := elsewhere.run(t, 24, "init"); !strings.Contains(out, "not permitted") {
		t.Errorf("init below another prefix says\n%s", out)
	}
}
