// Package resttest starts real rest-servers, for tests.
package resttest

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"jetsam/internal/testserver"
)

// Program returns the path of rest-server. Where it is not there, the test fails in
// CI and is skipped elsewhere.
func Program(t testing.TB) string {
	t.Helper()
	dir := testserver.Dir(t)
	found, err := filepath.Glob(filepath.Join(dir, "rest-server-*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		return found[len(found)-1]
	}
	testserver.Unable(t, "there is no rest-server in %s: `make servers` gets it", dir)
	return ""
}

// Server is a running rest-server.
type Server struct {
	Address string // host and port
	Dir     string // where it keeps files
	program string
	args    []string
	cmd     *exec.Cmd
}

// Start starts a server that ends with the test. It asks for no password unless the
// arguments say otherwise.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{Address: testserver.FreeAddress(t), Dir: t.TempDir(), program: Program(t), args: args}
	t.Cleanup(s.Kill)
	s.Restart(t)
	return s
}

// URL is where a repository is on the server.
func (s *Server) URL() string { return "http://" + s.Address + "/" }

// Restart starts the server again where it was, with other arguments if any are given.
func (s *Server) Restart(t testing.TB, args ...string) {
	t.Helper()
	s.Kill()
	if len(args) > 0 {
		s.args = args
	}
	all := []string{"--listen", s.Address, "--path", s.Dir}
	if !slices.Contains(s.args, "--htpasswd-file") {
		all = append(all, "--no-auth")
	}
	s.cmd = exec.Command(s.program, append(all, s.args...)...)
	testserver.Start(t, s.cmd, s.Address)
}

// Kill ends the server as a crash does.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Running says whether the server was started and not killed.
func (s *Server) Running() bool { return s.cmd != nil }
