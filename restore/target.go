package restore

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// Target says how streams shall be on the server, where that is otherwise than in the snapshot. The zero value changes nothing.
type Target struct {
	As     string            // name of the one stream
	Rename map[string]string // names of streams: old to new

	// Subjects that the one stream listens to. Without them, a stream under another name listens to that name only, and a bucket to the
	// subjects of a bucket of the other name; what is stored keeps its subjects, but for that of a bucket.
	Subjects []string

	Replicas      int             // 0: as it was
	Storage       string          // "file" or "memory"; empty: as it was
	Cluster       string          // where the stream is placed; with PlacementTags empty: as it was
	PlacementTags []string        //
	Config        json.RawMessage // of the one stream, instead of its own, but for the name; nil: its own

	// Alone lets streams stand for themselves on one server, for as long as they are looked at: in files, without replicas, placement, mirror, sources
	// and republishing, without schedules and room set aside, and nothing of them expires. Nobody uses them: what is otherwise than it was sent is a difference.
	Alone bool

	// DropUnsupported leaves out of configurations what servers of the target's release do not know, instead of refusing the streams.
	DropUnsupported bool

	// ApplyLimits lets a stream have its max_age where that has passed for what is restored, so that the server removes it at once.
	// Without it, such a stream is restored without max_age.
	ApplyLimits bool
}

// isZero says whether streams are restored as they were.
func (t Target) isZero() bool {
	return t.As == "" && len(t.Rename) == 0 && len(t.Subjects) == 0 && t.Replicas == 0 && t.Storage == "" && t.Cluster == "" &&
		len(t.PlacementTags) == 0 && t.Config == nil && !t.Alone && !t.ApplyLimits && !t.DropUnsupported
}

// changesConfig says whether streams shall be configured otherwise than they were.
func (t Target) changesConfig() bool {
	t.As, t.Rename, t.DropUnsupported = "", nil, false
	return !t.isZero()
}

// aim gives the streams of the plan the names that they shall have.
func (p *Plan) aim() error {
	t := p.Options.Target
	if one := t.As != "" || len(t.Subjects) > 0 || t.Config != nil; one && len(p.Streams) != 1 {
		return &RequestError{Reason: fmt.Sprintf("%d streams are chosen: a name, subjects or a configuration are for one", len(p.Streams))}
	}
	if len(t.Rename) > 0 && t.As != "" {
		return &RequestError{Reason: "a stream cannot be renamed in two ways at once"}
	}
	for _, f := range t.Subjects {
		if err := jetstream.CheckFilter(f); err != nil {
			return &RequestError{Reason: err.Error()}
		}
	}
	taken, used := map[string]string{}, map[string]bool{}
	for _, s := range p.Streams {
		s.Source, used[s.Name] = s.Name, true
		if name, ok := t.Rename[s.Name]; ok {
			s.Name = name
		}
		if t.As != "" {
			s.Name = t.As
		}
		if err := jetstream.CheckStreamName(s.Name); err != nil {
			return &RequestError{Stream: s.Source, Reason: err.Error()}
		}
		if other, ok := taken[s.Name]; ok {
			return &RequestError{Stream: s.Source, Reason: fmt.Sprintf("%s would have the same name: %s", other, s.Name)}
		}
		taken[s.Name] = s.Source
	}
	for old := range t.Rename {
		if !used[old] {
			return &RequestError{Stream: old, Reason: "it shall be renamed, but is not among the chosen streams"}
		}
	}
	return nil
}

// renamed says whether the stream gets another name.
func (s *StreamPlan) renamed() bool { return s.Name != s.Source }

// configure makes the configuration that the stream shall have in the end: the snapshot's, without the marker of a restore that was under way
// when it was captured, and changed as was asked for.
func (s *StreamPlan) configure(o Options) error {
	t := o.Target
	wanted, wasClosed, err := opened(s.log.held.Document.Config)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	if wasClosed {
		s.warning("it was captured while a restore that replaced it kept messages out: it is restored with the subjects and sources of before")
	}
	if t.Config != nil {
		wanted = t.Config
	}
	if _, s.config, err = jetstream.ParseSettings(wanted); err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	changes := map[string]any{}
	if s.renamed() || t.Config != nil {
		changes["name"] = s.Name
	}
	if subjects := s.newSubjects(t); subjects != nil {
		changes["subjects"] = subjects
	}
	if t.Replicas > 0 {
		changes["num_replicas"] = t.Replicas
	}
	if t.Storage != "" {
		changes["storage"] = t.Storage
	}
	if t.Cluster != "" || len(t.PlacementTags) > 0 {
		changes["placement"] = placement{t.Cluster, t.PlacementTags}
	}
	if t.Alone {
		maps.Copy(changes, alone)
	} else if o.Parts == Everything && !o.Cut.IsZero() && !o.KeepSources && (s.config.Mirror != nil || len(s.config.Sources) > 0) {
		changes["mirror"], changes["mirror_direct"], changes["sources"] = nil, nil, nil
		s.warning("it copies from other streams, and would fill up again beyond what was chosen: it is restored without its mirror and sources; --keep-sources keeps them")
	}
	if wanted, err = jetstream.WithChanges(wanted, changes); err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	if s.wanted, err = jetstream.WithoutMetadata(wanted, markerName); err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	if _, found := s.config.Metadata[markerName]; found {
		s.warning("it was captured while a restore of it was unfinished: it may not be whole")
	}
	if _, s.config, err = jetstream.ParseSettings(s.wanted); err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	return nil
}

// alone is what Target.Alone changes.
var alone = map[string]any{
	"storage": "file", "num_replicas": 1, "placement": nil, "mirror": nil, "mirror_direct": nil, "sources": nil, "republish": nil,
	"max_bytes": -1, "max_age": 0, "allow_msg_ttl": nil, "subject_delete_marker_ttl": nil, "allow_msg_schedules": nil,
}

// placement is where a stream shall be, as nats-server has it.
type placement struct {
	Cluster string   `json:"cluster,omitempty"`
	Tags    []string `json:"tags,omitempty"`
}

// newSubjects are the subjects that the stream shall listen to, or nil where they stay.
func (s *StreamPlan) newSubjects(t Target) []string {
	switch {
	case len(t.Subjects) > 0:
		return t.Subjects
	case !s.renamed() || t.Config != nil || s.config.Mirror != nil:
		return nil
	}
	if old, now, ok := s.bucket(); ok {
		subjects := slices.Clone(s.config.Subjects)
		for i, subject := range subjects {
			subjects[i] = respell(subject, old, now)
		}
		return subjects
	}
	if len(s.config.Subjects) == 0 && len(s.config.Sources) > 0 {
		return nil
	}
	return []string{s.Name}
}

// bucket says how the subjects of a bucket begin, under its name in the snapshot and under the new one. ok is whether they change: clients of
// a key-value or object store know what is in it by subjects that have its name in them.
func (s *StreamPlan) bucket() (old, now string, ok bool) {
	for _, kind := range []struct{ stream, subject string }{{"KV_", "$KV."}, {"OBJ_", "$O."}} {
		was, first := strings.CutPrefix(s.Source, kind.stream)
		is, second := strings.CutPrefix(s.Name, kind.stream)
		if first && second && was != is {
			return kind.subject + was + ".", kind.subject + is + ".", true
		}
	}
	return "", "", false
}

func respell(subject, old, now string) string {
	if rest, ok := strings.CutPrefix(subject, old); ok {
		return now + rest
	}
	return subject
}

// respelled yields next's messages with the subjects that they shall have.
func (s *StreamPlan) respelled(next func() (*archive.Message, error)) func() (*archive.Message, error) {
	old, now, ok := s.bucket()
	if !ok {
		return next
	}
	var own archive.Message
	return func() (*archive.Message, error) {
		m, err := next()
		if err != nil || !strings.HasPrefix(string(m.Subject), old) {
			return m, err
		}
		own.Set(now+string(m.Subject[len(old):]), m.Time, m.Seq, m.Header, m.Payload)
		return &own, nil
	}
}

// leaveOutPush leaves out the push consumers of a stream that is restored beside the one that it was: both would deliver to the same subjects.
func (p *Plan) leaveOutPush(s *StreamPlan, there map[string]*jetstream.StreamInfo) error {
	if !s.renamed() || there[s.Source] == nil {
		return nil
	}
	kept, left, err := s.splitPush()
	if err != nil {
		return err
	}
	if len(left) == 0 {
		return nil
	}
	if s.config.Retention == "interest" && len(kept) > 0 {
		// What the others have acknowledged nobody would wait for any more, and the server would drop it.
		kept = nil
		s.warning("its retention is interest: without the push consumers the server would drop messages, so that none of its consumers is restored")
	}
	s.captured = s.captured.WithConsumers(kept)
	s.warning("stream %s is on the server, and push consumers of both would deliver to the same subjects: they are left out: %s", s.Source, strings.Join(left, ", "))
	return p.settle(s)
}

// splitPush parts the stream's consumers into those that are asked for messages, and the names of those that push them.
func (s *StreamPlan) splitPush() (pull []archive.Consumer, push []string, err error) {
	for _, c := range s.captured.Consumers {
		state, err := archive.ParseConsumer(c.JSON)
		if err != nil {
			return nil, nil, fmt.Errorf("stream %s: consumer %s: %w", s.Source, c.Name, err)
		}
		if state.DeliverSubject != "" {
			push = append(push, c.Name)
			continue
		}
		pull = append(pull, c)
	}
	return pull, push, nil
}
