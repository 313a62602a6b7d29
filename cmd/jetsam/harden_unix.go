//go:build unix

package main

import "golang.org/x/sys/unix"

// harden keeps what the process holds, keys among it, from other users: files it makes are its own, and it leaves no
// core. Each step is best effort.
func harden() {
	unix.Umask(0o077)
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	undumpable()
}
