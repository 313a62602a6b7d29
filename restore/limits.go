package restore

import (
	"fmt"

	"jetsam/jetstream"
)

// roomAdvice is what helps against every limit of an account.
const roomAdvice = "raise the account's limit, or choose fewer streams"

// checkLimits adds up what the plan needs besides what is there, and compares it with what the account may hold.
func (p *Plan) checkLimits(a jetstream.AccountInfo, existing []*jetstream.StreamInfo) {
	needs := map[string]*need{}
	for _, s := range p.Streams {
		if !s.runs() || s.Action == Update || s.Action == AddConsumers {
			continue
		}
		name, tier, ok := tierOf(a, s.config.Replicas)
		if !ok {
			s.conflict("give the account limits for so many replicas", "the account has no limits for streams of %d replicas (tier %s), and so no room for them", max(1, s.config.Replicas), name)
			continue
		}
		n := needs[name]
		if n == nil {
			n = newNeed(a, name, existing)
			needs[name] = n
		}
		n.add(s, p.making(s, n))
		s.checkTier(n, tier)
	}
}

// need is what the streams of a plan need in one tier.
type need struct {
	tiered       bool // the limits are for one replica, and not for all of them together
	streams      int
	file, memory room
}

// room is what is needed of one kind of storage.
type room struct {
	bytes    uint64 // of the limit, by messages, as the source's storage counted them
	reserved uint64 // of the limit, by the max_bytes of streams that are there and of the plan's
	besides  uint64 // of the limit, by all others while the plan's last one is made
	making   uint64 // of the limit, by that one; 0: it is not made
}

// newNeed is what there is in a tier before anything is restored.
func newNeed(a jetstream.AccountInfo, tier string, existing []*jetstream.StreamInfo) *need {
	n := &need{tiered: tier != ""}
	for _, info := range existing {
		if name, _, _ := tierOf(a, info.Replicas); name == tier {
			n.in(info.Storage).reserved += n.reservation(info.StreamSettings)
		}
	}
	return n
}

func (n *need) in(storage string) *room {
	if storage == "memory" {
		return &n.memory
	}
	return &n.file
}

// reservation is what a stream's max_bytes takes of the limit, whatever is in it.
func (n *need) reservation(s jetstream.StreamSettings) uint64 {
	return n.ofLimit(uint64(max(0, s.MaxBytes)), s.Replicas)
}

// ofLimit is how much of the limit so many bytes in each replica take.
func (n *need) ofLimit(bytes uint64, replicas int) uint64 {
	r := uint64(max(1, replicas))
	if n.tiered {
		r = 1
	}
	return min(bytes, maxBytes/r) * r
}

// making is what a server wants left of the limit, besides what is reserved, when it makes a stream: its max_bytes or its bytes, whichever is more
// (nats-server 2.15, RestoreStreamV2); before 2.15 both of them (RestoreStream), which some count in one replica only; and before 2.10 its max_bytes.
func (p *Plan) making(s *StreamPlan, n *need) uint64 {
	limit := uint64(max(0, s.config.MaxBytes))
	switch {
	case !p.older:
		return n.ofLimit(max(limit, s.state.Bytes), s.config.Replicas)
	case p.release.Before(2, 10):
		return n.reservation(s.config)
	}
	return limit + s.state.Bytes
}

// add adds a stream that is made with so much of the limit.
func (n *need) add(s *StreamPlan, making uint64) {
	r := n.in(s.config.Storage)
	r.making = making
	size, lasting := n.ofLimit(s.state.Bytes, s.config.Replicas), n.reservation(s.config)
	var frees, unreserves uint64 // the stream that is there, where it is kept in the same place
	if is := s.there(); is != nil && is.Storage == s.config.Storage && max(1, is.Replicas) == max(1, s.config.Replicas) {
		frees, unreserves = n.ofLimit(is.Bytes, is.Replicas), n.reservation(is.StreamSettings)
	}
	r.reserved -= min(r.reserved, unreserves)
	r.besides = r.reserved
	r.reserved += lasting
	switch {
	case s.Action == Replace: // there is a copy besides: first with what is replaced, then with what replaces it
		n.streams++
		size += size - min(size, frees)
		r.besides += max(unreserves, lasting)
		r.reserved += lasting
	case s.Leftover != nil:
		size -= min(size, frees)
		if s.Leftover.Whole {
			r.making = 0
		}
	default:
		n.streams++
	}
	r.bytes += size
}

// there is the server's stream that goes, or nil.
func (s *StreamPlan) there() *jetstream.StreamInfo {
	if s.Leftover != nil {
		return s.Leftover.info
	}
	return s.live
}

// tierOf returns what the account uses and may use for streams of so many replicas, if anything. An account without tiers has one for all.
func tierOf(a jetstream.AccountInfo, replicas int) (name string, t jetstream.Tier, ok bool) {
	if len(a.Tiers) == 0 {
		return "", jetstream.Tier{Memory: a.Memory, Store: a.Store, Streams: a.Streams, Consumers: a.Consumers, Limits: a.Limits}, true
	}
	name = fmt.Sprintf("R%d", max(1, replicas))
	t, ok = a.Tiers[name]
	return name, t, ok
}

// checkTier finds what the tier has no room for, if n is what the plan needs up to and with s. A limit below zero is none.
func (s *StreamPlan) checkTier(n *need, t jetstream.Tier) {
	l := t.Limits
	if l.MaxStreams >= 0 && t.Streams+n.streams > l.MaxStreams {
		s.conflict(roomAdvice, "the account may have %d streams, it has %d and the plan needs %d more", l.MaxStreams, t.Streams, n.streams)
	}
	switch s.config.Storage {
	case "file":
		s.checkStore(n, n.file, l.MaxStore, l.MaxStreamStore, t.Store)
	case "memory":
		s.checkStore(n, n.memory, l.MaxMemory, l.MaxStreamMemory, t.Memory)
	}
	s.checkConsumers(l.MaxConsumers)
	if l.MaxBytesNeeded && s.config.MaxBytes <= 0 {
		s.conflict("let the account have streams without max_bytes", "the account requires max_bytes, which the stream does not have")
	}
}

func (s *StreamPlan) checkStore(n *need, r room, limit, streamLimit int64, used uint64) {
	storage, counted := s.config.Storage, ""
	if replicas := max(1, s.config.Replicas); n.tiered { // what is used are the bytes of all replicas
		used = (used + uint64(replicas) - 1) / uint64(replicas)
	} else if replicas > 1 {
		counted = fmt.Sprintf(", counted in %d replicas", replicas)
	}
	switch {
	case limit == 0:
		s.conflict("let the account have "+storage+" storage", "the account has no %s storage, which is what the stream is kept in", storage)
		return
	case limit > 0 && s.config.MaxBytes > limit:
		s.conflict("raise the account's limit", "its max_bytes is %d, the account may store %d bytes in %s storage", s.config.MaxBytes, limit, storage)
		return
	case limit > 0 && used+r.bytes > uint64(limit):
		s.conflict(roomAdvice, "the account may store %d bytes in %s storage, it stores %d and the plan needs %d more%s", limit, storage, used, r.bytes, counted)
	case limit > 0 && r.making > 0 && r.besides+r.making > uint64(limit):
		s.conflict(roomAdvice, "the account may store %d bytes in %s storage, %d of them are set aside by max_bytes of other streams%s, and this one needs %d%s",
			limit, storage, r.besides, copyToo(s.Action), r.making, counted)
	}
	if streamLimit > 0 && s.config.MaxBytes > streamLimit {
		s.conflict("raise the account's limit", "a stream of the account may reserve %d bytes in %s storage, this one's max_bytes is %d", streamLimit, storage, s.config.MaxBytes)
	}
}

// copyToo says that what is set aside is also for the copy that is made to replace a stream.
func copyToo(a Action) string {
	if a != Replace {
		return ""
	}
	return " and of the copy that is made first"
}

// checkConsumers compares with how many consumers the account lets each stream have; 0 is no limit, as it is to a server.
func (s *StreamPlan) checkConsumers(limit int) {
	if limit <= 0 {
		return
	}
	if s.Consumers > limit {
		s.conflict("raise the account's limit, or restore with --no-consumers", "it has %d consumers, a stream of the account may have %d", s.Consumers, limit)
	}
	if s.config.MaxConsumers > limit {
		s.conflict("raise the account's limit", "its max_consumers is %d, a stream of the account may have %d", s.config.MaxConsumers, limit)
	}
}
