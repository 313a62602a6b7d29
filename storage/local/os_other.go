//go:build unix && !linux && !darwin

package local

import (
	"errors"
	"fmt"
)

// RenameNew is not to be had on these systems, all of which have hard links.
func (osFS) RenameNew(old, _ string) error {
	return fmt.Errorf("rename %s without replacing: %w", old, errors.ErrUnsupported)
}
