package tests

import (
	"fmt"
	"os/exec"
	"syscall"
)

// mountOwnTmpfs puts a disk of that size at dir, which only this process sees.
func mountOwnTmpfs(dir string, mib int) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib))
}

// ownMounts gives a command mounts of its own, which needs root, or a kernel that lets users be root in a namespace.
func ownMounts(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
}
