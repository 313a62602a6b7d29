package natsd

import "fmt"

// logger hands the server's log lines to line, and the first that is fatal to fatal. The server's own logger would end
// the process there.
type logger struct {
	line  func(string)
	fatal chan error
}

func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Errorf(format, v...):
	default:
	}
	l.log("fatal: ", format, v)
}

func (l *logger) Noticef(format string, v ...any) { l.log("", format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.log("warning: ", format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.log("error: ", format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.log("debug: ", format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.log("trace: ", format, v) }

func (l *logger) log(level, format string, v []any) {
	if l.line != nil {
		l.line(level + fmt.Sprintf(format, v...))
	}
}
