package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"jetsam/blob"
	"jetsam/internal/strictjson"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/streamlog"
)

// An increment goes on from the log of an earlier snapshot: it asks which messages died since, fetches those that came, and keeps the rest.

// errMuchNew: reading the whole stream is less work.
var errMuchNew = errors.New("much of the stream is new")

const (
	// muchNew is the share of a stream's messages, as one in so many, from which on they are read with the whole stream; fewNew is a number
	// of messages that is never much.
	muchNew = 4
	fewNew  = 1000
	// fewToGet is how many messages are asked for one by one where nothing else is allowed.
	fewToGet = 50_000
)

// errNoAncestor: there is nothing to go on from.
var errNoAncestor = errors.New("no earlier snapshot holds it, so that there is nothing to go on from")

// needsFull says whether a full capture may do what an increment cannot.
func needsFull(err error) bool {
	return errors.Is(err, streamlog.ErrUnfit) || errors.Is(err, errMuchNew) || errors.Is(err, jetstream.ErrNotVerbatim)
}

// increment is the capture of what a stream has become since an earlier snapshot.
type increment struct {
	b      *run
	name   string
	parent ancestor
	log    *streamlog.Log

	consumers *consumers
	info      *jetstream.StreamInfo // the stream, as it is captured
	through   uint64                // the last message that the log and the stream have in common
	goesOn    bool                  // that is the last one of the log
	other     bool                  // a message of the log has another in its place in the stream
	dead      *streamlog.Dead       // what the stream does not have up to its last sequence
	full      bool                  // from the stream's first sequence on, both have every one that is common
	want      uint64                // messages that came
	received  uint64
	way       string
}

// captureIncrement captures a stream as the continuation of an earlier snapshot's log. It is streamlog.ErrUnfit or errMuchNew where the
// whole stream must, or had better, be read.
func (b *run) captureIncrement(ctx context.Context, name string, k *breaks) (*capture, error) {
	i := &increment{b: b, name: name, parent: b.ancestors[name]}
	began := time.Now()
	err := i.prepare(ctx)
	k.other = k.other || i.other
	if err != nil {
		return nil, err
	}
	r, err := i.read(ctx, k)
	if err != nil {
		return nil, err
	}
	defer r.close()
	m, err := i.log.Continue(ctx, saver{b.w}, streamlog.Next{
		Through: i.through, Dead: i.dead, Full: i.full, Cut: b.cut.Fresh(), Messages: r.messages(ctx),
	})
	if err != nil {
		return nil, err
	}
	r.close()
	if err := i.rebase(r, m); err != nil {
		return nil, err
	}
	came := r.living(&m.Came)
	v, err := i.judge(ctx, came, r.gaps)
	if err != nil {
		return nil, err
	}
	live := i.info.Messages - (i.want - came.Count)
	c := &capture{StreamResult: StreamResult{
		Name: name, Messages: live, Bytes: contentOf(i.info, live), FirstSeq: i.info.FirstSeq, Consumers: len(i.consumers.all), Captured: began,
		Created: i.info.Created, Recreated: i.recreated(), Removed: v.removed, Torn: v.torn, Way: i.way, Parent: i.parent.snapshot, Through: i.through, New: m.Came.Count,
		Received: i.received + r.received, Resumed: r.resumed, FailedConsumers: i.consumers.failed,
	}}
	switch {
	case live == 0:
		c.FirstSeq = 0
	case came.Count > 0:
		c.LastSeq = came.Last
	default:
		c.LastSeq = i.through
	}
	c.note(i.parent, i.info.LastSeq, k.other)
	if same, err := i.unchanged(ctx, c); same || err != nil {
		return c, err
	}
	return c, i.save(ctx, c, r, m)
}

// recreated says that the stream is not the one that the earlier snapshot holds, although it goes on from there. In a cluster that is not known
// of a restored stream that has all of the snapshot: its servers do not agree on when it was created, see [jetstream.StreamInfo.IsSame].
func (i *increment) recreated() string {
	state, err := archive.ParseState(i.info.State)
	if err != nil || i.info.Cluster != nil && i.goesOn && state.FirstTime.Before(i.info.Created) {
		return ""
	}
	return recreated(i.parent, i.info.Created, state)
}

// unchanged finds out whether the stream is, to the byte, what the earlier snapshot holds. Then that directory is taken as it is.
func (i *increment) unchanged(ctx context.Context, c *capture) (bool, error) {
	was := i.log.Stream.Document
	if i.want > 0 || i.died() || c.Torn != "" || len(c.FailedConsumers)+len(was.Jetsam.Failed) > 0 || c.Recreated != was.Jetsam.Recreated || !c.Created.Equal(was.Jetsam.Created) ||
		!sameJSON(was.Config, i.info.Config) || !sameCounts(was.State, i.info.State) {
		return false, nil
	}
	head, err := i.log.Stream.Head(ctx)
	if err != nil {
		return false, fmt.Errorf("%w: %w", streamlog.ErrUnfit, err)
	}
	if !slices.EqualFunc(head.Consumers, i.consumers.all, func(x, y archive.Consumer) bool { return x.Name == y.Name && sameJSON(x.JSON, y.JSON) }) {
		return false, nil
	}
	c.node, c.Unchanged, c.Bytes = i.log.Stream.Node(), true, was.Jetsam.MessageBytes
	return true, nil
}

// source is the repository as an increment reads it: without blobs in packs that are gone.
type source struct {
	*repo.Reader
	w *repo.Writer
}

func (s source) Size(h blob.Handle) (uint32, bool) {
	if !s.w.Has(h) {
		return 0, false
	}
	return s.Reader.Size(h)
}

// prepare finds out how the stream stands, what it has in common with the earlier log, and what of that died.
func (i *increment) prepare(ctx context.Context) error {
	src := source{i.b.w.Reader(), i.b.w}
	stream, err := i.parent.open(ctx, src)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", streamlog.ErrUnfit, err)
	}
	if i.log, err = streamlog.OpenLog(ctx, src, stream); err != nil {
		return err
	}
	// Consumers first: so none of them stands beyond the messages.
	if i.consumers, err = i.b.readConsumers(ctx, i.name, i.stood); err != nil {
		return err
	}
	i.received = i.consumers.received
	if i.info, err = i.look(ctx); err != nil {
		return err
	}
	if err := i.findCommon(ctx); err != nil {
		return err
	}
	if i.info.Config, err = storedConfig(i.info.Config); err != nil {
		return err
	}
	i.want = i.info.LastSeq - i.through - i.dead.Count(i.through+1, i.info.LastSeq)
	if i.want > fewNew && i.want > i.info.Messages/muchNew && i.b.o.Mode != ModeIncremental {
		return errMuchNew
	}
	return nil
}

// look asks how the stream stands.
func (i *increment) look(ctx context.Context) (*jetstream.StreamInfo, error) {
	info, err := i.b.conn.Stream(ctx, i.name)
	if err != nil {
		return nil, fmt.Errorf("look at the stream: %w", err)
	}
	i.received += uint64(len(info.Raw))
	return info, nil
}

// lookClosely asks how the stream stands, and for every sequence that it does not have.
func (i *increment) lookClosely(ctx context.Context) error {
	if i.info.Deleted > maxDeleted {
		return fmt.Errorf("%w: the stream lacks %d sequences between its first and its last, more than it can be asked for", streamlog.ErrUnfit, i.info.Deleted)
	}
	info, deleted, err := i.b.conn.StreamDeleted(ctx, i.name)
	if err != nil {
		return fmt.Errorf("ask for the sequences that the stream lost: %w", err)
	}
	i.received += uint64(len(info.Raw))
	i.info = info
	i.dead = deadOf(info, deleted)
	if have := info.LastSeq - i.dead.Count(1, info.LastSeq); have != info.Messages {
		return fmt.Errorf("%w: the stream has %d messages up to %d, and by the sequences that it lacks %d", streamlog.ErrUnfit, info.Messages, info.LastSeq, have)
	}
	return nil
}

// deadOf are the sequences that a stream does not have, up to its last one: all below its first, and those that were deleted behind that.
func deadOf(info *jetstream.StreamInfo, deleted []uint64) *streamlog.Dead {
	return streamlog.NewDead(func(yield func(streamlog.Run) bool) {
		if !yield(streamlog.Run{First: 1, Last: max(info.FirstSeq, 1) - 1}) {
			return
		}
		for _, seq := range deleted {
			if !yield(streamlog.Run{First: seq, Last: seq}) {
				return
			}
		}
	})
}

// storedConfig is a configuration as a snapshot has it: without what a server adds to its metadata when it is asked (nats-server 2.11 and
// newer, setDynamicStreamMetadata).
func storedConfig(config json.RawMessage) (json.RawMessage, error) {
	var c struct {
		Metadata json.RawMessage `json:"metadata"`
	}
	if err := json.Unmarshal(config, &c); err != nil || len(c.Metadata) == 0 {
		return config, err
	}
	metadata, err := without(c.Metadata, "_nats.ver", "_nats.level")
	if err != nil || bytes.Equal(metadata, c.Metadata) {
		return config, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	fields["metadata"] = metadata
	return encode(fields)
}

// without is a JSON object without some of its members; one that has none of them is returned as it is.
func without(object json.RawMessage, names ...string) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, fmt.Errorf("decode what the server says of the stream: %w", err)
	}
	n := len(fields)
	for _, name := range names {
		delete(fields, name)
	}
	if len(fields) == n {
		return object, nil
	}
	return encode(fields)
}

func encode(fields map[string]json.RawMessage) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(fields)
	return bytes.TrimSpace(b.Bytes()), err
}

// findCommon finds the last message that the log and the stream have in common. Streams only grow at their end, and what died stays dead: so
// up to that message both had the same.
func (i *increment) findCommon(ctx context.Context) error {
	was, err := archive.ParseState(i.log.Stream.Document.State)
	if err != nil {
		return fmt.Errorf("%w: %w", streamlog.ErrUnfit, err)
	}
	top, err := i.log.Highest(ctx, i.info.LastSeq, i.log.Dead)
	if err != nil {
		return err
	}
	if top == nil {
		return fmt.Errorf("%w: it holds no message that the stream may have", streamlog.ErrUnfit)
	}
	same, err := i.has(ctx, top)
	if err != nil {
		return err
	}
	i.goesOn = same && i.info.LastSeq >= was.LastSeq
	if same && i.info.Deleted == 0 && i.info.FirstSeq == was.FirstSeq && i.info.LastSeq >= was.LastSeq &&
		i.info.Messages == i.log.Stream.Document.Jetsam.Messages+i.info.LastSeq-top.Seq {
		// The stream lacks none from its first to its last, and the log has as many up to the common one: so both have all of them.
		i.through, i.dead, i.full = top.Seq, deadOf(i.info, nil), true
		return nil
	}
	if err := i.lookClosely(ctx); err != nil {
		return err
	}
	if i.through, err = i.bisect(ctx); err != nil {
		return err
	}
	if i.through == 0 {
		return fmt.Errorf("%w: the stream has none of its messages any more", streamlog.ErrUnfit)
	}
	return nil
}

// has says whether the stream has that very message.
func (i *increment) has(ctx context.Context, e *streamlog.Entry) (bool, error) {
	m, err := i.b.conn.Message(ctx, i.name, e.Seq)
	if errors.Is(err, jetstream.ErrMessageNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("compare message %d: %w", e.Seq, err)
	}
	i.received += uint64(len(m.Raw))
	same := e.Equal(m)
	i.other = i.other || !same
	return same, nil
}

// bisect is the highest sequence at which log and stream have the same message, of those that both say they have; 0 if there is none.
func (i *increment) bisect(ctx context.Context) (uint64, error) {
	dead := i.dead.Union(i.log.Dead)
	var common uint64
	low, high := uint64(0), i.info.LastSeq+1 // what is at low or below is common, or there is nothing; at high or above nothing is
	for probe := i.info.LastSeq; high-low > 1; probe = low + (high-low)/2 {
		e, err := i.log.Highest(ctx, probe, dead)
		if err != nil {
			return 0, err
		}
		if e == nil || e.Seq <= low {
			low = probe
			continue
		}
		same, err := i.has(ctx, e)
		if err != nil {
			return 0, err
		}
		if same {
			common, low = e.Seq, probe
		} else {
			high = e.Seq
		}
	}
	return common, nil
}

// read begins to fetch what came.
func (i *increment) read(ctx context.Context, k *breaks) (*reading, error) {
	w := way{next: nothing}
	i.way = WayNone
	if i.want > 0 {
		var err error
		if w, i.way, err = i.b.fetch(ctx, i.info, i.through+1, i.want, i.dead.Has); err != nil {
			return nil, err
		}
	}
	return i.b.newReading(standing{view: view{StreamInfo: i.info}, state: i.newState()}, w, k), nil
}

// rebase takes the stream as it stood when its reading was last gone on with.
func (i *increment) rebase(r *reading, m *streamlog.Continued) error {
	if len(r.resumed) == 0 {
		return nil
	}
	was := i.dead.Within(1, i.through)
	i.info, i.consumers = r.as.StreamInfo, &consumers{all: r.as.head.Consumers, fidelity: r.as.fidelity, failed: r.as.failed}
	i.dead = deadOf(r.as.StreamInfo, r.as.dead.deleted)
	is := i.dead.Within(1, i.through)
	if was.Minus(is).Len() > 0 {
		return fmt.Errorf("%w: messages are back that were gone", streamlog.ErrUnfit)
	}
	i.want = r.as.state.Messages
	if is.Len() > was.Len() || r.died > 0 {
		m.Dead = m.Dead.Union(is).Union(r.gaps.dead().Within(i.through+1, m.Came.Last))
	}
	return nil
}

// newState is the state of a stream that holds what came.
func (i *increment) newState() archive.State {
	return archive.State{Messages: i.want, FirstSeq: i.through + 1, LastSeq: i.info.LastSeq, Bytes: i.info.Bytes / max(i.info.Messages, 1) * i.want}
}

// fetch begins to fetch the messages of a stream from a sequence on, in the way that the stream allows. They are that many, of which some are too many
// to be asked for one by one; 0: none are.
func (b *run) fetch(ctx context.Context, info *jetstream.StreamInfo, from, want uint64, gone func(uint64) bool) (way, string, error) {
	o := jetstream.FetchOptions{IdleTimeout: b.o.IdleTimeout}
	if info.Retention == "limits" {
		f, err := b.conn.Fetch(ctx, info.Name, from, info.LastSeq, o)
		if err == nil {
			return wayOf(f, gone), WayConsumer, nil
		}
		var denied *jetstream.PermissionError
		var refused *jetstream.APIError
		if errors.Is(err, jetstream.ErrUnreachable) || !errors.As(err, &refused) && !errors.As(err, &denied) {
			return way{}, WayConsumer, err
		}
	}
	if want > fewToGet {
		return way{}, "", errMuchNew
	}
	o.Way, o.Skip = jetstream.ByGet, gone
	f, err := b.conn.Fetch(ctx, info.Name, from, info.LastSeq, o)
	if err != nil {
		return way{}, WayGet, err
	}
	return wayOf(f, gone), WayGet, nil
}

// wayOf leaves out what is known to be gone: a consumer may run on a server that has not heard of that yet.
func wayOf(f *jetstream.Fetch, gone func(uint64) bool) way {
	next := func() (*archive.Message, error) {
		for {
			m, err := f.Next()
			if err != nil || !gone(m.Seq) {
				return m, err
			}
		}
	}
	return way{next, f.Received, func() { f.Close() }}
}

// judge compares what came with how the stream stands now.
func (i *increment) judge(ctx context.Context, came *streamlog.Messages, g *gaps) (verdict, error) {
	state := i.newState()
	if err := possible(state, came); err != nil {
		return verdict{}, err
	}
	g.end(state.LastSeq)
	var after *jetstream.StreamInfo
	err := i.b.patiently(ctx, i.name, func() (err error) {
		after, err = i.look(ctx)
		return err
	})
	if err != nil {
		return verdict{}, err
	}
	if !i.info.IsSame(after) {
		return verdict{}, errRecreated
	}
	if came.Count == i.want {
		return verdict{}, nil
	}
	now, err := i.b.lookAgain(ctx, i.name)
	if err != nil {
		return verdict{}, err
	}
	nowState, err := archive.ParseState(now.State)
	if err != nil {
		return verdict{}, err
	}
	if g.many || now.many {
		return verdict{}, fmt.Errorf("%w: too many sequences are gone", streamlog.ErrUnfit)
	}
	before := dead{first: state.FirstSeq}
	for r := range i.dead.Within(state.FirstSeq, state.LastSeq).Runs() {
		for seq := r.First; seq <= r.Last; seq++ {
			before.deleted = append(before.deleted, seq)
		}
	}
	v := reconcile(state, came, g, nowState, before, now.dead, now.StreamSettings)
	old := i.info.Messages - i.want
	died := old - min(old, now.dead.alive(span{1, i.through}))
	if v.torn == "" && died > 0 && !replaced(died+v.removed, state, nowState, now.StreamSettings) {
		v.torn = fmt.Sprintf("%s purged, deleted or expired while they were fetched, and so were some older ones: what was captured is not the stream as it was at one time",
			messages(v.removed))
		v.usual = lossy(now.StreamSettings)
	}
	if v.usual {
		v.torn = "" // as every capture of such a stream would be
	}
	return v, nil
}

// contentOf estimates the bytes of subjects, headers and payloads of so many messages: a server counts some more for each (nats-server 2.15,
// fileStoreMsgSizeRaw, memStoreMsgSizeRaw).
func contentOf(info *jetstream.StreamInfo, messages uint64) uint64 {
	extra := uint64(30)
	if info.Storage == "memory" {
		extra = 16
	}
	if messages < info.Messages {
		return info.Bytes/info.Messages*messages - min(info.Bytes/info.Messages, extra)*messages
	}
	return info.Bytes - min(info.Bytes, extra*messages)
}

// maxCompared is how many bytes of JSON are decoded to be compared: a consumer may have a million messages that wait.
const maxCompared = 64 << 10

// sameJSON says whether two JSON texts mean the same. Of large ones, only equal bytes do.
func sameJSON(x, y json.RawMessage) bool {
	if bytes.Equal(x, y) {
		return true
	}
	if max(len(x), len(y)) > maxCompared {
		return false
	}
	a, err1 := strictjson.Any(x)
	b, err2 := strictjson.Any(y)
	return err1 == nil && err2 == nil && reflect.DeepEqual(a, b)
}

// sameCounts says whether two states are of the same messages.
func sameCounts(x, y json.RawMessage) bool {
	a, err1 := archive.ParseState(x)
	b, err2 := archive.ParseState(y)
	return err1 == nil && err2 == nil && a.Messages == b.Messages && a.Bytes == b.Bytes && a.FirstSeq == b.FirstSeq && a.LastSeq == b.LastSeq &&
		a.FirstTime.Equal(b.FirstTime) && a.LastTime.Equal(b.LastTime)
}

// died says whether a message of the earlier snapshot died.
func (i *increment) died() bool {
	return i.info.Messages-i.want != i.log.Stream.Document.Jetsam.Messages
}

// save stores the stream's directory.
func (i *increment) save(ctx context.Context, c *capture, r *reading, m *streamlog.Continued) error {
	was := i.log.Stream.Document.Jetsam
	head, err := headOf(i.info, i.consumers.all)
	if err != nil {
		return err
	}
	doc := &streamlog.Document{
		Config: i.info.Config,
		State:  head.State,
		Jetsam: streamlog.Capture{
			Format:         streamlog.FormatVersion,
			Created:        i.info.Created,
			Messages:       c.Messages,
			MessageBytes:   was.MessageBytes + m.Came.Content,
			LargestMessage: max(was.LargestMessage, m.Came.Largest),
			Estimated:      was.Estimated || i.died() || r.died > 0,
			Removed:        c.Removed,
			Torn:           c.Torn,
			Recreated:      c.Recreated,
			Consumers:      i.consumers.fidelity,
			Failed:         c.FailedConsumers,
			Continues:      &streamlog.ContinuationOrigin{Snapshot: i.parent.snapshot.String(), Sequence: i.through},
		},
	}
	if doc.Jetsam.Estimated {
		doc.Jetsam.MessageBytes = c.Bytes
	} else {
		c.Bytes = doc.Jetsam.MessageBytes
	}
	c.node, c.NewBytes, err = i.log.Save(ctx, saver{i.b.w}, c.Name, doc, head, m)
	return err
}

// headOf is the head of a stream with these consumers.
func headOf(info *jetstream.StreamInfo, consumers []archive.Consumer) (*archive.Head, error) {
	state, err := archive.ParseState(info.State)
	if err != nil {
		return nil, err
	}
	return (&archive.Head{State: info.State, Consumers: consumers}).WithState(state)
}
