package jetstream

// Flaw is something that servers of some versions do wrong.
type Flaw int

// What matters to who backs up and restores.
const (
	FreezesForSnapshots Flaw = iota // see [ServerInfo.FreezesForSnapshots]
	PassesOverLimits                // restores do not keep to limits
	RestoresOfOthers                // who may restore one stream may restore others (CVE-2026-33222)
	CrashesInRestores               // restores of several streams at a time can crash the server (nats-server #7503)
	DamagesCompacted                // compaction can damage compressed and encrypted streams (nats-server #8312)
	flaws                           // how many there are
)

// mending says which servers do not have a flaw.
type mending struct {
	since   int         // the first minor version of 2 of which none has
	patches map[int]int // of earlier ones, the first patch that has not; of those that are not named, all have
}

// mended is where a flaw was mended, by the tags of nats-server.
func (f Flaw) mended() mending {
	return [flaws]mending{
		FreezesForSnapshots: {14, map[int]int{11: 12, 12: 3}},
		PassesOverLimits:    {12, map[int]int{10: 27, 11: 1}},
		RestoresOfOthers:    {14, map[int]int{11: 15, 12: 6}},
		CrashesInRestores:   {14, map[int]int{11: 11, 12: 2}},
		DamagesCompacted:    {15, map[int]int{12: 12, 14: 3}},
	}[f]
}

// Flaws are those of the server's version; none is known of a version that cannot be read.
func (s ServerInfo) Flaws() (have []Flaw) {
	for f := range flaws {
		if has, known := s.has(f); has && known {
			have = append(have, f)
		}
	}
	return have
}

// FreezesForSnapshots reports whether the server removes no message of a stream while it takes a snapshot of it. It forgets those that were to be
// removed: replicas of the stream on other servers do remove them, and what consumers acknowledge stays in work queues (nats-server #7655). Of a server
// whose version cannot be read it is assumed.
func (s ServerInfo) FreezesForSnapshots() bool {
	has, known := s.has(FreezesForSnapshots)
	return has || !known
}

// has says whether the server has a flaw, and whether its version tells.
func (s ServerInfo) has(f Flaw) (has, known bool) {
	v, known := s.version()
	if !known || v[0] != 2 {
		return known && v[0] < 2, known
	}
	m := f.mended()
	patch, some := m.patches[v[1]]
	return v[1] < m.since && (!some || v[2] < patch), true
}
