// Package rclone keeps a repository's files wherever rclone can.
//
// It starts `rclone serve restic --stdio`, and speaks restic's REST protocol to it
// over its standard input and output, as HTTP/2: see package rest. rclone ends with
// the Backend. If it ends before, the next request starts it again.
//
// rclone overwrites files that exist. So Save looks first, which keeps a process from
// overwriting what is there, but not two of them from saving the same file at the same
// moment. All files but the config are named by their content. Of two that make a
// repository at the same place and moment, the one that was first may find that its
// config is the other's.
package rclone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"jetsam/internal/child"
	"jetsam/storage"
	"jetsam/storage/rest"
)

// What is run unless the user says otherwise. Where a remote keeps deleted files, on
// B2, they are deleted for good.
const (
	Program = "rclone"
	Args    = "serve restic --stdio --b2-hard-delete"
)

// idle is how long rclone may take for something without a byte: it may have to send
// all of a file on before it answers.
const idle = 5 * time.Minute

// Options say what to run. The zero value serves.
type Options struct {
	Program string   // instead of Program
	Args    []string // instead of Args; the remote is added
	Warn    func(error)
}

// Open returns a Backend for a remote and a path on it, such as "b2:bucket/path", to
// which it does not speak yet. The location is what to call it for people.
func Open(remote, location string, o Options) *rest.Backend {
	t := &transport{remote: remote, shown: strings.TrimPrefix(location, "rclone:"), o: o}
	t.Transport = &http.Transport{
		DialContext: t.dial,
		Protocols:   new(http.Protocols),
		// One that does not even answer this is ended, so that another can take its place.
		HTTP2: &http.HTTP2Config{SendPingTimeout: time.Minute, PingTimeout: time.Minute},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	base := &url.URL{Scheme: "http", Host: "rclone", Path: "/"}
	return rest.Open(base, location, rest.Options{Transport: t, Idle: idle, Overwrites: true, ListsAll: true, NoClock: true})
}

// transport carries requests to an rclone, which it starts.
type transport struct {
	*http.Transport
	remote string
	shown  string // what the remote is called for people
	o      Options

	mu      sync.Mutex
	running []*conn
}

// dial starts an rclone. HTTP/2 needs one connection only, and another when that has ended.
func (t *transport) dial(context.Context, string, string) (net.Conn, error) {
	program, args := t.o.Program, t.o.Args
	if program == "" {
		program = Program
	}
	if args == nil {
		args = strings.Fields(Args)
	}
	p, err := child.Start(program, append(append([]string(nil), args...), t.remote), t.hear)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, storage.Permanent(fmt.Errorf("%s is not installed: apt-get install rclone, brew install rclone, or see https://rclone.org/install; if it is elsewhere, -o rclone.program=PATH", program))
	}
	if err != nil {
		return nil, storage.Permanent(err)
	}
	c := &conn{Process: p}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = append(t.running, c)
	return c, nil
}

func (t *transport) hear(line string) {
	if t.o.Warn != nil {
		t.o.Warn(fmt.Errorf("rclone: %s", t.hide(line)))
	}
}

// hide returns what rclone said with the remote as it is called for people: the settings in it may be keys, and rclone
// repeats them, as they are or quoted. The text may break off in the middle of them, as long lines do.
func (t *transport) hide(text string) string {
	name, settings, found := strings.Cut(t.remote, ",")
	quoted := strconv.Quote(settings)
	var out strings.Builder
	for found {
		before, after, is := strings.Cut(text, name+",")
		if !is {
			break
		}
		out.WriteString(before + t.shown)
		text = after[max(common(after, settings), common(after, quoted[1:len(quoted)-1])):]
	}
	return out.String() + text
}

// common is how many bytes two texts begin with alike.
func common(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// RoundTrip adds to the failure of a request what the rclone said that it went to.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(r)
	if err == nil || r.Context().Err() != nil {
		return resp, err
	}
	switch ended := t.lastWords(); {
	case ended == nil:
		return resp, err
	case strings.Contains(ended.Error(), unknownRemote):
		return resp, storage.Permanent(fmt.Errorf("rclone has no such remote, `rclone listremotes` names those that it has (%w)", ended))
	default:
		return resp, fmt.Errorf("%w (%w)", err, ended)
	}
}

// unknownRemote is what rclone says of a remote that is not in its configuration.
const unknownRemote = "didn't find section in config file"

// lastWords is how the rclone that was started last ended, if it has.
func (t *transport) lastWords() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.running) == 0 {
		return nil
	}
	if err := t.running[len(t.running)-1].Err(); err != nil {
		return errors.New(t.hide(err.Error()))
	}
	return nil
}

// CloseIdleConnections ends all that were started: it is called at the end.
func (t *transport) CloseIdleConnections() {
	t.Transport.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.running {
		_ = c.Close()
	}
	t.running = nil
}

// conn is the connection to an rclone.
type conn struct{ *child.Process }

// Close implements net.Conn. It may be called again.
func (c *conn) Close() error { return c.Process.Close() }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return address{} }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return address{} }

// address is that of a program that is spoken to over pipes.
type address struct{}

func (address) Network() string { return "stdio" }
func (address) String() string  { return "rclone" }
