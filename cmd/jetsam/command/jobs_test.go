package command

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"jetsam/backup"
	"jetsam/jetstream"
	"jetsam/streamlog"
)

func TestParseJobs(t *testing.T) {
	got, err := parseJobs([]byte(`{"jobs": [
		{"name": "a", "server": "nats://n1", "creds": "a.creds", "nkey": "k", "tlscert": "c", "tlskey": "d", "tlsca": "e", "tlsfirst": true,
		 "js_domain": "hub", "js_api_prefix": "p", "inbox_prefix": "i", "account": "A",
		 "streams": ["ORDERS"], "kv": ["users"], "object_store": ["img"], "exclude": ["X*"], "host": "east", "tags": ["t"], "no_consumers": true},
		{"all": true, "context": "b", "name": "b"}
	]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []job{
		{"a", jetstream.Config{
			Servers: "nats://n1", Creds: "a.creds", NKey: "k", TLSCert: "c", TLSKey: "d", TLSCA: "e", TLSFirst: true,
			Domain: "hub", APIPrefix: "p", InboxPrefix: "i", Account: "A",
		}, backup.Options{
			Selection: streamlog.Selection{Names: []string{"ORDERS", "KV_users", "OBJ_img"}, Exclude: []string{"X*"}},
			Host:      "east", Tags: []string{"t"}, NoConsumers: true,
		}},
		{"b", jetstream.Config{Context: "b"}, backup.Options{Selection: streamlog.Selection{All: true}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestJobsThatAreRefused: each error says on which line what is wrong.
func TestJobsThatAreRefused(t *testing.T) {
	const good = `"context": "a", "all": true`
	for text, want := range map[string]string{
		"":                                     "line 1: the file ends here, in the middle",
		"[]":                                   "line 1: here belongs an object: {…}",
		`{"jobs": {}}`:                         "line 1: here belongs a list: […]",
		`{"jobs": [1]}`:                        "line 1: here belongs an object: {…}",
		"{\"jobs\": [\n{" + good + ", \n":      "line 2: the file ends here, in the middle",
		`{"jobs": []}`:                         "line 1: there is no job in it",
		`{}`:                                   "line 1: there is no job in it",
		`{"job": []}`:                          `line 1: field "job" is not known; it is jobs, a list`,
		`{"jobs": [], "jobs": []}`:             `line 1: field "jobs" is there twice`,
		"{\"jobs\": [{\n\"Name\": \"a\"}]}":    `line 2: field "Name" is not known; a job has account, all, context,`,
		"{\"jobs\": [{\"all\": true,\n\"all\"": `line 2: field "all" is there twice`,
		`{"jobs": [{"password": "x"}]}`:        `line 1: field "password" is not known`,
		"{\"jobs\": [{\n\n\"all\": \"yes\"}]}": "line 3: field all: it is true or false",
		`{"jobs": [{"name": 1}]}`:              "line 1: field name: it is a text in quotes",
		`{"jobs": [{"name": null}]}`:           "line 1: field name: it is a text in quotes",
		`{"jobs": [{"tags": "x"}]}`:            "line 1: field tags: it is a list of texts",
		`{"jobs": [{"name": "a b", ` + good + `}]}`:                                      `needs a name of letters, digits, dots, dashes and underscores, at most 64, and has "a b"`,
		`{"jobs": [{` + good + `}]}`:                                                     `needs a name`,
		`{"jobs": [{"name": "a", "all": true}]}`:                                         "job a says neither server nor context",
		`{"jobs": [{"name": "a", "context": "a"}]}`:                                      "job a: which streams?",
		`{"jobs": [{"name": "a", "streams": ["S"], ` + good + `}]}`:                      "job a: both all and streams by name (S)",
		`{"jobs": [{"name": "a", "server": "bob:pw@n1", "all": true}]}`:                  "job a: a user or password stands in server",
		"{\"jobs\": [{\"name\": \"a\"," + good + "},\n{\"name\": \"a\", " + good + "}]}": `line 2: there are two jobs of the name "a"`,
		`{"jobs": [{"name": "a", ` + good + "}]}\n{}":                                    "line 2: something follows behind the end",
		`{"jobs": [` + strings.Repeat("[", 20_000):                                       "line 1: here belongs an object",
		`{"jobs": [{"name": ` + strings.Repeat("[", 20_000):                              "line 1: ",
		`{"jobs": [{"` + strings.Repeat("x", 500) + `": 1}]}`:                            "xxx…\" is not known",
	} {
		jobs, err := parseJobs([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pw") || len(err.Error()) > 400 {
			t.Errorf("%.200s\ngave %d jobs and %v, want %q", text, len(jobs), err, want)
		}
	}
}

func TestTooManyJobs(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"jobs": [`)
	for i := range maxJobs + 1 {
		if i > 0 {
			text.WriteString(",")
		}
		fmt.Fprintf(&text, `{"name": "j%d", "context": "c", "all": true}`, i)
	}
	text.WriteString("]}")
	if _, err := parseJobs([]byte(text.String())); err == nil || !strings.Contains(err.Error(), "more than 1000 jobs") {
		t.Errorf("error %v", err)
	}
}

// FuzzJobs: whatever a jobs file holds, what is read of it is complete, and names are there once.
func FuzzJobs(f *testing.F) {
	f.Add(`{"jobs": [{"name": "a", "context": "c", "all": true}, {"name": "b", "server": "n", "streams": ["S"], "tags": ["x"]}]}`)
	f.Add(`{"jobs": [{"name": "a", "context": "c", "all": true}, {"name": "a"`)
	f.Add(`{"jobs": [{"name": null, 1`)
	f.Fuzz(func(t *testing.T, text string) {
		jobs, err := parseJobs([]byte(text))
		names := map[string]bool{}
		for _, j := range jobs {
			if err := j.check(); err != nil || names[j.name] {
				t.Fatalf("%q is accepted: %v", j.name, err)
			}
			names[j.name] = true
		}
		if (err == nil) != (len(jobs) > 0) {
			t.Fatalf("%d jobs and %v", len(jobs), err)
		}
	})
}
