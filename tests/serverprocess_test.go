package tests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
)

// serverVariable tells a copy of this test program to be a server: it holds a processOptions as JSON.
const serverVariable = "JETSAM_TEST_SERVER"

// processOptions says what kind of server a process of its own is.
type processOptions struct {
	StoreDir string
	Port     int
	Name     string
	Config   string // as natsd.Options has it
	TmpfsMiB int    // its store is on a disk of that size; 0: where StoreDir is
}

// TestServerProcess is a server, in the copy of this program that startProcess starts, until its standard input ends.
func TestServerProcess(t *testing.T) {
	text := os.Getenv(serverVariable)
	if text == "" {
		return
	}
	var o processOptions
	must(t, json.Unmarshal([]byte(text), &o))
	if o.TmpfsMiB > 0 {
		must(t, mountOwnTmpfs(o.StoreDir, o.TmpfsMiB))
	}
	srv, err := natsd.Start(natsd.Options{StoreDir: o.StoreDir, Port: o.Port, Name: o.Name, Config: o.Config, MaxStore: 10 << 30})
	must(t, err)
	fmt.Printf("serving %s\n", srv.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	srv.Shutdown()
}

// serverProcess is a server that can be killed.
type serverProcess struct {
	cmd   *exec.Cmd
	url   string
	stdin io.Closer
}

// startProcess starts a server in a process of its own, which ends with the test. It needs change for what the process is given.
func startProcess(t testing.TB, o processOptions, change func(*exec.Cmd)) *serverProcess {
	t.Helper()
	if o.Port == 0 { // one that it can have again
		o.Port = testserver.FreePorts(t, 1)[0]
	}
	text, err := json.Marshal(o)
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerProcess$", "-test.v")
	cmd.Env = append(os.Environ(), serverVariable+"="+string(text))
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = cmd.Stdout
	if change != nil {
		change(cmd)
	}
	if err := cmd.Start(); err != nil {
		testserver.Unable(t, "not permitted here: %v", err)
	}
	p := &serverProcess{cmd: cmd, stdin: stdin}
	t.Cleanup(p.stop)
	var said strings.Builder
	in := bufio.NewScanner(stdout)
	for p.url == "" {
		if !in.Scan() {
			t.Fatalf("the server does not start:\n%s", said.String())
		}
		said.WriteString(in.Text() + "\n")
		if _, url, found := strings.Cut(in.Text(), "serving "); found {
			p.url = url
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return p
}

// kill ends the server as a crash does.
func (p *serverProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *serverProcess) stop() {
	if p.cmd.ProcessState == nil {
		_ = p.stdin.Close()
		p.kill()
	}
}

// client connects to the server.
func (p *serverProcess) client(t testing.TB) *source {
	t.Helper()
	var nc *nats.Conn
	var err error
	for range 100 {
		if nc, err = nats.Connect(p.url); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	return &source{nil, nc, js}
}
