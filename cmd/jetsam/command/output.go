package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/term"

	"jetsam/secret"
)

// report is what a command found out: encoding/json writes it for programs, text for people.
// Its JSON object has a message_type.
type report interface {
	text(o *output)
}

// output is where a command's results and remarks go.
type output struct {
	stdout, stderr io.Writer
	json           bool // results as one JSON object a line, remarks too
	quiet          bool // no progress, no remarks but warnings
	verbose        bool
	noProgress     bool
	about          string // begins every remark: what it is about, where a command does several things one after the other

	mu  sync.Mutex
	bar *bar  // the live bar on stderr that a remark must not tear; nil without one
	err error // the first failure to write to stdout

	measured []measured // results that metrics tell more of

	repeated atomic.Int64 // requests to storages, each as often as it was
	told     int64        // how many of those the user knows of
}

// disturbances are what reports have in common that sum up a command: what disturbed it on the way to its storages.
type disturbances struct {
	Repeated int64 `json:"storage_retries"` // requests to storages, by now
}

func (d *disturbances) count(o *output) { d.Repeated = o.repeated.Load() }

// print writes a result to stdout.
func (o *output) print(r report) {
	if m, ok := r.(measured); ok {
		o.measured = append(o.measured, m)
	}
	sum, sums := r.(interface{ count(*output) })
	if sums {
		sum.count(o)
	}
	if o.json {
		o.printJSON(r)
	} else {
		r.text(o)
	}
	if sums {
		o.tellRepeated(func(text string) {
			if !o.json {
				o.printf("%s\n", text)
			}
		})
	}
}

// tellRepeated tells how many requests to storages were repeated, if those are more than when it was told before.
func (o *output) tellRepeated(tell func(text string)) {
	if n := o.repeated.Load(); n > o.told {
		o.told = n
		were := "were"
		if n == 1 {
			were = "was"
		}
		tell(fmt.Sprintf("%s to the storage %s repeated", plural(int(n), "request"), were))
	}
}

// printJSON writes v to stdout as a JSON object on a line of its own.
func (o *output) printJSON(v any) {
	line, err := jsonLine(v)
	if err != nil {
		o.fail(err)
		return
	}
	o.write(line)
}

func jsonLine(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	return []byte(b.String()), nil
}

// printf writes text to stdout; control characters in it are made visible.
func (o *output) printf(format string, args ...any) {
	o.write([]byte(visible(fmt.Sprintf(format, args...))))
}

func (o *output) write(p []byte) {
	if o.err != nil {
		return
	}
	if _, err := o.stdout.Write(p); err != nil {
		o.fail(fmt.Errorf("write standard output: %w", err))
	}
}

func (o *output) fail(err error) {
	if o.err == nil {
		o.err = err
	}
}

// failure is what kept results from being written. A reader that went away, like head, is none.
func (o *output) failure() error {
	if errors.Is(o.err, syscall.EPIPE) {
		return nil
	}
	return o.err
}

// remark is what a command says on stderr, in JSON.
type remark struct {
	MessageType string `json:"message_type"` // "note" or "warning"
	Message     string `json:"message"`
}

// note says on stderr what a person would like to know; --quiet leaves it out.
func (o *output) note(format string, args ...any) {
	if !o.quiet {
		o.remark("note", "", fmt.Sprintf(format, args...))
	}
}

// detail is a note for --verbose.
func (o *output) detail(format string, args ...any) {
	if o.verbose {
		o.note(format, args...)
	}
}

// warn says on stderr what a person must know.
func (o *output) warn(format string, args ...any) {
	o.remark("warning", "warning: ", fmt.Sprintf(format, args...))
}

func (o *output) remark(kind, prefix, message string) {
	message = o.about + message
	if !o.json {
		o.stderrLine(prefix + message)
		return
	}
	if line, err := jsonLine(remark{kind, message}); err == nil {
		o.stderrLine(strings.TrimSuffix(string(line), "\n"))
	}
}

// stderrLine writes one line to stderr, above the bar where there is one. A URL's user and password are left out, wherever the
// URL came from: people put them in odd places, such as where a stream's name belongs.
func (o *output) stderrLine(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := visible(secret.HideUserInfo(line)) + "\n"
	if o.bar != nil {
		text = o.bar.around(text)
	}
	io.WriteString(o.stderr, text) // nobody is left to tell if this fails
}

// isTerminal says whether w is a terminal that a person looks at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// hasColor says whether w shows colours; https://no-color.org.
func hasColor(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == ""
}
