package tests

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// wireGreeting is the INFO of a server that has JetStream.
const wireGreeting = `INFO {"server_id":"X","server_name":"x","version":"2.15.0","go":"go","host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576,"jetstream":true,"proto":1}` + "\r\n"

// wireFault is what a server writes to each client: instead of a greeting, instead of the first PONG, or when it is asked something.
type wireFault struct {
	greeting, pong, answer func(w io.Writer)
	deaf                   bool   // it reads nothing more once it answers
	says                   string // a part of what is said of it
}

// writes writes text n times, until the client is gone.
func writes(text string, n int) func(io.Writer) {
	return func(w io.Writer) {
		for range n {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
	}
}

const forEver = 1 << 40

func wireFaults() map[string]wireFault {
	answer := func(f func(io.Writer), says string) wireFault { return wireFault{answer: f, says: says} }
	message := func(size string) wireFault {
		return answer(writes("MSG _INBOX.x.y 1 "+size+"\r\nsome bytes", 1), "MSG has a size of ")
	}
	urls := strings.Repeat(`"127.0.0.1:1",`, 1_000_000)
	return map[string]wireFault{
		"2^62":           message("4611686018427387904"),
		"2^63":           message("9223372036854775808"),
		"negative":       message("-1"),
		"20 digits":      message("99999999999999999999"),
		"64 GiB":         message("68719476736"),
		"header of more": answer(writes("HMSG _INBOX.x.y 1 99 10\r\nsome bytes\r\n", 1), "the header of HMSG has a size of 99"),
		"messages of 128 MiB": answer(func(w io.Writer) {
			megabyte := strings.Repeat("x", 1<<20)
			for range 4 {
				fmt.Fprintf(w, "MSG _INBOX.x.y 99 %d\r\n", 128<<20) // to nobody
				writes(megabyte, 128)(w)
				fmt.Fprint(w, "\r\n")
			}
			fmt.Fprint(w, "enough\r\n")
		}, ""), // that, or that no answer came in time
		"endless line":        answer(writes("MSG "+strings.Repeat("a", 1<<20), forEver), "a line of MSG has more than"),
		"endless INFO":        answer(writes("INFO "+strings.Repeat("i", 1<<20), forEver), "a line of INFO has more than"),
		"endless greeting":    {greeting: writes("INFO {"+strings.Repeat(" ", 1<<20), forEver), says: "a line of INFO has more than"},
		"servers":             answer(writes(`INFO {"connect_urls":[`+urls+`"127.0.0.1:2"]}`+"\r\n", 1), "a line of INFO has more than"),
		"greeting of servers": {greeting: writes(`INFO {"connect_urls":[`+urls+`"127.0.0.1:2"]}`+"\r\n", 1), says: "a line of INFO has more than"},
		"ever more servers": answer(func(w io.Writer) {
			for i := 0; ; i++ {
				var list []string
				for j := range 10_000 {
					list = append(list, fmt.Sprintf(`"s%d-%d.invalid:1"`, i, j))
				}
				if _, err := fmt.Fprintf(w, `INFO {"connect_urls":[%s]}`+"\r\n", strings.Join(list, ",")); err != nil {
					return
				}
			}
		}, "INFO and -ERR have more than"),
		"error of 1 MB":        answer(writes("-ERR '"+strings.Repeat("e", 1_000_000)+"'\r\n", 1), "a line of -ERR has more than"),
		"first error of 1 MB":  {pong: writes("-ERR '"+strings.Repeat("e", 1_000_000)+"'\r\n", 1), says: "a line of -ERR has more than"},
		"first error of 60 kB": {pong: writes("-ERR '"+strings.Repeat("e", 60_000)+"'\r\n", 1), says: "eee"},
		"garbage":              answer(writes("\x00\x01\x02 garbage\r\n", 1), "not an operation"),
		"first garbage":        {pong: writes("garbage garbage\r\n", 1), says: "not an operation"},
		"web server":           {greeting: writes("HTTP/1.1 400 Bad Request\r\n\r\n", 1), says: `"HT" is not an operation`},
		"PING for ever":        answer(writes(strings.Repeat("PING\r\n", 10_000), forEver), "more than 65536 PING"),
		"PING, and deaf":       {answer: writes(strings.Repeat("PING\r\n", 10_000), forEver), deaf: true, says: "more than 65536 PING"},
		"first PING for ever":  {pong: writes(strings.Repeat("PING\r\n", 10_000), forEver), says: "PING"},
		"errors for ever":      answer(writes(strings.Repeat("-ERR 'Permissions Violation for Publish to \"x\"'\r\n", 1000), forEver), "INFO and -ERR have more than"),
	}
}

// serveWire lets each client that comes to the returned address meet the fault.
func serveWire(t testing.TB, f wireFault) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() { f.meet(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "nats://" + l.Addr().String()
}

// meet talks to one client, and reads on while it writes.
func (f wireFault) meet(c net.Conn) {
	defer c.Close()
	if f.greeting != nil {
		f.greeting(c)
		_, _ = io.Copy(io.Discard, c)
		return
	}
	writes(wireGreeting, 1)(c)
	pong := writes("PONG\r\n", 1)
	if f.pong != nil {
		pong = f.pong
	}
	for in := bufio.NewScanner(c); in.Scan(); {
		switch line := in.Text(); {
		case strings.HasPrefix(line, "PING"):
			pong(c)
		case f.answer != nil && (strings.HasPrefix(line, "PUB") || strings.HasPrefix(line, "HPUB")):
			if f.deaf {
				f.answer(c)
				return
			}
			go f.answer(c)
		}
	}
}

// TestHostileWire meets servers that break the protocol of NATS itself, with the built command: each is an error that says what the server did,
// with the exit code of a server that cannot be reached, within bounds of memory and time, and without a panic.
func TestHostileWire(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	c := command{repo: dir}
	c.run(t, 0, "init")
	faults := wireFaults()
	for _, name := range sortedKeys(faults) {
		t.Run(name, func(t *testing.T) {
			fault := faults[name]
			cmd := c.prepare(t, "backup", "--all", "--server", serveWire(t, fault))
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			must(t, cmd.Start())
			defer time.AfterFunc(timeLimit(), func() { _ = cmd.Process.Kill() }).Stop()
			peak, began := watchPeak(cmd.Process.Pid), time.Now()
			_ = cmd.Wait()
			most, took, code := <-peak, time.Since(began), cmd.ProcessState.ExitCode()
			t.Logf("%v, %d MiB: %.500s", took.Round(time.Millisecond), most>>10, out.String())
			if code != 20 || took > timeLimit() || most<<10 > memoryLimit {
				t.Errorf("exit code %d after %v with %d MiB", code, took, most>>10)
			}
			if text := out.String(); !strings.Contains(text, fault.says) || len(text) > 2000 || strings.Contains(text, "goroutine ") {
				t.Errorf("it does not say %q, or more than that:\n%.3000s", fault.says, text)
			}
		})
	}
	if text := c.run(t, 0, "snapshots", "--json"); strings.Contains(text, `"message_type":"snapshot"`) {
		t.Errorf("there is a snapshot: %s", text)
	}
}
