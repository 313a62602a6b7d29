package jetstream_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// impostor is a server of a test's own making, which may say what no real server lets anybody say: it has a stream S, and consumers
// that deliver whatever the test makes them.
type impostor struct {
	url         string
	first, last uint64
	begin       func(n int, d *delivery) // called with each consumer that is created, from 1 on

	mu        sync.Mutex
	consumers int
	deleted   []string // names of consumers
	answered  []string // subjects that were published to and are not of the API
}

// impersonate starts an impostor whose stream has these sequences.
func impersonate(t *testing.T, first, last uint64, begin func(n int, d *delivery)) *impostor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &impostor{url: "nats://" + l.Addr().String(), first: first, last: last, begin: begin}
	ended := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(&client{conn: conn, sids: map[string]string{}})
		}
	}()
	return s
}

// client is who is connected to an impostor.
type client struct {
	mu   sync.Mutex
	conn net.Conn
	sids map[string]string // by the subject that was subscribed to
}

// write says something, until the connection ends.
func (c *client) write(text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.conn, text)
	return err
}

// sid is the number of the subscription that takes a subject.
func (c *client) sid(subject string) string {
	if sid, found := c.sids[subject]; found {
		return sid
	}
	return c.sids[subject[:strings.LastIndexByte(subject, '.')+1]+"*"]
}

// message sends a message to whoever subscribed to inbox.
func (c *client) message(inbox, subject, reply, header, data string) error {
	sid := c.sid(inbox)
	if header == "" {
		return c.write(fmt.Sprintf("MSG %s %s %s %d\r\n%s\r\n", subject, sid, reply, len(data), data))
	}
	return c.write(fmt.Sprintf("HMSG %s %s %s %d %d\r\n%s%s\r\n", subject, sid, reply, len(header), len(header)+len(data), header, data))
}

func (s *impostor) serve(c *client) {
	defer c.conn.Close()
	if c.write("INFO {\"server_id\":\"X\",\"max_payload\":1048576,\"headers\":true}\r\n") != nil {
		return
	}
	for r := bufio.NewReader(c.conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		word := strings.Fields(line)
		switch word[0] {
		case "PING":
			err = c.write("PONG\r\n")
		case "SUB":
			c.mu.Lock()
			c.sids[word[1]] = word[len(word)-1]
			c.mu.Unlock()
		case "PUB", "HPUB":
			size, convErr := strconv.Atoi(word[len(word)-1])
			if convErr != nil {
				return
			}
			body := make([]byte, size+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return
			}
			err = s.published(c, word[1], word[2], body[:size])
		}
		if err != nil {
			return
		}
	}
}

func (s *impostor) published(c *client, subject, reply string, body []byte) error {
	endpoint, isAPI := strings.CutPrefix(subject, "$JS.API.")
	name := endpoint[strings.LastIndexByte(endpoint, '.')+1:]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !isAPI:
		s.answered = append(s.answered, subject)
	case strings.HasPrefix(endpoint, "STREAM.INFO."):
		return c.message(reply, reply, "", "", fmt.Sprintf(`{"config":{"name":"S","retention":"limits"},"state":{"messages":%d,"first_seq":%d,"last_seq":%d}}`,
			s.last-s.first+1, s.first, s.last))
	case strings.HasPrefix(endpoint, "CONSUMER.DELETE."):
		s.deleted = append(s.deleted, name)
		return c.message(reply, reply, "", "", `{"success":true}`)
	case strings.HasPrefix(endpoint, "CONSUMER.CREATE."):
		var request struct {
			Config struct {
				Deliver string `json:"deliver_subject"`
			} `json:"config"`
		}
		if err := json.Unmarshal(body, &request); err != nil {
			return err
		}
		if err := c.message(reply, reply, "", "", fmt.Sprintf(`{"name":%q}`, name)); err != nil {
			return err
		}
		s.consumers++
		s.begin(s.consumers, &delivery{client: c, inbox: request.Config.Deliver, name: name})
	}
	return nil
}

// delivery is what an impostor's consumer delivers.
type delivery struct {
	*client
	inbox  string
	name   string
	number int
}

// next delivers a message with that sequence as the next one.
func (d *delivery) next(seq uint64) {
	d.number++
	d.nth(d.number, seq)
}

// nth delivers a message with that sequence, and says that it is the nth.
func (d *delivery) nth(number int, seq uint64) {
	d.as(fmt.Sprintf("$JS.ACK.S.%s.1.%d.%d.1700000000000000000.5", d.name, seq, number), "")
}

// as delivers a message with that reply subject and header block.
func (d *delivery) as(reply, header string) {
	_ = d.message(d.inbox, "s.x", reply, header, "payload")
}

// control sends an empty message about the consumer itself.
func (d *delivery) control(reply string, header ...string) error {
	block := ""
	if len(header) > 0 {
		block = strings.Join(header, "\r\n") + "\r\n\r\n"
	}
	return d.message(d.inbox, d.inbox, reply, block, "")
}

// beat sends an idle heartbeat.
func (d *delivery) beat(number, seq string, more ...string) error {
	return d.control("", append([]string{"NATS/1.0 100 Idle Heartbeat", "Nats-Last-Consumer: " + number, "Nats-Last-Stream: " + seq}, more...)...)
}
