package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/streamlog"
)

// consumers are those of a stream, as a snapshot holds them.
type consumers struct {
	all      []archive.Consumer
	fidelity []streamlog.ConsumerFidelity
	failed   []streamlog.FailedConsumer // of which no server says how they stand
	received uint64                     // bytes
}

func (c *consumers) add(one archive.Consumer, fidelity string, created time.Time) {
	c.all = append(c.all, one)
	c.fidelity = append(c.fidelity, streamlog.ConsumerFidelity{Name: one.Name, Fidelity: fidelity, Created: created})
}

// stood is a consumer as an earlier snapshot has it, of which that says exactly what it waited for.
type stood struct {
	archive.Consumer
	created time.Time
}

// readConsumers reads the consumers of a stream where they stand. What a server lists does not say which messages wait for an acknowledgement: where some
// do, a lone server is asked for the beginning of a snapshot, which does from 2.15 on. Of an older one, before says how they stood in an earlier snapshot,
// if it is not nil: those that have not moved since stand there still.
func (b *run) readConsumers(ctx context.Context, stream string, before func(context.Context) (map[string]stood, error)) (*consumers, error) {
	if b.o.NoConsumers {
		return &consumers{}, nil
	}
	listed, failed, err := b.listConsumers(ctx, stream)
	if err != nil {
		return nil, err
	}
	lone := len(failed) == 0 && !slices.ContainsFunc(listed, func(c *jetstream.ConsumerInfo) bool { return b.clustered(c.Cluster) })
	waiting := lone && slices.ContainsFunc(listed, waits)
	if waiting && b.server.AtLeast(2, 15) {
		return b.consumersOfSnapshot(ctx, stream)
	}
	var earlier map[string]stood
	if waiting && before != nil {
		if earlier, err = before(ctx); err != nil {
			return nil, err
		}
	}
	c, err := b.consumersOfList(listed, earlier)
	if err == nil {
		c.failed = failed
	}
	return c, err
}

// consumersOfList are consumers where a server says that they stand, or, where they have not moved since, as they stood earlier.
func (b *run) consumersOfList(listed []*jetstream.ConsumerInfo, earlier map[string]stood) (*consumers, error) {
	c := &consumers{}
	for _, info := range listed {
		c.received += uint64(len(info.Raw))
		if was, known := earlier[info.Name]; known && was.rests(info) {
			c.add(was.Consumer, streamlog.FidelityExact, was.created)
			continue
		}
		text, err := consumerJSON(info)
		if err != nil {
			return nil, err
		}
		c.add(archive.Consumer{Name: info.Name, JSON: text}, b.fidelityOf(info), time.Time{})
	}
	return c, nil
}

// rests says whether a consumer of a lone server stands where it stood. It is the same one, it was given nothing since, as each delivery counts, and
// nothing was acknowledged: so it waits for the same messages.
func (s stood) rests(now *jetstream.ConsumerInfo) bool {
	was, err1 := archive.ParseConsumer(s.JSON)
	config, err2 := s.Config()
	configNow, err3 := storedConfig(now.Config)
	return err1 == nil && err2 == nil && err3 == nil && s.created.Equal(now.Created) && sameJSON(config, configNow) &&
		was.Delivered == archive.SequencePair(now.Delivered) && was.AckFloor == archive.SequencePair(now.AckFloor) &&
		was.AckPending == now.AckPending && was.Redelivered == now.Redelivered
}

// stood are the consumers as the earlier snapshot has them.
func (i *increment) stood(ctx context.Context) (map[string]stood, error) {
	head, err := i.log.Stream.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", streamlog.ErrUnfit, err)
	}
	created := map[string]time.Time{}
	for _, f := range i.log.Stream.Document.Jetsam.Consumers {
		if f.Fidelity == streamlog.FidelityExact && !f.Created.IsZero() {
			created[f.Name] = f.Created
		}
	}
	out := map[string]stood{}
	for _, c := range head.Consumers {
		if at, known := created[c.Name]; known {
			out[c.Name] = stood{c, at}
		}
	}
	return out, nil
}

// listings is how often the consumers of a stream are listed where no server answers for some of them: they may be electing a leader. When that was not it
// once, it is not tried again in the run: each time takes as long as servers and we wait for an answer.
const listings = 2

// listConsumers lists the consumers of a stream, but for those by which backups read it. Of those that failed, servers say no more than that they exist.
func (b *run) listConsumers(ctx context.Context, stream string) (all []*jetstream.ConsumerInfo, failed []streamlog.FailedConsumer, err error) {
	for range listings {
		all, err = b.conn.Consumers(ctx, stream)
		if failed, err = away(err); err != nil || len(failed) == 0 || b.away.Load() {
			break
		}
	}
	if len(failed) > 0 {
		b.away.Store(true)
	}
	return slices.DeleteFunc(all, func(c *jetstream.ConsumerInfo) bool { return jetstream.IsFetchConsumer(c.Name) }), failed, err
}

// away takes the consumers that no server answers for out of the error of a list.
func away(err error) (failed []streamlog.FailedConsumer, _ error) {
	var missing *jetstream.MissingError
	if !errors.As(err, &missing) {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(missing.Reasons)) {
		why := missing.Reasons[name]
		var denied *jetstream.PermissionError // to ask for one: that nobody answers for it in the list is known
		switch {
		case errors.Is(why, jetstream.ErrConsumerNotFound), jetstream.IsFetchConsumer(name):
		case errors.Is(why, jetstream.ErrTimeout), errors.Is(why, jetstream.ErrNoLeader), errors.As(why, &denied):
			failed = append(failed, streamlog.FailedConsumer{Name: name, Error: why.Error()})
		default:
			return nil, err
		}
	}
	return failed, nil
}

// waits says whether messages wait for the consumer's acknowledgement.
func waits(c *jetstream.ConsumerInfo) bool { return c.AckPending > 0 || c.Redelivered > 0 }

// fidelityOf says how true a listed consumer's state is.
func (b *run) fidelityOf(c *jetstream.ConsumerInfo) string {
	if b.clustered(c.Cluster) || waits(c) {
		return streamlog.FidelityAckFloor
	}
	return streamlog.FidelityExact
}

// consumerJSON is a consumer as a snapshot holds it. One with pending messages goes back to its floor: they are delivered again.
func consumerJSON(c *jetstream.ConsumerInfo) (json.RawMessage, error) {
	type state struct {
		Delivered jetstream.Position `json:"delivered"`
		AckFloor  jetstream.Position `json:"ack_floor"`
	}
	config, err := storedConfig(c.Config)
	if err != nil {
		return nil, err
	}
	s := state{c.Delivered, c.AckFloor}
	if c.AckPending > 0 {
		s.Delivered = s.AckFloor
	}
	return json.Marshal(struct {
		Config json.RawMessage `json:"config"`
		State  state           `json:"state"`
	}{config, s})
}

// headChunk is how much of a snapshot a server sends at a time of which only the head is wanted.
const headChunk = 1 << 10

func (b *run) consumersOfSnapshot(ctx context.Context, stream string) (*consumers, error) {
	of := view{StreamInfo: &jetstream.StreamInfo{Name: stream}}
	snap, err := b.openSnapshot(ctx, of, jetstream.SnapshotOptions{ChunkSize: headChunk, WindowSize: headChunk, IdleTimeout: b.o.IdleTimeout})
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	if snap.files != nil {
		return nil, errors.New("the server sends the files of its store as a snapshot, of which the beginning does not say how consumers stand")
	}
	c := &consumers{}
	for _, one := range snap.head.Consumers {
		c.received += uint64(len(one.JSON))
		c.add(one, streamlog.FidelityExact, time.Time{})
	}
	return c, nil
}

// openWithout opens the snapshot of a stream without consumers, where one with them failed because no server answers for some: a server does not make it
// then. The others are taken from the list.
func (b *run) openWithout(ctx context.Context, before view, why error) (*opened, *consumers, error) {
	var status *jetstream.StatusError
	if b.o.NoConsumers || !b.clustered(before.Cluster) || !errors.As(why, &status) || status.Code == jetstream.StatusTimeout {
		return nil, nil, why
	}
	listed, failed, err := b.listConsumers(ctx, before.Name)
	if err != nil || len(failed) == 0 {
		return nil, nil, why
	}
	c, err := b.consumersOfList(listed, nil)
	if err != nil {
		return nil, nil, err
	}
	c.failed = failed
	o := b.snapshotOptions()
	o.NoConsumers = true
	s, err := b.openPatiently(ctx, before, o)
	if err != nil {
		return nil, nil, err
	}
	s.head = s.head.WithConsumers(c.all)
	return s, c, nil
}

// fidelity says how true the states of a stream's consumers are. A lone server's snapshot holds them as they stand;
// a cluster's sets one with pending messages back to its ack floor (nats-server 2.15, stream_backup.go).
func (b *run) fidelity(cluster *jetstream.ClusterInfo, head *archive.Head) []streamlog.ConsumerFidelity {
	f := streamlog.FidelityExact
	if b.clustered(cluster) {
		f = streamlog.FidelityAckFloor
	}
	var out []streamlog.ConsumerFidelity
	for _, c := range head.Consumers {
		out = append(out, streamlog.ConsumerFidelity{Name: c.Name, Fidelity: f})
	}
	return out
}

// clustered says whether a stream or consumer, of which the server said this, is a cluster's. That may be another one than the server's, behind a leaf
// node.
func (b *run) clustered(c *jetstream.ClusterInfo) bool { return b.server.Cluster != "" || c != nil }
