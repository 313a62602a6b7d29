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
	v := strings.SplitN(strings.TrimPrefix(s.Version, "v"), ".", 3)
	if len(v) < 2 {
		return false
	}
	gotMajor, err := strconv.Atoi(v[0])
	if err != nil {
		return false
	}
	gotMinor, err := strconv.Atoi(leadingDigits(v[1]))
	if err != nil {
		return false
	}
	return gotMajor > major || gotMajor == major && gotMinor >= minor
}

func leadingDigits(s string) string {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		return s[:i]
	}
	return s
}
