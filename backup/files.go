package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/jetstream/legacy"
	"jetsam/streamlog"
)

// Servers before 2.15 send the files of their store as a snapshot of a stream, and what tells which of the messages in them are alive comes last. They come
// once. So the server is asked before which sequences it does not have: those are left out at once. Whatever else turns out to be dead in the end is dead in
// the log, as it is where a capture broke off and was gone on with.
//
// Only what lies within the state that the server gives with the snapshot is taken: the files of a busy stream run ahead of it.

// busyStep is how often a server is asked whether it has finished with another snapshot of a stream.
const busyStep = time.Second

// files is a snapshot of a server before 2.15.
type files struct {
	*legacy.Snapshot
	before view // the stream, as it stood before
}

// filesError is why files are no capture of a stream.
type filesError struct{ error }

func (e *filesError) Unwrap() error { return e.error }

// filesError marks err where the stream was read from files.
func (r *reading) filesError(err error) error {
	if r.files == nil || fatal(err) || errors.Is(err, errRecreated) {
		return err
	}
	return &filesError{err}
}

// spared is why no snapshot of a stream is taken although the server would do so; empty: there is no reason.
func (b *run) spared(info *jetstream.StreamInfo) string {
	switch {
	case !b.server.FreezesForSnapshots() || b.o.Unsafe || info.Storage != "file":
		return ""
	case info.Replicas > 1:
		return fmt.Sprintf("a snapshot by nats-server %s may leave the stream's replicas different from each other", b.server.Version)
	case info.Retention != "limits":
		return fmt.Sprintf("what consumers acknowledge while nats-server %s takes a snapshot stays in the stream for ever", b.server.Version)
	}
	return ""
}

// openPatiently opens the snapshot of a stream, and waits where the server takes another one at the moment.
func (b *run) openPatiently(ctx context.Context, before view, o jetstream.SnapshotOptions) (s *opened, err error) {
	for deadline := time.Now().Add(b.patience()); ; {
		s, err = b.openSnapshot(ctx, before, o)
		if !errors.Is(err, jetstream.ErrSnapshotBusy) || time.Now().After(deadline) || !sleep(ctx, busyStep) {
			return s, err
		}
	}
}

// withoutSnapshot says why a stream is read without a snapshot that the server refuses; empty: it is not.
func (b *run) withoutSnapshot(err error) string {
	switch {
	case errors.Is(err, jetstream.ErrNoSnapshots):
		return fmt.Sprintf("nats-server %s takes no snapshots of streams in memory", b.server.Version)
	case errors.Is(err, jetstream.ErrSnapshotBusy):
		return fmt.Sprintf("somebody else has a snapshot of it taken, for more than %v", b.patience())
	}
	return ""
}

// listBefore lists the consumers of a stream before a snapshot of it that may be files. Meanwhile the answer would have to wait until all has come that
// the server sends ahead.
func (b *run) listBefore(ctx context.Context, v *view) error {
	if b.server.AtLeast(2, 15) {
		return nil
	}
	return b.lookAtConsumers(ctx, v)
}

// lookAtConsumers lists the consumers of a stream, once.
func (b *run) lookAtConsumers(ctx context.Context, v *view) (err error) {
	if !v.listed && !b.o.NoConsumers {
		v.consumers, v.failed, err = b.listConsumers(ctx, v.Name)
	}
	v.listed = true
	return err
}

// openFiles begins to read a snapshot that is files.
func (b *run) openFiles(ctx context.Context, s *opened, before view, plain io.Reader) error {
	if err := b.lookAtConsumers(ctx, &before); err != nil { // in a cluster, a server of 2.15 may be asked that does not have the stream
		return err
	}
	found, in := legacy.Read(plain, before.Name, s.state.FirstSeq, s.state.LastSeq, before.gone())
	s.files, s.next = &files{found, before}, in.Next
	s.head = &archive.Head{State: s.State} // the consumers come last
	return nil
}

// settle takes from files what their end says: which messages are not alive, and where the consumers stood. One that was gone on with does not depend
// on that any more.
func (r *reading) settle() error {
	if r.files == nil || len(r.resumed) > 0 {
		return nil
	}
	if r.gaps.many {
		return errManyGaps
	}
	gone := streamlog.NewDead(func(yield func(streamlog.Run) bool) {
		for first, last := range r.files.Gone(r.from, r.last) {
			if !yield(streamlog.Run{First: first, Last: last}) {
				return
			}
		}
	})
	if r.died = r.gaps.bury(r.from, gone); r.gaps.many {
		return errManyGaps
	}
	state := r.as.state
	switch came := r.count - r.died; {
	case !r.files.Indexed() && r.files.before.many:
		return errManyGaps
	case r.files.Indexed() && came != r.files.Alive(state.FirstSeq, state.LastSeq):
		return fmt.Errorf("%s came of the %d that should have, by what the server says of its own files", messages(came), r.files.Alive(state.FirstSeq, state.LastSeq))
	}
	r.exact = r.files.AtOnce()
	return r.settleConsumers()
}

// settleConsumers takes the consumers of the files, and those that these leave out: they are held in memory, or by other servers of the cluster. One that
// no server leads may have stood further than the files say, from which it skips nothing.
func (r *reading) settleConsumers() error {
	type taken struct {
		archive.Consumer
		fidelity string
		created  time.Time
	}
	found := map[string]taken{}
	for _, c := range withoutFetches(&archive.Head{Consumers: r.files.Consumers}).Consumers {
		found[c.Name] = taken{c, streamlog.FidelityExact, time.Time{}}
	}
	for _, info := range r.files.before.consumers {
		c, known := found[info.Name]
		if known {
			behind, err := r.b.isBehind(c.Consumer, info)
			if err != nil {
				return err
			}
			if !behind {
				c.created = info.Created
				found[info.Name] = c
				continue
			}
		}
		text, err := consumerJSON(info)
		if err != nil {
			return err
		}
		found[info.Name] = taken{archive.Consumer{Name: info.Name, JSON: text, Time: r.files.Taken.UnixNano()}, r.b.fidelityOf(info), time.Time{}}
	}
	r.as.failed = nil
	for _, f := range r.files.before.failed {
		c, known := found[f.Name]
		if !known {
			r.as.failed = append(r.as.failed, f)
			continue
		}
		c.fidelity = streamlog.FidelityAckFloor
		found[f.Name] = c
	}
	var all []archive.Consumer
	r.as.fidelity = nil
	for _, name := range slices.Sorted(maps.Keys(found)) {
		// They were written or listed after the state was taken: a consumer of a busy stream may have got further.
		c, _, err := found[name].Cut(r.as.state.LastSeq, func(uint64) bool { return true })
		if err != nil {
			return fmt.Errorf("consumer %s: %w", abridge(name), err)
		}
		all = append(all, c)
		r.as.fidelity = append(r.as.fidelity, streamlog.ConsumerFidelity{Name: name, Fidelity: found[name].fidelity, Created: found[name].created})
	}
	r.as.head = (&archive.Head{State: r.as.State, StateTime: r.files.Taken.UnixNano()}).WithConsumers(all)
	return nil
}

// isBehind says whether a consumer in the files is that of a replica which had not heard all that its leader said before.
func (b *run) isBehind(c archive.Consumer, listed *jetstream.ConsumerInfo) (bool, error) {
	if b.server.Cluster == "" {
		return false, nil
	}
	s, err := archive.ParseConsumer(c.JSON)
	if err != nil {
		return false, fmt.Errorf("consumer %s: %w", abridge(c.Name), err)
	}
	delivered, was := s.Delivered.Consumer, listed.Delivered.Consumer
	return delivered < was || s.AckFloor.Consumer < listed.AckFloor.Consumer || delivered == was && s.AckPending > listed.AckPending, nil
}
