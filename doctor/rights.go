package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"jetsam/jetstream"
)

// Way is what a user may want to do.
type Way string

// The ways.
const (
	Backup  Way = "backup"
	Restore Way = "restore"
	Verify  Way = "verify" // a restore that reads back what it restored
)

// Ways are all ways.
var Ways = []Way{Backup, Restore, Verify}

// Need is a permission that a way needs, or does better with.
type Need struct {
	Operation string // jetstream.OpPublish or OpSubscribe
	Subject   string // with wildcards
	Without   string // what does not work without it; empty: nothing does
}

// Needs are the permissions of a way, with the JetStream API and the inboxes below these prefixes.
func Needs(way Way, api, inbox string) (needs []Need) {
	add := func(without string, subjects ...string) {
		for _, s := range subjects {
			needs = append(needs, Need{jetstream.OpPublish, strings.Replace(s, "API.", api+".", 1), without})
		}
	}
	needs = append(needs, Need{jetstream.OpSubscribe, inbox + ".>", ""})
	add("", "API.INFO", "API.STREAM.LIST", "API.STREAM.INFO.*")
	add("the account's name is not known; give it with --account", "$SYS.REQ.USER.INFO")
	if way == Backup {
		add("", "API.STREAM.SNAPSHOT.*", "$JS.SNAPSHOT.ACK.>")
		add("streams are read whole each time", "API.CONSUMER.LIST.*", "API.STREAM.MSG.GET.*")
		add("new messages are read one by one", "API.CONSUMER.CREATE.*.*", "API.CONSUMER.DELETE.*.*", "$JS.FC.>")
		return needs
	}
	add("", "API.STREAM.RESTORE.*", "$JS.SNAPSHOT.RESTORE.>", "API.CONSUMER.LIST.*")
	add("a restore leaves no mark, and if it is killed the next one refuses what it left", "API.STREAM.UPDATE.*", inbox+".>")
	add("a restore that fails leaves an unfinished stream", "API.STREAM.DELETE.*")
	if way == Verify {
		add("", "API.STREAM.SNAPSHOT.*", "$JS.SNAPSHOT.ACK.>")
		return needs
	}
	add("--config-only does not work", "API.STREAM.CREATE.*")
	add("--consumers-only does not work", "API.CONSUMER.CREATE.*.*", "API.CONSUMER.INFO.*.*", "API.STREAM.MSG.GET.*")
	return needs
}

// Permissions are the subjects that a user lacks.
type Permissions struct{ Publish, Subscribe []string }

// Config is what gives them, in the language of nats-server's configuration; empty if none are lacking.
func (p Permissions) Config() string {
	var b strings.Builder
	for _, list := range []struct {
		name     string
		subjects []string
	}{{"publish", p.Publish}, {"subscribe", p.Subscribe}} {
		if len(list.subjects) > 0 {
			fmt.Fprintf(&b, "  %s: { allow: [ \"%s\" ] }\n", list.name, strings.Join(list.subjects, `", "`))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "permissions: {\n" + b.String() + "}\n"
}

func (p *Permissions) add(n Need) {
	list := &p.Publish
	if n.Operation == jetstream.OpSubscribe {
		list = &p.Subscribe
	}
	if !slices.Contains(*list, n.Subject) {
		*list = append(*list, n.Subject)
	}
}

// madeUp stands for a stream or consumer where a subject is tried: there is none of that name.
const madeUp = "jetsam-doctor"

// rights finds out what the user may do.
type rights struct {
	conn *jetstream.Conn
	told *jetstream.Rights // nil: the server does not tell
}

// allows says whether the user may do all that n means, or which part of it.
func (r rights) allows(ctx context.Context, n Need) (all bool, some []string, err error) {
	if r.told == nil {
		all, err = r.conn.Try(ctx, n.Operation, strings.NewReplacer("*", madeUp, ">", madeUp).Replace(n.Subject))
		return all, nil, err
	}
	subjects := r.told.Publish
	if n.Operation == jetstream.OpSubscribe {
		subjects = r.told.Subscribe
	}
	all, some = subjects.Allows(n.Subject)
	return all, some, nil
}

// checkWays says of each way whether the user may go it; those that are wanted must be, and where none is, backups or restores. What is lacking of them
// is put into lacks.
func (r rights) checkWays(ctx context.Context, f *findings, wanted []Way, lacks *Permissions) error {
	possible := false
	from := len(*f)
	for _, way := range Ways {
		if len(wanted) > 0 && !slices.Contains(wanted, way) {
			continue
		}
		lacking, err := r.checkWay(ctx, f, way, len(wanted) > 0, lacks)
		if err != nil {
			return err
		}
		possible = possible || !lacking
	}
	if !possible {
		for i := range (*f)[from:] {
			(*f)[from+i].Level = Problem
		}
	}
	return nil
}

// checkWay says whether the user may go one way; lacking is that it cannot be gone.
func (r rights) checkWay(ctx context.Context, f *findings, way Way, must bool, lacks *Permissions) (lacking bool, err error) {
	var partly []string
	without := map[string][]string{}
	var order []string
	for _, n := range Needs(way, r.conn.APIPrefix(), r.conn.InboxPrefix()) {
		all, some, err := r.allows(ctx, n)
		switch {
		case err != nil:
			return false, fmt.Errorf("try whether the user may %s to %s: %w", n.Operation, n.Subject, err)
		case all:
		case len(some) > 0:
			partly = append(partly, some...)
		default:
			lacks.add(n)
			if without[n.Without] == nil {
				order = append(order, n.Without)
			}
			without[n.Without] = append(without[n.Without], n.Operation+" "+n.Subject)
		}
	}
	about := "permissions for " + string(way)
	level := Warning
	if must {
		level = Problem
	}
	if len(without[""]) > 0 {
		f.add(about, level, "add the permissions below, if this user shall "+string(way), "this user may not: %s", strings.Join(without[""], ", "))
		return true, nil
	}
	for _, why := range order {
		f.add(about, Warning, "add the permissions below, if that matters", "without %s: %s", strings.Join(without[why], ", "), why)
	}
	if len(partly) > 0 {
		f.add(about, Warning, "", "for some streams only: %s", strings.Join(partly, ", "))
	} else if len(order) == 0 {
		f.add(about, OK, "", "all there")
	}
	return false, nil
}
