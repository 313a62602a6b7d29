package tests

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// link is a way to a server on which things happen: it reads along what the server sends, and so knows which chunk of which snapshot passes.
// The zero value of each field lets everything pass. They are set before anybody connects.
type link struct {
	// chunk is called with each chunk of a snapshot before it passes: its stream, and its index from 1. Index 0 is the end.
	// Nothing more passes on that connection until it returns.
	chunk func(stream string, index int)
	// meddle is called with each chunk of a snapshot, by its index and as it is on the wire. It returns what passes in its place, and whether the
	// connection goes on then.
	meddle func(index int, message []byte) (instead []byte, goesOn bool)
	// answer changes the body of a message from the server that no chunk is.
	answer func(body []byte) []byte
	// pass is called with each message that a client sends, and says whether it goes on to the server.
	pass  func(subject string, body []byte) bool
	delay time.Duration // that everything takes, in each direction
	rate  int           // bytes a second that come from the server
	up    int           // and that go there
	reset int64         // a connection is reset after so many bytes from the server

	// delivery is called as chunk is, with each message that a consumer delivers: how many there were by then.
	delivery  func(n int)
	delivered atomic.Int64
	bytes     atomic.Int64 // that came from the server

	target string
	l      net.Listener
	down   atomic.Bool // connections are refused

	mu    sync.Mutex
	pairs map[net.Conn]net.Conn
}

// open opens a way to the server at that address. It ends with the test.
func (k *link) open(t testing.TB, address string) *link {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	k.target, k.pairs = u.Host, map[net.Conn]net.Conn{}
	k.l, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		k.l.Close()
		k.cut()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := k.l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { k.serve(client) })
		}
	})
	return k
}

// url is where clients connect to.
func (k *link) url() string { return "nats://" + k.l.Addr().String() }

// cut resets all connections.
func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for client, server := range k.pairs {
		resetConn(client)
		resetConn(server)
	}
}

func resetConn(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func (k *link) serve(client net.Conn) {
	defer client.Close()
	if k.down.Load() {
		return
	}
	server, err := net.Dial("tcp", k.target)
	if err != nil {
		return
	}
	defer server.Close()
	k.mu.Lock()
	k.pairs[client] = server
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.pairs, client)
		k.mu.Unlock()
	}()
	up := k.lane(server, k.up, 0)
	down := k.lane(client, k.rate, k.reset)
	var wg sync.WaitGroup
	wg.Go(func() {
		k.forward(up, client)
		up.Close()
	})
	k.follow(down, server)
	down.Close()
	client.Close()
	wg.Wait()
}

// follow passes on what the server sends, message by message.
func (k *link) follow(w io.Writer, server net.Conn) {
	in := bufio.NewReaderSize(server, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		if body, reply := messageLine(line); body >= 0 {
			payload := make([]byte, body+2)
			if _, err := io.ReadFull(in, payload); err != nil {
				return
			}
			k.seen(reply, payload)
			if k.answer != nil && bytes.HasPrefix(line, []byte("MSG ")) && reply == "" {
				line, payload = answered(line, k.answer(payload[:body]))
			}
			line = append(line, payload...)
		}
		goesOn := true
		if k.meddle != nil && chunkIndex(line) > 0 {
			line, goesOn = k.meddle(chunkIndex(line), line)
		}
		k.bytes.Add(int64(len(line)))
		if _, err := w.Write(line); err != nil || !goesOn {
			return
		}
	}
}

// answered is a message on the wire with another body.
func answered(line, body []byte) (newLine, payload []byte) {
	args := bytes.Fields(line)
	args[len(args)-1] = strconv.AppendInt(nil, int64(len(body)), 10)
	return append(bytes.Join(args, []byte(" ")), "\r\n"...), append(body, "\r\n"...)
}

// chunkIndex is the index of the chunk of a snapshot that a message on the wire is; 0 if it is none.
func chunkIndex(message []byte) int {
	line, _, _ := bytes.Cut(message, []byte("\r\n"))
	if _, reply := messageLine(line); strings.HasPrefix(reply, "$JS.SNAPSHOT.ACK.") {
		index, _ := strconv.Atoi(reply[strings.LastIndexByte(reply, '.')+1:])
		return index
	}
	return 0
}

// messageLine reads the line before a message: the size of its body, -1 if it is another line, and its reply subject.
func messageLine(line []byte) (body int, reply string) {
	args := strings.Fields(string(line))
	fixed := map[string]int{"MSG": 4, "HMSG": 5}
	if len(args) == 0 || fixed[args[0]] == 0 {
		return -1, ""
	}
	body, err := strconv.Atoi(args[len(args)-1])
	if err != nil {
		return -1, ""
	}
	if len(args) > fixed[args[0]] {
		reply = args[3]
	}
	return body, reply
}

// seen tells of a chunk, or of the end of a snapshot that had chunks.
func (k *link) seen(reply string, payload []byte) {
	if k.delivery != nil && strings.HasPrefix(reply, "$JS.ACK.") {
		k.delivery(int(k.delivered.Add(1)))
	}
	if k.chunk == nil {
		return
	}
	if rest, ok := strings.CutPrefix(reply, "$JS.SNAPSHOT.ACK."); ok {
		tokens := strings.Split(rest, ".")
		index, _ := strconv.Atoi(tokens[len(tokens)-1])
		k.chunk(tokens[0], index)
	}
	if reply == "" && bytes.HasPrefix(payload, []byte("NATS/1.0 204")) {
		k.chunk("", 0)
	}
}

// lane is one direction of a connection: what is written to it arrives at to later, slower, or not at all. Close waits until all has arrived.
type lane struct {
	delay   time.Duration
	parcels chan parcel
	done    chan struct{}
}

type parcel struct {
	due  time.Time
	data []byte
}

func (k *link) lane(to net.Conn, rate int, reset int64) *lane {
	l := &lane{k.delay, make(chan parcel, 256), make(chan struct{})}
	go func() {
		defer close(l.done)
		broken := false
		var free time.Time
		for p := range l.parcels {
			time.Sleep(time.Until(p.due))
			if !broken && deliver(to, p.data, rate, &free, &reset) != nil {
				broken = true
				to.Close() // so that the other direction ends too
			}
		}
		to.Close()
	}()
	return l
}

// deliver writes p at a rate, and resets the connection once that many bytes were written. A line that is busy until free makes up for having slept
// too long.
func deliver(to net.Conn, p []byte, rate int, free *time.Time, reset *int64) error {
	const step, idle = 16 << 10, 100 * time.Millisecond
	for len(p) > 0 {
		n, err := to.Write(p[:min(step, len(p))])
		if err != nil {
			return err
		}
		p = p[n:]
		if rate > 0 {
			if time.Since(*free) > idle {
				*free = time.Now()
			}
			*free = free.Add(time.Duration(n) * time.Second / time.Duration(rate))
			time.Sleep(time.Until(*free))
		}
		if *reset > 0 {
			if *reset -= int64(n); *reset <= 0 {
				resetConn(to)
				return net.ErrClosed
			}
		}
	}
	return nil
}

func (l *lane) Write(p []byte) (int, error) {
	select {
	case l.parcels <- parcel{time.Now().Add(l.delay), bytes.Clone(p)}:
		return len(p), nil
	case <-l.done:
		return 0, net.ErrClosed
	}
}

func (l *lane) Close() { close(l.parcels); <-l.done }
