package tests

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What happens to the streams of an account.

// publish lets messages come, in the way of the stream's kind.
func (m *model) publish(t *testing.T, s *modelStream) {
	if s.kind.publish != nil {
		s.kind.publish(m, t, s)
		return
	}
	for range 1 + m.random.IntN(30) {
		m.send(t, &nats.Msg{Subject: m.subject(s), Data: m.payload()})
	}
	m.src.flush(t)
	m.observe(t, s, true)
}

func (m *model) send(t *testing.T, msg *nats.Msg) {
	t.Helper()
	_, err := m.src.js.PublishMsgAsync(msg, jetstream.WithStallWait(time.Minute))
	must(t, err)
}

// subject is one that the stream has messages of.
func (m *model) subject(s *modelStream) string {
	return fmt.Sprintf("%s.%d", s.name(), m.random.IntN(s.kind.subjects))
}

// payload is small as a rule, and now and then so large that it gets blobs of its own.
func (m *model) payload() []byte {
	switch m.random.IntN(80) {
	case 0:
		return letters(m.random, 128<<10+m.random.IntN(1000))
	case 1, 2, 3, 4:
		return letters(m.random, m.random.IntN(20_000))
	case 5:
		return nil
	}
	return text(m.random.IntN(1000))
}

// rollUp publishes messages of which some replace those of their subject, and seldom one all of the stream.
func (m *model) rollUp(t *testing.T, s *modelStream) {
	for range 1 + m.random.IntN(20) {
		msg := &nats.Msg{Subject: m.subject(s), Header: nats.Header{}, Data: m.payload()}
		switch m.random.IntN(50) {
		case 0, 1, 2, 3:
			msg.Header.Set("Nats-Rollup", "sub")
		case 4:
			msg.Header.Set("Nats-Rollup", "all")
		case 5:
			msg.Header.Set("Some", "thing")
		}
		m.send(t, msg)
	}
	m.src.flush(t)
	m.observe(t, s, true)
}

// putKeys puts, deletes and purges keys of a bucket.
func (m *model) putKeys(t *testing.T, s *modelStream) {
	kv, err := m.src.js.KeyValue(t.Context(), s.name()[3:])
	must(t, err)
	for range 1 + m.random.IntN(10) {
		key := fmt.Sprintf("key.%d", m.random.IntN(12))
		switch m.random.IntN(12) {
		case 0:
			must(t, kv.Purge(t.Context(), key))
		case 1:
			must(t, kv.Delete(t.Context(), key))
		default:
			_, err := kv.Put(t.Context(), key, m.payload())
			must(t, err)
		}
	}
	m.observe(t, s, true)
}

// putObjects puts objects into a bucket, over others, and deletes some.
func (m *model) putObjects(t *testing.T, s *modelStream) {
	obs, err := m.src.js.ObjectStore(t.Context(), s.name()[4:])
	must(t, err)
	name := fmt.Sprintf("file %d", m.random.IntN(5))
	if m.random.IntN(4) == 0 {
		if err := obs.Delete(t.Context(), name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
			t.Fatal(err)
		}
	} else {
		_, err := obs.Put(t.Context(), jetstream.ObjectMeta{Name: name}, bytes.NewReader(letters(m.random, oneOf(m, 0, 300, 20_000, 300_000))))
		must(t, err)
	}
	m.observe(t, s, false)
}

// remove deletes some messages, the last ones among them.
func (m *model) remove(t *testing.T, s *modelStream) {
	st, err := m.src.js.Stream(t.Context(), s.name())
	must(t, err)
	if n := len(s.living); n > 0 && !st.CachedInfo().Config.DenyDelete {
		removed := map[uint64]bool{}
		for range 1 + m.random.IntN(8) {
			seq := s.living[oneOf(m, m.random.IntN(n), m.random.IntN(n), n-1, 0)].seq
			if err := st.DeleteMsg(t.Context(), seq); err != nil && !removed[seq] && !s.kind.ages {
				t.Fatalf("delete message %d of %s: %v", seq, s.name(), err)
			}
			removed[seq] = true
		}
	}
	m.observe(t, s, false)
}

// purge removes all messages, all but some, those of a subject, or those below a sequence.
func (m *model) purge(t *testing.T, s *modelStream) {
	st, err := m.src.js.Stream(t.Context(), s.name())
	must(t, err)
	var how jetstream.StreamPurgeOpt
	switch n := len(s.living); {
	case n == 0 || m.random.IntN(12) == 0:
		err = st.Purge(t.Context())
	case m.random.IntN(3) == 0:
		how = jetstream.WithPurgeKeep(uint64(1 + m.random.IntN(n)))
	case m.random.IntN(2) == 0:
		how = jetstream.WithPurgeSequence(s.living[m.random.IntN(n)].seq)
	default:
		how = jetstream.WithPurgeSubject(s.living[m.random.IntN(n)].subject)
	}
	if how != nil {
		err = st.Purge(t.Context(), how)
	}
	must(t, err)
	m.observe(t, s, false)
}

// read lets a consumer take messages, and acknowledges some of them.
func (m *model) read(t *testing.T, s *modelStream) {
	if len(s.kind.consumers) == 0 {
		return
	}
	name := s.kind.consumers[m.random.IntN(len(s.kind.consumers))].Durable
	c, err := m.src.js.Consumer(t.Context(), s.name(), name)
	must(t, err)
	batch, err := c.FetchNoWait(1 + m.random.IntN(40))
	must(t, err)
	var gone []uint64
	for msg := range batch.Messages() {
		switch m.random.IntN(5) {
		case 0, 1:
			meta, err := msg.Metadata()
			must(t, err)
			must(t, msg.DoubleAck(t.Context()))
			if s.acknowledged(meta.Sequence.Stream, name) {
				gone = append(gone, meta.Sequence.Stream)
			}
		case 2:
			must(t, msg.Nak())
		}
	}
	must(t, batch.Error())
	if s.kind.acked {
		m.wantGone(t, s, gone)
	}
	m.observe(t, s, false)
}

// acknowledged notes an acknowledgement, and says whether all consumers have given theirs.
func (s *modelStream) acknowledged(seq uint64, consumer string) bool {
	if s.acks[seq] == nil {
		s.acks[seq] = map[string]bool{}
	}
	s.acks[seq][consumer] = true
	return len(s.acks[seq]) == len(s.kind.consumers)
}

// limit raises or lowers what a stream keeps at most, where it has a limit.
func (m *model) limit(t *testing.T, s *modelStream) {
	st, err := m.src.js.Stream(t.Context(), s.name())
	must(t, err)
	c := st.CachedInfo().Config
	switch {
	case c.MaxMsgs > 0:
		c.MaxMsgs = int64(60 + m.random.IntN(120))
	case c.MaxBytes > 0:
		c.MaxBytes = int64(30_000 + m.random.IntN(60_000))
	case s.kind.config.MaxMsgsPerSubject > 1:
		c.MaxMsgsPerSubject = int64(2 + m.random.IntN(6))
	default:
		return
	}
	_, err = m.src.js.UpdateStream(t.Context(), c)
	must(t, err)
	m.observe(t, s, false)
	s.clouds = append(s.clouds, cloud{m.began, time.Now()}) // what room there was meanwhile no snapshot tells
}

// expire waits until the first message that is to expire has.
func (m *model) expire(t *testing.T) {
	for _, s := range m.streams {
		m.observe(t, s, true)
		if !s.kind.ages || len(s.living) == 0 {
			continue
		}
		m.wantGone(t, s, []uint64{s.living[0].seq})
		m.observe(t, s, true)
	}
}

// renew deletes a stream, and makes one of the same name. More often than not that has other messages under the same sequences.
func (m *model) renew(t *testing.T, s *modelStream) {
	first, n := uint64(0), 0
	if len(s.living) > 0 && m.random.IntN(4) > 0 {
		first, n = s.living[0].seq, 1+m.random.IntN(6)
	}
	m.unmake(t, s)
	m.create(t, s, first)
	for range n {
		m.publish(t, s)
	}
}

// restart stops the server and starts it again. What was in memory is gone.
func (m *model) restart(t *testing.T) {
	m.conn.Close()
	m.src.nc.Close()
	m.src.Shutdown()
	m.start(t)
	for _, s := range m.streams {
		if m.missing(t, s) {
			m.create(t, s, 0)
		}
		m.observe(t, s, false)
	}
}
