package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// Health says how something on a server stands to what a snapshot has of it.
type Health string

// What Health can be. Those up to CatchingUp need nothing.
const (
	Healthy    Health = "healthy"
	CatchingUp Health = "catching up"    // its servers bring it in order by themselves
	NoQuorum   Health = "without quorum" // too few of the servers that hold it are there; when they are back, so is it
	Lost       Health = "lost"           // the server says that there is none
	Behind     Health = "behind"         // it is the same, and has come less far than in the snapshot
	Diverged   Health = "diverged"       // it is another one
	Unknown    Health = "unknown"        // what there is cannot be compared
)

// IsProblem says whether somebody has to do something.
func (h Health) IsProblem() bool { return h != Healthy && h != CatchingUp }

// Survey is how the streams of a snapshot stand on a server. Nothing was changed to find out.
type Survey struct {
	Snapshot *snapshot.Snapshot
	Streams  []Condition              // in the order of their names
	Missing  []streamlog.FailedStream // chosen, and not in the snapshot
	Warnings []string                 // about the snapshot as a whole
}

// Condition is how a stream stands.
type Condition struct {
	Name       string
	Health     Health
	Why        string // what is the matter, or what there is to know of one that is healthy; may be empty
	Unfinished bool   // a restore that did not end left it
	Snapshot   Extent
	Server     *Extent  // nil: nobody tells
	Changes    []string // of its configuration since the snapshot
	Damage     error    // why the snapshot does not hold it whole
	Consumers  []ConsumerCondition

	unread error // why Health is Unknown
}

// Extent is what a stream has.
type Extent struct{ Messages, LastSeq uint64 }

// ConsumerCondition is how a consumer stands. Ephemeral ones that are gone are not told of: their clients make them anew.
type ConsumerCondition struct {
	Name   string
	Health Health
	Why    string
}

// surveyPatience is how long servers are asked again that do not answer, or may still be catching up: longer than an election takes.
const surveyPatience = 10 * time.Second

// surveyPause is how long after an answer that may soon be another a server is asked again.
const surveyPause = 500 * time.Millisecond

// survey is a survey under way.
type survey struct {
	*Plan
	until   time.Time                        // no longer is anybody asked again
	there   map[string]*jetstream.StreamInfo // by name
	unheard map[string]error                 // streams that exist, and of which no server says more
	away    error                            // why servers tell of no stream at all
}

// NewSurvey looks how the chosen streams of a snapshot stand on conn's server. Errors are those of NewPlan, but for what the server has.
func NewSurvey(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, conn *jetstream.Conn, chosen streamlog.Selection) (*Survey, error) {
	p, err := choose(ctx, rd, sn, Options{Selection: chosen, SkipDamaged: true})
	if err != nil {
		return nil, err
	}
	p.conn = conn
	if p.present, err = rd.Presence(ctx); err != nil {
		return nil, err
	}
	v := &survey{Plan: p, until: time.Now().Add(surveyPatience)}
	if err := v.list(ctx); err != nil {
		return nil, err
	}
	v.until = time.Now().Add(surveyPatience) // a list alone may have taken as long
	res := &Survey{Snapshot: sn, Streams: make([]Condition, len(p.Streams)), Missing: p.Missing, Warnings: p.Warnings}
	p.atOnce(func(i int, s *StreamPlan) { res.Streams[i] = v.condition(ctx, s) })
	for _, c := range res.Streams {
		if repo.IsUnread(c.unread) && ctx.Err() == nil {
			return nil, c.unread
		}
	}
	return res, context.Cause(ctx)
}

// list asks for all streams. A cluster without a leader tells of none.
func (v *survey) list(ctx context.Context) error {
	for {
		all, err := v.conn.Streams(ctx)
		var missing *jetstream.MissingError
		switch {
		case err == nil, errors.As(err, &missing):
			v.there = map[string]*jetstream.StreamInfo{}
			for _, info := range all {
				v.there[info.Name] = info
			}
			if missing != nil {
				v.unheard = missing.Reasons
			}
			return nil
		case !errors.Is(err, jetstream.ErrUnreachable) || !v.conn.Connected():
			return err
		case !v.again(ctx):
			v.away = err
			return context.Cause(ctx)
		}
	}
}

// again waits a moment, and says whether a server may be asked once more.
func (v *survey) again(ctx context.Context) bool {
	return time.Now().Before(v.until) && pause(ctx, surveyPause) == nil
}

// condition finds out how a stream stands.
func (v *survey) condition(ctx context.Context, s *StreamPlan) Condition {
	s.Source = s.Name
	c := Condition{Name: s.Name}
	if err := v.examine(ctx, s, v.read); err != nil {
		return c.unknown(err)
	}
	c.Damage = s.Damage
	if s.Damage == nil && s.Lost != nil {
		c.Damage = s.Lost
	}
	if s.log.held.Err == nil {
		state, err := archive.ParseState(s.log.held.Document.State)
		if err != nil {
			return c.unknown(err)
		}
		c.Snapshot = Extent{s.log.held.Document.Jetsam.Messages, state.LastSeq}
	}
	info, err := v.there[s.Name], v.unheard[s.Name]
	for first := true; ; first = false {
		if !first {
			info, err = v.conn.Stream(ctx, s.Name)
		}
		if v.judge(ctx, s, &c, info, err) || !v.again(ctx) {
			break
		}
	}
	if info != nil && (c.Health == Healthy || c.Health == CatchingUp) {
		v.consumers(ctx, s, &c)
	}
	return c
}

func (c Condition) unknown(err error) Condition {
	c.Health, c.Why, c.unread = Unknown, err.Error(), err
	return c
}

// judge says in c how the stream stands of which the server said info, or err. It is certain, or may be otherwise in a moment.
func (v *survey) judge(ctx context.Context, s *StreamPlan, c *Condition, info *jetstream.StreamInfo, err error) (certain bool) {
	var refused *jetstream.PermissionError
	switch {
	case v.away != nil:
		c.Health, c.Why = NoQuorum, fmt.Sprintf("the cluster has no leader, and tells of no stream: %v", v.away)
		return true
	case errors.Is(err, jetstream.ErrStreamNotFound), err == nil && info == nil:
		c.Health, c.Why = Lost, "the server has no stream of that name"
		return err != nil || v.conn.Server().Cluster == "" // a list of a cluster is believed when who leads it says the same of the one stream
	case errors.As(err, &refused), errors.Is(err, jetstream.ErrConnectionLost):
		*c = c.unknown(err)
		return true
	case err != nil:
		c.Health, c.Why = NoQuorum, fmt.Sprintf("it exists, and no server says more of it: %s", strings.TrimPrefix(err.Error(), "get stream "+s.Name+": "))
		return false
	}
	if cluster := info.Cluster; cluster != nil && cluster.Leader == "" {
		c.Health, c.Why = leaderless(cluster)
		return false
	}
	_, c.Unfinished = unfinishedRestore(info)
	c.Server = &Extent{info.Messages, info.LastSeq}
	if s.Damage != nil {
		*c = c.unknown(fmt.Errorf("it is on the server, and cannot be compared with the snapshot: %w", s.Damage))
		return true
	}
	c.Changes = configDiff(s.wanted, info.Config)
	if c.Health, c.Why, err = v.compareContent(ctx, s, info); err != nil {
		*c = c.unknown(err)
	}
	if info.Cluster == nil {
		return true
	}
	if late := info.Cluster.Behind(); len(late) > 0 && c.Health == Healthy {
		c.Health, c.Why = CatchingUp, "without all of it, or away: "+strings.Join(late, ", ")
		return true
	}
	return c.Health == Healthy // a leader that has just begun may still apply what it has
}

// leaderless is how something stands that has no leader.
func leaderless(c *jetstream.ClusterInfo) (Health, string) {
	if c.HasQuorum() {
		return CatchingUp, "its servers are about to choose a leader"
	}
	var away []string
	for _, r := range c.Replicas {
		if r.Offline {
			away = append(away, r.Name)
		}
	}
	return NoQuorum, fmt.Sprintf("%d of the %d servers that hold it are away: %s", len(away), len(c.Replicas), strings.Join(away, ", "))
}

// compareContent says whether the server's stream is the snapshot's, and has come as far.
func (v *survey) compareContent(ctx context.Context, s *StreamPlan, info *jetstream.StreamInfo) (Health, string, error) {
	created := s.log.held.Document.Jetsam.Created
	same := created.IsZero() || created.Equal(info.Created)
	anew := fmt.Sprintf("it was created again at %s", info.Created.UTC().Format(time.RFC3339))
	if info.LastSeq < s.log.state.LastSeq {
		behind := fmt.Sprintf("its last sequence is %d, in the snapshot %d", info.LastSeq, s.log.state.LastSeq)
		if same {
			return Behind, behind, nil
		}
		return Diverged, anew + ", and " + behind, nil
	}
	seq, equal, err := v.common(ctx, s, info.LastSeq)
	switch {
	case err != nil:
		return Unknown, "", err
	case seq > 0 && !equal:
		return Diverged, fmt.Sprintf("message %d is another one than in the snapshot", seq), nil
	case same:
		return Healthy, "", nil
	case seq == 0 && len(s.stretches) > 0:
		return Diverged, anew + ", and has none of the snapshot's last messages", nil
	}
	return Healthy, anew + ", with what the snapshot has", nil
}

// consumers says how the snapshot's consumers of the stream stand.
func (v *survey) consumers(ctx context.Context, s *StreamPlan, c *Condition) {
	if s.captured == nil || len(s.captured.Consumers) == 0 {
		return
	}
	found, err := v.conn.Consumers(ctx, s.Name)
	var missing *jetstream.MissingError
	if err != nil && !errors.As(err, &missing) {
		*c = c.unknown(err)
		return
	}
	have := make(map[string]*jetstream.ConsumerInfo, len(found))
	for _, info := range found {
		have[info.Name] = info
	}
	for _, x := range s.captured.Consumers {
		var unheard error
		if missing != nil {
			unheard = missing.Reasons[x.Name]
		}
		want, err := archive.ParseConsumer(x.JSON)
		if err != nil {
			c.Consumers = append(c.Consumers, ConsumerCondition{x.Name, Unknown, err.Error()})
			continue
		}
		if have[x.Name] == nil && unheard == nil && want.Durable == "" {
			continue
		}
		one := ConsumerCondition{Name: x.Name}
		one.Health, one.Why = compareConsumer(want, have[x.Name], unheard)
		c.Consumers = append(c.Consumers, one)
	}
}

// compareConsumer says how a consumer stands of which the server said got, or of which it is unheard.
func compareConsumer(want archive.ConsumerState, got *jetstream.ConsumerInfo, unheard error) (Health, string) {
	switch {
	case unheard != nil:
		return NoQuorum, fmt.Sprintf("it exists, and no server says more of it: %v", unheard)
	case got == nil:
		return Lost, "the stream has no consumer of that name"
	case got.Cluster != nil && got.Cluster.Leader == "":
		return leaderless(got.Cluster)
	}
	did, was, is := "acknowledged", want.AckFloor.Stream, got.AckFloor.Stream
	if want.AckPolicy == "none" {
		did, was, is = "delivered", want.Delivered.Stream, got.Delivered.Stream
	}
	if is < was {
		return Behind, fmt.Sprintf("it has %s up to message %d, in the snapshot up to %d: what lies between comes again", did, is, was)
	}
	if got.Cluster != nil {
		if late := got.Cluster.Behind(); len(late) > 0 {
			return CatchingUp, "without all of it, or away: " + strings.Join(late, ", ")
		}
	}
	return Healthy, ""
}
