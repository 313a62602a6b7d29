// Package location knows the places where a repository can live by the text that
// names them, such as "/srv/backup" or "rest:https://host:8000/".
//
// There is a file here for each scheme. It reads the address and the options that
// are the scheme's own, and hands them to the package that speaks to such a place.
package location

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"jetsam/storage"
)

// ErrInvalid is wrapped by errors about a location, or an option, that nobody can
// have meant: nothing was opened.
var ErrInvalid = errors.New("invalid location")

// Location is a place for a repository, named by a scheme and an address.
type Location struct {
	name    string
	address string // as the scheme's functions take it; it may hold a secret
	warn    func(error)
}

// Options are what a scheme lets its user choose, by name: "s3.region".
type Options map[string]string

// scheme is a kind of place.
type scheme struct {
	// parse checks an address, and returns it in the form that the others take.
	parse func(address string) (string, error)

	// show returns an address for people, with the scheme before it where one is
	// needed to tell what it is. It holds no secret.
	show func(address string) string

	// open opens what create made ready. What cannot hold a repository, since it
	// does not exist, gives storage.ErrNotExist. create gives storage.ErrExist if
	// there is a repository.
	open, create func(ctx context.Context, address string, o *settings) (storage.Backend, error)

	// options are the names of those that it takes, without the scheme's before them.
	options []string
}

// schemes are the places that are known, by the word before the colon.
var schemes = map[string]scheme{
	"azure":  containers,
	"gs":     googleBuckets,
	"local":  directories,
	"nats":   streams,
	"rclone": rcloneRemotes,
	"rest":   restServers,
	"sftp":   sftpServers,
	"s3":     buckets,
}

// Parse reads a location. Whatever has no known scheme is a directory, unless it
// looks like a URL; "local:" before it says that it is one in any case.
func Parse(text string) (Location, error) {
	if text == "" {
		return Location{}, invalid("the repository's location is empty")
	}
	name, address, found := strings.Cut(text, ":")
	s, known := schemes[name]
	switch {
	case found && known:
	case strings.Contains(text, "://"): // and not quoted: it may hold a password
		return Location{}, invalid("the repository's location is a URL; before it belongs what is there, one of %s; if it is the name of a directory, write local: before it", names())
	default:
		name, address, s = "local", text, directories
	}
	address, err := s.parse(address)
	if err != nil {
		return Location{}, err
	}
	return Location{name: name, address: address}, nil
}

// names lists the schemes for people.
func names() string {
	known := slices.Sorted(maps.Keys(schemes))
	return strings.Join(known, ":, ") + ":"
}

// String returns the location for people, without a secret.
func (l Location) String() string { return schemes[l.name].show(l.address) }

// Remote reports whether the way there is over a network.
func (l Location) Remote() bool { return l.name != "local" }

// Warning returns the same location, which tells f what whoever keeps the place has to
// say, and what is not as it should be there and yet stands in nobody's way. f is called from other goroutines.
func (l Location) Warning(f func(error)) Location {
	l.warn = f
	return l
}

// Open opens a place that Create, or restic, made ready. It does not look whether
// a repository is in it. If the place does not exist the error is storage.ErrNotExist.
func (l Location) Open(ctx context.Context, o Options) (storage.Backend, error) {
	return l.with(o, func(s scheme, o *settings) (storage.Backend, error) { return s.open(ctx, l.address, o) })
}

// Create makes a place ready to hold a repository and opens it. If there is a
// repository the error is storage.ErrExist.
func (l Location) Create(ctx context.Context, o Options) (storage.Backend, error) {
	return l.with(o, func(s scheme, o *settings) (storage.Backend, error) { return s.create(ctx, l.address, o) })
}

// with checks the options, and calls f with those of the location's scheme.
// Options of others are passed over: they may be in a file that serves several
// repositories.
func (l Location) with(o Options, f func(scheme, *settings) (storage.Backend, error)) (storage.Backend, error) {
	for option := range o {
		name, rest, _ := strings.Cut(option, ".")
		if s, ok := schemes[name]; !ok || !slices.Contains(s.options, rest) {
			return nil, invalid("option %q is not known; there are %s", option, known())
		}
	}
	warn := l.warn
	if warn == nil {
		warn = func(error) {}
	}
	return f(schemes[l.name], &settings{l.name, o, warn})
}

// known lists the options for people.
func known() string {
	var all []string
	for name, s := range schemes {
		for _, o := range s.options {
			all = append(all, name+"."+o)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// backend keeps a nil pointer from becoming a Backend that is not nil, and makes an
// option that is wrong an invalid location.
func backend[B storage.Backend](be B, err error) (storage.Backend, error) {
	switch {
	case errors.Is(err, storage.ErrOption):
		return nil, invalid("%v", err)
	case err != nil:
		return nil, err
	}
	return be, nil
}

// settings are the options of one scheme.
type settings struct {
	scheme string
	all    Options
	warn   func(error)
}

// get returns the value of an option, or "".
func (s *settings) get(name string) string { return s.all[s.scheme+"."+name] }

// ParseOptions reads options that are given as NAME=VALUE.
func ParseOptions(texts []string) (Options, error) {
	o := make(Options)
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := o[name]; !ok || twice {
			return nil, invalid("option %q: give each once, as NAME=VALUE", name)
		}
		o[name] = value
	}
	return o, nil
}

func invalid(format string, args ...any) error {
	return storage.Permanent(&invalidError{fmt.Sprintf(format, args...)})
}

type invalidError struct{ text string }

func (e *invalidError) Error() string { return e.text }
func (e *invalidError) Unwrap() error { return ErrInvalid }
