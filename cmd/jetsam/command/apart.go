package command

import (
	"slices"

	"jetsam/backup"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/storage"
)

// apart refuses a backup into the servers that it is of, unless that was allowed. Then it leaves the repository's own stream out.
func (p *program) apart(conn *jetstream.Conn, r *repo.Repo, o *backup.Options) error {
	be, ok := storage.As[interface {
		Shares(serverID, cluster string) (stream string, allowed bool)
	}](r.Backend())
	if !ok {
		return nil
	}
	s := conn.Server()
	stream, allowed := be.Shares(s.ID, s.Cluster)
	switch {
	case stream == "":
		return nil
	case !allowed:
		return usagef("the repository is in stream %s of the servers that are to be backed up: what destroys them destroys both, and there is no backup\n"+
			"keep it in another cluster, or if there is a copy elsewhere, say --option nats.same-cluster=yes", stream)
	}
	p.out.note("the repository is on the servers that are backed up: keep a copy elsewhere; its stream %s is left out", stream)
	o.Selection.Exclude = append(slices.Clone(o.Selection.Exclude), stream)
	return nil
}
