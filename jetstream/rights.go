package jetstream

import (
	"context"
	"errors"
	"strings"
	"time"

	"jetsam/internal/strictjson"
)

// User is what the server says of the user that a connection is of.
type User struct {
	Account string // its name
	Key     string // how the server identifies it
	Rights  Rights
	Time    time.Time // the server's, when it answered; zero if it does not say
}

// Rights are what a user may do. The zero value is everything.
type Rights struct {
	Publish   Subjects `json:"publish"`
	Subscribe Subjects `json:"subscribe"`
}

// Subjects are what is allowed, with wildcards. Nothing allowed is everything, but for what is denied.
type Subjects struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

// Allows says whether all subjects that a filter matches are allowed. Where only some of them are, parts says which: those that are, and behind
// "not " those that are not.
func (s Subjects) Allows(filter string) (all bool, parts []string) {
	all = len(s.Allow) == 0
	for _, allowed := range s.Allow {
		queue := strings.Contains(allowed, " ") // the name of one stands behind the subject, and nothing but that is allowed
		if all = all || !queue && subjectsWithin(filter, allowed); !queue && subjectsWithin(allowed, filter) {
			parts = append(parts, allowed)
		}
	}
	if all {
		parts = nil
	} else if len(parts) == 0 {
		return false, nil
	}
	for _, denied := range s.Deny {
		if subjectsWithin(filter, denied) {
			return false, nil
		}
		if SubjectsOverlap(denied, filter) {
			all, parts = false, append(parts, "not "+denied)
		}
	}
	return all, parts
}

// subjectsWithin says whether every subject that one filter matches is matched by another.
func subjectsWithin(filter, other string) bool {
	as, bs := strings.Split(filter, "."), strings.Split(other, ".")
	for i, b := range bs {
		switch {
		case b == ">":
			return i < len(as)
		case i >= len(as), as[i] == ">", b != "*" && as[i] != b:
			return false
		}
	}
	return len(as) == len(bs)
}

// User asks the server who this connection is of, and what that user may do. A *PermissionError says that the user may not ask; ErrTimeout that no
// server answers such a question.
func (c *Conn) User(ctx context.Context) (User, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, userInfoTimeout, ErrTimeout)
	defer cancel()
	raw, err := c.request(ctx, userInfoSubject, nil)
	if err != nil {
		return User{}, err
	}
	var answer struct {
		Server struct {
			Time time.Time `json:"time"`
		} `json:"server"`
		Data *struct {
			Account string `json:"account"`
			Name    string `json:"account_name"`
			Rights  Rights `json:"permissions"`
		} `json:"data"`
	}
	if err := strictjson.Decode(raw, &answer); err != nil {
		return User{}, err
	}
	if answer.Data == nil {
		return User{}, errors.New("the server does not say who the user is")
	}
	u := User{Account: answer.Data.Name, Key: answer.Data.Account, Rights: answer.Data.Rights, Time: answer.Server.Time}
	if u.Account == "" {
		u.Account = u.Key
	}
	return u, nil
}

// APIPrefix is the subject under which the JetStream API is asked: "$JS.API".
func (c *Conn) APIPrefix() string { return c.prefix }

// InboxPrefix is how the subjects begin on which this connection gets answers: "_INBOX".
func (c *Conn) InboxPrefix() string {
	inbox := c.nc.NewInbox()
	return inbox[:strings.LastIndexByte(inbox, '.')]
}

// nonsense is a message that no endpoint of JetStream's takes for a request: it is no JSON, and not empty.
const nonsense = "-"

// Try finds out whether the server lets this user publish or subscribe to a subject, which has no wildcards, by doing so: what is published is no
// request that anything would come of, and asks for no answer.
func (c *Conn) Try(ctx context.Context, operation, subject string) (allowed bool, err error) {
	if operation == OpSubscribe {
		sub, err := c.nc.SubscribeSync(subject)
		if err != nil {
			return false, c.redact.translate(err)
		}
		defer sub.Unsubscribe()
	} else if err := c.nc.Publish(subject, []byte(nonsense)); err != nil {
		return false, c.redact.translate(err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.nc.FlushWithContext(ctx); err != nil { // when the server answers, it has said what it refuses
		return false, c.redact.translate(err)
	}
	refused := parsePermissionError(c.nc.LastError())
	return refused == nil || refused.Operation != operation || refused.Subject != subject, nil
}
