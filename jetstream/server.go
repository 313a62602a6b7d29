package jetstream

import (
	"net"
	"strings"
)

// ServerInfo describes the server that a Conn is connected to at the moment.
type ServerInfo struct {
	ID         string // that it made up when it was started
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
		ID:         c.nc.ConnectedServerId(),
		Name:       c.nc.ConnectedServerName(),
		Version:    c.nc.ConnectedServerVersion(),
		Cluster:    c.nc.ConnectedClusterName(),
		URL:        withoutUserInfo(c.nc.ConnectedUrlRedacted()),
		MaxPayload: c.nc.MaxPayload(),
	}
	if s.Name == s.ID {
		s.Name = ""
	}
	_, host, _ := strings.Cut(s.URL, "://")
	if s.Host, _, _ = net.SplitHostPort(host); s.Host == "" {
		s.Host = host
	}
	return s
}
