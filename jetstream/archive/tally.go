package archive

// Tally counts messages. Its zero value has seen none.
type Tally struct {
	Messages uint64
	Bytes    uint64 // of the encoded entries, which is not how a server counts
	FirstSeq uint64 // of the first message added
	LastSeq  uint64 // of the last message added
	MinTime  int64  // lowest time, Unix nanoseconds
	MaxTime  int64  // highest time, Unix nanoseconds
}

// Add counts a message; messages are added in ascending order.
func (t *Tally) Add(m *Message) {
	if t.Messages == 0 {
		t.FirstSeq, t.MinTime, t.MaxTime = m.Seq, m.Time, m.Time
	}
	t.Messages++
	t.Bytes += uint64(len(m.Raw))
	t.LastSeq = m.Seq
	t.MinTime = min(t.MinTime, m.Time)
	t.MaxTime = max(t.MaxTime, m.Time)
}

// Merge adds what u has counted, which comes after what t has.
func (t *Tally) Merge(u Tally) {
	switch {
	case u.Messages == 0:
		return
	case t.Messages == 0:
		*t = u
		return
	}
	t.Messages += u.Messages
	t.Bytes += u.Bytes
	t.LastSeq = u.LastSeq
	t.MinTime = min(t.MinTime, u.MinTime)
	t.MaxTime = max(t.MaxTime, u.MaxTime)
}
