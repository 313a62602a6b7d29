package location

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path"
	"strconv"
	"strings"

	"jetsam/internal/child"
	"jetsam/storage"
	"jetsam/storage/sftp"
)

// sftpServers are directories of other machines: sftp:user@host:path, or
// sftp://user@host:port/path, in which a second slash begins an absolute path.
var sftpServers = scheme{
	parse: func(address string) (string, error) {
		if _, err := parseSFTP(address); err != nil {
			return "", invalid("the repository's location, sftp:user@host:path or sftp://user@host:port/path: %v", err)
		}
		return address, nil
	},
	show: func(address string) string { return "sftp:" + address },
	open: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		return openSFTP(ctx, address, o, (*sftp.Backend).Open)
	},
	create: func(ctx context.Context, address string, o *settings) (storage.Backend, error) {
		return openSFTP(ctx, address, o, (*sftp.Backend).Create)
	},
	options: []string{"command", "args"},
}

// machine is where an SFTP server is, and the directory there.
type machine struct {
	user, host, port string // user and port may be empty
	dir              string
}

func parseSFTP(address string) (machine, error) {
	var m machine
	var err error
	if strings.HasPrefix(address, "//") {
		m, err = parseSFTPURL(address)
	} else {
		m, err = parseSCP(address)
	}
	switch {
	case err != nil:
		return m, err
	case m.host == "":
		return m, errors.New("it names no host")
	case strings.HasPrefix(m.host, "-") || strings.HasPrefix(m.user, "-"):
		return m, errors.New("neither user nor host may begin with a minus sign")
	case m.dir == "":
		return m, errors.New("it names no directory")
	case m.dir[0] == '~':
		return m, errors.New("a directory in one's home is written without ~: paths that do not begin with a slash begin there")
	}
	m.dir = path.Clean(m.dir)
	return m, nil
}

// parseSFTPURL reads //user@host:port/path. Its errors do not quote it.
func parseSFTPURL(address string) (machine, error) {
	u, err := url.Parse("sftp:" + address)
	if err != nil {
		return machine{}, errors.New("that is no URL")
	}
	if _, ok := u.User.Password(); ok {
		return machine{}, errors.New("it has a password in it, which ssh does not take from there; use a key")
	}
	if u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return machine{}, errors.New("the URL ends in a query or fragment; without sftp:// the path may hold any characters")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return machine{}, errors.New("the port is out of range")
		}
	}
	return machine{u.User.Username(), u.Hostname(), u.Port(), strings.TrimPrefix(u.Path, "/")}, nil
}

// parseSCP reads user@host:path, with brackets around an address of IPv6.
func parseSCP(address string) (machine, error) {
	end := strings.Index(address, ":")
	if open := strings.Index(address, "["); open >= 0 && open < end {
		if bracket := strings.Index(address, "]:"); bracket >= 0 {
			end = bracket + 1
		}
	}
	if end < 0 {
		return machine{}, errors.New("it names no directory")
	}
	host, dir := address[:end], address[end+1:]
	user := ""
	if at := strings.LastIndex(host, "@"); at >= 0 {
		user, host = host[:at], host[at+1:]
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return machine{user: user, host: host, dir: dir}, nil
}

// ssh is the command that connects to the machine. The user's configuration, keys and
// agent do the rest.
func (m machine) ssh(args []string) []string {
	line := append([]string{"ssh"}, args...)
	if m.port != "" {
		line = append(line, "-p", m.port)
	}
	if m.user != "" {
		line = append(line, "-l", m.user)
	}
	return append(line, "-s", "--", m.host, "sftp")
}

func openSFTP(ctx context.Context, address string, o *settings, begin func(*sftp.Backend, context.Context) error) (storage.Backend, error) {
	m, err := parseSFTP(address)
	if err != nil {
		return nil, err
	}
	line, err := sftpCommand(m, o)
	if err != nil {
		return nil, err
	}
	be := sftp.New(m.dir, "sftp:"+address, sftp.Options{
		Dial: func() (sftp.Conn, error) { return dialSFTP(line, o.warn) },
		Warn: o.warn,
	})
	if err := begin(be, ctx); err != nil {
		be.Close()
		return nil, err
	}
	return be, nil
}

// sftpCommand is the command that is run.
func sftpCommand(m machine, o *settings) ([]string, error) {
	command, err := child.Words(o.get("command"))
	if err != nil {
		return nil, invalid("option sftp.command: %v", err) // and not what it is: a password may stand in it
	}
	args, err := child.Words(o.get("args"))
	switch {
	case err != nil:
		return nil, invalid("option sftp.args: %v", err)
	case len(command) == 0:
		return m.ssh(args), nil
	case len(args) > 0:
		return nil, invalid("both options sftp.command and sftp.args; the first is the whole command")
	}
	return command, nil
}

func dialSFTP(line []string, warn func(error)) (sftp.Conn, error) {
	p, err := child.Start(line[0], line[1:], func(said string) { warn(fmt.Errorf("%s: %s", line[0], said)) })
	if errors.Is(err, exec.ErrNotFound) {
		return nil, storage.Permanent(fmt.Errorf("%s is not installed; it comes with OpenSSH's client", line[0]))
	}
	if err != nil {
		return nil, storage.Permanent(err)
	}
	return p, nil
}
