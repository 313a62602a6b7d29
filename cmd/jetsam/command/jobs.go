package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/backup"
	"jetsam/jetstream"
)

// Limits of a jobs file.
const (
	maxJobsFile = 1 << 20 // bytes
	maxJobs     = 1000
)

// job is the backup of one account, where a run backs up several.
type job struct {
	name    string
	config  jetstream.Config
	options backup.Options
}

// backupJobs are the accounts of a run of several: those of the jobs file, or one for each context. It is nil where there is neither.
func (p *program) backupJobs(c *cli.Context) ([]job, error) {
	contexts := p.flagValues("context")
	if !c.IsSet("jobs") && len(contexts) < 2 {
		return nil, nil
	}
	if err := checkTimeout(c); err != nil {
		return nil, err
	}
	if c.IsSet("jobs") {
		return p.jobsOfFile(c)
	}
	return p.jobsOfContexts(c, contexts)
}

// jobsOfContexts are the same backup of several contexts' accounts.
func (p *program) jobsOfContexts(c *cli.Context, contexts []string) (jobs []job, err error) {
	for _, name := range []string{"server", "creds", "nkey", "nats-user", "nats-password", "account"} {
		if c.String(name) != "" {
			return nil, usagef("several contexts, and --%s or its variable for all of them: leave it away, or give each account its own with --jobs", name)
		}
	}
	o, err := p.backupOptions(c)
	if err != nil {
		return nil, err
	}
	for i, name := range contexts {
		if name == "" || strings.Contains(name, "/") || slices.Contains(contexts[:i], name) {
			return nil, usagef("--context %q: several contexts are given by their names, each once", name)
		}
		config := connectionConfig(c)
		config.Context = name
		jobs = append(jobs, job{name, config, o})
	}
	return jobs, nil
}

// jobsOfFile are the jobs of the file that --jobs names. What the flags say of the capture is for all of them.
func (p *program) jobsOfFile(c *cli.Context) ([]job, error) {
	for _, name := range []string{
		"all", "exclude", "kv", "object-store", "host",
		"server", "context", "creds", "nkey", "nats-user", "nats-password", "tlscert", "tlskey", "tlsca", "tlsfirst", "js-domain", "js-api-prefix", "inbox-prefix", "account",
	} {
		if p.given(name) {
			return nil, usagef("--jobs and --%s: what accounts and streams are backed up stands in the jobs file", name)
		}
	}
	if c.NArg() > 0 {
		return nil, usagef("--jobs and the stream %s: what streams are backed up stands in the jobs file", c.Args().First())
	}
	o, err := p.captureOptions(c)
	if err != nil {
		return nil, err
	}
	name := c.String("jobs")
	text, err := readJobs(name)
	if err != nil {
		return nil, err
	}
	jobs, err := parseJobs(text)
	if err != nil {
		return nil, usagef("jobs file %s, %v", name, err)
	}
	for i := range jobs {
		jobs[i].complete(filepath.Dir(name), o, c)
	}
	return jobs, nil
}

func readJobs(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read jobs file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJobsFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read jobs file: %w", err)
	case len(text) > maxJobsFile:
		return nil, usagef("jobs file %s: it has more than the %d bytes that are read", name, maxJobsFile)
	}
	return text, nil
}

// complete adds to a job what the flags say, and makes its files' names relative to dir.
func (j *job) complete(dir string, o backup.Options, c *cli.Context) {
	for _, file := range []*string{&j.config.Creds, &j.config.NKey, &j.config.TLSCert, &j.config.TLSKey, &j.config.TLSCA} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
	j.config.Timeout, j.config.Name = c.Duration("timeout"), programName+" "+Version
	o.Selection, o.Host = j.options.Selection, j.options.Host
	o.Tags = splitTags(slices.Concat(o.Tags, j.options.Tags))
	o.NoConsumers = o.NoConsumers || j.options.NoConsumers
	j.options = o
}

// jobsText reads a jobs file: {"jobs": [{…}, …]}. It keeps where it is, for errors.
type jobsText struct {
	text []byte
	dec  *json.Decoder
}

// parseJobs reads a jobs file. An error begins with the line that it is about.
func parseJobs(text []byte) (jobs []job, err error) {
	t := &jobsText{text, json.NewDecoder(bytes.NewReader(text))}
	err = t.object(func(key string) error {
		if key != "jobs" {
			return fmt.Errorf("field %q is not known; it is jobs, a list", shortened(key))
		}
		return t.list(func() error {
			if len(jobs) == maxJobs {
				return fmt.Errorf("there are more than %d jobs", maxJobs)
			}
			j, err := t.job()
			if err == nil && slices.ContainsFunc(jobs, func(other job) bool { return other.name == j.name }) {
				err = fmt.Errorf("there are two jobs of the name %q", j.name)
			}
			jobs = append(jobs, j)
			return err
		})
	})
	if err == nil {
		err = t.end()
	}
	if err == nil && len(jobs) == 0 {
		err = errors.New("there is no job in it")
	}
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", t.line(), err)
	}
	return jobs, nil
}

// line is where reading has come to.
func (t *jobsText) line() int {
	return 1 + bytes.Count(t.text[:t.dec.InputOffset()], []byte("\n"))
}

// token reads the next bracket, key or value.
func (t *jobsText) token() (json.Token, error) {
	tok, err := t.dec.Token()
	return tok, cutShort(err)
}

// cutShort words the end of the file where something belongs.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends here, in the middle")
	}
	return err
}

// bracket reads the next token, which must be that one.
func (t *jobsText) bracket(want json.Delim, what string) error {
	tok, err := t.token()
	if err == nil && tok != want {
		err = fmt.Errorf("here belongs %s", what)
	}
	return err
}

// object reads an object, whose values read does. No key may be there twice.
func (t *jobsText) object(read func(key string) error) error {
	if err := t.bracket('{', "an object: {…}"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for t.dec.More() {
		tok, err := t.token()
		if err != nil {
			return err
		}
		key := tok.(string) // the decoder takes no other keys
		if seen[key] {
			return fmt.Errorf("field %q is there twice", shortened(key))
		}
		seen[key] = true
		if err := read(key); err != nil {
			return err
		}
	}
	return t.bracket('}', "the end of an object: }")
}

// list reads a list, whose elements read does.
func (t *jobsText) list(read func() error) error {
	if err := t.bracket('[', "a list: […]"); err != nil {
		return err
	}
	for t.dec.More() {
		if err := read(); err != nil {
			return err
		}
	}
	return t.bracket(']', "the end of a list: ]")
}

// end wants nothing more.
func (t *jobsText) end() error {
	if _, err := t.dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows behind the end")
	}
	return nil
}

// job reads one job.
func (t *jobsText) job() (j job, err error) {
	var kv, objects []string
	sel, o := &j.options.Selection, &j.options
	fields := map[string]any{
		"name": &j.name, "host": &o.Host, "tags": &o.Tags, "no_consumers": &o.NoConsumers,
		"all": &sel.All, "streams": &sel.Names, "exclude": &sel.Exclude, "kv": &kv, "object_store": &objects,
		"server": &j.config.Servers, "context": &j.config.Context, "account": &j.config.Account,
		"creds": &j.config.Creds, "nkey": &j.config.NKey, "tlscert": &j.config.TLSCert, "tlskey": &j.config.TLSKey, "tlsca": &j.config.TLSCA, "tlsfirst": &j.config.TLSFirst,
		"js_domain": &j.config.Domain, "js_api_prefix": &j.config.APIPrefix, "inbox_prefix": &j.config.InboxPrefix,
	}
	err = t.object(func(key string) error {
		field, known := fields[key]
		if !known {
			return fmt.Errorf("field %q is not known; a job has %s", shortened(key), strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		return t.value(key, field)
	})
	if err != nil {
		return j, err
	}
	addBuckets(sel, kv, objects)
	return j, j.check()
}

// value reads the value of a field: a text, a list of texts, or true or false.
func (t *jobsText) value(key string, field any) error {
	var raw json.RawMessage
	if err := t.dec.Decode(&raw); err != nil {
		return cutShort(err)
	}
	what := "a text in quotes"
	switch field.(type) {
	case *bool:
		what = "true or false"
	case *[]string:
		what = "a list of texts"
	}
	if string(raw) == "null" || json.Unmarshal(raw, field) != nil {
		return fmt.Errorf("field %s: it is %s", key, what)
	}
	return nil
}

var jobName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// check says what is missing in a job, or is too much.
func (j *job) check() error {
	sel := j.options.Selection
	switch {
	case !jobName.MatchString(j.name):
		return fmt.Errorf("the job needs a name of letters, digits, dots, dashes and underscores, at most 64, and has %q", shortened(j.name))
	case j.config.Context == "" && j.config.Servers == "":
		return fmt.Errorf("job %s says neither server nor context", j.name)
	case strings.Contains(j.config.Servers, "@"):
		return fmt.Errorf("job %s: a user or password stands in server; keep it in a context, or use creds or nkey, which are files", j.name)
	case sel.All && len(sel.Names) > 0:
		return fmt.Errorf("job %s: both all and streams by name (%s); which is it?", j.name, sel.Names[0])
	case !sel.All && len(sel.Names) == 0:
		return fmt.Errorf("job %s: which streams? give streams, kv or object_store, or \"all\": true", j.name)
	}
	return nil
}

// shortened cuts what may be of any length for an error.
func shortened(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
