package restore

import (
	"encoding/json"
	"strings"

	"jetsam/jetstream"
)

// Existing says what becomes of a stream whose name is taken on the server.
type Existing int

const (
	RefuseExisting  Existing = iota // it is a conflict
	SkipExisting                    // it is left as it is, also where no server says more than that it exists
	UpdateExisting                  // its configuration becomes what it shall be; its messages and consumers stay
	ReplaceExisting                 // the restored stream takes its place
	MissingOnly                     // it is left as it is, whatever state it is in, also where no server says more than that it exists
)

// Parts says what of a stream is restored.
type Parts int

const (
	Everything    Parts = iota
	ConfigOnly          // an empty stream
	ConsumersOnly       // its consumers, into the stream that is on the server
)

// Action is what is done with a stream.
type Action int

const (
	Create       Action = iota // it is restored as a new stream
	Skip                       // the server's stream is left as it is
	Replace                    // it is restored, and takes the place of the server's
	Update                     // the configuration of the server's is changed
	Configure                  // a new stream without messages is made
	AddConsumers               // the server's stream gets consumers
)

// check returns a *RequestError for options that make no sense, or exclude each other. moment is whether the time of the cut chooses the snapshots.
func (o Options) check(moment bool) error {
	cut := o.bounds(moment)
	switch {
	case o.Parts != Everything && (!cut.IsZero() || cut.KeepLastSeq):
		return &RequestError{Reason: "no messages are restored: there is nothing to cut"}
	case o.Parts != Everything && o.Existing == ReplaceExisting, o.Parts == ConsumersOnly && o.Existing == UpdateExisting:
		return &RequestError{Reason: "only a part of a stream is restored: it cannot take the place of another"}
	case o.Parts == ConsumersOnly && o.NoConsumers:
		return &RequestError{Reason: "consumers only, and none of them: there is nothing to restore"}
	case o.Parts == ConsumersOnly && o.Target.changesConfig():
		return &RequestError{Reason: "consumers only: the stream stays configured as it is"}
	case o.Parts == ConsumersOnly && o.Existing == MissingOnly:
		return &RequestError{Reason: "consumers are added to streams that exist, and only streams that are missing are wanted"}
	case o.Existing == ReplaceExisting && o.Save == nil:
		return &RequestError{Reason: "a stream is replaced only where it can be saved before"}
	}
	return o.Cut.Check()
}

// decide says what is done with each stream, by what the server has.
func (p *Plan) decide(existing []*jetstream.StreamInfo, there map[string]*jetstream.StreamInfo) {
	copies := map[string][]string{}
	for _, info := range existing {
		if of, is := info.Metadata[copyName]; is {
			copies[of] = append(copies[of], info.Name)
		}
	}
	for _, s := range p.Streams {
		if s.LeftAlone != "" {
			continue
		}
		p.decideOne(s, there[s.Name])
		for _, name := range copies[s.Name] {
			s.warning("stream %s is the copy that a restore made to replace this one, and that was interrupted: delete it when all is well", name)
		}
	}
}

// decideOne says what is done with a stream where the server has live under its name, or nil.
func (p *Plan) decideOne(s *StreamPlan, live *jetstream.StreamInfo) {
	o := p.Options
	if o.Parts == ConfigOnly {
		s.Action = Configure
	}
	if o.Parts == ConsumersOnly {
		s.Action = AddConsumers
	}
	if s.Nothing != "" {
		return
	}
	if live != nil && closedBy(live.StreamSettings) != "" {
		s.warning("nothing comes into the stream of that name: a restore that replaces it has taken its subjects away, and is at work or was interrupted; "+
			"metadata %s says which it had, and --replace or --update-config give them back", closedName)
	}
	_, unfinished := unfinishedRestore(live)
	switch {
	case live == nil && o.Parts == ConsumersOnly:
		s.conflict("restore it whole", "there is no stream of that name to add consumers to")
	case live == nil:
	case o.Existing == MissingOnly:
		s.Action = Skip
		s.tellLeftAlone(live, unfinished)
	case unfinished && o.Parts == Everything: // which will be looked at
	case unfinished:
		s.conflict("end that by the same restore again, or delete what it left", "an unfinished restore left a stream of that name")
	case o.Parts == ConsumersOnly:
		s.live = live
	case o.Existing == SkipExisting:
		s.Action = Skip
	case o.Existing == UpdateExisting:
		s.Action, s.live = Update, live
		if s.wanted != nil { // though messages be damaged
			s.Damage, s.Lost = nil, nil
		}
	case o.Existing == ReplaceExisting:
		s.Action, s.live = Replace, live
	case s.Damage == nil:
		s.conflict("choose other streams, or say what becomes of it with --skip-existing, --update-config or --replace", "a stream of that name exists")
	}
}

// tellLeftAlone says of a stream that exists, and is left as it is, why it may not be whole.
func (s *StreamPlan) tellLeftAlone(live *jetstream.StreamInfo, unfinished bool) {
	switch {
	case unfinished:
		s.LeftAlone = "an unfinished restore left it; the same restore of it without --missing ends that"
	case live.Cluster != nil && live.Cluster.Leader == "":
		s.LeftAlone = "the servers that hold it have no leader at the moment"
	}
}

// unfinishedRestore is the mark of a restore that did not end, on a stream that it made. Somebody may have copied the mark: the stream is then
// older, or younger.
func unfinishedRestore(info *jetstream.StreamInfo) (marker, bool) {
	if info == nil {
		return marker{}, false
	}
	m, ok := parseMarker(info.Metadata[markerName])
	return m, ok && m.began.Sub(info.Created).Abs() <= clockSkew
}

// closedName is the entry of a stream's metadata that says what it listened to, and copied from, before a restore that replaces it took that away, so
// that nothing came into it any more. Its value is a JSON object of these fields of the configuration.
const closedName = "jetsam-closed"

// closedFields are the fields of a configuration by which messages come into a stream.
var closedFields = []string{"subjects", "sources"}

// closedPrefix is how the subject begins that a closed stream listens to; the name of the run that closed it follows, and that of the stream.
const closedPrefix = "jetsam-closed."

// closedBy is the run that keeps messages out of a stream of these settings, or empty. One that was given subjects by hand is not closed any more.
func closedBy(s jetstream.StreamSettings) string {
	if _, found := s.Metadata[closedName]; !found || len(s.Subjects) != 1 {
		return ""
	}
	rest, found := strings.CutPrefix(s.Subjects[0], closedPrefix)
	run, _, _ := strings.Cut(rest, ".")
	if !found || len(run) > maxRun {
		return ""
	}
	return run
}

// closed is a stream's configuration with which nothing comes into it.
func closed(config json.RawMessage, subject string) (json.RawMessage, error) {
	was, err := jetstream.Fields(config, closedFields...)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	if config, err = jetstream.WithMetadata(config, closedName, string(text)); err != nil {
		return nil, err
	}
	return jetstream.WithChanges(config, map[string]any{"subjects": []string{subject}, "sources": nil})
}

// opened is a stream's configuration as it was before it was closed, and whether it was.
func opened(config json.RawMessage) (json.RawMessage, bool, error) {
	_, settings, err := jetstream.ParseSettings(config)
	if err != nil {
		return nil, false, err
	}
	was := map[string]json.RawMessage{}
	if closedBy(settings) == "" || json.Unmarshal([]byte(settings.Metadata[closedName]), &was) != nil { // what others wrote there means nothing
		return config, false, nil
	}
	changes := map[string]any{}
	for _, field := range closedFields {
		changes[field] = nil
		if raw, ok := was[field]; ok {
			changes[field] = raw
		}
	}
	if config, err = jetstream.WithoutMetadata(config, closedName); err != nil {
		return nil, false, err
	}
	config, err = jetstream.WithChanges(config, changes)
	return config, true, err
}
