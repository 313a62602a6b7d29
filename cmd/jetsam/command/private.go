package command

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"jetsam/jetstream"
)

// othersMay are the permissions that a file with a secret in it gives to nobody but its owner.
const othersMay fs.FileMode = 0o077

// warnOfMode warns if others than its owner may use a file that holds a secret. It is a warning and no more: where a system
// such as Kubernetes puts the file, its mode is not for the user to choose.
func (p *program) warnOfMode(what, name string, info fs.FileInfo) {
	if runtime.GOOS == "windows" || !info.Mode().IsRegular() || isCredential(name) {
		return
	}
	if mode := info.Mode().Perm(); mode&othersMay != 0 {
		p.out.warn("%s %s can be used by others than its owner (mode %04o); chmod 600 it", what, name, mode)
	}
}

// warnOfCredentials is warnOfMode for the files that say who connects to NATS. What is not there is for those to complain of who
// read it.
func (p *program) warnOfCredentials(o jetstream.Config) {
	for _, f := range []struct{ what, name string }{
		{"credentials file", o.Creds}, {"nkey file", o.NKey}, {"TLS key file", o.TLSKey},
	} {
		if info, err := os.Stat(f.name); f.name != "" && err == nil {
			p.warnOfMode(f.what, f.name, info)
		}
	}
}

// isCredential says whether systemd put the file there for this service (LoadCredential=). It lets the service's user read it
// by an access control list, which looks in the mode as if the group might, and keeps others out of the directory.
func isCredential(name string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return filepath.IsAbs(dir) && filepath.Dir(filepath.Clean(name)) == filepath.Clean(dir)
}
