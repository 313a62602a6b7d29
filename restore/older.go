package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/jetstream/legacy"
)

// Servers before 2.15 restore a stream from the files of their own store, which they only look at when they have them all: an archive of messages means
// nothing to them. They make what they can of files and configurations, and say little of the rest. So what they cannot hold is refused before.

// unsupported is where fields are that the servers do not know.
type unsupported struct {
	stream    []jetstream.UnknownField
	consumers []jetstream.UnknownField // by path, each once
	having    map[string][]string      // the names of the consumers that have them, by path
}

// simplify leaves out of the configurations what servers of the target's release do not know. Where that says something, the stream is a conflict, unless it
// shall go on without.
func (p *Plan) simplify(s *StreamPlan) error {
	u := &unsupported{having: map[string][]string{}}
	config, unknown, err := p.release.KnownOfStream(s.wanted)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	u.stream = unknown
	consumers, err := p.simplifyConsumers(s, u)
	if err != nil {
		return err
	}
	if len(u.stream)+len(u.consumers) > 0 && !p.Options.Target.DropUnsupported && p.conn != nil {
		s.conflict("restore to a newer server, or without that with --drop-unsupported"+u.means(": "),
			"servers of %v do not know what its configuration says: %s", p.release, u)
		return nil
	}
	if len(u.stream)+len(u.consumers) > 0 {
		s.warning("servers of %v do not know what its configuration says, and it is restored without: %s%s", p.release, u, u.means("; "))
	}
	s.wanted = config
	if _, s.config, err = jetstream.ParseSettings(config); err != nil {
		return fmt.Errorf("stream %s: %w", s.Source, err)
	}
	if consumers == nil {
		return nil
	}
	s.captured = s.captured.WithConsumers(consumers)
	return p.settle(s)
}

// simplifyConsumers is what the servers know of the consumers that will be restored, or nil where none will be.
func (p *Plan) simplifyConsumers(s *StreamPlan, u *unsupported) ([]archive.Consumer, error) {
	if s.captured == nil || s.Action == Update || s.Action == Configure {
		return nil, nil
	}
	consumers := slices.Clone(s.captured.Consumers)
	for i, c := range consumers {
		config, err := c.Config()
		if err != nil {
			return nil, fmt.Errorf("stream %s: consumer %s: %w", s.Source, c.Name, err)
		}
		known, unknown, err := p.release.KnownOfConsumer(config)
		if err != nil {
			return nil, fmt.Errorf("stream %s: consumer %s: %w", s.Source, c.Name, err)
		}
		u.add(c.Name, unknown)
		if known, err = p.keepInFile(s, c, known); err != nil {
			return nil, err
		}
		consumers[i] = c.WithConfig(known)
	}
	return consumers, nil
}

// keepInFile has a consumer that is kept in memory kept in a file, or makes it a conflict: where it stands, servers before 2.15 restore from files alone.
func (p *Plan) keepInFile(s *StreamPlan, c archive.Consumer, config json.RawMessage) (json.RawMessage, error) {
	var says struct {
		InMemory bool `json:"mem_storage"`
	}
	state, err := archive.ParseConsumer(c.JSON)
	if err == nil {
		err = json.Unmarshal(config, &says)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: consumer %s: %w", s.Source, c.Name, err)
	}
	if !says.InMemory || state.Delivered == (archive.SequencePair{}) || !s.sends() {
		return config, nil
	}
	if p.conn != nil && !p.Options.Target.DropUnsupported {
		s.conflict("keep it in a file instead with --drop-unsupported, or leave consumers out with --no-consumers",
			"its consumer %s is kept in memory, and servers before 2.15 restore such a one without where it stands; this one is of %v", c.Name, p.release)
		return config, nil
	}
	s.warning("its consumer %s is kept in memory, and servers before 2.15 would not restore where it stands: it is restored as one that is kept in a file", c.Name)
	return jetstream.WithChanges(config, map[string]any{"mem_storage": nil})
}

// add notes what is unknown of a consumer.
func (u *unsupported) add(consumer string, unknown []jetstream.UnknownField) {
	for _, f := range unknown {
		if u.having[f.Path] == nil {
			u.consumers = append(u.consumers, f)
		}
		u.having[f.Path] = append(u.having[f.Path], consumer)
	}
}

// String names the fields.
func (u *unsupported) String() string {
	var out []string
	for _, f := range u.stream {
		out = append(out, f.String())
	}
	for _, f := range u.consumers {
		const most = 3
		names := u.having[f.Path]
		text := strings.Join(names[:min(len(names), most)], ", ")
		if more := len(names) - most; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, fmt.Sprintf("%v of consumer %s", f, text))
	}
	return strings.Join(out, ", ")
}

// means says what going on without the fields means, behind a separator, or nothing.
func (u *unsupported) means(before string) string {
	var out []string
	for _, f := range slices.Concat(u.stream, u.consumers) {
		if f.Meaning != "" && !slices.Contains(out, f.Meaning) {
			out = append(out, f.Meaning)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return before + strings.Join(out, "; ")
}

// checkOlder finds what servers before 2.15 cannot hold of a stream.
func (p *Plan) checkOlder(s *StreamPlan) error {
	if p.release.Before(2, 9) {
		s.conflict("restore to nats-server 2.9 or newer", "the server is of release %v, which nobody has tried", p.release)
	}
	if s.Action == Replace {
		s.conflict("restore it under another name with --as and --no-consumers, and look whether it is what you want; when nobody publishes to this one any more, back it up, delete it, "+
			"and restore again", "only on servers of 2.15 and newer is a stream replaced in one go; this one is of %v", p.release)
	}
	if s.config.Storage == "memory" {
		s.conflict("restore it with --storage file", "it is kept in memory, and servers before 2.15 restore such a stream without its messages; this one is of %v", p.release)
	}
	if largest := s.largest(); tooLarge(largest) && !s.log.held.Document.Jetsam.Estimated && !s.isCut() {
		s.conflict("restore it to nats-server 2.15 or newer", "its largest message has %d bytes, and servers before 2.15 do not read those of more than %d from their store; this one is of %v",
			largest, legacy.MaxRecord-legacy.RecordSize(1, 0), p.release)
	}
	if p.release.Before(2, 10) {
		return p.checkFilters(s)
	}
	return nil
}

// checkFilters finds consumers that filter by what the stream does not listen to, as those of a stream under another name do. Servers of 2.9 refuse the
// stream for them, but where it copies from others.
func (p *Plan) checkFilters(s *StreamPlan) error {
	if s.config.Mirror != nil || len(s.config.Sources) > 0 {
		return nil
	}
	for _, c := range s.head.Consumers {
		state, err := archive.ParseConsumer(c.JSON)
		if err != nil {
			return fmt.Errorf("stream %s: consumer %s: %w", s.Source, c.Name, err)
		}
		for _, filter := range state.FilterSubjects {
			if !slices.ContainsFunc(subjectsOf(s.Name, s.config), func(subject string) bool {
				return jetstream.SubjectMatches(subject, []byte(filter)) || jetstream.SubjectMatches(filter, []byte(subject))
			}) {
				s.conflict("let it listen to that with --subjects, or leave consumers out with --no-consumers",
					"its consumer %s filters by %q, which the stream will not listen to, and servers of %v refuse that", c.Name, filter, p.release)
				return nil
			}
		}
	}
	return nil
}

// tooLarge says whether a message of so many bytes is more than servers before 2.15 read from their store.
func tooLarge(bytes int64) bool {
	return bytes > int64(legacy.MaxRecord-legacy.RecordSize(1, 0))
}

// askBack reads a stream back from a server before 2.15, which makes no archives: message by message, and the consumers as it reports them.
func (v *verification) askBack(ctx context.Context) error {
	s := v.s
	info, err := v.p.conn.Stream(ctx, s.Name)
	if err != nil {
		return err
	}
	s.compareConfig(info.Config, v.diff)
	if !v.p.Options.NoConsumers {
		if err := v.compareReported(ctx); err != nil {
			return err
		}
	}
	o := jetstream.FetchOptions{Way: jetstream.ByConsumer}
	if info.Retention != "limits" || strings.Contains(s.Name, "%") { // which consumers of 2.9 take for a verb of their own (nats-server 2.9.10)
		o.Way = jetstream.ByGet
	}
	got, err := v.p.conn.Fetch(ctx, s.Name, 1, s.state.LastSeq, o)
	if errors.Is(err, jetstream.ErrResourcesExceeded) { // no room for a consumer
		o.Way = jetstream.ByGet
		got, err = v.p.conn.Fetch(ctx, s.Name, 1, s.state.LastSeq, o)
	}
	if err != nil {
		return err
	}
	defer got.Close()
	want, stop := v.p.messages(ctx, s)
	defer stop()
	return v.compareMessages(want, got.Next)
}

// compareReported compares the consumers with what the server reports of them: their configuration, where they stand, how many messages they wait for
// and have redelivered. Which these are, no API tells.
func (v *verification) compareReported(ctx context.Context) error {
	found, err := v.p.conn.Consumers(ctx, v.s.Name)
	if err != nil {
		return err
	}
	byName := map[string]*jetstream.ConsumerInfo{}
	for _, c := range found {
		byName[c.Name] = c
	}
	for _, c := range v.s.head.Consumers {
		got := byName[c.Name]
		delete(byName, c.Name)
		if err := v.compareOne(c, got); err != nil {
			return err
		}
	}
	for name, got := range byName {
		v.made[name] = true
		v.takers = v.takers || got.Delivered.Stream > 0 && v.s.keepsUntilAcknowledged()
	}
	return nil
}

func (v *verification) compareOne(c archive.Consumer, got *jetstream.ConsumerInfo) error {
	want, err := archive.ParseConsumer(c.JSON)
	if err != nil {
		return err
	}
	if got == nil {
		if want.Durable != "" {
			v.diff.add("consumer %s is missing", c.Name)
		}
		return nil
	}
	config, err := c.Config()
	if err != nil {
		return err
	}
	compareSaid("consumer "+c.Name, config, got.Config, v.diff)
	switch behind, moved := comparePosition(want, got); {
	case behind != "":
		v.diff.add("consumer %s %s", c.Name, behind)
	case moved:
		v.ahead[c.Name] = true
		v.takers = v.s.keepsUntilAcknowledged()
	case got.Redelivered != want.Redelivered:
		v.diff.add("consumer %s has redelivered %d messages, in the snapshot %d", c.Name, got.Redelivered, want.Redelivered)
	}
	return nil
}
