package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Limits of what a server may say on the wire. nats.go has none: it takes memory for a message as large as the server
// announces, and keeps whatever has no end until it ends.
const (
	maxWirePayload      = 128 << 20   // of a message; servers can be set to let clients send 64 MiB
	maxWireLine         = 64 << 10    // of a line that is not INFO: subjects, an error
	maxWireInfo         = 256 << 10   // of INFO: the addresses of a cluster's servers
	maxWireTold         = 4 << 20     // of all INFO and -ERR of a connection: nats.go keeps each address that it ever heard
	maxWireSubscription = 100_000_000 // its number; the client counts them
	maxWirePings        = 1 << 16     // within an hour: each is answered, also where nobody reads the answers
)

// ErrProtocol is why a connection ended whose server does not speak as NATS servers do.
var ErrProtocol error = &kind{"the server does not keep to the NATS protocol", ErrUnreachable}

// violation returns an ErrProtocol that says what the server did.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// framing follows what a server sends from line to line, over the payloads of messages, and holds it to the limits. It
// is stricter than nats.go's parser: whatever it lets through, that parser takes apart in the same places.
type framing struct {
	skip  int       // bytes of headers and payload that are still to come
	keep  headers   // what of them is kept
	tail  int       // bytes of the line end behind a payload that are still to come
	line  []byte    // the beginning of a line whose end is still to come
	told  int       // bytes of INFO and -ERR
	pings int       // since
	since time.Time // at most an hour ago
	taps  *taps     // nil: no headers are kept
	err   error     // final
}

// headers is the header block of a message that a tap keeps, while it comes.
type headers struct {
	tap   *tap // nil: none is kept
	reply string
	block []byte
	rest  int // bytes still to come
}

// take keeps what of p, the next bytes of a message, belongs to the header block.
func (h *headers) take(p []byte) {
	if h.tap == nil {
		return
	}
	n := min(h.rest, len(p))
	h.block = append(h.block, p[:n]...)
	if h.rest -= n; h.rest == 0 {
		h.tap.push(h.reply, h.block)
		*h = headers{}
	}
}

// follow takes the next bytes. How they are cut into calls makes no difference.
func (f *framing) follow(p []byte) error {
	for len(p) > 0 && f.err == nil {
		switch {
		case f.skip > 0:
			n := min(f.skip, len(p))
			f.skip -= n
			f.keep.take(p[:n])
			p = p[n:]
		case f.tail > 0:
			if p[0] != "\n\r"[f.tail-1] {
				f.err = violation("a message is longer than announced")
			}
			f.tail--
			p = p[1:]
		default:
			p = f.control(p)
		}
	}
	return f.err
}

// control takes a line, or the part of it that is there, off p.
func (f *framing) control(p []byte) (rest []byte) {
	i := bytes.IndexByte(p, '\n')
	whole := i >= 0
	if !whole {
		i = len(p)
	}
	line := p[:i]
	if len(f.line) > 0 || !whole {
		f.line = append(f.line, line[:min(len(line), maxWireInfo+1)]...)
		line = f.line
	}
	op, err := operation(line, whole)
	if err == nil {
		err = f.tooLong(op, len(line))
	}
	if err == nil && whole {
		err = f.obey(op, line)
		f.line = f.line[:0]
		i++
	}
	f.err = err
	return p[i:]
}

// operations are what a server says; some need arguments, and the others have none.
var operations = [...]struct {
	name      string
	arguments bool
}{{"MSG", true}, {"HMSG", true}, {"PING", false}, {"PONG", false}, {"+OK", false}, {"INFO", true}, {"-ERR", true}}

// operation returns what the line asks for, or "" while too little of it is there to tell.
func operation(line []byte, whole bool) (op string, err error) {
	end := bytes.IndexAny(line, " \t\r")
	word := line
	if end >= 0 {
		word = line[:end]
	}
	for _, o := range operations {
		switch {
		case end < 0 && !whole && len(word) < len(o.name) && sameWord(word, o.name[:len(word)]):
			return "", nil
		case sameWord(word, o.name):
			return o.name, nil
		}
	}
	return "", violation("%q is not an operation of it", firstStrange(line))
}

// sameWord compares without regard to the case of ASCII letters; others than those fold to none here.
func sameWord(word []byte, name string) bool {
	if len(word) != len(name) {
		return false
	}
	for i, b := range word {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		if b != name[i] {
			return false
		}
	}
	return true
}

// firstStrange returns line up to the first byte with which no operation goes on, so that it does not depend on how much
// more is there.
func firstStrange(line []byte) []byte {
	for n := range min(len(line), 5) {
		known := false
		for _, o := range operations {
			known = known || n < len(o.name) && sameWord(line[:n+1], o.name[:n+1])
		}
		if !known {
			return line[:n+1]
		}
	}
	return line[:min(len(line), 5)]
}

func (f *framing) tooLong(op string, n int) error {
	limit := maxWireLine
	if op == "INFO" {
		limit = maxWireInfo
	}
	if n > limit {
		return violation("a line of %s has more than %d bytes", op, limit)
	}
	return nil
}

// obey does what a whole line, without its end, asks for.
func (f *framing) obey(op string, line []byte) error {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if bytes.IndexByte(line, '\r') >= 0 {
		return violation("a line of %s has a carriage return in it", op)
	}
	arguments := bytes.Trim(line[len(op):], " \t")
	if (len(arguments) > 0) != needsArguments(op) {
		return violation("a line of %s has %d bytes of arguments", op, len(arguments))
	}
	switch op {
	case "MSG", "HMSG":
		return f.message(op, arguments)
	case "INFO", "-ERR":
		if f.told += len(line); f.told > maxWireTold {
			return violation("INFO and -ERR have more than %d bytes", maxWireTold)
		}
	case "PING":
		if time.Since(f.since) > time.Hour {
			f.since, f.pings = time.Now(), 0
		}
		if f.pings++; f.pings > maxWirePings {
			return violation("more than %d PING within an hour", maxWirePings)
		}
	}
	return nil
}

func needsArguments(op string) bool {
	for _, o := range operations {
		if o.name == op {
			return o.arguments
		}
	}
	return false
}

// message reads "subject sid [reply] [header size] size" and expects that much.
func (f *framing) message(op string, arguments []byte) error {
	var field [5][]byte
	n, most := 0, 4
	if op == "HMSG" {
		most = 5
	}
	for rest := arguments; len(rest) > 0; n++ {
		if n == most {
			return violation("%s has more than %d arguments", op, most)
		}
		end := bytes.IndexAny(rest, " \t")
		if end < 0 {
			end = len(rest)
		}
		field[n], rest = rest[:end], bytes.TrimLeft(rest[end:], " \t")
	}
	if n < most-1 {
		return violation("%s has %d arguments", op, n)
	}
	size, err := number(op, field[n-1], maxWirePayload)
	if err != nil {
		return err
	}
	header := 0
	if op == "HMSG" {
		if header, err = number("the header of HMSG", field[n-2], size); err != nil {
			return err
		}
	}
	if _, err := number("the subscription of "+op, field[1], maxWireSubscription); err != nil {
		return err
	}
	if header > 0 && n == most {
		f.tap(field[2], header)
	}
	f.skip, f.tail = size, 2
	return nil
}

// tap sees to it that the header block of the message with this reply subject is kept, if somebody wants it.
func (f *framing) tap(reply []byte, size int) {
	if tap := f.taps.of(reply); tap != nil {
		f.keep = headers{tap: tap, reply: string(reply), block: make([]byte, 0, min(size, usualHeader)), rest: size}
	}
}

// usualHeader is for how many bytes of headers memory is taken before they come.
const usualHeader = 4 << 10

// number reads digits.
func number(of string, digits []byte, most int) (n int, err error) {
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, violation("%s has a size of %.24q", of, digits)
		}
		if n = n*10 + int(d-'0'); n > most {
			return 0, violation("%s has a size of %.24s, at most %d is accepted", of, digits, most)
		}
	}
	return n, nil
}

// guardedConn is a connection that is cut when its server breaks the protocol or passes a limit. Inside of TLS and of
// websockets it sees nothing, and lets everything through.
type guardedConn struct {
	net.Conn
	framing  framing
	mode     atomic.Int32
	answered atomic.Bool // the server has said something to what was sent
	report   func(error)
}

// Modes of a guardedConn, which the first bytes that the client sends decide.
const (
	modeGreeting int32 = iota // nothing was sent yet
	modePlain
	modeOpaque
)

// Write does not tell that a server has hung up which has answered nothing yet: it may have said why, and who reads hears that, or that it hung up.
func (c *guardedConn) Write(p []byte) (int, error) {
	if len(p) > 0 && c.mode.Load() == modeGreeting {
		c.mode.Store(modeOf(p))
	}
	n, err := c.Conn.Write(p)
	if err != nil && !c.answered.Load() && brokenPipe(err) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return len(p), nil
	}
	return n, err
}

// modeOf recognises a TLS record of a handshake and the request for a websocket.
func modeOf(first []byte) int32 {
	if first[0] == 0x16 || bytes.HasPrefix(first, []byte("GET ")) {
		return modeOpaque
	}
	return modePlain
}

func (c *guardedConn) Read(p []byte) (int, error) {
	if c.framing.err != nil {
		return 0, c.framing.err
	}
	n, err := c.Conn.Read(p)
	if n > 0 && c.mode.Load() != modeGreeting {
		c.answered.Store(true)
	}
	if c.mode.Load() == modeOpaque || n == 0 {
		return n, err
	}
	if broken := c.framing.follow(p[:n]); broken != nil {
		c.report(broken)
		return 0, broken
	}
	return n, err
}
