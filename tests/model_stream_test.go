package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// modelStream is a stream of the account.
type modelStream struct {
	*life
	acks map[uint64]map[string]bool // by message: the consumers that acknowledged it
}

// life is a stream from when it was made to when it is made anew, and what it had.
type life struct {
	kind     *modelKind
	ever     []*message // that were seen, in their order
	living   []*message // of those, which are alive
	last     uint64     // the last sequence that the stream reached
	observed time.Time  // when it was last looked at
	clouds   []cloud
}

func (l *life) name() string { return l.kind.config.Name }

// message is a message that was seen in a stream.
type message struct {
	entry
	size   int       // as a server counts it
	rollup string    // the value of the header Nats-Rollup
	until  time.Time // when it was last known to be alive; zero: it still is
}

// cloud is a time in which messages died otherwise than because newer ones came or they grew old: nothing in a snapshot tells of it.
type cloud struct{ from, to time.Time }

// clouded says whether there were such deaths after the one time and by the other.
func (l *life) clouded(after, by time.Time) bool {
	return slices.ContainsFunc(l.clouds, func(c cloud) bool { return c.to.After(after) && !c.from.After(by) })
}

// aliveAt says whether a message certainly was alive at a time.
func (e *message) aliveAt(at time.Time) bool {
	return e.at <= at.UnixNano() && (e.until.IsZero() || !e.until.Before(at))
}

// entriesIn are the entries of messages.
func entriesIn(messages []*message) []entry {
	out := make([]entry, len(messages))
	for i, e := range messages {
		out[i] = e.entry
	}
	return out
}

// create makes a stream, which begins a new life. Its first sequence can be chosen where it is no bucket; 0: it is not.
func (m *model) create(t *testing.T, s *modelStream, first uint64) {
	t.Helper()
	ctx := t.Context()
	switch c := s.kind.config; {
	case strings.HasPrefix(c.Name, "KV_"):
		_, err := m.src.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: c.Name[3:], History: 3})
		must(t, err)
	case strings.HasPrefix(c.Name, "OBJ_"):
		_, err := m.src.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: c.Name[4:]})
		must(t, err)
	default:
		c.Subjects, c.FirstSeq = []string{c.Name + ".*"}, first
		st := m.src.create(t, c)
		for _, consumer := range s.kind.consumers {
			_, err := st.CreateConsumer(ctx, consumer)
			must(t, err)
		}
	}
	m.begin(t, s)
}

// begin begins a new life of a stream.
func (m *model) begin(t *testing.T, s *modelStream) {
	t.Helper()
	s.life = &life{kind: s.kind, observed: m.began}
	s.acks = map[uint64]map[string]bool{}
	m.observe(t, s, true)
}

// observe finds out what came to a stream in this step, and what died. usual says that what died did so by the stream's own rules.
func (m *model) observe(t *testing.T, s *modelStream, usual bool) {
	t.Helper()
	st, err := m.src.js.Stream(t.Context(), s.name())
	must(t, err)
	asked := time.Now()
	info, err := st.Info(t.Context(), jetstream.WithDeletedDetails(true))
	must(t, err)
	state := info.State
	alive := func(seq uint64) bool {
		_, deleted := slices.BinarySearch(state.Deleted, seq)
		return state.Msgs > 0 && seq >= state.FirstSeq && seq <= state.LastSeq && !deleted
	}
	died := false
	s.living = slices.DeleteFunc(s.living, func(e *message) bool {
		if alive(e.seq) {
			return false
		}
		died = true
		if e.until = m.began; s.kind.ages {
			e.until = s.observed
		}
		return true
	})
	if died && !usual {
		s.clouds = append(s.clouds, cloud{m.began, time.Now()})
	}
	for seq := max(s.last+1, state.FirstSeq); seq <= state.LastSeq; seq++ {
		if alive(seq) {
			e := m.get(t, s, seq)
			if e == nil && s.kind.ages {
				continue // it has expired since
			}
			s.living, s.ever = append(s.living, e), append(s.ever, e)
		}
	}
	s.last, s.observed = max(s.last, state.LastSeq), asked
}

// get asks the server for a message, in its own words: a client's types know no order of headers. It is nil where there is none.
func (m *model) get(t *testing.T, s *modelStream, seq uint64) *message {
	t.Helper()
	answer, err := m.src.nc.Request("$JS.API.STREAM.MSG.GET."+s.name(), fmt.Appendf(nil, `{"seq":%d}`, seq), time.Minute)
	must(t, err)
	var got struct {
		Error   *jetstream.APIError
		Message struct {
			Subject    string
			Hdrs, Data []byte
			Time       time.Time
		}
	}
	must(t, json.Unmarshal(answer.Data, &got))
	if got.Error != nil && got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return nil
	}
	if got.Error != nil {
		t.Fatalf("message %d of %s: %v", seq, s.name(), got.Error)
	}
	x := got.Message
	e := &message{entry: entry{seq: seq, at: x.Time.UnixNano(), subject: x.Subject}, size: len(x.Subject) + len(x.Hdrs) + len(x.Data)}
	e.text = fmt.Sprintf("%d %d %q %q %q", seq, e.at, x.Subject, x.Hdrs, x.Data)
	switch { // what a server adds: fileStoreMsgSize and memStoreMsgSize
	case s.kind.config.Storage == jetstream.MemoryStorage:
		e.size += 16
	case len(x.Hdrs) > 0:
		e.size += 34
	default:
		e.size += 30
	}
	if len(x.Hdrs) > 0 {
		header, err := nats.DecodeHeadersMsg(x.Hdrs)
		must(t, err)
		e.rollup = header.Get("Nats-Rollup")
	}
	return e
}

// unmake deletes a stream, and waits until the server has nothing of it any more.
func (m *model) unmake(t *testing.T, s *modelStream) {
	t.Helper()
	must(t, m.src.js.DeleteStream(t.Context(), s.name()))
	waitRemoved(t, m.srcDir)
}

// waitRemoved waits until a server has removed the files of streams that were deleted. While it does, a stream of the same name may find them.
func waitRemoved(t *testing.T, storeDir string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		left, err := filepath.Glob(filepath.Join(storeDir, "jetstream", "*", "streams", ".*"))
		must(t, err)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not remove %v", left)
		}
	}
}

// wantGone waits until the server has removed messages that all consumers have acknowledged.
func (m *model) wantGone(t *testing.T, s *modelStream, seqs []uint64) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, seq := range seqs {
		for m.get(t, s, seq) != nil {
			if time.Now().After(deadline) {
				t.Fatalf("message %d of %s is still there", seq, s.name())
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// missing says whether the account has no such stream.
func (m *model) missing(t *testing.T, s *modelStream) bool {
	t.Helper()
	_, err := m.src.js.Stream(t.Context(), s.name())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return true
	}
	must(t, err)
	return false
}
