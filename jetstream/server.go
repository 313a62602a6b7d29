package jetstream

import (
	"net"
	"strconv"
	"strings"
)

// ServerInfo describes the server that a Conn is connected to at the moment.
type ServerInfo struct {
	Name       string // empty if it was not given one: a server without a name makes up another at each start
	Version    string // "2.15.2"
	Cluster    string // empty on a lone server
	Host       string // as it was connected to, without port
	URL        string // as it was connected to, without credentials
	MaxPayload int64  // bytes that a message may have
}

// Server describes the server that c is connected to. While there is none, the fields are empty.
func (c *Conn) Server() ServerInfo {
	s := ServerInfo{
		Name:       c.nc.ConnectedServerName(),
		Version:    c.nc.ConnectedServerVersion(),
		Cluster:    c.nc.ConnectedClusterName(),
		URL:        withoutUserInfo(c.nc.ConnectedUrlRedacted()),
		MaxPayload: c.nc.MaxPayload(),
	}
	if s.Name == c.nc.ConnectedServerId() {
		s.Name = ""
	}
	_, host, _ := strings.Cut(s.URL, "://")
	if s.Host, _, _ = net.SplitHostPort(host); s.Host == "" {
		s.Host = host
	}
	return s
}

// AtLeast reports whether the server's version is major.minor or later. Pre-releases of a version count as that version.
func (s ServerInfo) AtLeast(major, minor int) bool {
	v, ok := s.version()
	return ok && (v[0] > major || v[0] == major && v[1] >= minor)
}

// FreezesForSnapshots reports whether the server removes no message of a stream while it takes a snapshot of it. It forgets those that were to be
// removed: replicas of the stream on other servers do remove them, and what consumers acknowledge stays in work queues (nats-server #7655, repaired
// in 2.11.12, 2.12.3 and 2.14.0). Of a server whose version cannot be read it is assumed.
func (s ServerInfo) FreezesForSnapshots() bool {
	v, ok := s.version()
	switch {
	case !ok || v[0] < 2 || v[0] == 2 && v[1] < 11:
		return true
	case v[0] == 2 && v[1] == 11:
		return v[2] < 12
	case v[0] == 2 && v[1] == 12:
		return v[2] < 3
	}
	return false
}

// version is the server's version, in which the patch may be missing.
func (s ServerInfo) version() (v [3]int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(s.Version, "v"), ".", 3)
	for i, part := range parts {
		n, err := strconv.Atoi(leadingDigits(part))
		if err != nil && i < 2 {
			return v, false
		}
		v[i] = n
	}
	return v, len(parts) >= 2
}

func leadingDigits(s string) string {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		return s[:i]
	}
	return s
}
