package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/doctest"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/storage/rest/resttest"
)

// TestStorageExamples runs the example of each storage's page, with other names for the places in it.
func TestStorageExamples(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	must(t, err)
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	src.publish(t, "orders", 5, text)
	for page, prepare := range map[string]func(t *testing.T, path string) (old, instead string, env []string){
		"rest": func(t *testing.T, _ string) (string, string, []string) {
			return "https://storage.example:8000/", resttest.Start(t).URL(), nil
		},
		"rclone": func(t *testing.T, _ string) (string, string, []string) {
			testserver.Program(t, "rclone", "rclone")
			return "", "", []string{"RCLONE_CONFIG_OFFSITE_TYPE=alias", "RCLONE_CONFIG_OFFSITE_REMOTE=" + t.TempDir()}
		},
		"sftp": func(t *testing.T, path string) (string, string, []string) {
			server := testserver.Program(t, "/usr/lib/openssh/sftp-server", "openssh-sftp-server")
			// In the place of ssh is one that wants what ssh would be told, and goes nowhere.
			ssh := "#!/bin/sh\n[ \"$*\" = '-l backup -s -- storage.example sftp' ] && exec " + server + " -d '" + t.TempDir() + "'\n"
			must(t, os.WriteFile(filepath.Join(path, "ssh"), []byte(ssh), 0o700))
			return "", "", nil
		},
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			must(t, os.Symlink(bin, filepath.Join(path, "jetsam")))
			old, instead, env := prepare(t, path)
			example := doctest.Example(t, "docs/storage/"+page+".md", "example")
			if old != "" {
				example = strings.ReplaceAll(example, old, instead)
			}
			cmd := exec.Command("sh", "-e", "-c", example)
			cmd.Env = append(os.Environ(), append(env, "PATH="+path+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "NATS_URL="+src.address(), "JETSAM_PASSWORD="+password)...)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "ORDERS") {
				t.Errorf("%v\n%s", err, out)
			}
			if strings.Contains(string(out), "correct-horse") {
				t.Errorf("the password is told:\n%s", out)
			}
		})
	}
}
