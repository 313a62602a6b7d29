package jetstream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"jetsam/internal/chance"
)

// greeting is how a server begins.
const greeting = "INFO {\"server_id\":\"X\",\"max_payload\":1048576}\r\n"

// protocol are texts of a server, and a part of what is wrong with each; "" is what a server may say.
func protocol() map[string]struct{ text, says string } {
	type row = struct{ text, says string }
	repeat := strings.Repeat
	return map[string]row{
		"nothing":             {"", ""},
		"ordinary":            {greeting + "PONG\r\nMSG a.b 1 3\r\nabc\r\nMSG a 1 re.ply 0\r\n\r\nHMSG a 2 12 15\r\nNATS/1.0\r\n\r\nabc\r\n+OK\r\nPING\r\n-ERR 'Slow Consumer'\r\n", ""},
		"lower case and tabs": {"info\t{}\npong\nmsg \ta  1\t3\nab\n\r\nping\n", ""},
		"payload of lines":    {"MSG a 1 20\r\nMSG b 1 99999999999\r\n\r\nPING\r\n", "longer"},
		"payload with lines":  {"MSG a 1 21\r\nMSG b 1 99999999999\r\n\r\nPING\r\n", ""},
		"longest payload":     {fmt.Sprintf("MSG a 1 %d\r\n", maxWirePayload), ""},
		"leading zeros":       {"MSG a 1 " + repeat("0", 1000) + "3\r\nabc\r\nPING\r\n", ""},
		"longest line":        {"-ERR " + repeat("e", maxWireLine-6) + "\r\n", ""},
		"longest INFO":        {"INFO " + repeat("i", maxWireInfo-6) + "\r\n", ""},
		"many pings":          {repeat("PING\r\n", maxWirePings), ""},

		"size of 2^62":          {"MSG inbox 1 4611686018427387904\r\n", "size of 4611686018427387904"},
		"size of 2^63":          {"MSG inbox 1 9223372036854775808\r\n", "at most"},
		"size of 2^64+3":        {"MSG inbox 1 18446744073709551619\r\nabc\r\n", "at most"},
		"size of 30 digits":     {"MSG inbox 1 " + repeat("9", 30) + "\r\n", "at most"},
		"size of 64 GiB":        {"MSG inbox 1 68719476736\r\n", "at most"},
		"one byte more":         {fmt.Sprintf("MSG a 1 %d\r\n", maxWirePayload+1), "at most"},
		"negative size":         {"MSG inbox 1 -1\r\n", `size of "-1"`},
		"size in hexadecimal":   {"MSG inbox 1 0x10\r\n", "size of"},
		"header beyond size":    {"HMSG inbox 1 12 11\r\n", "header"},
		"header of 2^62":        {"HMSG inbox 1 4611686018427387904 4611686018427387904\r\n", "at most"},
		"negative header":       {"HMSG inbox 1 -5 11\r\n", "header"},
		"subscription of 2^64":  {"MSG inbox 18446744073709551617 1\r\n", "subscription"},
		"MSG without arguments": {"MSG \r\n", "arguments"},
		"MSG alone":             {"MSG\r\n", "arguments"},
		"MSG of two":            {"MSG a 1\r\n", "2 arguments"},
		"MSG of five":           {"MSG a 1 b c 1\r\n", "more than 4"},
		"HMSG of three":         {"HMSG a 1 1\r\n", "3 arguments"},
		"HMSG of six":           {"HMSG a 1 b c 1 1\r\n", "more than 5"},
		"error without words":   {"-ERR \r\nMSG a 1 99\r\n", "arguments"},
		"PING with arguments":   {"PING MSG\r\n", "arguments"},
		"return inside":         {"MSG a 1 5\r9\r\n", "carriage return"},
		"short payload":         {"MSG a 1 3\r\nab\r\nPING\r\n", "longer"},
		"long payload":          {"MSG a 1 3\r\nabcd\r\nPING\r\n", "longer"},
		"endless line":          {"MSG " + repeat("a", maxWireLine), "a line of MSG has more than"},
		"endless INFO":          {"INFO " + repeat(" ", maxWireInfo), "a line of INFO has more than"},
		"endless error":         {greeting + "-ERR '" + repeat("e", 1_000_000) + "'\r\n", "a line of -ERR has more than"},
		"addresses without end": {"INFO {\"connect_urls\":[" + repeat("\"127.0.0.1:4222\",", 1_000_000), "a line of INFO has more than"},
		"INFO again and again":  {repeat("INFO "+repeat("i", 100_000)+"\r\n", 42), "INFO and -ERR"},
		"PING again and again":  {repeat("PING\r\n", maxWirePings+1), "PING"},
		"a web server":          {"HTTP/1.1 400 Bad Request\r\n\r\n", `"HT" is not an operation`},
		"a shell":               {"SSH-2.0-OpenSSH_9.2\r\n", `"S" is not`},
		"zeros":                 {repeat("\x00", 1000), "not an operation"},
		"empty line":            {"\r\n", "not an operation"},
		"space before":          {" PING\r\n", "not an operation"},
		"half an operation":     {"MS\r\n", "not an operation"},
		"letter of another":     {"+O\u212a\r\n", "not an operation"},
		"longer word":           {"PINGPONG\r\n", `"PINGP" is not`},
	}
}

// TestFraming: what a server may say passes, what breaks the protocol is an error that says so, however it is cut.
func TestFraming(t *testing.T) {
	for name, c := range protocol() {
		t.Run(name, func(t *testing.T) {
			err := following(c.text, func(rest int) int { return rest })
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Fatalf("error %v, want %q", err, c.says)
			}
			if err != nil && (!errors.Is(err, ErrProtocol) || !errors.Is(err, ErrUnreachable) || len(err.Error()) > 200) {
				t.Errorf("error %v", err)
			}
			seed := chance.Seed(t)
			r := rand.New(rand.NewPCG(seed, 0))
			for _, most := range []int{1, 2, 7, 100, 5000} {
				cut := following(c.text, func(int) int { return 1 + r.IntN(most) })
				if text(cut) != text(err) {
					t.Errorf("in pieces of up to %d (seed %d): %v, in one %v", most, seed, cut, err)
				}
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// following follows s in pieces of size(bytes left).
func following(s string, size func(rest int) int) error {
	var f framing
	for p := []byte(s); len(p) > 0; {
		n := min(size(len(p)), len(p))
		if err := f.follow(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// wire is a connection to a server that has said everything already.
type wire struct {
	net.Conn
	said io.Reader
}

func (w *wire) Read(p []byte) (int, error)  { return w.said.Read(p) }
func (w *wire) Write(p []byte) (int, error) { return len(p), nil }

// guarded returns what gets through to a client whose first words are first.
func guarded(said io.Reader, first string) (got []byte, err error) {
	c := &guardedConn{Conn: &wire{said: said}, report: func(error) {}}
	if _, err := c.Write([]byte(first)); err != nil {
		return nil, err
	}
	got, err = io.ReadAll(c)
	return got, err
}

// TestGuardSeesNothingInTLS lets through what it cannot read, and only that.
func TestGuardSeesNothingInTLS(t *testing.T) {
	const said = "\x16\x03\x03 whatever MSG a 1 4611686018427387904\r\n"
	for first, opaque := range map[string]bool{"\x16\x03\x01": true, "GET / HTTP/1.1\r\n": true, "CONNECT {}\r\n": false, "": false} {
		got, err := guarded(strings.NewReader(said), first)
		if opaque && (err != nil || string(got) != said) || !opaque && !errors.Is(err, ErrProtocol) {
			t.Errorf("after %q: %q, %v", first, got, err)
		}
	}
}

// TestTLSBeginsAsTheGuardExpects: the first byte that Go's own TLS sends is what the guard takes for it.
func TestTLSBeginsAsTheGuardExpects(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	go tls.Client(a, &tls.Config{ServerName: "x"}).Handshake() //nolint:errcheck // it fails when the pipe is closed
	p := make([]byte, 1)
	if _, err := io.ReadFull(b, p); err != nil || modeOf(p) != modeOpaque {
		t.Errorf("%x, %v", p, err)
	}
	a.Close()
}

// FuzzFraming: however a server's bytes are cut, the verdict is the same, and what is let through is unchanged.
func FuzzFraming(f *testing.F) {
	for _, c := range protocol() {
		if len(c.text) < 5000 {
			f.Add([]byte(c.text), uint64(1))
		}
	}
	f.Fuzz(func(t *testing.T, said []byte, seed uint64) {
		whole := following(string(said), func(rest int) int { return rest })
		r := rand.New(rand.NewPCG(seed, 0))
		if cut := following(string(said), func(int) int { return 1 + r.IntN(9) }); text(cut) != text(whole) {
			t.Fatalf("cut: %v, in one: %v", cut, whole)
		}
		if whole != nil && len(whole.Error()) > 300 {
			t.Fatalf("error of %d bytes", len(whole.Error()))
		}
		got, err := guarded(bytes.NewReader(said), "CONNECT")
		if text(err) != text(whole) || !bytes.HasPrefix(said, got) || err == nil && len(got) != len(said) {
			t.Fatalf("%q, %v of %q, %v", got, err, said, whole)
		}
	})
}

// BenchmarkFraming follows messages of 128 KiB, as they come in a snapshot, in reads of 32 KiB.
func BenchmarkFraming(b *testing.B) {
	message := append([]byte("MSG _INBOX.abc.def 7 $JS.SNAPSHOT.ACK.S.x.131072.1 131072\r\n"), make([]byte, 131072)...)
	stream := bytes.Repeat(append(message, '\r', '\n'), 64)
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		var f framing
		for p := stream; len(p) > 0; p = p[min(len(p), 32<<10):] {
			if err := f.follow(p[:min(len(p), 32<<10)]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestGuardedConnHearsWhyItWasHungUpOn: a server that says why it does not want a client, and hangs up before that has spoken, is heard.
func TestGuardedConnHearsWhyItWasHungUpOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s-ERR 'maximum connections exceeded'\r\n", greeting)
			c.Close()
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 1000 { // until this end has heard that the other has hung up
		if _, err = conn.Write([]byte("PING\r\n")); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !brokenPipe(err) {
		t.Fatalf("writing to whom has hung up: %v", err)
	}
	g := &guardedConn{Conn: conn, report: func(error) {}}
	if _, err := g.Write([]byte("CONNECT {}\r\n")); err != nil {
		t.Errorf("before anything was read: %v", err)
	}
	said, err := io.ReadAll(g)
	if !strings.Contains(string(said), "maximum connections exceeded") {
		t.Errorf("it heard %q, and then %v", said, err)
	}
	if _, err := g.Write([]byte("PING\r\n")); err == nil {
		t.Error("afterwards a write that goes nowhere succeeds")
	}
}
