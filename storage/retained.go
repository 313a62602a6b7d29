package storage

import (
	"fmt"
	"time"
)

// RetainedError is an ErrRetained of which the place says when it ends.
type RetainedError struct {
	Until time.Time
	Mode  string // what the place calls it; may be empty
}

func (e *RetainedError) Error() string {
	text := fmt.Sprintf("%v: retained until %s", ErrRetained, e.Until.UTC().Format(time.RFC3339))
	if e.Mode != "" {
		text += " (" + e.Mode + ")"
	}
	return text
}

func (e *RetainedError) Unwrap() error { return ErrRetained }
