package tests

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage/local"
)

// canary is a text that must not come out of any command.
type canary struct{ name, text string }

// canaryWindow is how many characters of a canary in a row are a find: what is cut short leaks too.
const canaryWindow = 8

// newCanary makes a canary of random letters and digits, which no quoting changes.
func newCanary(name string) canary { return canary{name, rand.Text()} }

// isIn says whether data holds the canary or a piece of it, as it is or in base64 or hexadecimal.
func (c canary) isIn(data []byte) bool {
	for i := range len(c.text) - canaryWindow + 1 {
		if bytes.Contains(data, []byte(c.text[i:i+canaryWindow])) {
			return true
		}
	}
	digits := hex.EncodeToString([]byte(c.text))
	if bytes.Contains(bytes.ToLower(data), []byte(digits)) {
		return true
	}
	for shift := range 3 { // base64 looks different at each place of a group of three
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), c.text...))
		if bytes.Contains(data, []byte(encoded[4:len(encoded)-4])) {
			return true
		}
	}
	return false
}

// flock is all canaries of a test.
type flock []canary

func (f flock) in(data []byte) (found []string) {
	for _, c := range f {
		if c.isIn(data) {
			found = append(found, c.name)
		}
	}
	return found
}

// aviary runs commands in a world full of canaries and searches what they leave.
type aviary struct {
	t     *testing.T
	dir   string // home, files with secrets and nothing that is searched
	tmp   string // TMPDIR of the commands: nothing may remain there
	repo  string
	users *natsd.Server // with users that have passwords and an nkey
	token *natsd.Server
	empty *natsd.Server // to restore into

	password, second, nats, secretToken, seed, jwt, payload, header, subject canary
	all                                                                      flock

	count *printed
}

// printed counts what the commands of an aviary printed.
type printed struct{ runs, bytes int }

// A seed of the server's documentation; what is said of random canaries goes for it too.
const exampleSeed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"

func newAviary(t *testing.T) *aviary {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the password commands of this test are scripts")
	}
	a := &aviary{
		t: t, dir: t.TempDir(), tmp: t.TempDir(), count: new(printed),
		password: newCanary("password"), second: newCanary("second password"), nats: newCanary("NATS password"),
		secretToken: newCanary("token"), seed: canary{"nkey seed", exampleSeed}, jwt: newCanary("JWT"),
		payload: newCanary("payload"), header: newCanary("header"), subject: newCanary("subject"),
	}
	a.all = flock{a.password, a.second, a.nats, a.secretToken, a.seed, a.jwt, a.payload, a.header, a.subject}
	a.repo = filepath.Join(a.dir, "repo")
	be, err := local.Create(a.repo)
	must(t, err)
	defer be.Close()
	_, err = repo.Init(t.Context(), be, secret.New(a.password.text), repo.Options{KDF: cheapKDF})
	must(t, err)
	a.files()
	a.servers()
	return a
}

// path is where a file of the world lies.
func (a *aviary) path(name string) string { return filepath.Join(a.dir, name) }

// files writes what commands read secrets from.
func (a *aviary) files() {
	context := func(settings map[string]string) string {
		p, err := json.Marshal(settings)
		must(a.t, err)
		return string(p)
	}
	must(a.t, os.MkdirAll(a.path("config/nats/context"), 0o700))
	creds := "-----BEGIN NATS USER JWT-----\n" + a.jwt.text + "\n------END NATS USER JWT------\n\n" +
		"-----BEGIN USER NKEY SEED-----\n" + a.seed.text + "\n------END USER NKEY SEED------\n"
	for name, text := range map[string]string{
		"password":                        "  " + a.password.text + "\n",
		"second":                          a.second.text + "\n",
		"user.nk":                         a.seed.text + "\n",
		"broken.nk":                       a.jwt.text + "\n",
		"user.creds":                      creds,
		"half.creds":                      creds[:len(creds)*2/3],
		"broken.json":                     a.jwt.text,
		"config/nats/context/wrong.json":  context(map[string]string{"url": "nats://127.0.0.1:1", "user": "bob", "password": a.nats.text}),
		"config/nats/context/both.json":   context(map[string]string{"url": "nats://bob:" + a.nats.text + "@127.0.0.1:1", "token": a.secretToken.text, "creds": a.path("user.creds")}),
		"config/nats/context/broken.json": `{"url": "nats://bob:` + a.nats.text + `@127.0.0.1:1", "password": ` + a.nats.text + `}`,
		"config/nats/context/slash.json":  context(map[string]string{"url": "nats://bob:" + a.nats.text + "/x@127.0.0.1:1"}),
		"config/nats/context/odd.json":    context(map[string]string{"url": "nats://127.0.0.1:1", "user": "bob", "password": "op://" + a.nats.text}),
		"config/nats/context/data.json":   context(map[string]string{"url": "nats://127.0.0.1:1", "creds": "data:;base64," + a.jwt.text + "!"}),
	} {
		must(a.t, os.WriteFile(a.path(name), []byte(text), 0o600))
	}
	// A password command that looks at what other processes could see of it and of jetsam.
	must(a.t, os.WriteFile(a.path("askpass"), []byte(`#!/bin/sh
{ env; echo "$@"; cat /proc/$$/cmdline /proc/$$/environ /proc/$PPID/cmdline /proc/$PPID/comm; } >"$1" 2>/dev/null
cat "$2"
`), 0o700))
}

// servers starts the servers and fills the first.
func (a *aviary) servers() {
	var o nats.Options
	option, err := nats.NkeyOptionFromSeed(a.path("user.nk"))
	must(a.t, err)
	must(a.t, option(&o))
	start := func(config string) *natsd.Server {
		srv, err := natsd.Start(natsd.Options{StoreDir: a.t.TempDir(), Config: config})
		must(a.t, err)
		a.t.Cleanup(srv.Shutdown)
		return srv
	}
	a.users = start(fmt.Sprintf(`authorization { users: [
		{ user: bob, password: %q }
		{ user: weak, password: %q, permissions: { publish: { deny: ["$JS.API.STREAM.SNAPSHOT.*", "$JS.API.STREAM.RESTORE.*", "$JS.API.CONSUMER.LIST.*"] } } }
		{ nkey: %s }
	] }`, a.nats.text, a.nats.text, o.Nkey))
	a.token = start(fmt.Sprintf(`authorization { token: %q }`, a.secretToken.text))
	a.empty = start("max_payload: 1MB")

	nc, err := nats.Connect(a.users.URL(), nats.UserInfo("bob", a.nats.text))
	must(a.t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(a.t, err)
	for _, name := range []string{"ORDERS", "OTHERS"} {
		prefix := strings.ToLower(name)
		_, err := js.CreateStream(a.t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{prefix + ".>"}})
		must(a.t, err)
		_, err = js.CreateConsumer(a.t.Context(), name, jetstream.ConsumerConfig{Durable: "c"})
		must(a.t, err)
		for range 300 {
			m := &nats.Msg{Subject: prefix + "." + a.subject.text, Data: []byte(a.payload.text), Header: nats.Header{"X-Secret": {a.header.text}}}
			_, err := js.PublishMsg(a.t.Context(), m)
			must(a.t, err)
		}
	}
}

// url is the address of the users' server, with a user and password.
func (a *aviary) url(user, password string) string {
	return strings.Replace(a.users.URL(), "://", "://"+user+":"+password+"@", 1)
}

// asBob is the environment of a command that may do everything.
func (a *aviary) asBob() []string {
	return []string{"JETSAM_PASSWORD_FILE=" + a.path("password"), "NATS_URL=" + a.users.URL(), "NATS_USER=bob", "NATS_PASSWORD=" + a.nats.text}
}

// prepare returns the command in an environment that holds what env says and little else.
func (a *aviary) prepare(env []string, args ...string) *exec.Cmd {
	a.t.Helper()
	bin, err := binary()
	must(a.t, err)
	cmd := exec.Command(bin, args...)
	cmd.Dir = a.dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + a.dir, "XDG_CONFIG_HOME=" + a.path("config"), "TMPDIR=" + a.tmp, "JETSAM_REPOSITORY=" + a.repo,
	}, env...)
	return cmd
}

// says runs a command, wants that exit code and no canary in what it prints, and returns that.
func (a *aviary) says(exit int, env []string, args ...string) string {
	a.t.Helper()
	out := a.output(exit, env, args...)
	if found := a.all.in(out); len(found) > 0 {
		a.t.Errorf("jetsam %v prints the %s:\n%s", a.masked(args), strings.Join(found, ", "), out)
	}
	return string(out)
}

// output runs a command, wants that exit code, and returns what it prints.
func (a *aviary) output(exit int, env []string, args ...string) []byte {
	a.t.Helper()
	cmd := a.prepare(env, args...)
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != exit {
		a.t.Errorf("jetsam %v: exit code %d (%v), want %d\n%s", a.masked(args), got, err, exit, out)
	}
	a.count.runs++
	a.count.bytes += len(out)
	return out
}

// both runs a command for people and for programs, both telling all they can.
func (a *aviary) both(exit int, env []string, args ...string) {
	a.t.Helper()
	if text := a.says(exit, env, append([]string{"--verbose"}, args...)...); text == "" {
		a.t.Errorf("jetsam %v says nothing", a.masked(args))
	}
	a.says(exit, env, append([]string{"--json", "--verbose"}, args...)...)
}

// masked is args without canaries, for this test's own words.
func (a *aviary) masked(args []string) []string {
	return strings.Split(regexp.MustCompile(`[A-Z2-7]{26}`).ReplaceAllString(strings.Join(args, "\x00"), "CANARY"), "\x00")
}

// searchFiles searches all files below dir and returns how many there are.
func (a *aviary) searchFiles(dir string) (files int) {
	a.t.Helper()
	must(a.t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(name)
		if found := a.all.in(append([]byte(name), data...)); len(found) > 0 {
			a.t.Errorf("%s holds the %s", name, strings.Join(found, ", "))
		}
		return err
	}))
	return files
}

// TestNoCommandTellsASecret runs every command, well and badly, where passwords, tokens, keys, payloads, headers and message
// subjects are canaries, and searches for them in what the commands print, in the repository, in what they leave in the
// temporary directory, and in what other processes could see.
func TestNoCommandTellsASecret(t *testing.T) {
	t.Parallel()
	a := newAviary(t)
	for _, part := range []struct {
		name string
		run  func(*aviary)
	}{
		{"what goes well", (*aviary).goodRuns},
		{"sources of passwords", (*aviary).passwordSources},
		{"connections", (*aviary).connections},
		{"command lines", (*aviary).commandLines},
		{"keys", (*aviary).keys},
		{"damage", (*aviary).damaged},
		{"no room", (*aviary).noRoom},
		{"demo", (*aviary).demo},
	} {
		t.Run(part.name, func(t *testing.T) {
			a := *a
			a.t = t
			part.run(&a)
			t.Logf("%d runs so far printed %d bytes; %d files in the repository", a.count.runs, a.count.bytes, a.searchFiles(a.repo))
			if left := a.searchFiles(a.tmp); left != 0 {
				t.Errorf("%d files are left in the temporary directory", left)
			}
		})
	}
}

func (a *aviary) goodRuns() {
	bob := a.asBob()
	a.says(0, bob, "--verbose", "init", "--repo", "another")
	a.both(1, bob, "init")
	a.both(0, bob, "backup", "--all", "--dry-run")
	a.both(0, bob, "backup", "--all", "--tag", "t")
	a.both(0, bob, "snapshots")
	a.both(0, bob, "ls", "latest")
	a.both(0, bob, "stats")
	a.both(0, bob, "check", "--read-data")
	a.both(0, bob, "unlock")
	a.both(0, bob, "key", "list")
	for _, kind := range []string{"snapshots", "index", "packs", "blobs", "keys", "locks"} {
		a.says(0, bob, "list", kind)
	}
	a.both(0, bob, "cat", "config")
	a.both(0, bob, "cat", "snapshot", "latest")
	a.both(0, bob, "cat", "tree", "latest:/")
	a.both(0, bob, "cat", "key", a.first("keys"))
	a.both(0, bob, "cat", "index", a.first("index"))
	a.both(0, bob, "restore", "latest", "--dry-run", "--server", a.empty.URL())
	a.both(22, bob, "restore", "latest")
	a.says(0, bob, "--verbose", "restore", "latest", "ORDERS", "--verify", "--server", a.empty.URL())
	a.says(0, bob, "--json", "--verbose", "restore", "latest", "--skip-existing", "--verify", "--server", a.empty.URL())
	a.both(0, nil, "version")
	a.both(0, nil, "help")
	a.both(0, nil, "completion", "bash")
}

// first is the name of the first file of a kind in the repository.
func (a *aviary) first(kind string) string {
	a.t.Helper()
	entries, err := os.ReadDir(filepath.Join(a.repo, kind))
	must(a.t, err)
	return entries[0].Name()
}

func (a *aviary) passwordSources() {
	a.both(0, []string{"JETSAM_PASSWORD=" + a.password.text}, "snapshots")
	a.both(12, []string{"JETSAM_PASSWORD=" + a.second.text}, "snapshots")
	a.both(12, append(a.asBob(), "JETSAM_FROM_PASSWORD="+a.second.text), "import", "--from-repo", a.repo)
	a.both(12, []string{"JETSAM_PASSWORD_FILE=" + a.path("second")}, "backup", "--all")
	must(a.t, os.Chmod(a.path("password"), 0o644))
	a.both(0, []string{"JETSAM_PASSWORD_FILE=" + a.path("password")}, "snapshots")
	must(a.t, os.Chmod(a.path("password"), 0o600))
	a.both(1, []string{"JETSAM_PASSWORD_FILE=" + a.path("nowhere"), "JETSAM_PASSWORD=" + a.password.text}, "snapshots")
	a.both(1, append(a.asBob(), "JETSAM_PASSWORD_COMMAND=cat password"), "snapshots")

	// What a password command can see is what every process of the user can, and its arguments what all users can.
	rich := append(a.asBob()[1:], "JETSAM_PASSWORD="+a.second.text, "JETSAM_FROM_PASSWORD="+a.second.text, "NATS_URL="+a.url("bob", a.nats.text))
	for _, line := range []string{"./askpass seen password", "sh askpass seen password"} {
		a.both(0, rich, "snapshots", "--password-command", line)
		seen, err := os.ReadFile(a.path("seen"))
		must(a.t, err)
		if !bytes.Contains(seen, []byte("askpass")) || !bytes.Contains(seen, []byte("TMPDIR=")) {
			a.t.Errorf("the password command did not look: %q", seen)
		}
		if found := a.all.in(seen); len(found) > 0 {
			a.t.Errorf("a password command can see the %s", strings.Join(found, ", "))
		}
	}
	a.both(12, nil, "snapshots", "--password-command", "./askpass seen second")
	a.both(1, nil, "snapshots", "--password-command", "./askpass seen")
	a.both(1, nil, "snapshots", "--password-command", "sh -c 'cat password; exit 3'")
	a.both(1, nil, "snapshots", "--password-command", "cat 'password")
}

func (a *aviary) connections() {
	pw := "JETSAM_PASSWORD_FILE=" + a.path("password")
	env := func(more ...string) []string { return append([]string{pw}, more...) }
	server := func(s *natsd.Server) string { return "NATS_URL=" + s.URL() }
	backup := []string{"backup", "--all", "--timeout", "20s"}
	for _, c := range []struct {
		name string
		exit int
		env  []string
	}{
		{"user in the URL", 0, env("NATS_URL=" + a.url("bob", a.nats.text))},
		{"nkey", 0, env(server(a.users), "NATS_NKEY="+a.path("user.nk"))},
		{"token, no streams", 1, env(server(a.token), "NATS_USER="+a.secretToken.text)},
		{"wrong password", 21, env(server(a.users), "NATS_USER=bob", "NATS_PASSWORD="+a.secretToken.text)},
		{"wrong password in the URL", 21, env("NATS_URL=" + a.url("bob", a.secretToken.text))},
		{"wrong token", 21, env(server(a.token), "NATS_USER="+a.nats.text)},
		{"wrong nkey", 21, env(server(a.token), "NATS_NKEY="+a.path("user.nk"))},
		{"wrong credentials file", 21, env(server(a.token), "NATS_CREDS="+a.path("user.creds"))},
		{"half a credentials file", 1, env(server(a.users), "NATS_CREDS="+a.path("half.creds"))},
		{"broken nkey", 1, env(server(a.users), "NATS_NKEY="+a.path("broken.nk"))},
		{"key that is none", 1, env(server(a.users), "NATS_CERT="+a.path("broken.json"), "NATS_KEY="+a.path("broken.json"))},
		{"authority that is none", 1, env(server(a.users), "NATS_CA="+a.path("broken.json"))},
		{"permission denied", 21, env(server(a.users), "NATS_USER=weak", "NATS_PASSWORD="+a.nats.text)},
		{"nobody there", 20, env("NATS_URL=nats://bob:" + a.nats.text + "@127.0.0.1:1")},
		{"nobody there, token", 20, env("NATS_URL=nats://" + a.secretToken.text + "@127.0.0.1:1,nats://a:" + a.nats.text + "@127.0.0.1:2")},
		{"no such host", 20, env("NATS_URL=nats://bob:" + a.nats.text + "@host.invalid")},
		{"URL of odd characters", 1, env("NATS_URL=nats://bob:a/b%" + a.nats.text + "@127.0.0.1:1")},
		{"URL with slashes in the password", 1, env("NATS_URL=nats://bob:" + a.nats.text + "/x@127.0.0.1:1")},
		{"URL that is none", 1, env("NATS_URL=nats://bob:" + a.nats.text + "@[::1")},
		{"context", 20, env("NATS_CONTEXT=wrong")},
		{"context with all kinds", 20, env("NATS_CONTEXT=both")},
		{"context that is none", 1, env("NATS_CONTEXT=broken")},
		{"context that refers", 1, env("NATS_CONTEXT=odd")},
		{"context with data", 1, env("NATS_CONTEXT=data")},
	} {
		a.t.Run(c.name, func(t *testing.T) {
			a := *a
			a.t = t
			a.both(c.exit, c.env, backup...)
		})
	}
}

func (a *aviary) commandLines() {
	pw := []string{"JETSAM_PASSWORD_FILE=" + a.path("password")}
	secretURL := "://bob:" + a.nats.text + "@host/x"
	for _, args := range [][]string{
		{"snapshots", "--password=" + a.password.text},
		{"snapshots", "--password", a.password.text},
		{"backup", "--nats-pasword=" + a.nats.text, "--all"},
		{"snapshots", "--repo", "https" + secretURL},
		{"snapshots", "--repo", "nats:" + secretURL[1:]},
		{"snapshots", "--repo", "s3:https" + secretURL},
		{"init", "--repo", "nats" + secretURL},
		{"snapshots", "--repo", "nats:slash@BACKUP"},
		{"doctor", "--server", "nats://127.0.0.1:1", "--repo", "nats:slash@BACKUP"},
		{"backup", "--all", "nats" + secretURL},
		{"snapshots", "nats" + secretURL},
		{"ls", "latest", "nats" + secretURL},
		{"backup", "--all", "--context", "nats" + secretURL},
		{"backup", "--all", "--creds", "nats" + secretURL},
		{"backup", "--all", "--timeout", "0s", "--server", "nats" + secretURL},
	} {
		a.both(1, pw, args...)
	}
	nowhere := "://bob:" + a.nats.text + "@127.0.0.1:1/x" // where nobody listens
	a.both(24, pw, "snapshots", "--repo", "rest:https"+nowhere, "--retry-storage", "2s")
	a.both(10, append(pw, "JETSAM_REPOSITORY="+a.path("nothing")), "snapshots")
	a.both(1, append(pw, "JETSAM_REPOSITORY=https"+secretURL), "snapshots")
}

func (a *aviary) keys() {
	first := []string{"JETSAM_PASSWORD=" + a.password.text}
	second := []string{"JETSAM_PASSWORD=" + a.second.text}
	a.says(0, first, "--verbose", "key", "add", "--new-password-file", "second")
	a.says(0, second, "--json", "key", "passwd", "--new-password-command", "cat second")
	a.both(0, second, "key", "list")
	a.both(1, first, "key", "add", "--new-password-command", "sh -c 'cat second; exit 1'")
	a.both(1, first, "key", "remove", "zz")
	var other string
	for _, k := range regexp.MustCompile(`"id":"([0-9a-f]{64})"`).FindAllStringSubmatch(string(a.output(0, first, "key", "list", "--json")), -1) {
		if out := a.output(0, first, "--json", "key", "list"); !regexp.MustCompile(`"id":"` + k[1] + `","current":true`).Match(out) {
			other = k[1]
		}
	}
	a.says(0, first, "key", "remove", other)
	a.both(12, second, "snapshots")
}

// damaged flips a byte in the middle of a file of each kind in turn, and puts it back.
func (a *aviary) damaged() {
	bob := a.asBob()
	var names []string
	for _, dir := range []string{"index", "snapshots", "keys", "data"} {
		largest, size := "", int64(-1)
		must(a.t, filepath.WalkDir(filepath.Join(a.repo, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if info, err := d.Info(); err == nil && info.Size() > size {
				largest, size = name, info.Size()
			}
			return nil
		}))
		names = append(names, largest)
	}
	names = append(names, filepath.Join(a.repo, "config"))
	for _, name := range names {
		whole, err := os.ReadFile(name)
		must(a.t, err)
		hurt := slices.Clone(whole)
		hurt[len(hurt)/2] ^= 1
		a.replace(name, hurt)
		commands := [][]string{
			{"check", "--read-data"}, {"ls", "latest"}, {"restore", "latest", "--dry-run", "--server", a.empty.URL()},
		}
		if proof() {
			commands = append(commands, []string{"snapshots"}, []string{"stats"}, []string{"key", "list"}, []string{"cat", "snapshot", "latest"})
		}
		for _, args := range commands {
			for _, form := range allForms("--verbose", "--json") {
				cmd := a.prepare(bob, append([]string{form}, args...)...)
				out, _ := cmd.CombinedOutput() // how it ends is another test's business
				a.count.runs++
				a.count.bytes += len(out)
				if found := a.all.in(out); len(found) > 0 {
					a.t.Errorf("jetsam %v prints the %s with a damaged %s:\n%s", args, strings.Join(found, ", "), name, out)
				}
				if args[0] == "check" && cmd.ProcessState.Success() {
					a.t.Errorf("check finds no damage in %s", name)
				}
			}
		}
		a.replace(name, whole)
	}
	a.both(0, bob, "check", "--read-data")
}

// replace puts data in place of a file of the repository.
func (a *aviary) replace(name string, data []byte) {
	must(a.t, os.Remove(name))
	must(a.t, os.WriteFile(name, data, 0o400))
}

// noRoom lets a limit on the size of files end writes as a full disk does.
func (a *aviary) noRoom() {
	for _, form := range allForms("--verbose", "--json") {
		cmd := a.prepare(a.asBob(), form, "init", "--repo", a.path("full"))
		cmd.Args = append([]string{"sh", "-c", `ulimit -f 0; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		sh, err := exec.LookPath("sh")
		must(a.t, err)
		cmd.Path = sh
		out, _ := cmd.CombinedOutput() // its exit code is what counts
		if got := cmd.ProcessState.ExitCode(); got != 24 {
			a.t.Errorf("exit code %d, want 24: %s", got, out)
		}
		if found := a.all.in(out); len(found) > 0 {
			a.t.Errorf("without room, jetsam prints the %s:\n%s", strings.Join(found, ", "), out)
		}
		a.count.runs++
	}
}

func (a *aviary) demo() {
	for _, form := range allForms("--verbose", "--json") {
		a.says(0, nil, "demo", "--orders", "100", form)
	}
}

// allForms are all of these forms of a command where there is time for it, else the first.
func allForms(forms ...string) []string {
	if proof() {
		return forms
	}
	return forms[:1]
}

// TestCanariesAreFound: the search finds a canary where there is one, whole, cut or encoded, and in what a command prints.
func TestCanariesAreFound(t *testing.T) {
	a := newAviary(t)
	c := a.password
	for name, text := range map[string]string{
		"whole":        "password is " + c.text + "!",
		"cut in front": c.text[len(c.text)-canaryWindow:],
		"cut behind":   "pass" + c.text[:canaryWindow] + "…",
		"base64":       base64.StdEncoding.EncodeToString([]byte("user:" + c.text)),
		"base64 url":   base64.URLEncoding.EncodeToString([]byte("use:" + c.text + "@")),
		"hexadecimal":  fmt.Sprintf("%X", c.text),
	} {
		if found := a.all.in([]byte(text)); !slices.Equal(found, []string{c.name}) {
			t.Errorf("%s: found %q in %s", name, found, text)
		}
	}
	if found := a.all.in([]byte("nothing here, " + c.text[:canaryWindow-1])); found != nil {
		t.Errorf("found %q where there is none", found)
	}
	text, err := os.ReadFile(a.path("password"))
	must(t, err)
	if found := a.all.in(text); !slices.Equal(found, []string{c.name}) {
		t.Errorf("found %q in the password file", found)
	}
	if found := a.all.in(a.output(1, a.asBob(), "backup", c.text)); !slices.Equal(found, []string{c.name}) {
		t.Errorf("found %q in the complaint about a stream that is called like the password", found)
	}
	a.says(0, a.asBob(), "backup", "ORDERS")
	seen := false
	for _, id := range regexp.MustCompile(`[0-9a-f]{64}`).FindAllString(string(a.output(0, a.asBob(), "list", "blobs")), -1) {
		out, err := a.prepare(a.asBob(), "cat", "blob", id).Output()
		if err == nil && a.payload.isIn(out) && a.header.isIn(out) && a.subject.isIn(out) {
			seen = true
		}
	}
	if !seen {
		t.Error("`cat blob`, which prints what is stored, prints no payload, header and subject")
	}
}

// TestNothingToSeeFromOutside looks at a jetsam at work, with the repository's key and the user's password in memory, as another
// process could, and at what it says when it is ended as one that hangs.
func TestNothingToSeeFromOutside(t *testing.T) {
	a := newAviary(t)
	cmd, dump := a.stall("GOTRACEBACK=all")
	if runtime.GOOS == "linux" {
		proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
		line, err := os.ReadFile(proc + "cmdline")
		must(t, err)
		if found := a.all.in(line); len(found) > 0 {
			t.Errorf("the process list shows the %s", strings.Join(found, ", "))
		}
		for file, want := range map[string]string{"status": `(?m)^Umask:\s+0077$`, "limits": `(?m)^Max core file size\s+0\s+0\s`} {
			text, err := os.ReadFile(proc + file)
			must(t, err)
			if !regexp.MustCompile(want).Match(text) {
				t.Errorf("%s does not match %s:\n%s", file, want, text)
			}
		}
	}
	must(t, cmd.Process.Signal(syscall.SIGQUIT))
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 2 {
		t.Errorf("exit code %d, want 2", got)
	}
	if !bytes.Contains(dump.Bytes(), []byte("goroutine ")) || !bytes.Contains(dump.Bytes(), []byte("jetstream.Connect")) {
		t.Fatalf("there is no dump of a jetsam that connects: %s", dump.Bytes())
	}
	if found := a.all.in(dump.Bytes()); len(found) > 0 {
		t.Errorf("the dump of %d bytes holds the %s", dump.Len(), strings.Join(found, ", "))
	}
	if left := a.searchFiles(a.tmp) + a.searchFiles(a.repo); left == 0 {
		t.Error("there is no repository")
	}
}

// stall starts a backup from a server that says nothing, and returns when it waits for it.
func (a *aviary) stall(env ...string) (*exec.Cmd, *bytes.Buffer) {
	a.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(a.t, err)
	a.t.Cleanup(func() { l.Close() })
	cmd := a.prepare(append([]string{
		"JETSAM_PASSWORD=" + a.password.text, "NATS_URL=nats://bob:" + a.nats.text + "@" + l.Addr().String(),
	}, env...), "backup", "--all", "--timeout", "5m")
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	must(a.t, cmd.Start())
	a.t.Cleanup(func() { cmd.Process.Kill() })
	must(a.t, l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)))
	conn, err := l.Accept()
	must(a.t, err)
	a.t.Cleanup(func() { conn.Close() })
	return cmd, out
}
