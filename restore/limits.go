package restore

import (
	"fmt"

	"jetsam/jetstream"
)

// roomAdvice is what helps against every limit of an account.
const roomAdvice = "raise the account's limit, or choose fewer streams"

// checkLimits adds up what the plan needs and compares it with what the account may hold.
func (p *Plan) checkLimits(a jetstream.AccountInfo) {
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
			n = &need{}
			needs[name] = n
		}
		n.add(s)
		s.checkTier(n, tier)
	}
}

// need is what the streams of a plan need in one tier.
type need struct {
	streams      int
	file, memory uint64 // bytes, as the source's storage counted them
}

func (n *need) add(s *StreamPlan) {
	size := s.state.Bytes
	switch {
	case s.Action == Replace: // there is a copy besides, and what is replaced makes room, where it is kept in the same place
		n.streams++
		room := s.live.Bytes
		if s.live.Storage != s.config.Storage || s.live.Replicas != s.config.Replicas {
			room = 0
		}
		size += size - min(size, room)
	case s.Leftover != nil:
		size -= min(size, s.Leftover.info.Bytes) // which makes room for it
	default:
		n.streams++
	}
	if s.config.Storage == "memory" {
		n.memory += size
	} else {
		n.file += size
	}
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
	s.checkStore("file", l.MaxStore, l.MaxStreamStore, t.Store, n.file)
	s.checkStore("memory", l.MaxMemory, l.MaxStreamMemory, t.Memory, n.memory)
	s.checkConsumers(l.MaxConsumers)
	if l.MaxBytesNeeded && s.config.MaxBytes <= 0 {
		s.conflict("let the account have streams without max_bytes", "the account requires max_bytes, which the stream does not have")
	}
}

func (s *StreamPlan) checkStore(storage string, limit, streamLimit int64, used, needed uint64) {
	if s.config.Storage != storage {
		return
	}
	switch {
	case limit == 0:
		s.conflict("let the account have "+storage+" storage", "the account has no %s storage, which is what the stream is kept in", storage)
		return
	case limit > 0 && s.config.MaxBytes > limit:
		s.conflict("raise the account's limit", "its max_bytes is %d, the account may store %d bytes in %s storage", s.config.MaxBytes, limit, storage)
		return
	case limit > 0 && used+needed > uint64(limit):
		s.conflict(roomAdvice, "the account may store %d bytes in %s storage, it stores %d and the plan needs %d more", limit, storage, used, needed)
	}
	if streamLimit > 0 && s.config.MaxBytes > streamLimit {
		s.conflict("raise the account's limit", "a stream of the account may reserve %d bytes in %s storage, this one's max_bytes is %d", streamLimit, storage, s.config.MaxBytes)
	}
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
