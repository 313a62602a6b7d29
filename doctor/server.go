package doctor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"jetsam/jetstream"
)

// ServerReport is what was found of a server.
type ServerReport struct {
	Findings []Finding
	Account  string // its name; empty if it is not known
	Lacks    Permissions
}

// Server looks at the server of a connection, and at what its user may do. wanted are the ways that the user must be able to go; with none, it is
// enough to be able to back up or to restore. The error is ctx's.
func Server(ctx context.Context, conn *jetstream.Conn, wanted []Way) (ServerReport, error) {
	var f findings
	var r ServerReport
	s := conn.Server()
	f.add("connection", OK, "", "connected to %s%s", s.URL, called(s))
	f = append(f, Version(s)...)
	asked := time.Now()
	user, err := conn.User(ctx)
	answered := time.Now()
	rights := rights{conn: conn}
	if err == nil {
		rights.told, r.Account = &user.Rights, user.Account
	}
	f.checkAccount(ctx, conn, &r)
	if err := rights.checkWays(ctx, &f, wanted, &r.Lacks); err != nil {
		f.add("permissions", Problem, "", "%v", err)
	}
	if user.Time.IsZero() {
		f.add("clock", OK, "", "not compared with the server's, which does not tell its time to this user")
	} else {
		f.compareClocks("the server", user.Time, asked.Add(answered.Sub(asked)/2))
	}
	r.Findings = f
	return r, context.Cause(ctx)
}

// called is the name of a cluster or server.
func called(s jetstream.ServerInfo) string {
	switch {
	case s.Cluster != "":
		return ", cluster " + s.Cluster
	case s.Name != "":
		return ", called " + s.Name
	}
	return ""
}

// checkAccount looks at JetStream and the account's streams.
func (f *findings) checkAccount(ctx context.Context, conn *jetstream.Conn, r *ServerReport) {
	a, err := conn.Account(ctx)
	var refused *jetstream.PermissionError
	switch {
	case errors.As(err, &refused): // which is told with the other permissions
		return
	case errors.Is(err, jetstream.ErrNoJetStream):
		f.add("JetStream", Problem, "enable JetStream for this account, or name another account, --js-domain or --context", "%v", err)
		return
	case errors.Is(err, jetstream.ErrUnreachable):
		f.add("JetStream", Problem, "start servers of the cluster until more than half are there", "it does not answer, or has no leader: %v", err)
		return
	case err != nil:
		f.add("JetStream", Problem, "", "%v", err)
		return
	}
	domain := ""
	if a.Domain != "" {
		domain = ", domain " + a.Domain
	}
	f.add("JetStream", OK, "", "account %s%s; streams: %s, consumers: %s", a.Name, domain, humanize.Comma(int64(a.Streams)), humanize.Comma(int64(a.Consumers)))
	if limit := a.Limits.MaxStore; limit > 0 && a.Store > uint64(limit)/10*9 {
		f.add("JetStream", Warning, "raise the account's limit, or remove what is not needed: a restore needs room", "%s of %s of the account's storage are in use", humanize.IBytes(a.Store), humanize.IBytes(uint64(limit)))
	}
	f.checkStreams(ctx, conn)
}

// checkStreams looks for streams that cannot be backed up at the moment.
func (f *findings) checkStreams(ctx context.Context, conn *jetstream.Conn) {
	all, err := conn.Streams(ctx)
	var missing *jetstream.MissingError
	var refused *jetstream.PermissionError
	switch {
	case errors.As(err, &refused):
		return
	case errors.As(err, &missing):
		f.add("streams", Problem, "start the servers that hold them; a backup leaves them out meanwhile", "%v", err)
	case err != nil:
		f.add("streams", Problem, "", "%v", err)
		return
	}
	var leaderless, behind []string
	for _, s := range all {
		switch {
		case s.Cluster == nil:
		case s.Cluster.Leader == "":
			leaderless = append(leaderless, s.Name)
		case len(s.Cluster.Behind()) > 0:
			behind = append(behind, s.Name)
		}
	}
	if len(leaderless) > 0 {
		f.add("streams", Problem, "start the servers that hold them; a backup leaves them out meanwhile", "without a leader: %s", strings.Join(leaderless, ", "))
	}
	if len(behind) > 0 {
		f.add("streams", Warning, "see that all servers run; streams with a quorum heal by themselves", "a replica is behind or away: %s", strings.Join(behind, ", "))
	}
}
