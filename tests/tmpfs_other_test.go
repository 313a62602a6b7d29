//go:build !linux

package tests

import (
	"errors"
	"os/exec"
)

func mountOwnTmpfs(string, int) error { return errors.New("only on Linux") }

func ownMounts(cmd *exec.Cmd) { cmd.Path = "" }
