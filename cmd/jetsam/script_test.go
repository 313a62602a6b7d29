package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jsm.go"
	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"jetsam/crypto"
	"jetsam/internal/natsd"
	"jetsam/internal/shop"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage/local"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"jetsam": main})
}

// password is what every repository of the scripts opens with.
const password = "correct horse"

// eventually is how long a script waits for something that must come.
const eventually = 30 * time.Second

// TestScripts runs the command line as users do: testdata/script/*.txt, against real servers and repositories.
func TestScripts(t *testing.T) {
	testscript.RunT(overheard{t}, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"server":   server,
			"shutdown": shutdown,
			"trade":    trade,
			"publish":  publish,
			"dump":     dump,
			"same":     same,
			"mkrepo":   mkrepo,
			"lockrepo": lockrepo,
			"unlockrepo": func(ts *testscript.TestScript, neg bool, args []string) {
				world(ts).unlock(ts)
			},
			"damage":  damage,
			"waitfor": waitfor,
			"stalled": stalled,
		},
	})
}

// stage is what a script has running in this process.
type stage struct {
	mu      sync.Mutex
	servers map[string]*natsd.Server
	shops   map[string]*shop.Shop
	lock    *repo.Lock
}

type stageKey struct{}

func world(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func setup(env *testscript.Env) error {
	s := &stage{servers: make(map[string]*natsd.Server), shops: make(map[string]*shop.Shop)}
	env.Values[stageKey{}] = s
	env.Defer(s.close)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
	env.Setenv("JETSAM_REPOSITORY", filepath.Join(env.WorkDir, "repo"))
	env.Setenv("JETSAM_PASSWORD", password)
	env.Setenv("NATS_URL", "")
	env.Setenv("LOCK", "repo/locks/"+strings.Repeat("?", 64)) // matches no temporary file
	return nil
}

func (s *stage) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shop := range s.shops {
		shop.Close()
	}
	for _, srv := range s.servers {
		srv.Shutdown()
	}
	if s.lock != nil {
		s.lock.Release()
	}
}

func condition(name string) (bool, error) {
	switch name {
	case "posix":
		return runtime.GOOS != "windows", nil
	case "restic":
		_, err := exec.LookPath("restic")
		if err != nil && os.Getenv("CI") != "" {
			return false, errors.New("restic is not installed: apt-get install restic")
		}
		return err == nil, nil
	case "unserved": // nothing listens where servers do by default
		conn, err := net.Dial("tcp", "127.0.0.1:4222")
		if err == nil {
			conn.Close()
		}
		return err != nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// exits CODE PROGRAM [ARG…] runs a program that must end with that exit code. As with exec, stdout and stderr can be matched afterwards.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("%s ended with exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// server [FLAGS] NAME starts a server and sets NAME to its URL, NAME_AS_ADMIN to one with the credentials of denying, and NAME_A, NAME_B and
// NAME_C to those of the users a, b and c of a configuration.
//
//	-nojetstream      without JetStream
//	-deny SUBJECT     to a user who may not publish to the subject; comma-separated
//	-config FILE      with the configuration in the file
//	-max-payload N    with that max_payload
func server(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	none := flags.Bool("nojetstream", false, "")
	deny := flags.String("deny", "", "")
	config := flags.String("config", "", "")
	maxPayload := flags.Int("max-payload", 0, "")
	if err := flags.Parse(args); err != nil || neg || flags.NArg() != 1 {
		ts.Fatalf("usage: server [-nojetstream] [-deny SUBJECT] [-config FILE] [-max-payload N] NAME")
	}
	name := flags.Arg(0)
	o := natsd.Options{StoreDir: filepath.Join(ts.MkAbs("."), "store-"+name), Name: name, MaxPayload: *maxPayload}
	if *none {
		o.StoreDir = ""
	}
	if *config != "" {
		o.Config = ts.ReadFile(*config)
	}
	if *deny != "" {
		o.Config = denying(strings.Split(*deny, ","))
	}
	srv, err := natsd.Start(o)
	ts.Check(err)
	s := world(ts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.servers[name]; old != nil {
		old.Shutdown()
	}
	s.servers[name] = srv
	ts.Setenv(name, srv.URL())
	for _, user := range []string{"a", "b", "c"} {
		ts.Setenv(name+"_"+strings.ToUpper(user), strings.Replace(srv.URL(), "nats://", "nats://"+user+":secret@", 1))
	}
	ts.Setenv(name+"_AS_ADMIN", strings.Replace(srv.URL(), "nats://", "nats://admin:secret@", 1))
}

// denying configures two users of one account: admin may do anything, and backup everything but publish to the subjects.
// Both have the password "secret".
func denying(subjects []string) string {
	return fmt.Sprintf(`authorization {
		users = [
			{ user: admin, password: secret }
			{ user: backup, password: secret, permissions: { publish: { deny: ["%s"] } } }
		]
	}`, strings.Join(subjects, `","`))
}

// shutdown NAME stops a server; its files stay.
func shutdown(ts *testscript.TestScript, neg bool, args []string) {
	s := world(ts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if neg || len(args) != 1 || s.servers[args[0]] == nil {
		ts.Fatalf("usage: shutdown NAME, of a server that runs")
	}
	if shop := s.shops[args[0]]; shop != nil {
		shop.Close()
		delete(s.shops, args[0])
	}
	s.servers[args[0]].Shutdown()
	delete(s.servers, args[0])
}

// trade NAME N lets the server's shop do business of N orders.
func trade(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: trade NAME ORDERS")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	s := world(ts)
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.shops[args[0]]
	if open == nil {
		open, err = shop.Open(context.Background(), ts.Getenv(args[0]), 1)
		ts.Check(err)
		s.shops[args[0]] = open
	}
	ts.Check(open.Trade(context.Background(), n))
}

// publish URL STREAM COUNT SIZE makes a stream, if there is none of that name, that takes the subjects below it in lower
// case, and publishes that many messages of that many random bytes.
func publish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: publish URL STREAM COUNT SIZE")
	}
	count, err := strconv.Atoi(args[2])
	ts.Check(err)
	size, err := strconv.Atoi(args[3])
	ts.Check(err)
	nc, err := nats.Connect(args[0])
	ts.Check(err)
	defer nc.Close()
	ts.Check(publishMessages(nc, args[1], count, size))
}

func publishMessages(nc *nats.Conn, stream string, count, size int) error {
	js, err := nc.JetStream(nats.PublishAsyncMaxPending(256))
	if err != nil {
		return err
	}
	subject := strings.ToLower(stream)
	if _, err := js.AddStream(&nats.StreamConfig{Name: stream, Subjects: []string{subject + ".>"}}); err != nil {
		return err
	}
	payload := make([]byte, size)
	for i := range count {
		fillRandom(payload, uint64(i))
		if _, err := js.PublishAsync(fmt.Sprintf("%s.%d", subject, i%7), payload, nats.StallWait(eventually)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-time.After(eventually):
		return errors.New("the server does not take the messages")
	}
}

// dump URL DIR STREAM… does what `nats account backup` does, for these streams.
func dump(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: dump URL DIR STREAM…")
	}
	nc, err := nats.Connect(args[0])
	ts.Check(err)
	defer nc.Close()
	mgr, err := jsm.New(nc)
	ts.Check(err)
	for _, name := range args[2:] {
		st, err := mgr.LoadStream(name)
		ts.Check(err)
		_, err = st.SnapshotToDirectory(context.Background(), filepath.Join(ts.MkAbs(args[1]), name), jsm.SnapshotConsumers())
		ts.Check(err)
	}
}

// fillRandom fills p with bytes that do not compress and depend on seed alone.
func fillRandom(p []byte, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x >> 24)
	}
}

// same URL URL compares two accounts message by message.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] same URL URL")
	}
	a, err := shop.Look(context.Background(), args[0])
	ts.Check(err)
	b, err := shop.Look(context.Background(), args[1])
	ts.Check(err)
	differences := shop.Diff(a, b)
	if neg == (len(differences) == 0) {
		ts.Fatalf("%d differences: %s", len(differences), strings.Join(differences, "\n"))
	}
}

// mkrepo creates the repository that JETSAM_REPOSITORY names, with a key that costs nothing to open.
func mkrepo(ts *testscript.TestScript, neg bool, args []string) {
	be, err := local.Create(ts.Getenv("JETSAM_REPOSITORY"))
	ts.Check(err)
	defer be.Close()
	_, err = repo.Init(context.Background(), be, secret.New(password), repo.Options{KDF: crypto.KDF{N: 2, R: 1, P: 1}})
	ts.Check(err)
}

// lockrepo [shared] locks the repository, against everybody unless it says shared, until unlockrepo or the end.
func lockrepo(ts *testscript.TestScript, neg bool, args []string) {
	be, err := local.Open(ts.Getenv("JETSAM_REPOSITORY"))
	ts.Check(err)
	r, err := repo.Open(context.Background(), be, secret.New(password), repo.Options{Hostname: "elsewhere", Username: "somebody"})
	ts.Check(err)
	lock, err := r.Lock(context.Background(), len(args) == 0)
	ts.Check(err)
	world(ts).lock = lock
}

func (s *stage) unlock(ts *testscript.TestScript) {
	if s.lock == nil {
		ts.Fatalf("there is no lock")
	}
	ts.Check(s.lock.Release())
	s.lock = nil
}

// damage flip|truncate|append|empty|remove GLOB [NOT] damages the largest file that the glob matches, in its middle or at
// its end. Files whose names stand in the file NOT are spared.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: damage flip|truncate|append|empty|remove GLOB [NOT]")
	}
	spared := ""
	if len(args) == 3 {
		spared = ts.ReadFile(args[2])
	}
	file := largest(ts, args[1], spared)
	data, err := os.ReadFile(file)
	ts.Check(err)
	ts.Check(os.Remove(file))
	ts.Logf("%s %s, %d bytes", args[0], file, len(data))
	switch args[0] {
	case "flip":
		data[len(data)/2] ^= 1
	case "truncate":
		data = data[:len(data)/2]
	case "append":
		data = append(data, 0)
	case "empty":
		data = nil
	case "remove":
		return
	default:
		ts.Fatalf("damage %s: unknown", args[0])
	}
	ts.Check(os.WriteFile(file, data, 0o600))
}

// largest is the largest file that glob matches and whose name does not stand in spared.
func largest(ts *testscript.TestScript, glob, spared string) string {
	files, err := filepath.Glob(ts.MkAbs(glob))
	ts.Check(err)
	found, size := "", int64(-1)
	for _, f := range files {
		info, err := os.Stat(f)
		ts.Check(err)
		if info.Size() > size && !strings.Contains(spared, filepath.Base(f)) {
			found, size = f, info.Size()
		}
	}
	if found == "" {
		ts.Fatalf("no file matches %s", glob)
	}
	return found
}

// waitfor GLOB waits until a file matches, and ! waitfor GLOB until none does.
func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] waitfor GLOB")
	}
	deadline := time.Now().Add(eventually)
	for {
		files, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		if neg == (len(files) == 0) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waited %v in vain for %s", eventually, args[0])
		}
		time.Sleep(5 * time.Millisecond) // a file system tells nobody
	}
}

// stalled NAME URL BYTES stands a proxy before the server that passes on that many bytes of what the server says, and then
// nothing more, and sets NAME to its URL.
func stalled(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: stalled NAME URL BYTES")
	}
	limit, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go passOn(client, strings.TrimPrefix(args[1], "nats://"), limit)
		}
	}()
	ts.Setenv(args[0], "nats://"+l.Addr().String())
}

func passOn(client net.Conn, address string, limit int64) {
	srv, err := net.Dial("tcp", address)
	if err != nil {
		client.Close()
		return
	}
	go io.CopyN(client, srv, limit)
	io.Copy(srv, client) // until the client is gone
	srv.Close()
	client.Close()
}
